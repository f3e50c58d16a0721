"""What every command does around its work: process settings, signals, one line for an error, exit code."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from chase_fast.errors import ChaseError, Elsewhere
from chase_fast.files import lend_caches
from chase_fast.kernels._choice import BackendError, check_variable
from chase_fast.process import tune_process

PACKAGE_OF = {"cv2": "opencv-python", "PIL": "pillow", "chase_fast_C": "chase-fast"}
LIBRARIES = "apt-get install libgl1 libglib2.0-0"  # what opencv-python is linked with and slim images lack


class Terminated(KeyboardInterrupt):
    """SIGTERM: as KeyboardInterrupt, with another exit code."""


def run_command(work: Callable[[], int | None], stopped: str = "stopped") -> int:
    """Runs the work of a command; returns its exit code.

    Args:
        stopped: the line after Ctrl-C or SIGTERM, where the work did not catch them itself.
    """
    tune_process()
    lend_caches()
    # a rank that waits for others in C++ could not answer: torchrun ends it at once
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    try:
        with handling(_terminate, *([signal.SIGTERM] if alone else [])):
            check_variable()
            return work() or 0
    except Elsewhere:
        return 2
    except (ChaseError, BackendError) as e:
        return _fail(str(e))
    except ImportError as e:
        if text := why_not_imported(e):
            return _fail(text)
        raise
    except KeyboardInterrupt as e:
        print(stopped, file=sys.stderr)
        return exit_code(e)
    except BrokenPipeError:  # what reads the output has ended, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as e:
        if e.filename is None:
            raise
        return _fail(f"{e.filename}: {e.strerror or e}")
    except Exception as e:
        if text := _out_of_memory(e):
            return _fail(text)
        raise


def _fail(text: str) -> int:
    print(f"error: {' '.join(text.splitlines())}", file=sys.stderr)
    return 2


def exit_code(stop: KeyboardInterrupt) -> int:
    """130 after Ctrl-C, 143 after SIGTERM, as shells have it."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None], *numbers: int) -> Iterator[None]:
    """Within, these signals are handled by `handler`; in another thread than the main one nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def why_not_imported(error: ImportError) -> str | None:
    """What to do about a package of others that cannot be imported; None if the fault is not there."""
    text = " ".join(str(error).split())
    package = (error.name or "").partition(".")[0]
    if package == "chase_fast":
        return None
    if isinstance(error, ModuleNotFoundError):
        return f"the package {package} is missing: pip install {PACKAGE_OF.get(package, package)}"
    if package == "cv2" or "libGL" in text or "libgthread" in text or "libglib" in text:
        return (
            f"OpenCV cannot be loaded ({text[:120]}): {LIBRARIES} (Debian, Ubuntu), or replace "
            "opencv-python by opencv-python-headless, which needs no graphics libraries (and has no --show)"
        )
    if "cannot open shared object file" in text or "DLL load failed" in text:
        return f"a library that {package or 'a package'} needs cannot be loaded ({text[:120]}): install it"
    return None


def _out_of_memory(error: Exception) -> str | None:
    """torch, NumPy and OpenCV raise types of their own."""
    text = " ".join(str(error).split())
    marks = (
        *("CUDA out of memory", "CUDA error: out of memory", "can't allocate memory"),
        *("not enough memory", "Insufficient memory"),
    )
    if not isinstance(error, MemoryError) and not any(mark in text for mark in marks):
        return None
    return (
        f"out of memory ({text[:120] or 'MemoryError'}): smaller batches, images and networks or fewer "
        "workers need less"
    )
