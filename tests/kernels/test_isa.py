"""Every op's native CPU code against its reference with narrower vectors than this processor has (the
choice is made once per process). csrc/tests does the same for the kernels alone, on random shapes."""

import os
import subprocess
import sys

import pytest

from tests.kernels.aot import ROOT

FILES = sorted(
    str(p.relative_to(ROOT))
    for p in (ROOT / "tests" / "kernels").glob("test_*.py")
    if p.name != "test_isa.py"
)


@pytest.mark.parametrize("isa", ("avx2", "portable"))
def test_narrower_instruction_sets(isa):
    chosen = "matches_reference and cpu and float32-contiguous"
    command = [sys.executable, "-m", "pytest", *FILES, "-k", chosen, "-q", "-p", "no:cacheprovider"]
    environment = os.environ | {"CHASE_FAST_ISA": isa}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout[-3000:]
