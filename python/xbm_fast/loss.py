"""`XbmLoss`: the loss of a batch against a memory of past embeddings."""

from typing import Any

import torch

from . import _operators
from ._engine import weighting_for
from ._group import Group, Shard, is_sum_over_rows, without_slot_ids
from ._grouped import grouped_losses
from ._library import BF16, DTYPE_DEFAULT, F16, F32, OWN_INSTANCE, OWN_LAST_ENQUEUE, OWN_NONE
from ._queue import Queue, whole_number
from ._rows import integers, number_type, unit_rows
from .errors import XbmError

ROW_BUFFERS = ("embedding_memory", "label_memory", "id_memory")
REDUCTIONS = ("mean", "sum", "avg-non-zero", "none")
ROW_DTYPES = {None: DTYPE_DEFAULT, torch.float32: F32, torch.float16: F16, torch.bfloat16: BF16}


class XbmLoss(Queue):
    """Loss of a batch against a memory of the `memory_size` embeddings of length `dim` seen last.

    weighting: the name of a loss, or TOML, as include/xbm_fast.h says: "contrastive", "multi-similarity:alpha=2,beta=40", ...
    reduction: "mean" over the anchors, "sum", "avg-non-zero" (the mean over the anchors whose loss is above zero) or "none", the loss of
    each anchor, `(batch)`.
    memory_dtype: how the rows of the memory are held: torch.float32, or torch.float16, which takes half the memory and moves similarities
    by up to 2^-11; on a GPU also torch.bfloat16. None is the engine's choice, float32 on the CPU and float16 on a GPU.

    process_group: of torch.distributed, such as torch.distributed.group.WORLD: all its ranks together then compute what one process would
    with their batches in the order of the ranks, which must be of one size. `memory_size` and `ids` are of the whole. A rank's result is
    such that the mean over the ranks is the result of that process: DistributedDataParallel, which averages gradients, then moves the
    parameters as that process would ("none" gives the rank's own anchors). Each rank holds a part of the memory where a pair's weight
    depends on its similarity alone (contrastive, and TOML without scale and mining); otherwise each holds all of it, and goes through it
    for its own anchors. Give DistributedDataParallel `broadcast_buffers=False` if this module is part of its model.

    The memory is in buffers: `embedding_memory`, `(memory_size, dim)` rows of length 1 in `memory_dtype`, `label_memory` and `id_memory`,
    `(memory_size)` int64, and `position`. So it is part of state_dict, of copies and of pickles, and a module that was saved and loaded
    goes on to the bit. A second copy is the engine's, where the embeddings are.

    After a call `kept`, `(batch, 2)` int32, holds how many positives and negatives of each anchor had a weight, and `zero_rows` says how
    many embeddings had no direction: they are rows of zeros to the engine and get a gradient of zeros.

    ValueError for settings without a meaning, XbmError for what the engine refuses: an unknown weighting, a memory that does not fit, NaN.
    """

    id_memory: torch.Tensor
    shard: torch.Tensor
    kept: torch.Tensor | None
    without_direction: torch.Tensor | None

    def __init__(
        self,
        dim: int,
        memory_size: int,
        weighting: str = "contrastive",
        reduction: str = "mean",
        *,
        memory_dtype: torch.dtype | None = None,
        process_group: Any = None,
    ) -> None:
        if memory_dtype not in ROW_DTYPES:
            raise ValueError(f"memory_dtype: expected torch.float32, torch.float16, torch.bfloat16 or None, found {memory_dtype!r}")
        self._row_dtype = ROW_DTYPES[memory_dtype]
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction: expected one of {', '.join(REDUCTIONS)}, found {reduction!r}")
        self.dim, self.memory_size = whole_number("dim", dim), whole_number("memory_size", memory_size)
        self.weighting, self.reduction, self.kept, self.without_direction = weighting, reduction, None, None
        weighting_for(weighting)
        self._group = None if process_group is None else Group(process_group)
        self._shard = None
        if self._group is not None and "mean-all" in weighting:
            raise ValueError("weighting: `mean-all` weighs by the pairs of all ranks' anchors, which no rank of a process_group knows")
        if self._group is not None and is_sum_over_rows(weighting):
            self._shard = Shard(memory_size, self._group.rank, self._group.size)
            self.register_buffer("shard", torch.tensor([self._group.rank, self._group.size]))
        rows = memory_size if self._shard is None else self._shard.rows
        self.register_buffer("embedding_memory", torch.zeros(rows, dim, dtype=memory_dtype or torch.float32))
        self.register_buffer("label_memory", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("id_memory", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("position", torch.zeros(2, dtype=torch.int64))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, memory_size={self.memory_size}, weighting={self.weighting!r}, reduction={self.reduction!r}"

    def forward(
        self, embeddings: torch.Tensor, labels: Any, ids: Any = None, keys: torch.Tensor | None = None, enqueue: bool = True
    ) -> torch.Tensor:
        """The loss: a scalar, or `(batch)` without a reduction. Its type is float64 for float64 embeddings and float32 for all others;
        it is computed in 32 bit.

        embeddings: `(batch, dim)`, any floating-point type and strides; they are normalised here.
        labels: `(batch)`, integers of any type and value; equal labels are positives. A tensor, an array or a list.
        ids: `(batch)`, integers, which image each row is of: an anchor is then no pair with any row of its image. -1 stands for none.
        Without ids an anchor is no pair with its own row of this batch.
        keys: `(batch, dim)`, enqueued in place of the embeddings, as those of a momentum encoder.
        enqueue: False leaves the memory as it is.

        ValueError for other shapes and types. XbmError for what the engine refuses, in a forked child, for a second derivative, and where
        torch.utils.checkpoint recomputes the loss of a batch after another one was enqueued (of the last batch it is recomputed, and not
        enqueued again). The memory is then as before. With a process_group every rank must call, and all are refused where one is.
        """
        if self._group is not None:
            losses = grouped_losses(self, embeddings, labels, ids, keys, enqueue).to(torch.float64)
            return self._reduced_in_group(losses).to(number_type(embeddings))
        if torch.compiler.is_compiling():
            return self._loss(embeddings, labels, ids, keys, enqueue)
        with self._ring.lock:  # no other thread's batch comes between
            return self._loss(embeddings, labels, ids, keys, enqueue)

    def _loss(self, embeddings: torch.Tensor, labels: Any, ids: Any, keys: torch.Tensor | None, enqueue: bool) -> torch.Tensor:
        anchors, self.without_direction = unit_rows("embeddings", embeddings, self.dim)
        labels = integers("labels", labels, anchors)
        ids = None if ids is None else integers("ids", ids, anchors)
        if enqueue:
            rows = anchors if keys is None else unit_rows("keys", keys, self.dim)[0].to(anchors.device)
            if rows.shape != anchors.shape:
                raise ValueError(f"keys: expected shape {tuple(anchors.shape)} as the embeddings have, found {tuple(rows.shape)}")
            if torch.compiler.is_compiling():
                _operators.enqueue(self.position, rows.detach(), labels, ids, self._key)
            else:
                _operators.enqueue_rows(self._ring, self.position, rows.detach(), labels, ids)
        own = OWN_INSTANCE if ids is not None else OWN_LAST_ENQUEUE if enqueue else OWN_NONE
        if torch.compiler.is_compiling():
            losses, _, self.kept = _operators.pair_loss(anchors, labels, ids, self.position, self._key, self.weighting, own)
        else:
            losses, self.kept = _operators.PairLoss.apply(anchors, labels, ids, self._ring, self.weighting, own)
        return reduced(losses.to(torch.float64), self.reduction).to(number_type(embeddings))

    @property
    def zero_rows(self) -> int:
        """Embeddings of the last batch without a direction."""
        return 0 if self.without_direction is None else int(self.without_direction.sum())

    def _reduced_in_group(self, losses: torch.Tensor) -> torch.Tensor:
        """Such that the mean over the ranks is the reduction of the losses of all."""
        if self.reduction == "sum":
            return losses.sum() * self._group.size
        if self.reduction == "avg-non-zero":
            above = self._group.gathered((losses > 0).sum().reshape(1)).sum()
            return losses.sum() * self._group.size / above.clamp(min=1)
        return reduced(losses, self.reduction)

    def whole_state(self) -> dict[str, torch.Tensor]:
        """The state_dict of one process in the place of the group, for a checkpoint that goes on with any number of ranks: load_state_dict
        takes it on each. Every rank must call. Without a process_group it is state_dict itself."""
        state = {name: buffer.detach().clone() for name, buffer in self.named_buffers() if name != "shard"}
        if self._shard is not None:
            for name in ROW_BUFFERS:
                everyones = self._group.gathered(state[name])
                state[name] = Shard.whole(everyones.split(self._shard.rows))
        if self._group is not None:
            state["id_memory"] = without_slot_ids(state["id_memory"])
        return state

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors) -> None:  # noqa: ANN001
        shard = self._shard
        if shard is not None:
            given = state_dict.get(f"{prefix}shard")
            if given is None:  # a whole state
                rows = {f"{prefix}{name}": state_dict.get(f"{prefix}{name}") for name in ROW_BUFFERS}
                parts = {key: shard.part(value) for key, value in rows.items() if value is not None and len(value) == self.memory_size}
                state_dict = {**state_dict, **parts, f"{prefix}shard": self.shard}
            elif given.tolist() != self.shard.tolist():
                found = "rank {} of {}".format(*given.tolist())
                errors.append(f"expected the state of rank {shard.rank} of {shard.size}, or a whole_state(), found that of {found}")
                return
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)

    def _occupancy(self) -> tuple[int, int]:
        head, count = super()._occupancy()
        return (head, count) if self._shard is None else self._shard.occupancy(head, count)

    def _write_position(self) -> None:
        if self._group is None:  # in a group it moves once the loss is known
            super()._write_position()

    def __getstate__(self) -> dict[str, Any]:
        if self._group is not None:
            raise XbmError("a loss over a process_group is not copied or pickled; carry its whole_state(), or the state_dict of each rank")
        return super().__getstate__()

    def reset(self) -> None:
        """Forgets every row."""
        self._clear()


def reduced(losses: torch.Tensor, reduction: str) -> torch.Tensor:
    """The losses of the anchors, `(batch)`, as `reduction` says; 0 of none."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    count = losses.shape[0] if reduction == "mean" else (losses > 0).sum().clamp(min=1)
    return losses.sum() / (max(1, count) if reduction == "mean" else count)
