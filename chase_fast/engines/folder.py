"""The folder that `python -m chase_fast.export` writes: the model of an engine, the checkpoint it was made
of, and a manifest with checksums. Nothing in it is executed."""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from chase_fast.engines.constants import Arrays, Numbers
from chase_fast.engines.onnx_engine import OnnxRuntime
from chase_fast.engines.openvino_engine import OpenVINO
from chase_fast.engines.outputs import Engine
from chase_fast.errors import ChaseError
from chase_fast.fields import Fields, read_object
from chase_fast.files import check_new, user_path, write_atomic
from chase_fast.nn.spec import TrackerSpec
from chase_fast.runs.folder import EXPORTED, MANIFEST

FORMAT = 2
CONSTANTS = "constants.safetensors"
MODEL = {"onnx": "frames.onnx", "openvino": "frames.xml"}
# format -> engines, the preferred one first
RUNS = {"onnx": ("openvino", "onnxruntime"), "openvino": ("openvino",)}


@dataclass(frozen=True)
class ExportedFolder:
    """A folder whose files are those that its manifest names.

    Attributes:
        about: what manifest.json says: format, size, precision, files, versions, origin, check.
    """

    path: Path
    about: Fields

    @classmethod
    def find(cls, path: str | PathLike[str]) -> "ExportedFolder | None":
        """The exported folder at this path, or around this checkpoint; None where there is something else.

        Raises:
            ChaseError: it is of another version, or a file is missing, damaged or changed.
        """
        folder = user_path(path)
        folder = folder.parent if folder.name == EXPORTED else folder
        if not (folder / MANIFEST).is_file():
            return None
        about = read_object(folder / MANIFEST)
        if about.get("exported_by") != "chase_fast" or about.get("manifest") != FORMAT:
            raise ChaseError(
                f"{folder / MANIFEST} is no manifest of this version of chase_fast: export again"
            )
        about.choice("format", list(MODEL))
        for name, wanted in dict(about.inner("files")).items():
            if Path(name).name != name or not isinstance(wanted, str):
                raise ChaseError(f"{folder / MANIFEST}: {name} is no name of a file in this folder")
            if not (folder / name).is_file():
                raise ChaseError(f"{folder / name} is missing: export again")
            if digest((folder / name).read_bytes()) != wanted:
                raise ChaseError(f"{folder / name} is not the file that was exported: its checksum differs")
        needed = {EXPORTED, CONSTANTS, MODEL[about["format"]]}
        if missing := sorted(needed - set(about.inner("files"))):
            raise ChaseError(f"{folder / MANIFEST} does not name {missing[0]}: export again")
        return cls(folder, about)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint in it."""
        return self.path / EXPORTED

    @property
    def spec(self) -> TrackerSpec:
        """Architecture of the network."""
        return TrackerSpec.from_data(self.about.get("tracker"))

    @property
    def public(self) -> bool:
        """Whether the weights are those of a public file, see `Checkpoint.public`."""
        return self.about.flag("public")

    def constants(self) -> tuple[Numbers, Arrays]:
        """See `constants.constants_of`; raises ChaseError where they are damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        numbers = self.about.inner("constants")
        try:
            arrays = load((self.path / CONSTANTS).read_bytes())
        except (SafetensorError, KeyError, ValueError, TypeError) as e:
            raise ChaseError(f"{CONSTANTS} cannot be read ({' '.join(str(e).split())[:80]})") from None
        return {name: numbers.numbers(name) for name in numbers}, arrays

    def engine_name(self, name: str | None) -> str:
        """Which engine that is; None, auto: the first installed that reads the format.

        Raises:
            ChaseError: no such engine for this format.
        """
        engines = RUNS[self.about["format"]]
        if name in (None, "auto"):
            return next((e for e in engines if importlib.util.find_spec(e)), engines[0])
        if name not in (*engines, "torch"):
            raise ChaseError(f"--engine {name}: {self.path} is for {' or '.join(engines)}, or torch")
        return name

    @property
    def model_digest(self) -> str:
        """Checksum of the model, of its .bin if the weights are there."""
        files = self.about.inner("files")
        return files.text("frames.bin", None) or files.text(MODEL[self.about["format"]])

    def engine(self, name: str | None, size: int, precision: str) -> Engine:
        """The engine of this name (see `engine_name`), its model loaded.

        Args:
            size: of the tracker's patches, which must be that of the export.

        Raises:
            ChaseError: no such engine for this format, a missing package, another size.
        """
        name = self.engine_name(name)
        if self.about.integer("size") != size:
            made = f"{self.about['size']} px (preset {self.about.text('preset')})"
            raise ChaseError(
                f"{self.path} is for patches of {made}, these settings want {size}: give that --preset, or "
                "export again"
            )
        kind = OpenVINO if name == "openvino" else OnnxRuntime
        return kind(self.path / MODEL[self.about["format"]], precision)


def write_folder(path: Path, files: dict[str, bytes], about: dict[str, Any]) -> None:
    """Writes the files, then the manifest with their checksums.

    Raises:
        ChaseError: the folder exists and is not empty, or cannot be written.
    """
    check_new(path)
    path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomic(path / name, data)
    names = {name: digest(data) for name, data in files.items()}
    manifest = {"exported_by": "chase_fast", "manifest": FORMAT, **about, "files": names}
    write_atomic(path / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def digest(data: bytes) -> str:
    """Checksum of a file."""
    return hashlib.sha256(data).hexdigest()
