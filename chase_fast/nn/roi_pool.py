"""Precise RoI pooling as a module, for heads of your own."""

from torch import Tensor, nn

from chase_fast.kernels.prroi_pool import prroi_pool


class PrRoIPool(nn.Module):
    """The exact mean of the interpolated features over the bins of each box: `chase_fast.kernels.prroi_pool`.

        pool = PrRoIPool((7, 7), scale=1 / 16)
        pooled = pool(features, rois)  # [R, C, 7, 7], differentiable to features and boxes

    Args:
        output_size: (rows, columns) of bins, or one number for both.
        scale: feature cells per image pixel.
    """

    def __init__(self, output_size: int | tuple[int, int], scale: float):
        super().__init__()
        rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
        self.output_size, self.scale = (rows, columns), float(scale)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """features [N, C, H, W], rois [R, 5] = (image index, x0, y0, x1, y1) in image pixels -> [R, C, rows,
        columns].

        Raises:
            ValueError: wrong shape, dtype or output size.
            IndexError: an image index outside 0..N-1, on the CPU; a GPU gives NaN.
        """
        return prroi_pool(features, rois, self.output_size, self.scale)

    def extra_repr(self) -> str:
        return f"{self.output_size}, scale={self.scale}"
