"""XbmLoss beside pytorch-metric-learning's CrossBatchMemory: a full memory, loss and backward of a batch, by turns on the same inputs.
With --network SIZE also the whole step of a ResNet-18 around it, on images of SIZE pixels.

    pip install . && python benches/peers/xbm_loss.py [--rows 16384] [--dim 128] [--batch 64] [--rounds 6] [--network 32]

Needs torch, torchvision and pytorch-metric-learning. Losses and gradients are compared before a time is taken.
"""

import argparse
import statistics
import sys
import time

import torch
import torchvision
from pytorch_metric_learning import distances, losses, reducers

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


def steps_of_a_network(functions, args):
    """Milliseconds of forward, loss, backward and update of a ResNet-18 with either loss, which have a full memory."""
    network = torchvision.models.resnet18(num_classes=args.dim)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    times = {name: [] for name in functions}
    for _ in range(args.rounds + 1):
        images, labels = torch.randn(args.batch, 3, args.network, args.network), torch.randint(0, CLASSES, (args.batch,))
        for name, function in functions.items():
            wall, processor = time.perf_counter(), time.process_time()
            optimizer.zero_grad()
            function(network(images), labels).backward()
            optimizer.step()
            times[name].append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - processor)))
    return times


def show(what, times):
    for name, measured in times.items():
        wall, processor = (statistics.median(column) for column in zip(*measured[1:]))  # the first round warms up
        print(f"{what}, {name}: wall {wall:.1f} ms, processor {processor:.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 16384), ("dim", 128), ("batch", 64), ("rounds", 6), ("network", 0)):
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
    show("loss", times)
    if args.network:
        show("step", steps_of_a_network(functions, args))


if __name__ == "__main__":
    main()
