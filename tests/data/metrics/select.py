"""Makes the golden metrics here from the full set: python tests/data/metrics/select.py GOLDEN_DIR

Kept are the synthetic boxes and what the toolkits say about them and about the probes. The numbers on real
sequences stay in the full set, for their frames and boxes are not part of the project (see
tests/test_metrics_real.py).
"""

import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
KEEP = ("format", "units", "synthetic", "synthetic_info", "probes")


def main(source: Path) -> None:
    full = json.loads((source / "metrics/metrics.json").read_text())
    (HERE / "metrics.json").write_text(json.dumps({key: full[key] for key in KEEP}) + "\n")
    shutil.copyfile(source / "metrics/synthetic.npz", HERE / "synthetic.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
