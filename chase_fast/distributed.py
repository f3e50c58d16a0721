"""Several processes on one or more machines, started by torchrun: what they average, check and merge.

Collectives run on the device of their tensors, NCCL for CUDA, gloo for the CPU. Every rank calls them in the
same order. A rank that fails ends its process; torchrun then ends the others.
"""

import datetime
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chase_fast.device import resolve_device
from chase_fast.errors import ChaseError, Elsewhere

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

COUNTERS = ("num_batches_tracked", "updates")  # of nn.BatchNorm2d and of NormState


@dataclass(frozen=True)
class Ranks:
    """This process among all of a run; `Ranks()` is a run of one process, whose collectives do nothing.

    Attributes:
        rank, world: number of this process, and of processes, over all machines.
        local: number of this process on its machine.
        beside: how many of the processes are on its machine, itself included (1 if that is not said).
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    beside: int = 1

    @property
    def main(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        """(rank, world), the share of each batch that this process reads."""
        return self.rank, self.world

    def device(self, name: str) -> "torch.device":
        """Device of this process: with several processes on GPUs, process k of a machine takes GPU k.

        Raises:
            ChaseError: there is no such device, or it does not go with several processes.
        """
        import torch

        if self.world == 1:
            return resolve_device(name)
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name not in ("cpu", "cuda"):
            raise self.error(
                f"--device {name} is one device, but torchrun started {self.world} processes: use --device "
                "cuda (process k of a machine takes GPU k) or cpu"
            )
        if name == "cpu":
            return resolve_device(name)
        if torch.cuda.device_count() <= self.local:
            raise ChaseError(
                f"process {self.local} of this machine finds {torch.cuda.device_count()} GPUs: start at most "
                "one process per GPU (torchrun --nproc_per_node), or use --device cpu"
            )
        device = resolve_device(f"cuda:{self.local}")
        torch.cuda.set_device(device)
        return device

    def error(self, text: str) -> ChaseError:
        """The error to raise for what every rank finds at the same place: rank 0 alone speaks."""
        return ChaseError(text) if self.main else Elsewhere(text)

    def mean_(self, *tensors: "Tensor") -> None:
        """Averages tensors over the ranks, in place; one all-reduce for all tensors of a type."""
        if self.world > 1:
            for flat in self._flat(tensors, self._all_reduce):
                flat.div_(self.world)

    def broadcast_(self, *tensors: "Tensor") -> None:
        """Every rank gets the tensors of rank 0, in place."""
        if self.world > 1:
            import torch.distributed as dist

            for _ in self._flat(tensors, lambda flat: dist.broadcast(flat, 0)):
                pass

    def sum(self, value: float) -> float:
        """Sum of one number over the ranks."""
        if self.world == 1:
            return value
        import torch

        total = torch.tensor(value, dtype=torch.float64)
        with self._collective():
            self._all_reduce(total)
        return float(total)

    def barrier(self, hours: float | None = None) -> None:
        """Waits until every rank is here.

        Args:
            hours: how long the slowest may take; None: as long as every collective, half an hour.
        """
        if self.world > 1:
            import torch.distributed as dist

            if hours is None:
                self.sum(0.0)
                return
            import torch

            with self._collective():
                group = dist.new_group(backend="gloo", timeout=datetime.timedelta(hours=hours))
                assert isinstance(group, dist.ProcessGroup), "every rank is in it"
                dist.all_reduce(torch.zeros(1), group=group)

    def agree(self, value: float, what: str) -> float:
        """The value, if it is the same on every rank.

        Raises:
            ChaseError: it is not; `what` says what it is.
        """
        if self.world > 1:
            import torch
            import torch.distributed as dist

            mine = torch.tensor(value, dtype=torch.float64)
            values = [torch.zeros_like(mine) for _ in range(self.world)]
            with self._collective():
                dist.all_gather(values, mine)
            first = float(values[0])
            for rank, other in enumerate(map(float, values)):
                if other != first and not (math.isnan(other) and math.isnan(first)):
                    raise self.error(
                        f"rank 0 and rank {rank} disagree about {what} ({first!r}, {other!r}): every machine "
                        "needs the same versions, data, --out folder and kind of GPU"
                    )
        return value

    def share(self, make: Callable[[], str]) -> str:
        """The text that rank 0 makes, on every rank.

        Raises:
            Elsewhere: `make` has failed on rank 0, which raises its error.
        """
        if self.world == 1:
            return make()
        import torch

        data, error = b"", None
        if self.main:
            try:
                data = make().encode()
            except BaseException as e:
                error = e
        size = torch.tensor(-1 if error else len(data))
        self.broadcast_(size)
        if error:
            raise error
        if size < 0:
            raise self.error("rank 0 has failed")
        text = torch.empty(int(size), dtype=torch.uint8)
        if self.main:
            text.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        self.broadcast_(text)
        return bytes(text.tolist()).decode()

    def merge_statistics_(self, before: Mapping[str, "Tensor"], module: "nn.Module") -> None:
        """BatchNorm statistics as if the batches of the ranks had been seen one after another, rank 0 first.

        Rank k starts from r, takes in g batches with momentum m, and ends at (1 - m)^g r + c_k; so all W
        ranks together give (1 - m)^(g W) r + sum over k of (1 - m)^(g (W - 1 - k)) c_k: one all-reduce. All
        ranks must have made the same number g of updates of a layer. Momentum None, the cumulative average,
        goes alike.

        Args:
            before: `statistics(module)` of before the updates, the same on every rank.
        """
        if self.world == 1:
            return
        import torch

        with torch.no_grad():
            layers = list(_layers(module))
            counters = [torch.stack((before[name], counter)) for name, counter, _, _ in layers]
            if not layers:
                return
            shares, kept = [], []
            for (_, _, momentum, running), (old, new) in zip(layers, torch.stack(counters).tolist()):
                own, share, left = _factors(momentum, old, new - old, *self.part)
                for name, after in running.items():
                    shares.append((after - own * before[name]) * share)
                    kept.append((after, left * before[name]))
            for _ in self._flat(shares, self._all_reduce):
                pass
            # .data: batch norm keeps its buffers for the backward pass, but does not use them
            for (after, old), summed in zip(kept, shares):
                after.data.copy_(old + summed)
            for name, counter, _, _ in layers:
                counter.data.copy_(before[name] + self.world * (counter - before[name]))

    def _all_reduce(self, flat: "Tensor") -> None:
        import torch.distributed as dist

        dist.all_reduce(flat)

    def _flat(
        self, tensors: tuple["Tensor", ...] | list["Tensor"], collective: Callable[["Tensor"], object]
    ) -> Iterator["Tensor"]:
        """Runs a collective on the tensors of each type and device as one flat tensor, and yields that before
        its parts are written back."""
        import torch

        kinds: dict[tuple, list[Tensor]] = {}
        for t in tensors:
            kinds.setdefault((t.device, t.dtype), []).append(t.data)
        for group in kinds.values():
            alone = len(group) == 1 and group[0].is_contiguous()
            flat = group[0].view(-1) if alone else torch.cat([t.reshape(-1) for t in group])
            with self._collective():
                collective(flat)
            yield flat
            if not alone:
                for t, part in zip(group, flat.split([t.numel() for t in group])):
                    t.copy_(part.view(t.shape))

    @contextmanager
    def _collective(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as e:  # what torch.distributed raises when a process is gone
            reason = " ".join(str(e).split())[:100]
            raise ChaseError(
                f"rank {self.rank} has lost the other ranks, see their errors ({reason})"
            ) from None


def statistics(module: "nn.Module") -> dict[str, "Tensor"]:
    """Copies of the BatchNorm statistics and their counters, for `Ranks.merge_statistics_`."""
    found: dict[str, Tensor] = {}
    for name, counter, _, running in _layers(module):
        found |= {name: counter.clone()} | {k: t.clone() for k, t in running.items()}
    return found


def _layers(
    module: "nn.Module",
) -> Iterator[tuple[str, "Tensor", float | None, dict[str, "Tensor"]]]:
    """Of each layer with running statistics: name of its counter, counter, momentum, statistics."""
    from chase_fast.nn.norm import MOMENTUM

    for prefix, layer in module.named_modules():
        if getattr(layer, "running_mean", None) is None:
            continue
        dot = f"{prefix}." if prefix else ""
        counter = next(name for name in COUNTERS if hasattr(layer, name))
        running = {f"{dot}{k}": getattr(layer, k) for k in ("running_mean", "running_var")}
        yield f"{dot}{counter}", getattr(layer, counter), getattr(layer, "momentum", MOMENTUM), running


def _factors(
    momentum: float | None, old: int, updates: int, rank: int, world: int
) -> tuple[float, float, float]:
    """(own, share, left): r, on rank k now r_k, becomes left r + sum over k of share (r_k - own r)."""
    if momentum is None:  # mean over all batches so far
        own, total = old + updates, old + world * updates
        return old / max(own, 1), own / max(total, 1), old / max(total, 1)
    one = (1 - momentum) ** updates
    return one, one ** (world - 1 - rank), one**world


def launched() -> Ranks:
    """This process among those that torchrun says it started, without joining them; without torchrun, or
    with one process, `Ranks()`.

    Raises:
        ChaseError: torchrun's variables are incomplete, or no numbers that go together.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return Ranks()
    missing = [k for k in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if k not in os.environ]
    numbers = {k: os.environ.get(k, "1") for k in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    wrong = [k for k, text in numbers.items() if not re.fullmatch("[0-9]{1,9}", text)]
    if missing or wrong:
        what = f"{missing[0]} is not set" if missing else f"{wrong[0]} is {os.environ[wrong[0]]!r}, no number"
    else:
        size, rank, local, beside = map(int, numbers.values())
        if max(rank, local) < size and 1 <= beside <= size:
            return Ranks(rank, size, local, beside)
        what = ", ".join(f"{k} is {numbers[k]}" for k in numbers if k != "WORLD_SIZE")
    raise ChaseError(
        f"WORLD_SIZE is {world} but {what}: start several processes with torchrun, or unset WORLD_SIZE"
    )


def join() -> Ranks:
    """This process among those torchrun started; without torchrun, or with one process, `Ranks()`.

    Raises:
        ChaseError: as `launched`, or the processes do not find one another.
    """
    ranks = launched()
    if ranks.world == 1:
        return ranks
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        both = torch.cuda.is_available() and dist.is_nccl_available()
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo")
        except (RuntimeError, ValueError) as e:
            reason = " ".join(str(e).split())[:120]
            raise ChaseError(
                f"rank {ranks.rank} of {ranks.world} does not reach the others at "
                f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} ({reason}): check --rdzv-endpoint"
            ) from None
    return ranks


def start(device: str) -> "tuple[Ranks, torch.device]":
    """Joins the other processes, if there are any, and takes this one's device.

    Raises:
        ChaseError: as `join` and `Ranks.device`.
    """
    ranks = join()
    return ranks, ranks.device(device)


def shutdown() -> None:
    """Leaves the other processes; without them it does nothing."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
