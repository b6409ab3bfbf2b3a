"""The loss of pytorch-metric-learning of the hardest positive and negative of each anchor, found by the engine."""

from typing import Any

import torch

from ._library import OWN_LAST_ENQUEUE, OWN_NONE
from ._mapping import toml
from ._operators import row_losses
from ._ring import Ring
from ._rows import unit_rows

SIDES = ("positive", "negative")


def hardest_loss(loss: Any, ring: Ring, anchors: torch.Tensor, labels: torch.Tensor, own: bool) -> Any:
    """`loss` of triplets as BatchHardMiner makes them: one for each anchor that has both kinds of pairs."""
    units, _ = unit_rows("embeddings", anchors.detach(), anchors.shape[1])
    found = [_hardest(ring, units, labels, side, own) for side in SIDES]
    both = (found[0][1] & found[1][1]).nonzero().flatten()
    rows = torch.cat([rows[both] for rows, _ in found]).to(anchors.dtype)
    classes = torch.cat([labels[both], labels[both] + 1])  # of negatives any other one
    place = torch.arange(len(both), device=anchors.device)
    return loss(anchors, labels, (both, place, place + len(both)), rows, classes)


def _hardest(
    ring: Ring, units: torch.Tensor, labels: torch.Tensor, side: str, own: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """`(anchors, dim)`: the row that is each anchor's hardest pair of that kind; `(anchors)` bool: whether there is one.

    It is the gradient of a pair's similarity."""
    kind = SIDES.index(side)
    curves = {name: {"curve": f"constant:{int(name == side)}", "mining": "hardest:1"} for name in SIDES}
    _, gradient, kept = row_losses(ring, units, labels, None, toml(**curves), OWN_LAST_ENQUEUE if own else OWN_NONE)
    count = kept[:, kind]  # above 1 where several are equally hard, whose mean then stands for each
    rows = gradient / count.clamp(min=1).unsqueeze(1)
    return (rows if side == "negative" else -rows), count > 0
