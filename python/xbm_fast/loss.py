"""`XbmLoss`: the loss of a batch against a memory of past embeddings."""

from typing import Any

import torch

from . import _operators
from ._engine import weighting_for
from ._library import OWN_INSTANCE, OWN_LAST_ENQUEUE, OWN_NONE
from ._queue import Queue, whole_number
from ._rows import integers, number_type, unit_rows

REDUCTIONS = ("mean", "sum", "avg-non-zero", "none")


class XbmLoss(Queue):
    """Loss of a batch against a memory of the `memory_size` embeddings of length `dim` seen last.

    weighting: the name of a loss, or TOML, as include/xbm_fast.h says: "contrastive", "multi-similarity:alpha=2,beta=40", ...
    reduction: "mean" over the anchors, "sum", "avg-non-zero" (the mean over the anchors whose loss is above zero) or "none", the loss of
    each anchor, `(batch)`.

    The memory is in buffers: `embedding_memory`, `(memory_size, dim)` float32 rows of length 1, `label_memory` and `id_memory`,
    `(memory_size)` int64, and `position`. So it is part of state_dict, of copies and of pickles, and a module that was saved and loaded
    goes on to the bit. A second copy is the engine's, where the embeddings are.

    After a call `kept`, `(batch, 2)` int32, holds how many positives and negatives of each anchor had a weight, and `zero_rows` says how
    many embeddings had no direction: they are rows of zeros to the engine and get a gradient of zeros.

    ValueError for settings without a meaning, XbmError for what the engine refuses: an unknown weighting, a memory that does not fit, NaN.
    """

    id_memory: torch.Tensor
    kept: torch.Tensor | None
    without_direction: torch.Tensor | None

    def __init__(self, dim: int, memory_size: int, weighting: str = "contrastive", reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction: expected one of {', '.join(REDUCTIONS)}, found {reduction!r}")
        self.dim, self.memory_size = whole_number("dim", dim), whole_number("memory_size", memory_size)
        self.weighting, self.reduction, self.kept, self.without_direction = weighting, reduction, None, None
        weighting_for(weighting)
        self.register_buffer("embedding_memory", torch.zeros(memory_size, dim))
        self.register_buffer("label_memory", torch.zeros(memory_size, dtype=torch.int64))
        self.register_buffer("id_memory", torch.zeros(memory_size, dtype=torch.int64))
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
        enqueued again). The memory is then as before.
        """
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
