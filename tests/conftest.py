"""Without a CUDA device Triton kernels run in Triton's interpreter: the switch must be set before triton is
imported (importing torch does not import it)."""

import importlib
import importlib.metadata
import importlib.util
import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several workers share the cores, with the commands that they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# on a GPU the references, torch's own convolutions, are float32 as the tolerances expect
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def _version(package: str) -> tuple[int, int]:
    major, minor = importlib.metadata.version(package).split(".")[:2]
    return int(major), int(minor)


def mend_interpreter() -> None:
    """Triton 3.6 makes a loop's bound of an array of one element, which numpy 2.4 takes no more."""
    interpreter = importlib.import_module("triton.runtime.interpreter")
    patch = interpreter._patch_lang_tensor

    def mended(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    interpreter._patch_lang_tensor = mended


if importlib.util.find_spec("triton") and _version("triton") <= (3, 6) and _version("numpy") >= (2, 4):
    mend_interpreter()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Indexes of the datasets of the tests do not go to the user's cache folder."""
    os.environ["CHASE_FAST_CACHE"] = str(tmp_path_factory.mktemp("cache"))


# few tests that take long: begun first, no worker is left alone with them at the end
LONG = tuple(
    f"test_{name}.py"
    for name in [
        "install",
        "fuzz",
        "distributed",
        "soak",
        "evaluate_runner",
        "train",
        "search",
        "prdimp_goldens",
        "train_graph",
        "search_graph",
    ]
)


ENGINES = Path(__file__).parent / "engines"


def pytest_configure(config):
    """Files go to the workers in the order below, not by their numbers of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """`-m gpu` is every test of the cuda backend and, where there is a GPU to compile for, of triton."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    backends = {"cuda", "triton"} if torch.cuda.is_available() else {"cuda"}
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if backends & {p for p in parameters if isinstance(p, str)}:
            item.add_marker("gpu")


def pytest_ignore_collect(collection_path, config):
    """`-m gpu` reads only files with such tests: a GPU machine may lack packages that the others import.

    tests/engines runs when it is asked for (`pytest tests/engines`): a worker that had loaded OpenVINO and
    ONNX Runtime beside everything else died when it started another process, twice in whole runs.
    """
    asked = any("engines" in str(argument) for argument in config.invocation_params.args)
    if not asked and (collection_path == ENGINES or ENGINES in collection_path.parents):
        return True
    if config.option.markexpr == "gpu" and collection_path.match("tests/test_*.py"):
        return True if "mark.gpu" not in collection_path.read_text() else None
    return None
