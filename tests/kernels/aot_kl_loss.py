"""Compiles the Triton kernels of kl_loss for sm_90 at paper size (run by aot.compile_in_subprocess)."""

from chase_fast.kernels.kl_loss import triton_impl as t
from tests.kernels.aot import compile_kernel

KERNELS = (t.kl_loss_kernel, t.kl_loss_scores_grad_kernel, t.kl_loss_density_grad_kernel)
INTEGERS = ("R", "D", "cells")
VALUES = {"SCALE": 0.5, "LOG_SCALE": -0.7}


def compile_all() -> dict[str, dict]:
    usage = {}
    for storage in ("fp32", "fp64"):
        for block in (512, 4096):  # 19 x 19 cells, and more than one block of cells
            for kernel in KERNELS:
                constants = {k: v for k, v in (VALUES | {"BLOCK": block}).items() if k in kernel.arg_names}
                names = [name for name in kernel.arg_names if name not in constants]
                signature = {name: "i32" if name in INTEGERS else f"*{storage}" for name in names}
                usage[f"{kernel.fn.__name__} {storage} {block}"] = compile_kernel(
                    kernel, signature, constants
                )
    return usage
