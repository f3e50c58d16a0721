"""Drives CMake for the native module `chase_fast_C`; CMakeLists.txt decides everything else."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
VERSION = (ROOT / "chase_fast" / "_version.py").read_text().split('"')[1]


def tool(name: str) -> str:
    """Path of a program on PATH, or beside this Python (a virtual environment that is not activated)."""
    path = shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))
    if path is None:
        sys.exit(
            f"chase_fast: {name} was not found; run `pip install cmake ninja pybind11` and install again"
        )
    return path


class Modules(build_py):
    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """All but kernels/OP/cases.py, which tests and benchmarks read in the sources."""
        return [m for m in super().find_package_modules(package, package_dir) if m[1] != "cases"]


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = (
            ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        )  # kept: the next build compiles what changed
        cmake, ninja = tool("cmake"), tool("ninja")
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_MAKE_PROGRAM": ninja,
            "Python_EXECUTABLE": sys.executable,
            "CHASE_FAST_VERSION": VERSION,
            "CHASE_FAST_OUTPUT": target,
            "CHASE_FAST_CUDA": os.environ.get("CHASE_FAST_CUDA", "auto"),
            "CHASE_FAST_CUDA_ARCHS": os.environ.get("CHASE_FAST_CUDA_ARCHS", "80;90a"),
        }
        configure = [cmake, "-S", str(ROOT), "-B", str(build), "-G", "Ninja"]
        configure += [f"-D{name}={value}" for name, value in options.items()]
        for command in (configure, [cmake, "--build", str(build)]):
            try:
                subprocess.run(command, check=True)
            except subprocess.CalledProcessError as e:
                sys.exit(
                    f"chase_fast: the native build failed (exit code {e.returncode}; the message is above). "
                    "It needs a C++17 compiler with OpenMP (Debian/Ubuntu: `apt-get install g++`), or "
                    "`CHASE_FAST_NATIVE=off pip install .` installs without it, several times slower; "
                    "if only the CUDA part fails, `CHASE_FAST_CUDA=off pip install .` builds without it"
                )


NATIVE = os.environ.get("CHASE_FAST_NATIVE", "on").lower()
if NATIVE not in ("on", "off"):
    sys.exit(f"chase_fast: CHASE_FAST_NATIVE={NATIVE} must be on or off")

setup(
    license="Apache-2.0",
    ext_modules=[Extension("chase_fast_C", sources=[])] if NATIVE == "on" else [],
    cmdclass={"build_py": Modules, "build_ext": CMakeBuild},
)
