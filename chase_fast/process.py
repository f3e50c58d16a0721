"""Settings of the whole process that make the commands faster. Importing the package changes none."""

import logging
import os
import sys

SPINS = "2000"
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # numbers of mallopt's parameters (malloc.h)
_MIB = 2**20

log = logging.getLogger("chase_fast")


def tune_process() -> bool:
    """What every command does first, for programs that search, train or track by themselves.

    * GOMP_SPINCOUNT=2000, unless it or OMP_WAIT_POLICY is set. Threads spin while they wait at an OpenMP
      barrier, which takes the core from the thread waited for when other programs use the cores too: two
      searches side by side on two cores were 1.3 to 4 times slower each with libgomp's default
      (bench/RECORDS.md). libgomp reads it once, when torch is loaded: call this before. Child processes
      inherit it.
    * glibc keeps up to 256 MiB of freed memory, unless MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ or
      GLIBC_TUNABLES say otherwise. A step makes and frees the same maps as the one before; glibc would give
      them back to the kernel and fault them in again page by page (3 to 7 % of a step). It holds at any
      time, for this process alone.

    Returns:
        False if torch was loaded before: then OpenMP's waiting stays as it is in this process, and only a
        GOMP_SPINCOUNT set before Python starts can change it. True otherwise.
    """
    given = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys()
    if not given:
        os.environ["GOMP_SPINCOUNT"] = SPINS
    _keep_freed_memory()
    if not given and "torch" in sys.modules:
        log.info("torch is loaded already: GOMP_SPINCOUNT=%s holds for child processes only", SPINS)
        return False
    return True


def _keep_freed_memory() -> None:
    import ctypes

    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        return
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for number, name, value in (
        (_MMAP_THRESHOLD, "mmap_threshold", 32 * _MIB),
        (_TRIM_THRESHOLD, "trim_threshold", 256 * _MIB),
    ):
        if f"MALLOC_{name.upper()}_" not in os.environ and f"glibc.malloc.{name}" not in tunables:
            libc.mallopt(number, value)
