"""The folder that tracking writes into: which files are its own, and whether it can be used."""

from pathlib import Path

from chase_fast.errors import ChaseError

RESULT = "result.json"
VIDEOS = ("annotated.mp4", "annotated.avi")


def check_folder(path: Path, overwrite: bool) -> None:
    """Raises ChaseError if the folder cannot be used: a file, or not empty unless overwrite."""
    try:
        if path.exists() and not path.is_dir():
            raise ChaseError(f"--out {path} is a file: give a folder")
        if path.is_dir() and not overwrite and any(path.iterdir()):
            raise ChaseError(
                f"{path} is not empty: choose another --out, or replace its results with --overwrite"
            )
    except OSError as e:
        raise ChaseError(f"--out {path} cannot be used: {e.strerror or e}") from None


def earlier_results(folder: Path) -> list[Path]:
    """Files of an earlier run in the folder."""
    found = [folder / name for name in (RESULT, *VIDEOS, "boxes.txt")]
    return [path for path in (*found, *folder.glob("boxes_*.txt")) if path.is_file() or path.is_symlink()]
