"""Makes the small golden copy under tests/data from the full set: python tests/data/select.py GOLDEN_DIR

KEEP maps file -> regular expressions of the keys kept: every kind of record stays, one size of each. The
arrays of a file are packed end to end, one array per dtype and an index: thousands of small ones would be
mostly archive headers. tests/golden.py reads both forms.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
KEEP: dict[str, list[str]] = {
    "prdimp/filter_ops": ["."],
    # the gradients of the features are large: one case of each solver keeps them
    "prdimp/classifier_prdimp": [r"pr_alt_", r"pr_(train|online)_(?!grad_(train|test)_feat)"],
    "prdimp/classifier_dimp": [r"default_", r"di_alt_", r"di_(train|online)_(?!grad_(train|test)_feat)"],
    # weights are remade from their names
    "prdimp/iounet": [
        r"feat",
        "bb_ref",
        "proposals",
        "grad_out",
        "(eval|train)(gradnorm|_out|_grad_proposals|_modulation)",
        "eval_iou_feat3",
        "eval_grad_feat3",
        "refine_",
    ],
    "prdimp/losses": ["."],
    "prdimp/net_prdimp18": ["."],
    **{
        f"prdimp/net_{net}": [r"eval_", r"train_(loss|stats|grad|newstat|nograd)"]
        for net in ("dimp18", "prdimp50", "dimp50")
    },
    # operations, mixed operations, cells and necks in one size; batch counters are constants
    "nas/chase_ops": [r"odd/(?!none|skip).*(?<!tracked)$"],
    "nas/chase_mixedop": [r"odd/p0.6/.*(?<!tracked)$"],
    "nas/chase_neck_search": [r"odd/.*(?<!tracked)$"],
    "nas/chase_neck_final": [r"(odd/|genotype).*(?<!tracked)$"],
    "nas/darts_ops": [
        r"odd/s1/noaffine/dil_conv_5x5/.*(?<!tracked)$",
        r"odd/s1/affine/sep_conv_5x5/.*(?<!tracked)$",
        r"sq/s2/noaffine/dil_conv_3x3/.*(?<!tracked)$",
        r"sq/s2/affine/(skip_connect|sep_conv_5x5)/.*(?<!tracked)$",
    ],
    "nas/darts_mixedop": [r"odd/.*(?<!tracked)$"],
    "nas/darts_cell": [r"odd/.*(?<!tracked)$"],
    "nas/fair_mixed": [r"odd/.*(?<!tracked)$"],
    # search: one case of each architect; of unrolled weights and v one edge; the first trajectory steps
    "nas/chase_architect": [
        r"odd/(train|valid|first)/",
        r"odd/(alpha|u|eta|loss_)",
        r"odd/before/w/",
        r"odd/second/(?!unrolled/w|v/|implicit_exact)",
        r"odd/second/(unrolled/w|v)/cells\.0\._ops\.13\._ops\.7",
        r"odd/(before|after)/buf/cells\.0\._ops\.(0|13)\..*(mean|var)$",
    ],
    "nas/darts_architect": [
        r"odd_mse_mom/(train|valid|first|f32)/",
        r"odd_mse_mom/alpha",
        r"odd_mse_mom/before/(w|mom)/",
        r"odd_mse_mom/second/(?!unrolled/w|v/|implicit_exact)",
        r"odd_mse_mom/second/(unrolled/w|v)/cell\._ops\.13\._ops\.7",
        r"odd_mse_mom/(before|after)/buf/cell\._ops\.(0|13)\..*(mean|var)$",
    ],
    "nas/darts_trajectory": [r"it[12]/", r"it0/w/", "alpha0"],
    "nas/chase_trajectory": [r"it1/", r"it0/w/", "alpha0", "u", "eta"],
    "nas/fair_architect": [r"l2/(?!before/buf)"],
    "nas/fair_loss": [r"loss[035]/", "primitives"],
    "nas/darts_genotype": [r"rand0[0-4]", r"(?!rand)"],
    "nas/chase_genotype": ["."],
    "nas/fair_genotype": [r"c(00|01|02|05|10|15|18|19)/", "primitives"],
    "prdimp/prroi_pool": ["."],
    # every third training crop, every fifth tracker crop: all modes, factors, sizes and boxes occur
    "prdimp/crops": [
        "image_",
        "boxes",
        "train_meta_json",
        r"train(0|3|6|9|12|15|18|21|24|27|30|33|36|39|42|45|48|51|54)_",
        "track_meta_json",
        r"track\d?[05]_",
    ],
    "prdimp/crops_legacy_track": ["track_meta_json", r"track\d?[05]_"],
    "prdimp/augment": ["."],
    "prdimp/tracker_logic": ["."],
    **{f"prdimp/e2e_{net}": [r"boxes_", "flags", "max_score", "init_"] for net in ("prdimp50", "dimp50")},
    "prdimp/labels_proposals": ["."],
}
COPIED = [f"prdimp/{net}_state_dict.json" for net in ("prdimp18", "prdimp50", "dimp18", "dimp50")]


def pack(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{key: array} -> one flat array per dtype, and `index`, JSON of key -> [dtype, offset, shape]."""
    index, flat = {}, {}
    for key, a in arrays.items():
        parts = flat.setdefault(a.dtype.str, [])
        index[key] = [a.dtype.str, sum(p.size for p in parts), list(a.shape)]
        parts.append(a.ravel())
    return {"index": np.array(json.dumps(index)), **{k: np.concatenate(v) for k, v in flat.items()}}


def main(source: Path) -> None:
    for name, patterns in KEEP.items():
        with np.load(source / f"{name}.npz") as z:
            kept = {k: z[k] for k in z.files if any(re.match(p, k) for p in patterns)}
        target = HERE / f"{name}.npz"
        target.parent.mkdir(exist_ok=True)
        np.savez_compressed(target, **pack(kept))
        print(f"{target.relative_to(HERE)}: {len(kept)} arrays, {target.stat().st_size / 1e6:.2f} MB")
    for name in COPIED:
        shutil.copyfile(source / name, HERE / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
