"""Files and folders of users: paths with ~, whole files read and written at once, the cache folder."""

import errno
import os
import stat
import sys
import tempfile
from pathlib import Path

from chase_fast.errors import ChaseError, MissingFile

TEMPORARY = ".tmp-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def user_path(text: str | os.PathLike[str]) -> Path:
    """A path with a leading ~ or ~NAME replaced by that home folder.

    Raises:
        ChaseError: nobody knows that home folder (no such user; a container without HOME).
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ChaseError(f"{text}: the home folder is not known here; write the whole path") from None


def cache_folder() -> Path:
    """$CHASE_FAST_CACHE, else chase_fast in the user's cache folder, else (no home) in a temporary one."""
    if given := os.environ.get("CHASE_FAST_CACHE"):
        return user_path(given)
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        home = "~/Library/Caches"
    else:
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(home).expanduser() / "chase_fast"
    except RuntimeError:
        return _temporary_folder()


def _temporary_folder() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"chase_fast-{user}"


def lend_caches() -> None:
    """Without a home folder that can be written to, packages of others get a temporary one for their caches;
    what the user has set stays. They would else print advice, write into `./~`, or fail."""
    try:
        if os.access(Path("~").expanduser(), os.W_OK):
            return
    except RuntimeError:
        pass
    folder = _temporary_folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():  # made by somebody else
            folder = Path(tempfile.mkdtemp(prefix="chase_fast-"))
    except OSError:  # nothing can be written at all
        return
    for variable in ("MPLCONFIGDIR", "TORCH_HOME", "TRITON_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        os.environ.setdefault(variable, str(folder / variable.partition("_")[0].lower()))


def check_file(path: Path, what: str) -> None:
    """Raises ChaseError unless this is a file that can be opened; what: its name in messages."""
    if path.is_dir():
        raise ChaseError(f"{what} {path}: is a folder; give a file in it")
    if not path.exists():
        raise MissingFile(f"{what} {path}: no such file")
    if not path.is_file():
        raise ChaseError(f"{what} {path}: is no regular file")
    if not os.access(path, os.R_OK):
        raise ChaseError(f"{what} {path}: cannot be read: permission denied")


def check_new(path: Path) -> None:
    """Raises ChaseError if there is something at this path, an empty folder aside."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ChaseError(f"--out {path} exists and is not empty: choose another folder, or delete it")


def read_bytes(path: str | Path) -> bytes:
    """A whole file. A pipe is read if the shell made it (`<(command)`): nobody may write into another one.

    Raises:
        OSError: no such file, no file, unreadable.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        return file.read()


def read_text(path: str | Path) -> str:
    """A text of UTF-8, or of UTF-16 with its mark, as Windows writes; what is neither is replaced. Raises as
    `read_bytes`."""
    data = read_bytes(path)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return data.decode(encoding, errors="replace")


def _without_waiting(path: str, flags: int) -> int:
    file = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(file).st_mode) or str(path).startswith("/dev/fd/"):
        os.set_blocking(file, True)
        return file
    os.close(file)
    what = errno.EISDIR if os.path.isdir(path) else errno.EINVAL
    raise OSError(what, "is a folder" if what == errno.EISDIR else "is no file", str(path))


def is_full(error: OSError) -> bool:
    """No more can be written: the disk, the user's share of it, or the largest size of a file."""
    return error.errno in _FULL


def cannot_write(path: Path, error: OSError, kept: str = "") -> ChaseError:
    """The error of a file that cannot be written. kept: what is safe and how to go on, for a full disk."""
    if is_full(error):
        return ChaseError(f"disk full while writing {path}: {kept or 'free some space and run again'}")
    return ChaseError(f"cannot write {path}: {error.strerror or error}")


def temporary(path: Path) -> Path:
    """Where this process writes a file before it is renamed to `path`."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")


def write_atomic(path: Path, data: bytes, kept: str = "") -> None:
    """Replaces the file at once; on any error the old one stays and no temporary is left.

    kept: see `cannot_write`.

    Raises:
        ChaseError: disk full, or the folder cannot be written.
    """
    unfinished = temporary(path)
    try:
        try:
            with open(unfinished, "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.replace(unfinished, path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as e:
        raise cannot_write(path, e, kept) from e
