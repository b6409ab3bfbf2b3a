"""Pairs and triplets of anchors with the rows of a queue: their numbers, and their indices for losses of pytorch-metric-learning."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Indices = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class PairCounts:
    """Of each anchor: how many positives and negatives the queue has for it."""

    positives: list[int]
    negatives: list[int]

    @classmethod
    def of(cls, labels: list[int], classes: Mapping[int, int], rows: int, own: bool) -> "PairCounts":
        """`classes` says how many of the queue's `rows` are of each label; one of them is an anchor's own copy where `own` is true."""
        positives = [classes[label] - own for label in labels]
        return cls(positives, [rows - own - count for count in positives])

    @property
    def all_positives(self) -> int:
        return sum(self.positives)

    @property
    def all_negatives(self) -> int:
        return sum(self.negatives)

    @property
    def all_triplets(self) -> int:
        return sum(p * n for p, n in zip(self.positives, self.negatives, strict=True))


def counted_triplets(losses: torch.Tensor, gradient: torch.Tensor, units: torch.Tensor, margin: float) -> int:
    """How many triplets are violated, from what their loss is: of each anchor its loss, `(anchors)`, and its gradient and its row,
    `(anchors, dim)`. To a millionth or so, and a few thousand of an anchor exactly.

    A violated triplet adds `negative - positive + margin` to the loss, in similarities; without the margin that is also what it adds to
    the product of gradient and row.
    """
    products = (gradient.double() * units.double()).sum(dim=1)
    return int(((losses.double() - products) / margin).round().sum())


def violated_triplets(similarities: torch.Tensor, same: torch.Tensor, own: torch.Tensor | None, margin: float, chunk: int = 64) -> int:
    """How many triplets have a negative that is less than `margin` worse than the positive.

    similarities and same: `(anchors, rows)`, which pairs are of one class. own: `(anchors)`, the row that is an anchor itself.
    """
    count = 0
    for first in range(0, len(similarities), chunk):
        s, positive = similarities[first : first + chunk], same[first : first + chunk]
        negatives = s.masked_fill(positive, float("inf")).sort(dim=1).values
        if own is not None:
            positive = positive.clone()
            positive[torch.arange(len(s)), own[first : first + chunk]] = False
        most = int(positive.sum(dim=1).max()) if len(s) > 0 else 0
        # Positives first; what is no positive is so similar that no negative comes near.
        hardest = s.masked_fill(~positive, float("inf")).sort(dim=1).values[:, :most]
        tolerated = torch.searchsorted(negatives, (hardest - margin).contiguous(), right=True)
        negative_count = (~same[first : first + chunk]).sum(dim=1, keepdim=True)
        count += int((negative_count - tolerated).clamp(min=0)[hardest.isfinite()].sum())
    return count


def all_pairs(labels: torch.Tensor, ref_labels: torch.Tensor) -> Indices:
    """Anchors and rows of every positive pair, then of every negative pair."""
    same = labels.unsqueeze(1) == ref_labels.unsqueeze(0)
    return (*same.nonzero(as_tuple=True), *(~same).nonzero(as_tuple=True))


def without_own(indices: Indices, own: torch.Tensor) -> Indices:
    """Leaves out the positives that are the anchor itself; `own`, `(anchors)`, says which row that is."""
    anchors, positives, *rest = indices
    keep = own[anchors] != positives
    if len(indices) == 3:
        return anchors[keep], positives[keep], rest[0][keep]
    return anchors[keep], positives[keep], *rest


def as_pairs(indices: Indices) -> Indices:
    return indices if len(indices) == 4 else (indices[0], indices[1], indices[0], indices[2])


def as_triplets(indices: Indices) -> Indices:
    if len(indices) == 3:
        return indices
    anchors, positives, others, negatives = indices
    first, second = (anchors.unsqueeze(1) == others.unsqueeze(0)).nonzero(as_tuple=True)
    return anchors[first], positives[first], negatives[second]


def joined(indices: Indices, given: Indices) -> Indices:
    """Both, in the form of the first."""
    given = as_triplets(given) if len(indices) == 3 else as_pairs(given)
    return tuple(torch.cat([ours, theirs.to(ours.device)]) for ours, theirs in zip(indices, given, strict=True))


def mined_one_by_one(
    miner: Callable[..., Any],
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    rows: torch.Tensor,
    row_labels: torch.Tensor,
    own: torch.Tensor,
) -> Indices:
    """What the miner finds for each anchor among all rows but its own copy."""
    found: list[Indices] = []
    for anchor, slot in enumerate(own.tolist()):
        others = torch.cat([torch.arange(slot), torch.arange(slot + 1, len(rows))]).to(rows.device)
        if len(others) == 0:
            continue
        indices = tuple(miner(embeddings[anchor : anchor + 1], labels[anchor : anchor + 1], rows[others], row_labels[others]))
        of_anchor = (0, 2) if len(indices) == 4 else (0,)
        found.append(tuple(part + anchor if place in of_anchor else others[part] for place, part in enumerate(indices)))
    if not found:
        return tuple(torch.zeros(0, dtype=torch.int64, device=rows.device) for _ in range(4))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))
