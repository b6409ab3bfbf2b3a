"""Golden scores of tests/engine/evaluate.rs: python tests/golden/evaluate.py (needs torch, faiss and pytorch-metric-learning).

Repeats the engine's SplitMix64 streams (src/rng.rs), so that both sides score the same embeddings.
"""
import math

import numpy as np
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Rng:
    def __init__(self, state):
        self.state = state

    def at(self, name):
        key = 0xCBF29CE484222325
        for byte in name.encode():
            key = ((key ^ byte) * 0x100000001B3) & MASK
        mixed = mix((key + GAMMA) & MASK)
        return Rng(mix((self.state + GAMMA) & MASK) ^ (((mixed << 17) | (mixed >> 47)) & MASK))

    def bits(self):
        self.state = (self.state + GAMMA) & MASK
        return mix(self.state)

    def unit(self):
        return (self.bits() >> 40) / (1 << 24)

    def below(self, n):
        return (self.bits() * n) >> 64

    def normal(self):
        radius = math.sqrt(-2.0 * math.log(1.0 - self.unit()))
        return radius * math.cos(2.0 * math.pi * self.unit())


def embeddings(name, rows, dim, classes):
    """Class centre plus noise, unit rows; the classes are of unequal size."""
    rng = Rng(0).at(name)
    labels = [min(rng.below(classes), rng.below(classes)) for _ in range(rows)]
    centres = Rng(0).at("centres")
    centres = np.array([[centres.normal() for _ in range(dim)] for _ in range(classes)])
    values = np.array([[centres[label][i] + 1.2 * rng.normal() for i in range(dim)] for label in labels])
    return torch.tensor(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=torch.float32), torch.tensor(labels)


def ties(rows, classes):
    """Unit rows of sixteen directions, so that most similarities tie, and exactly: halves have no rounding."""
    rng = Rng(0).at("ties")
    values = [[0.5 if rng.below(2) else -0.5 for _ in range(4)] for _ in range(rows)]
    return torch.tensor(values), torch.tensor([rng.below(classes) for _ in range(rows)])


def neighbours_against_us(labels):
    """All against all; among equal similarities negatives come first, then lower rows. The engine's order, as a `knn_func`."""

    def search(query, k, reference, ref_includes_query):
        assert ref_includes_query
        similarities = query.double() @ reference.double().T
        similarities.fill_diagonal_(-9)
        positives = (labels[:, None] == labels[None, :]).double()
        order = torch.argsort(-similarities * 4 + positives, dim=1, stable=True)[:, :k]
        return similarities.gather(1, order), order

    return search


INCLUDE = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")


def scores(name, queries, gallery=None, knn=None):
    k = len(gallery[0]) if gallery else len(queries[0]) - 1
    for kind, options in {"queries": {}, "classes": {"avg_of_avgs": True}, "per class": {"return_per_class": True}}.items():
        calculator = AccuracyCalculator(include=INCLUDE, k=k, device=torch.device("cpu"), knn_func=knn, **options)
        found = calculator.get_accuracy(*queries, *(gallery or ()))
        if kind == "per class":
            print(name, "of the first three classes", [[round(found[score][c], 9) for score in INCLUDE] for c in range(3)])
        else:
            print(name, "mean over the", kind, [round(found[score], 9) for score in INCLUDE])


if __name__ == "__main__":
    scores("all", embeddings("all", 300, 16, 60))
    scores("queries", embeddings("queries", 120, 16, 60), embeddings("gallery", 250, 16, 60))
    tied = ties(200, 12)
    scores("ties", tied, knn=neighbours_against_us(tied[1]))
