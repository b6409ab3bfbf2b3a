"""Golden scores of tests/evaluate.rs: python tests/golden/evaluate.py (needs torch, faiss and pytorch-metric-learning).

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


def scores(queries, gallery=None):
    include = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")
    k = len(gallery[0]) if gallery else len(queries[0]) - 1
    calculator = AccuracyCalculator(include=include, k=k, device=torch.device("cpu"))
    found = calculator.get_accuracy(*queries, *gallery) if gallery else calculator.get_accuracy(*queries)
    print({name: round(found[name], 9) for name in include})


if __name__ == "__main__":
    scores(embeddings("all", 300, 16, 60))
    scores(embeddings("queries", 120, 16, 60), embeddings("gallery", 250, 16, 60))
