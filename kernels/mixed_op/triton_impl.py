"""The `triton` backend. Formulas and shapes: __init__.py.

    triton_forward, triton_backward        the order of launches
    triton_launch                          sizes of a call, packed weights, launches that both share
    triton_depthwise, triton_pointwise     kernels of the convolutions
    triton_norm, triton_pool               statistics and the inner norm; the pools
    triton_tiles                           addressing, depthwise taps, products

Depthwise (DW) and pointwise (PW) convolution of all E edges of a stage are one launch each. A DW program has
strips of 6 pixels of a row, so that 10 loads make 30 products (5x5). Fused into the tile of PW, every product
would cost a load, and half a load of its weight: by load cycles more time (5x5: about twice) than the 2 E
passes over a map that fusing saves. The inner norm is applied where DW reads, its statistics come out of the
accumulators of PW. The backward makes DW outputs again, for the weights of PW only.

Passes over a map of N C H W elements, read and written (the float32 sum for x counts twice with bfloat16):

                forward              backward                          backward to x only
    call        2 launches           3 launches                        3 launches
    pools       3, 4 passes          3, 17 passes                      3, 17 passes
    sep_conv    5, 8 E passes        16, 23 E + 4 passes               6, 11 E + 4 passes
    dil_conv    2, 4 E passes        7, 9 E + 4 passes                 2, 3 E + 4 passes
    all six     19, 4 + 24 E         52, 31 + 64 E                     22, 31 + 28 E

darts has one launch more, relu(x); float32 one less, the weights of PW are not cast. Scratch: two maps per
edge, and in the backward the float32 sum for x.

float32 products use compensated TF32 (three products), bfloat16 ones round the DW outputs and the weights of
PW to bfloat16; all sums and the taps are float32.
Sums over pixels are joined in float64 in a fixed order; no atomics, no value is read on the host, block sizes
depend on shapes only.
"""

from .triton_backward import backward
from .triton_forward import forward

__all__ = ["backward", "forward"]
