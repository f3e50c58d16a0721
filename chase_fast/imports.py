"""Files of the user's own that every command imports first: `--import FILE.py`, or CHASE_FAST_IMPORT.

A file registers operations, and whatever else can be registered. The names of the files are kept in the
environment variable, so processes that a command starts import them too, when a name is asked for that they
do not know.
"""

import contextlib
import importlib.util
import os
import sys
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
        ChaseError: there is no such file.
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
        if os.pathsep in str(file.absolute()):
            raise ChaseError(
                f"{FLAG} {file}: its path holds {os.pathsep!r}, which separates files: rename it"
            )
        if not file.is_file():
            raise MissingFile(f"{FLAG} {file}: no such file")
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
    except ChaseError:
        raise
    except SystemExit as e:  # else the command would end with its code, nothing done
        raise ChaseError(
            f"{FLAG} {path}: it ends the program (exit code {e.code}) when it is imported"
        ) from None
    except SyntaxError as e:
        raise ChaseError(f"{FLAG} {path}, line {e.lineno}: {e.msg}") from None
    except Exception as e:
        line, trace = 0, e.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(path):
                line = trace.tb_lineno
            trace = trace.tb_next
        text = " ".join(str(e).split())
        raise ChaseError(f"{FLAG} {path}, line {line}: {type(e).__name__}: {text}") from None
