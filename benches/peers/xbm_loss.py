"""XbmLoss beside pytorch-metric-learning's CrossBatchMemory: a full memory, loss and backward of a batch, by turns on the same inputs.

    cargo build --release --lib && python benches/peers/xbm_loss.py [--rows 16384] [--dim 128] [--batch 64] [--rounds 6]

Needs torch and pytorch-metric-learning. Losses and gradients are compared before a time is taken.
"""

import argparse
import pathlib
import statistics
import sys
import time

import torch
from pytorch_metric_learning import distances, losses, reducers

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples" / "pytorch"))
from xbm_fast import XbmLoss

CLASSES = 500
LEAST_COSINE = 0.9999


def full_memories(rows, dim):
    rule = {"pos_margin": 1, "neg_margin": 0.5, "distance": distances.CosineSimilarity(), "reducer": reducers.SumReducer()}
    theirs = losses.CrossBatchMemory(losses.ContrastiveLoss(**rule), dim, memory_size=rows)
    ours = XbmLoss(dim, rows, reduction="sum")
    embeddings, labels = torch.randn(rows, dim), torch.arange(rows) % CLASSES
    ours(embeddings, labels)
    theirs.embedding_memory[:], theirs.label_memory[:], theirs.has_been_filled = embeddings, labels, True
    return {"XbmLoss": ours, "CrossBatchMemory": theirs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 16384), ("dim", 128), ("batch", 64), ("rounds", 6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.manual_seed(0)
    functions = full_memories(args.rows, args.dim)
    times = {name: [] for name in functions}
    for _ in range(args.rounds + 1):
        embeddings, labels, gradients = torch.randn(args.batch, args.dim), torch.randint(0, CLASSES, (args.batch,)), []
        for name, function in functions.items():
            leaf = embeddings.clone().requires_grad_()
            wall, processor = time.perf_counter(), time.process_time()
            function(leaf, labels).backward()
            times[name].append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - processor)))
            gradients.append(leaf.grad.flatten())
        cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0).item()
        if not cosine >= LEAST_COSINE:
            sys.exit(f"the gradients have cosine {cosine:.6f}")
    for name, measured in times.items():
        wall, processor = (statistics.median(column) for column in zip(*measured[1:]))  # the first round warms up
        print(f"{name}: wall {wall:.1f} ms, processor {processor:.1f} ms")


if __name__ == "__main__":
    main()
