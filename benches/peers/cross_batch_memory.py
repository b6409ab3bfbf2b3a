"""xbm_fast.CrossBatchMemory beside pytorch-metric-learning's, as a script calls them: a full memory, forward and backward of a batch, by
turns on the same inputs, and what of our time is not the engine's.

    pip install . && python benches/peers/cross_batch_memory.py [--rounds 5] [--json FILE] [--quick]

Needs torch and pytorch-metric-learning. Of each case it prints the medians of wall and processor time, their ratio, and the milliseconds of
a call that are spent outside the engine: in Python, and in normalising and differentiating the batch. Gradients are compared before a time
is taken. `easy` negatives are random; of `hard` ones each anchor has some hundreds above 0.5. Cases whose triplets would not fit the other
side's memory are left out, with their number. Run it on a quiet machine.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time

import torch
from pytorch_metric_learning import distances, losses, miners

import xbm_fast
from xbm_fast import _ring

CLASSES, CROWD = 500, 4  # classes, and how many of them lie so close that their rows are hard negatives
LEAST_COSINE = 0.9999
MOST_TRIPLETS = 10**8
COSINE = distances.CosineSimilarity()
LOSSES = {
    "contrastive": lambda: (losses.ContrastiveLoss(1, 0.5, distance=COSINE), None),
    "multi-similarity": lambda: (losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner()),
    "sup-con": lambda: (losses.SupConLoss(), None),
    "circle": lambda: (losses.CircleLoss(), None),
    "triplet": lambda: (losses.TripletMarginLoss(0.1, distance=COSINE), None),
}


class EngineTime:
    """Seconds that calls of the library have taken."""

    def __init__(self):
        self.seconds, self.call = 0.0, _ring.call
        _ring.call = self

    def __call__(self, *arguments):
        start = time.perf_counter()
        try:
            return self.call(*arguments)
        finally:
            self.seconds += time.perf_counter() - start


def drawn(rows, dim, hard, generator):
    labels = torch.randint(0, CLASSES, (rows,), generator=generator)
    embeddings = torch.randn(rows, dim, generator=generator)
    if hard:
        centres = torch.randn(CLASSES // CROWD, dim, generator=torch.Generator().manual_seed(1))
        embeddings = 0.8 * embeddings + centres[labels // CROWD]
    return embeddings, labels


def measured(make, case, rounds, engine):
    rows, dim, batch, hard = case
    generator = torch.Generator().manual_seed(0)
    sides = {"ours": xbm_fast.CrossBatchMemory, "theirs": losses.CrossBatchMemory}
    functions, memory = {}, drawn(rows, dim, hard, generator)
    for name, kind in sides.items():
        loss, miner = make()
        functions[name] = kind(loss, dim, memory_size=rows, miner=miner)
        functions[name].add_to_memory(*memory, rows)
    times = {name: [] for name in sides}
    for _ in range(rounds + 1):
        (embeddings, labels), gradients = drawn(batch, dim, hard, generator), []
        for name, function in functions.items():
            leaf, before = embeddings.clone().requires_grad_(), engine.seconds
            wall, processor = time.perf_counter(), time.process_time()
            function(leaf, labels).backward()
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            times[name].append((wall, processor, wall - (engine.seconds - before)))
            gradients.append(leaf.grad.flatten())
        cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0).item()
        if not cosine >= LEAST_COSINE:
            sys.exit(f"the gradients have cosine {cosine:.6f}")
    # The first round warms up.
    return {name: [1e3 * statistics.median(column) for column in zip(*each[1:], strict=True)] for name, each in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=argparse.FileType("w"))
    parser.add_argument("--quick", action="store_true", help="one small case of each loss")
    args = parser.parse_args()
    sizes = ((1024, 32, 16),) if args.quick else itertools.product((16_384, 60_000), (128, 512), (64, 256))
    engine, results = EngineTime(), []
    print("loss, rows x dim, batch, negatives: ours ms, theirs ms, ratio of wall, of processor time, outside the engine ms")
    for (rows, dim, batch), hard, name in itertools.product(sizes, (False, True), LOSSES):
        what = {"loss": name, "rows": rows, "dim": dim, "batch": batch, "negatives": "hard" if hard else "easy"}
        words = f"{name}, {rows} x {dim}, {batch}, {what['negatives']}"
        triplets = batch * (rows // CLASSES) * rows
        if name == "triplet" and triplets > MOST_TRIPLETS:
            print(f"{words}: not run, about {triplets} triplets")
            continue
        times = measured(LOSSES[name], (rows, dim, batch, hard), args.rounds, engine)
        (wall, processor, outside), (their_wall, their_processor, _) = times["ours"], times["theirs"]
        ratios = their_wall / wall, their_processor / processor
        print(f"{words}: {wall:.2f}, {their_wall:.2f}, {ratios[0]:.1f}x, {ratios[1]:.1f}x, {outside:.2f}", flush=True)
        numbers = (wall, their_wall, *ratios, outside)
        results.append(what | dict(zip(("ours_ms", "theirs_ms", "ratio", "processor_ratio", "outside_ms"), numbers, strict=True)))
    if args.json:
        json.dump({"threads": torch.get_num_threads(), "load": os.getloadavg()[0], "cases": results}, args.json, indent=1)


if __name__ == "__main__":
    main()
