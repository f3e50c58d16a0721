"""Ahead-of-time compilation of Triton kernels for a GPU that is not there.

`compile_kernel` must run in a process without TRITON_INTERPRET=1 (the interpreter replaces @triton.jit),
while the tests run with it: `compile_in_subprocess` asks a clean one.
"""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}  # bytes a block may use
REGISTERS = 65536  # of a multiprocessor; a block needs registers x threads of them


def compile_kernel(
    kernel,
    signature: dict[str, str | tuple[str, ...]],
    constants: dict,
    arch: int = 90,
    num_warps: int = 4,
    multiples_of_16: tuple[str, ...] = (),
) -> dict:
    """Compiles one kernel.

    Args:
        kernel: the @triton.jit function.
        signature: argument -> Triton type (`*fp32`, `i32`, ...; a tuple of them for a tuple of tensors) of
            every argument that is not in `constants`. Pointers are taken as aligned to 16 bytes, as torch
            allocates.
        constants: values of the tl.constexpr arguments.
        multiples_of_16: integer arguments that are (the launcher tells Triton so at run time).

    Returns:
        shared (bytes), registers (per thread), spills (bytes per thread), num_warps.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
    divisible = [["tt.divisibility", 16]]
    attributes = {}
    for i, (name, kind) in enumerate(types.items()):
        if isinstance(kind, tuple):
            attributes |= {(i, j): divisible for j in range(len(kind))}
        elif kind.startswith("*") or name in multiples_of_16:
            attributes[i,] = divisible
    source = ASTSource(kernel, types, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": num_warps})
    return {"shared": compiled.metadata.shared, "num_warps": num_warps} | resource_usage(
        compiled.asm["cubin"]
    )


def resource_usage(cubin: bytes) -> dict:
    """Registers and bytes of local memory (spills) per thread, read by the cuobjdump that comes with
    triton."""
    import triton

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(file)]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = (
        int(re.search(rf"\b{name}:(\d+)", report)[1]) for name in ("REG", "STACK", "LOCAL")
    )
    return {"registers": registers, "spills": stack + local}


_SERVER = """
import importlib, json, sys, traceback
for line in sys.stdin:
    module, function = line.split()
    try:
        result = getattr(importlib.import_module(module), function)()
    except Exception:
        result = traceback.format_exc()
    print("result:" + json.dumps(result), flush=True)
"""


@functools.cache
def _server() -> subprocess.Popen:
    """A process without the interpreter, which imports torch and triton once; it ends with this one."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", _SERVER], cwd=ROOT, env=env, **pipes)


def compile_in_subprocess(module: str, function: str) -> dict[str, dict]:
    """Runs `module.function()` -> {kernel name: result of compile_kernel} without the interpreter."""
    server = _server()
    print(module, function, file=server.stdin, flush=True)
    answer = next((line for line in server.stdout if line.startswith("result:")), None)
    assert answer is not None, f"the process that compiles ended with {server.wait()}"
    result = json.loads(answer.removeprefix("result:"))
    assert isinstance(result, dict), result[-3000:]
    return result


def check_fits(usage: dict, arch: int = 90) -> None:
    """A block fits on a multiprocessor, and nothing is spilled to local memory."""
    assert usage["shared"] <= SHARED_MEMORY[arch], usage
    assert usage["registers"] * usage["num_warps"] * 32 <= REGISTERS, usage
    assert usage["spills"] == 0, usage
