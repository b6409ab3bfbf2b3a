"""Trains torchvision's ResNet-18 with an embedding memory on images listed as in Stanford Online Products (Ebay_train.txt and
Ebay_test.txt), and scores it on the classes of the second list, which it never saw.

    python examples/pytorch/train.py --data FOLDER [--steps 100] [--memory-size 8192] [--curve FILE]

train.py and train_peer.py are one script, with xbm-fast and with pytorch-metric-learning: `diff` shows what changes.
"""

import argparse
import pathlib
import time

import numpy
import torch
import torchvision
from PIL import Image

from xbm_fast import XbmLoss, evaluate


def load(data, name, size):
    """Every image of a list, (images, 3, size, size) in [-1, 1], and its class."""
    rows = [line.split() for line in (data / name).read_text().splitlines()[1:]]
    images = [numpy.asarray(Image.open(data / row[3]).convert("RGB").resize((size, size))) for row in rows]
    pixels = torch.from_numpy(numpy.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels, torch.tensor([int(row[1]) for row in rows])


def batches(labels, steps, batch_size, per_class, generator):
    """For each step the images of some classes, `per_class` of each."""
    classes = [(labels == label).nonzero().flatten() for label in labels.unique()]
    classes = [images for images in classes if len(images) >= per_class]
    for _ in range(steps):
        chosen = torch.randperm(len(classes), generator=generator)[: batch_size // per_class].tolist()
        drawn = [classes[index][torch.randperm(len(classes[index]), generator=generator)[:per_class]] for index in chosen]
        yield torch.cat(drawn)


def embed(network, images):
    network.eval()
    with torch.no_grad():
        return torch.cat([network(part) for part in images.split(256)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--curve", type=pathlib.Path, help="where to write the loss of each step")
    for name, default in (("steps", 100), ("batch-size", 64), ("per-class", 4), ("dim", 128), ("image-size", 32), ("memory-size", 8192)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=args.dim)
    loss_function = XbmLoss(args.dim, args.memory_size, reduction="sum")
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    images, labels = load(args.data, "Ebay_train.txt", args.image_size)
    curve, wall, processor = [], time.perf_counter(), time.process_time()
    network.train()
    for rows in batches(labels, args.steps, args.batch_size, args.per_class, torch.Generator().manual_seed(0)):
        loss = loss_function(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    if args.curve:
        args.curve.write_text("".join(f"{value}\n" for value in curve))
    images, labels = load(args.data, "Ebay_test.txt", args.image_size)
    recall = evaluate(embed(network, images), labels, ks=(1,))["recall_at_1"]
    per_step = f"{1e3 * wall / args.steps:.0f} ms a step, {1e3 * processor / args.steps:.0f} ms of processor time"
    print(f"{per_step}; loss {curve[0]:.2f} to {curve[-1]:.2f}; Recall@1 {recall:.4f}")


if __name__ == "__main__":
    main()
