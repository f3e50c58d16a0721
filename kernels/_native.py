"""The native module, or why it is not there. Free of torch: exported trackers do without."""

import functools
import importlib
import importlib.metadata
import logging

from chase_fast._version import __version__

log = logging.getLogger("chase_fast.kernels")

_warn_once = functools.cache(log.warning)


def native_left_out() -> bool:
    """Whether chase_fast was installed with CHASE_FAST_NATIVE=off: its wheel was pure Python."""
    try:
        wheel = importlib.metadata.distribution("chase-fast").read_text("WHEEL")
    except importlib.metadata.PackageNotFoundError:
        return False
    return "Root-Is-Purelib: true" in (wheel or "")


@functools.cache
def native():
    """The native module `chase_fast_C`.

    Its functions take tensors as pointer, dtype, sizes and strides, and write into what they are given.
    Where torch is used too it is imported first: one OpenMP runtime serves both.

    Raises:
        ImportError: it is not built, or was built for another version of the Python sources.
    """
    fix = "run `pip install .` (or `pip install -e .`) again in the source folder"
    try:
        module = importlib.import_module("chase_fast_C")
    except ImportError as e:
        missing, why = "the native module chase_fast_C is missing", str(e)
        _warn_once(f"{missing}: plain torch serves instead, several times slower")
        if native_left_out():
            why = "chase_fast was installed with CHASE_FAST_NATIVE=off"
            fix = "`pip install .` with a C++ compiler builds it"
        raise ImportError(f"{missing} ({why}); {fix}") from None
    if module.__version__ != __version__:
        raise ImportError(
            f"chase_fast_C is version {module.__version__}, the sources are {__version__}; {fix}"
        )
    return module
