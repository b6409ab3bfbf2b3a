"""`XbmLoss` over a process group: the losses of a rank's anchors against the queue of all ranks."""

from typing import TYPE_CHECKING, Any

import torch

from ._group import slot_ids
from ._library import OWN_INSTANCE, OWN_NONE
from ._operators import KnownLoss, in_backward
from ._rows import integers, unit_rows
from .errors import XbmError

if TYPE_CHECKING:
    from .loss import XbmLoss


@torch.compiler.disable
def grouped_losses(
    memory: "XbmLoss", embeddings: torch.Tensor, labels: Any, ids: Any, keys: torch.Tensor | None, enqueue: bool
) -> torch.Tensor:
    """`(batch)` float32. Where one rank is refused all are, and the queue is as before. ValueError and XbmError as for `XbmLoss`."""
    with memory._ring.lock:
        failure, anchors = None, torch.zeros(0)
        try:
            anchors, rows, numbers = _checked(memory, embeddings, labels, ids, keys)
        except Exception as error:  # noqa: BLE001: whatever it is, the other ranks must not wait for this one
            failure = error
        head, count = memory.position.tolist()
        said = {"embeddings": len(anchors), "enqueue": enqueue, "ids": ids is not None, "keys": keys is not None}
        device = embeddings.device if torch.is_tensor(embeddings) else memory.position.device
        memory._group.agree(device, failure, said | {"the queue's head": head, "the queue's rows": count})
        if len(anchors) == 0:
            memory.kept = torch.zeros(0, 2, dtype=torch.int32, device=anchors.device)
            return anchors.sum(dim=1)
        losses, gradient, memory.kept = _computed(memory, anchors.detach(), rows, numbers, ids is not None, enqueue)
        return KnownLoss.apply(anchors, losses, gradient)


def _checked(memory: "XbmLoss", embeddings: Any, labels: Any, ids: Any, keys: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """This rank's unit rows, differentiable, those to be enqueued, and `(batch, 2)` int64 labels and ids."""
    if in_backward():
        raise XbmError("a loss over a process group is not recomputed; leave it outside torch.utils.checkpoint")
    shard = memory._shard
    if shard is not None and memory.shard.tolist() != [shard.rank, shard.size]:
        raise XbmError(
            f"the queue of rank {shard.rank} was overwritten by that of rank {int(memory.shard[0])}; DistributedDataParallel does so "
            "unless it is given broadcast_buffers=False"
        )
    anchors, memory.without_direction = unit_rows("embeddings", embeddings, memory.dim)
    rows = anchors.detach() if keys is None else unit_rows("keys", keys, memory.dim)[0].to(anchors.device).detach()
    if rows.shape != anchors.shape:
        raise ValueError(f"keys: expected shape {tuple(anchors.shape)} as the embeddings have, found {tuple(rows.shape)}")
    for name, values in (("embeddings", anchors), ("keys", rows)):
        if not bool(torch.isfinite(values).all()):
            raise XbmError(f"{name}: expected finite numbers, found NaN or infinity")
    known = integers("labels", labels, anchors).to(anchors.device)
    own_ids = torch.full_like(known, -1) if ids is None else integers("ids", ids, anchors).to(anchors.device)
    return anchors, rows, torch.stack([known, own_ids], dim=1)


def _computed(
    memory: "XbmLoss", anchors: torch.Tensor, rows: torch.Tensor, numbers: torch.Tensor, with_ids: bool, enqueue: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses, gradients and numbers of pairs of this rank's anchors, after the batch of all ranks was enqueued."""
    group, ring, shard = memory._group, memory._ring, memory._shard
    everyones = group.gathered(anchors)
    everyones_rows = everyones if rows is anchors or not enqueue else group.gathered(rows)
    labels, ids = group.gathered(numbers).unbind(dim=1)
    head, count = memory.position.tolist()
    total = len(everyones)
    if not with_ids:
        ids = slot_ids(head, total, memory.memory_size)
    labels, ids = labels.tolist(), ids.tolist()
    if enqueue:
        mine = torch.arange(total) if shard is None else shard.turns(head, total)
        stored = everyones_rows[mine.to(anchors.device)]
        ring.enqueue(stored, [labels[row] for row in mine.tolist()], [ids[row] for row in mine.tolist()], stored)
    own = OWN_INSTANCE if with_ids or enqueue else OWN_NONE
    try:
        if shard is None:
            ours = slice(group.rank * len(anchors), (group.rank + 1) * len(anchors))
            result = ring.pair_loss(anchors, labels[ours], ids[ours], memory.weighting, own)
        else:
            result = _over_shards(memory, everyones, labels, ids, own)
    except XbmError:
        if enqueue:
            ring.take_back()
        raise
    ring.undo = None
    if enqueue:
        moved = [(head + total) % memory.memory_size, min(memory.memory_size, count + total)]
        memory.position.copy_(torch.tensor(moved))
    return result


def _over_shards(memory: "XbmLoss", everyones: torch.Tensor, labels: list[int], ids: list[int], own: int) -> tuple:
    """Of this rank's anchors the sums over all parts of the queue. XbmError on every rank where one part could not be gone through."""
    failure = None
    try:
        losses, gradient, kept = memory._ring.pair_loss(everyones, labels, ids, memory.weighting, own)
        numbers = torch.cat([losses.double().unsqueeze(1), kept.double()], dim=1)
    except XbmError as error:
        failure, gradient = error, torch.zeros_like(everyones)
        numbers = torch.full((len(everyones), 3), torch.nan, dtype=torch.float64, device=everyones.device)
    gradient, numbers = memory._group.summed(gradient), memory._group.summed(numbers)
    if failure is not None:
        raise failure
    if bool(numbers.isnan().any()):
        raise XbmError("another rank could not go through its part of the queue, and says why; the queue is as before on every rank")
    return numbers[:, 0].float(), gradient, numbers[:, 1:].to(torch.int32)
