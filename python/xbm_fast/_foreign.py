"""A loss of pytorch-metric-learning called itself, with the queue as its references."""

import importlib.metadata
from typing import TYPE_CHECKING, Any

import torch

from ._pairs import all_pairs, joined, mined_one_by_one, without_own

if TYPE_CHECKING:
    from .cross_batch_memory import CrossBatchMemory


def release() -> int:
    """Which major release of pytorch-metric-learning is installed; 0 for none. This package is compared with release 2."""
    try:
        return int(importlib.metadata.version("pytorch-metric-learning").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


def foreign_loss(memory: "CrossBatchMemory", anchors: torch.Tensor, labels: torch.Tensor, given: Any, own: bool) -> Any:
    """`memory.loss` of the anchors. The references are copies, so that a backward pass may come after the next batch.

    An anchor's own copy is taken out before mining from release 3 on, and after it before that."""
    count = memory._ring.count
    rows, row_labels = memory.embedding_memory[:count].to(anchors.dtype, copy=True), memory.label_memory[:count].clone()
    slots = memory.curr_batch_idx if own else None
    if memory.miner is not None:
        if slots is not None and release() >= 3:
            indices = mined_one_by_one(memory.miner, anchors, labels, rows, row_labels, slots)
        else:
            indices = tuple(memory.miner(anchors, labels, rows, row_labels))
    elif memory.pair_function is not None:
        indices = tuple(memory.pair_function(labels, row_labels))
    else:
        indices = all_pairs(labels, row_labels)
    if slots is not None:
        indices = without_own(indices, slots)
    if given is not None:
        indices = joined(indices, tuple(given))
    return memory.loss(anchors, labels, indices, rows, row_labels)
