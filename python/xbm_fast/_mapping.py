"""Losses and miners of pytorch-metric-learning as weightings of the engine.

An object is recognised by its exact class and read at every call, so that a margin or a temperature may change during training. What has
no equal here is answered with the reason in words.

Similarities are cosines `s`. A squared Euclidean distance of unit rows is `2 - 2 s`, so margins are halved and losses doubled; the distance
itself has no such form.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ._pairs import PairCounts

PACKAGE = "pytorch_metric_learning."
REDUCERS = {"MeanReducer": "mean", "SumReducer": "sum", "AvgNonZeroReducer": "avg-non-zero", "DoNothingReducer": "none"}


class Unmapped(Exception):
    """Why an object has no equal here."""


@dataclass(frozen=True)
class Mapped:
    """A loss as the engine computes it.

    weighting: of the engine, for these numbers of pairs.
    value: the loss of the batch from those of its anchors, `(anchors)` float64, the numbers of pairs, and a function that counts the
    triplets which violate a margin of similarity.
    own_copy: whether an anchor's own row of the queue is a pair with it.
    """

    weighting: Callable[[PairCounts], str]
    value: Callable[[torch.Tensor, PairCounts, Callable[[float], int]], Any]
    own_copy: bool = False


def class_name(what: Any) -> str:
    """The name of a class of pytorch-metric-learning; "" for others, subclasses among them."""
    kind = type(what)
    return kind.__name__ if kind.__module__.startswith(PACKAGE) else ""


def squared(distance: Any) -> bool:
    """Whether a distance is the squared Euclidean one of unit rows; False if it is their cosine. Unmapped for all others."""
    name, power, normalised = class_name(distance), distance.power, distance.normalize_embeddings and distance.p == 2
    if name in ("CosineSimilarity", "DotProductSimilarity") and power == 1 and normalised:
        return False
    if name == "LpDistance" and power == 2 and normalised:
        return True
    raise Unmapped(f"the distance {distance!r} with power={power}, normalize_embeddings={distance.normalize_embeddings}")


def text(value: float) -> str:
    return f"{float(value):.9g}"


def toml(**sides: dict[str, Any]) -> str:
    """A weighting: of each side `curve`, `gate`, `mining`, `scale`, `factor`."""

    def side(settings: dict[str, Any]) -> str:
        return ", ".join(f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {float(value)!r}" for key, value in settings.items())

    return "\n".join(f"{name} = {{ {side(settings)} }}" for name, settings in sides.items())


def reducer_of(loss: Any) -> str:
    """How the terms of a loss are reduced; those of positives and of negatives alike."""
    reducers = list(loss.reducer.reducers.values()) if class_name(loss.reducer) == "MultipleReducers" else [loss.reducer]
    names = {class_name(reducer) or type(reducer).__name__ for reducer in reducers}
    if len(names) != 1 or not names <= REDUCERS.keys():
        raise Unmapped(f"the reducer {' and '.join(sorted(names))}")
    return REDUCERS[names.pop()]


def mining_of(miner: Any) -> dict[str, str]:
    """Nothing, or the mining of MultiSimilarityMiner."""
    if miner is None:
        return {}
    if class_name(miner) != "MultiSimilarityMiner":
        raise Unmapped(f"the miner {type(miner).__name__}")
    return {"mining": f"relative:{text(miner.epsilon / 2 if squared(miner.distance) else miner.epsilon)}"}


def by_anchor(loss: Any, factor: float = 1.0, needs_negatives: bool = False) -> Callable[..., Any]:
    """The value of a loss with one term for each anchor."""
    reducer = reducer_of(loss)

    def value(rows: torch.Tensor, pairs: PairCounts, _: Callable[[float], int]) -> Any:
        rows = rows * (factor if pairs.all_negatives > 0 or not needs_negatives else 0.0)
        if reducer == "none":
            indices = torch.arange(len(rows), device=rows.device)
            return {"loss": {"losses": rows, "indices": indices, "reduction_type": "element"}}
        if reducer == "avg-non-zero":
            return rows.sum() / (rows > 0).sum().clamp(min=1)
        return rows.sum() if reducer == "sum" else rows.mean()

    return value


def contrastive(loss: Any, miner: Any) -> Mapped:
    twice, reducer, mining = squared(loss.distance), reducer_of(loss), mining_of(miner)
    positive, negative = (1 - margin / 2 if twice else margin for margin in (loss.pos_margin, loss.neg_margin))
    if positive > 1 or negative < -1:
        raise Unmapped(f"margins beyond every similarity: pos_margin={loss.pos_margin}, neg_margin={loss.neg_margin}")
    if reducer == "none" or (reducer == "mean" and mining):
        raise Unmapped(f"the reducer {reducer} of single pairs" + (" that are mined" if mining else ""))
    factor = 2.0 if twice else 1.0

    def weighting(pairs: PairCounts) -> str:
        scale = {"scale": "mean-all"} if reducer == "avg-non-zero" else {}
        balance = {}
        if reducer == "mean" and pairs.all_positives > 0 and pairs.all_negatives > 0:
            balance = {"factor": pairs.all_positives / pairs.all_negatives}
        return toml(
            positive={"curve": "constant:1", "gate": f"below:{text(positive)}"} | mining | scale,
            negative={"curve": "constant:1", "gate": f"above:{text(negative)}"} | mining | scale | balance,
        )

    def value(rows: torch.Tensor, pairs: PairCounts, _: Callable[[float], int]) -> torch.Tensor:
        divisor = {"sum": 1, "avg-non-zero": len(rows), "mean": pairs.all_positives or pairs.all_negatives}[reducer]
        return rows.sum() * (factor / max(1, divisor))

    return Mapped(weighting, value)


def triplet(loss: Any, miner: Any) -> Mapped:
    twice, reducer = squared(loss.distance), reducer_of(loss)
    if miner is not None or loss.swap or loss.smooth_loss or reducer == "none":
        raise Unmapped("TripletMarginLoss with a miner, swap, smooth_loss or DoNothingReducer")
    margin, factor = (loss.margin / 2, 2.0) if twice else (loss.margin, 1.0)

    def value(rows: torch.Tensor, pairs: PairCounts, violated: Callable[[float], int]) -> torch.Tensor:
        divisor = 1 if reducer == "sum" else pairs.all_triplets if reducer == "mean" else violated(margin)
        return rows.sum() * (factor / max(1, divisor))

    return Mapped(lambda _: f"triplet:margin={text(margin)}", value)


def multi_similarity(loss: Any, miner: Any) -> Mapped:
    twice, mining = squared(loss.distance), mining_of(miner)
    factor, base = (2.0, 1 - loss.base / 2) if twice else (1.0, loss.base)
    sides = {"positive": -factor * loss.alpha, "negative": factor * loss.beta}
    weighting = toml(**{side: {"curve": f"exp:k={text(k)},s0={text(base)}", "scale": "soft-one"} | mining for side, k in sides.items()})
    return Mapped(lambda _: weighting, by_anchor(loss, factor))


def ntxent(loss: Any, miner: Any) -> Mapped:
    twice, reducer = squared(loss.distance), reducer_of(loss)
    if miner is not None or reducer not in ("mean", "sum"):
        raise Unmapped(f"NTXentLoss with {'a miner' if miner is not None else f'the reducer {reducer}'}")
    # For each positive -ln(e^p / (e^p + sum e^n)), p and n being similarities times `rate`: the N-pair loss of those.
    rate = (2.0 if twice else 1.0) / loss.temperature
    weighting = toml(
        positive={"curve": f"sigmoid:k={text(-rate)},s0=0", "scale": "balanced", "factor": rate},
        negative={"curve": f"exp:k={text(rate)},s0=0", "scale": "balanced"},
    )

    def value(rows: torch.Tensor, pairs: PairCounts, _: Callable[[float], int]) -> torch.Tensor:
        return rows.sum() / max(1, pairs.all_positives if reducer == "mean" else 1)

    return Mapped(lambda _: weighting, value)


def sup_con(loss: Any, miner: Any) -> Mapped:
    if miner is not None:
        raise Unmapped("SupConLoss with a miner")
    temperature = loss.temperature / (2 if squared(loss.distance) else 1)
    return Mapped(lambda _: f"info-nce:t={text(temperature)}", by_anchor(loss, needs_negatives=True))


def circle(loss: Any, miner: Any) -> Mapped:
    if miner is not None or squared(loss.distance):
        raise Unmapped("CircleLoss with a miner or another distance")
    return Mapped(lambda _: f"circle:gamma={text(loss.gamma)},m={text(loss.m)}", by_anchor(loss))


def nca(loss: Any, miner: Any) -> Mapped:
    if miner is not None:
        raise Unmapped("NCALoss with a miner")
    rate = loss.softmax_scale * (2 if squared(loss.distance) else 1)
    # pytorch-metric-learning looks at labels only, and so at an anchor's own copy too.
    return Mapped(lambda _: f"nca:t={text(1 / rate)}", by_anchor(loss), own_copy=True)


LOSSES: dict[str, Callable[[Any, Any], Mapped]] = {
    "ContrastiveLoss": contrastive,
    "TripletMarginLoss": triplet,
    "MultiSimilarityLoss": multi_similarity,
    "NTXentLoss": ntxent,
    "SupConLoss": sup_con,
    "CircleLoss": circle,
    "NCALoss": nca,
}


def mapped(loss: Any, miner: Any) -> Mapped:
    """The engine's form of a loss and a miner. Unmapped, in words, where there is none."""
    make = LOSSES.get(class_name(loss))
    if make is None:
        raise Unmapped(f"the loss {type(loss).__name__}")
    try:
        if loss.embedding_regularizer is not None or loss.collect_stats or (miner is not None and miner.collect_stats):
            raise Unmapped("an embedding regularizer, or statistics that are collected")
        return make(loss, miner)
    except AttributeError as error:
        raise Unmapped(f"a {type(loss).__name__} of another release ({error})") from error
