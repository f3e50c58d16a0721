#!/usr/bin/env bash
# torch 2.14.1: the compiler is loaded by calls that compile nothing. The first call of any torch.library.custom_op on
# a plain tensor, and torch.nn.init.normal_ on a tensor of the meta device (how a network's shapes are had without
# its memory), each import torch._dynamo: half a second to two seconds in every process that never compiles.
# torch.nn.init.zeros_ on the meta device, and defining the op, do not.
# Seen: "import: False, custom_op defined: False, called: True" and "zeros_ on meta: False, normal_ on meta: True"
# Exits with 1 if one of the calls does without torch._dynamo, or one of the others loads it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import sys
import torch


def loaded():
    return "torch._dynamo" in sys.modules


seen = [loaded()]


@torch.library.custom_op("finding::plus_one", mutates_args=())
def plus_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1


seen.append(loaded())
plus_one(torch.zeros(1))
seen.append(loaded())
print(f"import: {seen[0]}, custom_op defined: {seen[1]}, called: {seen[2]}")
sys.exit(seen != [False, False, True])
PYTHON
"$work/venv/bin/python" - <<'PYTHON'
import sys
import torch

weight = torch.empty(4, 4, device="meta")
torch.nn.init.zeros_(weight)
zeros = "torch._dynamo" in sys.modules
torch.nn.init.normal_(weight)
normal = "torch._dynamo" in sys.modules
print(f"zeros_ on meta: {zeros}, normal_ on meta: {normal}")
sys.exit((zeros, normal) != (False, True))
PYTHON
