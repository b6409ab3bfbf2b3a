"""The ranks of a process group as one process with all their batches.

The queue of that process is a ring of `size` times as many slots as a rank holds: rank `k` has its slots `k`, `k + size`, `k + 2 size`
and so on. So a rank's own queue is a ring too, and what it enqueues of each global batch are the rows whose turn it is.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from .errors import XbmError

# Of rows without an id of the caller's: this less the slot. So an anchor is known to be itself on every rank.
FIRST_SLOT_ID = -(2**62)


class Group:
    """A process group of torch.distributed. ValueError where there is none, or this process is no part of it."""

    def __init__(self, process_group: Any) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise ValueError("process_group: expected torch.distributed to be initialised, found that it is not")
        self.handle = process_group
        self.rank, self.size = dist.get_rank(process_group), dist.get_world_size(process_group)
        if self.rank < 0:
            raise ValueError("process_group: expected one that this process is part of, found another")

    def gathered(self, own: torch.Tensor) -> torch.Tensor:
        """`(size * rows, ...)`: what each rank has, in the order of the ranks; `own` is `(rows, ...)`, as many on each."""
        everyones = own.new_empty((self.size * own.shape[0], *own.shape[1:]))
        dist.all_gather_into_tensor(everyones, own.contiguous(), group=self.handle)
        return everyones

    def summed(self, parts: torch.Tensor) -> torch.Tensor:
        """`(rows, ...)`: of each row of this rank the sum of what the ranks have for it, always in the order of the ranks; `parts`,
        `(size * rows, ...)`, is what this one has for the rows of all."""
        received = torch.empty_like(parts)
        dist.all_to_all_single(received, parts.contiguous(), group=self.handle)
        return received.view(self.size, -1, *parts.shape[1:]).sum(dim=0, dtype=torch.float64).to(parts.dtype)

    def agree(self, device: torch.device, failure: Exception | None, said: dict[str, int]) -> None:
        """Raises on every rank where one has failed, or where they say different things: none waits for another that has gone."""
        own = torch.tensor([[failure is not None, *said.values()]], dtype=torch.int64, device=device)
        everyones = self.gathered(own).tolist()
        if failure is not None:
            raise failure
        failed = [rank for rank, (lost, *_) in enumerate(everyones) if lost]
        if failed:
            raise XbmError(f"rank {failed[0]} refused its part of the batch, and says why; the queue is as before on every rank")
        for place, name in enumerate(said, 1):
            values = [row[place] for row in everyones]
            if len(set(values)) > 1:
                raise ValueError(f"{name}: expected the same on all {self.size} ranks, found {values}, in the order of the ranks")


class Shard:
    """A rank's part of a ring of `capacity` slots. ValueError for a capacity that is no multiple of the ranks."""

    def __init__(self, capacity: int, rank: int, size: int) -> None:
        if capacity % size != 0:
            raise ValueError(f"memory_size: expected a multiple of the {size} ranks, found {capacity}")
        self.capacity, self.rank, self.size = capacity, rank, size
        self.rows = capacity // size

    def occupancy(self, head: int, count: int) -> tuple[int, int]:
        """Head and count of the rank's own ring, from those of the whole."""
        before = lambda slot: (slot - self.rank + self.size - 1) // self.size  # noqa: E731: its own slots below one of the whole
        return before(head) % self.rows, before(count)

    def turns(self, head: int, rows: int) -> torch.Tensor:
        """Which of `rows` rows, enqueued one by one from `head` on, are this rank's: indices, int64."""
        return torch.arange((self.rank - head) % self.size, rows, self.size)

    def part(self, whole: torch.Tensor) -> torch.Tensor:
        return whole[self.rank :: self.size]

    @staticmethod
    def whole(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The whole again, from the parts in the order of the ranks."""
        return torch.stack(list(parts), dim=1).flatten(0, 1)


def slot_ids(head: int, rows: int, capacity: int) -> torch.Tensor:
    """`(rows)` int64: ids of rows that are enqueued from `head` on; -1 of those that do not stay."""
    ids = FIRST_SLOT_ID - (head + torch.arange(rows)) % capacity
    ids[: max(0, rows - capacity)] = -1
    return ids


def without_slot_ids(ids: torch.Tensor) -> torch.Tensor:
    """The ids of a whole ring in order of slot, -1 where no other was given."""
    return torch.where(ids == FIRST_SLOT_ID - torch.arange(len(ids), device=ids.device), -1, ids)


def is_sum_over_rows(weighting: str) -> bool:
    """Whether a pair's weight depends on nothing but its similarity, so that parts of a queue can be gone through apart."""
    name = weighting.split(":")[0].strip()
    by_name = not any(mark in weighting for mark in '[{"')
    return name == "contrastive" if by_name else "scale" not in weighting and "mining" not in weighting
