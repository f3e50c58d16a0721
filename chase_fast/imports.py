"""Files of the user's own that every command imports first: `--import FILE.py`, or CHASE_FAST_IMPORT.

A file registers operations, and whatever else can be registered. The names of the files are kept in the
environment variable, so processes that a command starts import them too, when a name is asked for that they
do not know.
"""

import contextlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from chase_fast.errors import ChaseError, MissingFile
from chase_fast.files import user_path

FLAG, VARIABLE = "--import", "CHASE_FAST_IMPORT"
HELP = f"""{FLAG} FILE.py, with every command and as often as wanted (or {VARIABLE}=FILE.py:OTHER.py): a file
of your own that is imported first, e.g. one that calls chase_fast.register_operation."""

_loaded: set[str] = set()
_loading: list[str] = []


def take(words: Sequence[str]) -> list[str]:
    """The words of a command without `--import FILE.py`; the files are added to the variable.

    Raises:
        ChaseError: there is no such file, or its path cannot stand in a list of paths.
    """
    rest, files, left = [], [], list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            rest += [word, *left]
            break
        flag, equals, value = word.partition("=")
        if flag != FLAG:
            rest.append(word)
        elif equals or left:
            files.append(value if equals else left.pop(0))
        else:
            raise ChaseError(f"{FLAG} needs a file: {FLAG} FILE.py")
    known = _files()
    for file in map(user_path, files):
        if not file.is_file():
            raise MissingFile(f"{FLAG} {file}: no such file")
        if os.pathsep in str(file.absolute()):
            raise ChaseError(f"{FLAG} {file}: its path must be without {os.pathsep!r}, link to it")
        known.append(str(file.absolute()))
    if files:
        os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys(known))
    return rest


def load() -> None:
    """Imports the files of the variable, each once in this process.

    Raises:
        ChaseError: one is missing or ends in an error; file, line and error are named.
    """
    for file in _files():
        path = os.path.realpath(user_path(file))
        if path in _loaded:
            continue
        _loaded.add(path)
        try:
            with _importing(path):
                _execute(Path(path))
        except BaseException:
            _loaded.discard(path)
            raise


def importing() -> str | None:
    """Name of the file that is being imported, for what it registers."""
    return os.path.basename(_loading[-1]) if _loading else None


def _files() -> list[str]:
    return [file for file in os.environ.get(VARIABLE, "").split(os.pathsep) if file]


@contextlib.contextmanager
def _importing(path: str) -> Iterator[None]:
    _loading.append(path)
    try:
        yield
    finally:
        _loading.pop()


def _execute(path: Path) -> None:
    if not path.is_file():
        raise MissingFile(f"{VARIABLE}: there is no file {path}")
    name = f"chase_fast_import_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ChaseError(f"{FLAG} {path}: must be a Python file, its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for what stands beside it
    try:
        spec.loader.exec_module(module)
    except SyntaxError as e:  # of this file, or of one that it imports
        line = f", line {e.lineno}" if e.lineno else ""
        raise ChaseError(f"{FLAG} {e.filename or path}{line}: {e.msg}") from None
    except (Exception, SystemExit) as e:
        lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == str(path)]
        line = f", line {lines[-1]}" if lines else ""
        text = " ".join(str(e).split())
        kind = "" if isinstance(e, ChaseError) else type(e).__name__ + (": " if text else "")
        raise ChaseError(f"{FLAG} {path}{line}: {kind}{text}") from None
