#!/usr/bin/env bash
# torch.load does not compare the CRC-32 that torch.save stores for every tensor.
#
# torch 2.11.0 (from PyPI), Python 3.11. A file of torch.save is a zip archive whose entries carry a CRC-32, and Python's
# zipfile finds a flipped bit by it. torch.load, with weights_only=True or not, gives the changed number without an error or
# a warning (its zip reader is compiled without the check), so a damaged checkpoint trains or tracks on. Who stores weights
# for long should run zipfile.ZipFile(path).testzip() first, or keep a digest.
#
# Output seen:
#   saved 1.0, one bit flipped
#   zipfile: Bad CRC-32 for file 'net/data/0'
#   torch.load(weights_only=True): 1.5 and no error
#   torch.load(weights_only=False): 1.5 and no error
#
# Exits non-zero if torch finds the damage.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 numpy==2.3.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import struct
import sys
import zipfile

import torch

torch.save({"w": torch.ones(1000)}, "net.pth")
content = bytearray(open("net.pth", "rb").read())
place = content.index(struct.pack("<f", 1.0) * 1000)
content[place + 2] ^= 0x40  # bit 22 of 0x3f800000: 1.0 becomes 1.5
open("net.pth", "wb").write(content)
print("saved 1.0, one bit flipped")
with zipfile.ZipFile("net.pth") as archive:
    name = archive.testzip()
    print(f"zipfile: Bad CRC-32 for file {name!r}")
assert name is not None
found = []
for weights_only in (True, False):
    value = float(torch.load("net.pth", weights_only=weights_only)["w"][0])
    print(f"torch.load(weights_only={weights_only}): {value} and no error")
    found.append(value)
sys.exit(found != [1.5, 1.5])
PYTHON
