"""Pair loss and gradient against a memory of 60,000 rows of length 512: the engine beside PyTorch, on the same inputs.

    python benches/peers/pair_loss.py [--rounds 3] [--cargo "cargo bench --bench kernels"]

Needs torch and pytorch-metric-learning. Each round runs the engine's benchmark and then every peer, so that all of them see the
same machine. Gradients are compared before any ratio is printed. Peers:
  masks  two matrix products and boolean masks, gradient written by hand
  auto   the same masks, gradient by autograd
  pml    CrossBatchMemory around ContrastiveLoss with its default distance (sum of the losses), own rows removed by slot; the
         distance normalises the anchors, so its gradient is compared with the engine's pulled back through that
  loop   one masked selection per anchor and sign, gradient by autograd (only with --loop: slow)
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import torch
from pytorch_metric_learning import distances, losses, reducers

ROWS, DIM, PER_CLASS, FIRST = 60_000, 512, 5, 1000
GAMMA = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
LEAST_COSINE = 0.9999
REPEATS = 3
THRESHOLDS = {"rule": 0.5, "kept 1e-2": 2.326 / DIM**0.5, "kept all": -1.0}


def mix(z):
    """SplitMix64's output function on an array of 64-bit states."""
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return z ^ (z >> numpy.uint64(31))


def stream(seed, name):
    """State of the engine's stream `Rng::new(seed).at(name)`."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 & MASK
    one = lambda value: int(mix(numpy.array([value & MASK], dtype=numpy.uint64))[0])
    rotated = one(key + GAMMA)
    rotated = (rotated << 17 | rotated >> 47) & MASK
    return one(seed + GAMMA) ^ rotated


def unit_rows():
    steps = numpy.arange(1, ROWS * DIM + 1, dtype=numpy.uint64)
    bits = mix(numpy.uint64(stream(0, "pair_loss benchmark")) + steps * numpy.uint64(GAMMA))
    unit = (bits >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(1 << 24)
    return torch.nn.functional.normalize(torch.from_numpy(unit * 2 - 1).view(ROWS, DIM), dim=1)


class Case:
    def __init__(self, memory, anchors, threshold):
        self.memory, self.threshold = memory, threshold
        self.labels = torch.arange(ROWS) // PER_CLASS
        self.slots = torch.arange(FIRST, FIRST + anchors)
        self.anchors, self.anchor_labels = memory[self.slots].clone(), self.labels[self.slots]

    def pairs(self, similarity):
        equal = self.anchor_labels[:, None] == self.labels[None]
        negative = ~equal & (similarity > self.threshold)
        equal[torch.arange(len(self.slots)), self.slots] = False
        return equal, negative

    def masks(self):
        similarity = self.anchors @ self.memory.T
        positive, negative = self.pairs(similarity)
        loss = ((1 - similarity) * positive).sum() + ((similarity - self.threshold) * negative).sum()
        return loss, (negative.float() - positive.float()) @ self.memory

    def auto(self):
        anchors = self.anchors.clone().requires_grad_()
        similarity = anchors @ self.memory.T
        positive, negative = self.pairs(similarity.detach())
        loss = torch.where(positive, 1 - similarity, 0.0).sum()
        loss = loss + torch.where(negative, similarity - self.threshold, 0.0).sum()
        loss.backward()
        return loss, anchors.grad

    def pml(self):
        contrastive = losses.ContrastiveLoss(
            pos_margin=1, neg_margin=self.threshold, distance=distances.CosineSimilarity(), reducer=reducers.SumReducer()
        )
        memory = losses.CrossBatchMemory(contrastive, DIM, memory_size=ROWS)
        memory.embedding_memory, memory.label_memory = self.memory, self.labels
        memory.has_been_filled, memory.queue_idx = True, 0
        memory.add_to_memory = lambda *_: setattr(memory, "curr_batch_idx", self.slots)
        anchors = self.anchors.clone().requires_grad_()
        loss = memory(anchors, self.anchor_labels)
        loss.backward()
        return loss, anchors.grad

    def loop(self):
        anchors = self.anchors.clone().requires_grad_()
        total = 0.0
        for row, (label, slot) in zip(anchors @ self.memory.T, zip(self.anchor_labels, self.slots)):
            equal = self.labels == label
            negatives = torch.masked_select(row, ~equal & (row > self.threshold))
            equal[slot] = False
            total = total + (1 - torch.masked_select(row, equal)).sum() + (negatives - self.threshold).sum()
        total.backward()
        return total, anchors.grad


def engine(command, times, gradients):
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            shlex.split(command) + ["--", "none"], env={**os.environ, "XBM_FAST_PEER": folder}, check=True,
            stdout=subprocess.PIPE, text=True,
        )
        for line in run.stdout.splitlines():
            if line.count("|") == 2:
                name, anchors, found = line.split("|")
                times.setdefault((name, int(anchors), "engine"), []).extend(map(float, found.split()))
                values = numpy.fromfile(os.path.join(folder, f"{name} {anchors}.f32"), dtype="<f4")
                gradients[name, int(anchors)] = torch.from_numpy(values).view(-1, DIM)


def cosine(case, name, gradient, own):
    if name == "pml":
        own = own - case.anchors * (own * case.anchors).sum(dim=1, keepdim=True)
    return torch.nn.functional.cosine_similarity(gradient.flatten(), own.flatten(), dim=0).item()


def peers(memory, names, times, gradients):
    for anchors in (64, 256):
        for regime, threshold in THRESHOLDS.items():
            case = Case(memory, anchors, threshold)
            for name in names:
                _, gradient = getattr(case, name)()
                found = cosine(case, name, gradient, gradients[regime, anchors])
                if not found >= LEAST_COSINE:
                    sys.exit(f"{regime}, {anchors} anchors: gradient of {name} has cosine {found:.6f} with the engine's")
                for _ in range(REPEATS):
                    start = time.perf_counter()
                    getattr(case, name)()
                    times.setdefault((regime, anchors, name), []).append((time.perf_counter() - start) * 1e3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--cargo", default="cargo bench --bench kernels")
    arguments = parser.parse_args()
    names = ["masks", "auto", "pml"] + ["loop"] * arguments.loop
    torch.set_num_threads(os.cpu_count())
    memory, times, gradients = unit_rows(), {}, {}
    for _ in range(arguments.rounds):
        engine(arguments.cargo, times, gradients)
        peers(memory, names, times, gradients)
    print(f"torch {torch.__version__}, {os.cpu_count()} threads; medians in ms, and times the engine; cosines >= {LEAST_COSINE}")
    for anchors in (64, 256):
        for regime in THRESHOLDS:
            own = statistics.median(times[regime, anchors, "engine"])
            found = [(name, statistics.median(times[regime, anchors, name])) for name in names]
            print(f"{regime}, {anchors} anchors: engine {own:.1f}", *(f"{name} {ms:.0f} ({ms / own:.1f}x)" for name, ms in found), sep="  ")


if __name__ == "__main__":
    main()
