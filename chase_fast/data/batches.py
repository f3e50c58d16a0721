"""Batches of samples, made ahead of the training step by threads of this process or by worker processes."""

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from chase_fast.data.sampler import Sample, SampleRecipe, SampleSet
from chase_fast.errors import ChaseError
from chase_fast.process import tune_process

AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """float32 tensors; n frames, s sequences, crop side H, score map side S, P proposals. Boxes are xywh,
    crop pixels.

    Images are normalised and lie channels-last in memory: `images.flatten(0, 1)` is a channels_last view.
    """

    train_images: torch.Tensor  # [n_train, s, 3, H, H]
    test_images: torch.Tensor  # [n_test, s, 3, H, H]
    train_boxes: torch.Tensor  # [n_train, s, 4]
    test_boxes: torch.Tensor  # [n_test, s, 4]
    label_density: torch.Tensor  # [n_test, s, S, S] PrDiMP: sums to 1
    label: torch.Tensor  # [n_test, s, S, S] DiMP: peak 1
    proposals: torch.Tensor | None = None  # [n_test, s, P, 4]
    proposal_density: torch.Tensor | None = None  # [n_test, s, P]
    gt_density: torch.Tensor | None = None  # [n_test, s, P]
    proposal_iou: torch.Tensor | None = None  # [n_test, s, P] in [0, 1]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        moved = {
            f.name: t.to(device, non_blocking=non_blocking)
            for f in fields(self)
            if (t := getattr(self, f.name)) is not None
        }
        return replace(self, **moved)

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory, from which copies to a GPU need not be waited for."""
        pinned = {f.name: t.pin_memory() for f in fields(self) if (t := getattr(self, f.name)) is not None}
        return replace(self, **pinned)


class _Images:
    """The images of a batch of s, written where they stay: train [n_train, s, H, H, 3], test likewise."""

    def __init__(self, recipe: SampleRecipe, count: int, pin: bool = False):
        shape = count, recipe.size, recipe.size, 3
        self.train = torch.empty((recipe.train_frames, *shape), pin_memory=pin)
        self.test = torch.empty((recipe.test_frames, *shape), pin_memory=pin)

    def of(self, number: int) -> list[np.ndarray]:
        """Where a sample's images go."""
        return [*self.train.numpy()[:, number], *self.test.numpy()[:, number]]


def _collate(samples: list[Sample], images: _Images) -> Batch:
    """Samples -> Batch, frames first."""

    def stack(arrays: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(arrays, 1).astype(np.float32))

    n_train = len(images.train)
    optional = {
        name: stack([getattr(s, name) for s in samples])
        for name in ("proposals", "proposal_density", "gt_density", "proposal_iou")
        if getattr(samples[0], name) is not None
    }
    return Batch(
        train_images=images.train.permute(0, 1, 4, 2, 3),
        test_images=images.test.permute(0, 1, 4, 2, 3),
        train_boxes=stack([s.boxes[:n_train] for s in samples]),
        test_boxes=stack([s.boxes[n_train:] for s in samples]),
        label_density=stack([s.label_density for s in samples]),
        label=stack([s.label for s in samples]),
        **optional,
    )


@dataclass(frozen=True)
class _Epoch(Dataset):
    """Batch number -> Batch, for worker processes. A ChaseError travels as a value: its one line survives."""

    samples: SampleSet
    batch: int
    epoch: int
    part: tuple[int, int] = (0, 1)

    def indices(self, number: int) -> range:
        """Samples of this rank's share of a batch."""
        rank, world = self.part
        share = self.batch // world
        first = number * self.batch + rank * share
        return range(first, first + share)

    def __getitem__(self, number: int) -> Batch | ChaseError:
        cv2.setNumThreads(1)
        indices = self.indices(number)
        images = _Images(self.samples.recipe, len(indices))
        try:
            made = [self.samples.sample(self.epoch, i, images.of(j)) for j, i in enumerate(indices)]
        except ChaseError as e:
            return e
        return _collate(made, images)


def _same(item):
    return item


def _tuned(worker: int) -> None:
    tune_process()


def _from_processes(data: _Epoch, numbers: range, workers: int, pin: bool) -> Iterator[Batch]:
    # a fork server: forking this process, whose OpenMP threads are running, can hang
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    if os.name != "nt":
        context.set_forkserver_preload([__name__])
    for item in DataLoader(
        data,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        collate_fn=_same,
        multiprocessing_context=context,
        prefetch_factor=AHEAD,
        pin_memory=pin,
        worker_init_fn=_tuned,
        generator=torch.Generator(),  # else the seeds of the workers are drawn from the caller's
    ):
        if isinstance(item, ChaseError):
            raise item
        yield item


def _from_threads(data: _Epoch, numbers: range, threads: int, pin: bool) -> Iterator[Batch]:
    """Samples run one per thread; AHEAD batches are in the making while one is used."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="chase_fast.data")

    def submit(number: int) -> tuple[list[Future], _Images]:
        indices = data.indices(number)
        images = _Images(data.samples.recipe, len(indices), pin)
        sample = data.samples.sample
        return [pool.submit(sample, data.epoch, i, images.of(j)) for j, i in enumerate(indices)], images

    try:
        waiting = iter(numbers)
        queue = deque(submit(n) for n in itertools.islice(waiting, AHEAD))
        while queue:
            futures, images = queue.popleft()
            made = [future.result() for future in futures]
            queue.extend(submit(n) for n in itertools.islice(waiting, 1))
            yield _collate(made, images)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def loader(
    samples: SampleSet,
    batch: int,
    epoch: int,
    start: int = 0,
    workers: int = 0,
    fixed: bool = False,
    threads: int = 2,
    part: tuple[int, int] = (0, 1),
    pin: bool = False,
) -> Iterator[Batch]:
    """Batches of one epoch, the last incomplete one dropped; the same whatever `workers` and `threads` are.

    Args:
        batch: sequences per batch, over all ranks.
        epoch: changes the samples, unless `fixed` (hold-out: the same samples every epoch).
        start: first batch to yield, to resume in the middle of an epoch.
        workers: worker processes; 0 uses `threads` threads here (decoding and warping release the GIL).
        part: (rank, world): yield the rank-th of `world` equal, consecutive parts of every batch.
        pin: images in page-locked memory, for training on a GPU: `batch.to(device, non_blocking=True)`.

    OpenCV's own threads are switched off in this process: one frame per thread is faster.

    Raises:
        ChaseError: the epoch has less than one batch, or `world` does not divide it; while iterating, a frame
            cannot be decoded.
    """
    count = samples.size // batch
    if count == 0:
        raise ChaseError(f"an epoch of {samples.size} samples holds no batch of {batch}")
    if batch % part[1]:
        raise ChaseError(f"a batch of {batch} cannot be split evenly over {part[1]} ranks; change --batch")
    cv2.setNumThreads(1)
    data = _Epoch(samples, batch, 0 if fixed else epoch, part)
    numbers = range(start, count)
    if workers > 0:
        return _from_processes(data, numbers, workers, pin)
    return _from_threads(data, numbers, threads, pin)
