"""Allocates outputs, calls the kernels of csrc/cpu/prroi_pool.cpp or csrc/cuda/prroi_pool.cu."""

import torch
from torch import Tensor

from .._dispatch import native
from .._layout import channels_last


def by_image(rois: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """Boxes sorted by image, without a synchronisation.

    Returns:
        order [R] int64, stable; first [images + 1] int64: where each image's boxes begin in `order`.
    """
    image, order = torch.sort(rois[:, 0], stable=True)
    starts = torch.arange(images + 1, dtype=image.dtype, device=image.device)
    return order, torch.searchsorted(image.contiguous(), starts)


def forward(features: Tensor, rois: Tensor, rows: int, columns: int, scale: float) -> Tensor:
    features, rois = channels_last(features), rois.contiguous()
    size = (rois.shape[0], features.shape[1], rows, columns)
    out = torch.empty(size, dtype=features.dtype, device=features.device)
    arrays = features, rois, out, scale
    if features.is_cuda:
        with torch.cuda.device(features.device):
            native().cuda_prroi_pool(*arrays, torch.cuda.current_stream().cuda_stream)
    else:
        native().cpu_prroi_pool(*arrays, torch.get_num_threads())
    return out


def backward_features(grad: Tensor, shape: torch.Size, rois: Tensor, scale: float) -> Tensor:
    grad, rois = grad.contiguous(), rois.contiguous()
    out = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)
    if grad.is_cuda:
        with torch.cuda.device(grad.device):
            order, first = by_image(rois, shape[0])
            stream = torch.cuda.current_stream().cuda_stream
            native().cuda_prroi_pool_backward_features(grad, rois, order, first, out, scale, stream)
    else:
        native().cpu_prroi_pool_backward_features(grad, rois, out, scale, torch.get_num_threads())
    return out


def backward_rois(grad: Tensor, features: Tensor, rois: Tensor, out: Tensor, scale: float) -> Tensor:
    features = channels_last(features)
    grad, rois, out = grad.contiguous(), rois.contiguous(), out.contiguous()
    grad_rois = torch.empty(rois.shape, dtype=rois.dtype, device=rois.device)
    if grad.is_cuda:
        with torch.cuda.device(grad.device):
            bins = out.shape[2] * out.shape[3]
            partial = torch.empty((rois.shape[0], bins, 4), dtype=rois.dtype, device=rois.device)
            arrays = grad, features, rois, out, partial, grad_rois
            native().cuda_prroi_pool_backward_rois(*arrays, scale, torch.cuda.current_stream().cuda_stream)
    else:
        threads = torch.get_num_threads()
        native().cpu_prroi_pool_backward_rois(grad, features, rois, out, grad_rois, scale, threads)
    return grad_rois
