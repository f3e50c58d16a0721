"""The `triton` backend: launchers of the kernels in triton_{convolution,norm,pool}.py; formulas: __init__.py.

    forward   per convolution: a stage (depthwise and product in one pass, all edges in one launch); a sep_conv
              joins the moments of its tiles, writes act(BN(y)) once and passes a second stage
    backward  per stage: g = grad W, then the adjoint of DW on g, then weight gradients, whose depthwise
              output is made again; what the edges send to x is added in float32, in the order of ops and edges
Depthwise outputs never reach memory. act(BN(y)) does: applied on read it would be computed k k times per value.
Fixed block sizes, no atomics, joins in float64 in a fixed order; no value is read on the host.
"""

from .triton_backward import backward
from .triton_forward import forward

__all__ = ["backward", "forward"]
