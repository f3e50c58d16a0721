"""The candidate operations. Free of torch: command lines read it before they load anything."""

# order of DARTS (Liu et al. 2019): the columns of alpha
WEIGHT_FREE = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect")
CONVOLUTIONS = ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
OPS = WEIGHT_FREE + CONVOLUTIONS
