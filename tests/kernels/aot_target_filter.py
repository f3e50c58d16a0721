"""Compiles the Triton kernels of target_filter for sm_90 as they are launched for search and for tracking.

The launchers run on meta tensors, with recorders in place of their kernels; what was recorded is compiled
(run by aot.compile_in_subprocess).
"""

from contextlib import contextmanager

import torch

from chase_fast.kernels.target_filter import cases, triton_impl, triton_products, triton_solver
from tests.kernels.aot import compile_kernel

CASES = {c.name: c for c in cases.PAPER}
UNSPECIALISED = ("i", "T")


class _Recorder:
    """Stands for a kernel: keeps what each different launch would compile, {kernel and case: arguments}."""

    def __init__(self, kernel, launches: dict):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        assert all(0 < blocks < 65536 for blocks in grid[1:]) and grid[0] > 0
        return self._launch

    def _launch(self, *arguments, num_warps: int = 4, **constants):
        signature, multiples = {}, []
        for name, value in zip(self.kernel.arg_names, arguments):
            if isinstance(value, torch.Tensor):
                signature[name] = "*fp32"
            elif value == 1 and name not in UNSPECIALISED:
                constants[name] = 1  # so does Triton
            else:
                signature[name] = "i32"
                if value % 16 == 0 and name not in UNSPECIALISED:
                    multiples.append(name)
        key = (self.kernel.fn.__name__, *sorted(constants.items()), tuple(multiples), num_warps)
        self.launches.setdefault(key, (self.kernel, signature, constants, num_warps, tuple(multiples)))


@contextmanager
def _recording(launches: dict):
    modules, kept = (triton_products, triton_solver), []
    for module in modules:
        for name in [n for n in vars(module) if n.startswith("target_filter_")]:
            kept.append((module, name, getattr(module, name)))
            setattr(module, name, _Recorder(getattr(module, name), launches))
    try:
        yield
    finally:
        for module, name, kernel in kept:
            setattr(module, name, kernel)


def _record(case, op: str, backward: bool) -> None:
    """op: apply (of every iterate), prdimp or dimp."""
    n, s, c, k, steps = case.n, case.s, case.channels, case.k, case.iterations

    def empty(*shape):
        return torch.empty(shape, device="meta")

    features = empty(n, s, c, case.height, case.width)
    if case.channels_last:
        features = empty(n, s, case.height, case.width, c).permute(0, 1, 4, 2, 3)
    if op == "apply":
        filters = empty(steps + 1, s, c, k, k)
        scores = triton_impl.apply(features, filters)
        if backward:
            triton_impl.apply_transpose(features, scores, k)
            triton_impl.features_gradient(features, scores, filters)
        return
    size = case.height + (k + 1) % 2, case.width + (k + 1) % 2
    maps = [empty(n, s, *size)] * (1 if op == "prdimp" else 3)
    learned = empty(1), empty(1), empty(n, s)
    constants = 0.05, 0.05, 0.5 if op == "prdimp" else None
    found = triton_impl.solve(features, empty(s, c, k, k), maps, *learned, steps, *constants)
    if backward:
        iterates, losses, *kept = found
        arguments = iterates, losses, features, maps, *learned, iterates, *kept, True
        triton_impl.solve_backward(*arguments, *constants)


def compile_all() -> dict[str, dict]:
    launches: dict = {}
    with _recording(launches):
        for name, op, backward in (
            ("paper_chase", "prdimp", True),
            ("paper_chase", "apply", True),
            ("paper_chase_nchw", "dimp", True),
            ("track_memory", "prdimp", False),
            ("track_frame", "apply", False),
        ):
            _record(CASES[name], op, backward)
    usage = {}
    for kernel, signature, constants, num_warps, multiples in launches.values():
        name = f"{kernel.fn.__name__} {len(usage)}"
        options = {"num_warps": num_warps, "multiples_of_16": multiples}
        usage[name] = compile_kernel(kernel, signature, constants, **options)
    return usage
