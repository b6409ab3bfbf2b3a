"""Losses and miners of pytorch-metric-learning as weightings of the engine.

An object is recognised by its exact class and read at every call, so that a margin or a temperature may change during training. What has
no equal here is answered with the reason in words.

Similarities are cosines `s`. A squared Euclidean distance of unit rows is `2 - 2 s`, so margins are halved and losses doubled. The distance
itself has no such form: where it only has to be compared, as by miners, its square does as well.
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


@dataclass(frozen=True)
class HardestPairs:
    """The loss itself, of each anchor's hardest positive and hardest negative, which the engine finds."""


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


def least_similarity(distance: Any, value: float) -> float:
    """The similarity at a distance of this kind, also of the plain Euclidean one. Unmapped for all others."""
    if class_name(distance) == "LpDistance" and distance.power == 1 and distance.normalize_embeddings and distance.p == 2:
        return 1 - value * abs(value) / 2
    return 1 - value / 2 if squared(distance) else value


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


def mining_of(miner: Any) -> dict[str, dict[str, str]]:
    """Which positive and negative pairs a miner lets through, for losses that ask of a pair only whether it is among them."""
    name = class_name(miner)
    if miner is None:
        return {"positive": {}, "negative": {}}
    if name == "MultiSimilarityMiner" or (name == "TripletMarginMiner" and miner.type_of_triplets == "all"):
        # A pair is in a triplet of that margin exactly if it is so close to the hardest pair of the other kind.
        margin = miner.epsilon if name == "MultiSimilarityMiner" else miner.margin
        return dict.fromkeys(("positive", "negative"), {"mining": f"relative:{text(margin / 2 if squared(miner.distance) else margin)}"})
    if name == "PairMarginMiner":
        positive, negative = (least_similarity(miner.distance, margin) for margin in (miner.pos_margin, miner.neg_margin))
        if positive <= -1 or negative >= 1:
            raise Unmapped(f"margins that let no pair through: pos_margin={miner.pos_margin}, neg_margin={miner.neg_margin}")
        return {
            "positive": {"gate": f"below:{text(positive)}"} if positive <= 1 else {},
            "negative": {"gate": f"above:{text(negative)}"} if negative >= -1 else {},
        }
    raise Unmapped(f"the miner {type(miner).__name__}")


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
    twice, reducer = squared(loss.distance), reducer_of(loss)
    positive, negative = (1 - margin / 2 if twice else margin for margin in (loss.pos_margin, loss.neg_margin))
    mining: dict[str, str] = {}
    if class_name(miner) == "PairMarginMiner":
        mined = [least_similarity(miner.distance, margin) for margin in (miner.pos_margin, miner.neg_margin)]
        if mined[0] < positive or mined[1] > negative or reducer == "mean":
            raise Unmapped("ContrastiveLoss with a PairMarginMiner that leaves out pairs which have a loss, or with MeanReducer")
    elif class_name(miner) == "TripletMarginMiner":
        raise Unmapped("ContrastiveLoss of the pairs of triplets, some of them several times")
    else:
        mining = mining_of(miner)["positive"]
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


def triplets_of(margin: float) -> str:
    return f"triplet:margin={text(margin)}"


def triplet(loss: Any, miner: Any) -> Mapped:
    twice, reducer = squared(loss.distance), reducer_of(loss)
    if loss.swap or loss.smooth_loss or reducer == "none" or loss.triplets_per_anchor != "all":
        raise Unmapped("TripletMarginLoss with swap, smooth_loss, triplets_per_anchor or DoNothingReducer")
    margin, factor = (loss.margin / 2, 2.0) if twice else (loss.margin, 1.0)
    mined = None
    if miner is not None:
        if class_name(miner) != "TripletMarginMiner" or miner.type_of_triplets != "all":
            raise Unmapped(f"TripletMarginLoss with the miner {type(miner).__name__}")
        mined = miner.margin / 2 if squared(miner.distance) else miner.margin
        if mined < margin:
            raise Unmapped("TripletMarginLoss with a TripletMarginMiner that leaves out triplets which have a loss")

    def value(rows: torch.Tensor, pairs: PairCounts, violated: Callable[[float], int]) -> torch.Tensor:
        if reducer == "mean":
            divisor = pairs.all_triplets if mined is None else violated(mined)
        else:
            divisor = 1 if reducer == "sum" else violated(margin)
        return rows.sum() * (factor / max(1, divisor))

    return Mapped(lambda _: triplets_of(margin), value)


def multi_similarity(loss: Any, miner: Any) -> Mapped:
    twice, mining = squared(loss.distance), mining_of(miner)
    factor, base = (2.0, 1 - loss.base / 2) if twice else (1.0, loss.base)
    sides = {"positive": -factor * loss.alpha, "negative": factor * loss.beta}
    curves = {side: {"curve": f"exp:k={text(k)},s0={text(base)}", "scale": "soft-one"} for side, k in sides.items()}
    weighting = toml(**{side: curve | mining[side] for side, curve in curves.items()})
    return Mapped(lambda _: weighting, by_anchor(loss, factor))


def lifted_structure(loss: Any, miner: Any) -> Mapped:
    twice, mining = squared(loss.distance), mining_of(miner)
    margins = {"positive": loss.pos_margin, "negative": loss.neg_margin}
    rate = 2.0 if twice else 1.0

    def side(name: str) -> dict[str, str]:
        start = 1 - margins[name] / 2 if twice else margins[name]
        return {"curve": f"exp:k={text(-rate if name == 'positive' else rate)},s0={text(start)}", "scale": "soft"} | mining[name]

    # Of each anchor the sum of two logarithms, of which that of no pairs is 0; what is below 0 is cut off here.
    weighting, reduced = toml(positive=side("positive"), negative=side("negative")), by_anchor(loss, rate)
    return Mapped(lambda _: weighting, lambda rows, *counted: reduced(torch.relu(rows), *counted))


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
    "GeneralizedLiftedStructureLoss": lifted_structure,
    "MultiSimilarityLoss": multi_similarity,
    "NTXentLoss": ntxent,
    "SupConLoss": sup_con,
    "CircleLoss": circle,
    "NCALoss": nca,
}


# Of these the indices of pairs say everything.
LOSSES_OF_PAIRS = LOSSES.keys() - {"NCALoss"}


def hardest_pairs(loss: Any, miner: Any) -> HardestPairs:
    if class_name(loss) not in LOSSES_OF_PAIRS or reducer_of(loss) == "none":
        raise Unmapped(f"{type(loss).__name__} with the miner BatchHardMiner and {class_name(loss.reducer)}")
    if miner.allowed_pos_range is not None or miner.allowed_neg_range is not None:
        raise Unmapped("BatchHardMiner with allowed ranges")
    least_similarity(miner.distance, 0.0)
    return HardestPairs()


def mapped(loss: Any, miner: Any) -> Mapped | HardestPairs:
    """The engine's form of a loss and a miner. Unmapped, in words, where there is none."""
    make = LOSSES.get(class_name(loss))
    if make is None:
        raise Unmapped(f"the loss {type(loss).__name__}")
    try:
        if loss.embedding_regularizer is not None or loss.collect_stats or (miner is not None and miner.collect_stats):
            raise Unmapped("an embedding regularizer, or statistics that are collected")
        return hardest_pairs(loss, miner) if class_name(miner) == "BatchHardMiner" else make(loss, miner)
    except AttributeError as error:
        raise Unmapped(f"a {type(loss).__name__} of another release ({error})") from error
