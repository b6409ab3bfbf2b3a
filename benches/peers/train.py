"""The PyTorch side of a whole training run: the same recipe as `xbm-fast train` on a data set in Stanford Online Products' layout.

usage: python benches/peers/train.py ROOT [--memory none|cross-batch|momentum|pml] [--steps 400] [--image-size 48] ...   prints one JSON line

ResNet-18 from scratch, contrastive rule (w+ = 1, w- = 1 where s > 0.5) summed over the pairs of an anchor, batch loss + memory loss, Adam.
`pml` takes both losses and the memory from pytorch-metric-learning (ContrastiveLoss, CrossBatchMemory). Needs torch, torchvision, pillow and,
for that, pytorch-metric-learning.
"""

import argparse
import collections
import copy
import json
import pathlib
import random
import time

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import models, transforms

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("root", type=pathlib.Path)
parser.add_argument("--memory", choices=["none", "cross-batch", "momentum", "pml"], default="momentum")
parser.add_argument("--memory-size", type=int, default=1984)
parser.add_argument("--memory-start", type=int, default=100)
parser.add_argument("--momentum", type=float, default=0.99)
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--image-size", type=int, default=48)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--samples-per-class", type=int, default=4)
parser.add_argument("--dim", type=int, default=128)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
torch.manual_seed(args.seed)
random.seed(args.seed)
torch.set_num_threads(args.threads)

normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
train_view = transforms.Compose([transforms.RandomResizedCrop(args.image_size, scale=(0.5, 1)), transforms.ToTensor(), normalise])
test_view = transforms.Compose(
    [transforms.Resize(round(args.image_size * 256 / 224)), transforms.CenterCrop(args.image_size), transforms.ToTensor(), normalise]
)


def read(split):
    rows = [line.split() for line in (args.root / f"Ebay_{split}.txt").read_text().splitlines()[1:]]
    return [Image.open(args.root / row[3]).convert("RGB") for row in rows], torch.tensor([int(row[1]) for row in rows])


@torch.no_grad()
def recall_at_1(network, images, labels):
    network.eval()
    chunks = [images[start : start + 64] for start in range(0, len(images), 64)]
    rows = torch.cat([F.normalize(network(torch.stack([test_view(image) for image in chunk]))) for chunk in chunks])
    network.train()
    similarity = (rows @ rows.T).fill_diagonal_(-2)
    return (labels[similarity.argmax(1)] == labels).float().mean().item()


def pair_loss(anchors, labels, ids, rows, row_labels, row_ids):
    """Sum of 1 - s over positives and of s over negatives above 0.5, per anchor; an image is no pair with itself."""
    similarity = anchors @ rows.T
    same, itself = labels[:, None] == row_labels, ids[:, None] == row_ids
    positive = torch.where(same & ~itself, 1 - similarity, 0.0)
    negative = torch.where(~same & (similarity.detach() > 0.5), similarity, 0.0)
    return (positive + negative).sum() / len(anchors)


def embed(network, images):
    return F.normalize(network(torch.stack([train_view(image) for image in images])))


(train_images, train_labels), (test_images, test_labels) = read("train"), read("test")
by_class = collections.defaultdict(list)
for index, label in enumerate(train_labels.tolist()):
    by_class[label].append(index)
network = models.resnet18(num_classes=args.dim)
key_network = copy.deepcopy(network)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=5e-4)
if args.memory == "pml":
    from pytorch_metric_learning import distances, losses, reducers

    def published_loss():
        return losses.ContrastiveLoss(1, 0.5, distance=distances.CosineSimilarity(), reducer=reducers.SumReducer())

    batch_loss, memory_loss = published_loss(), losses.CrossBatchMemory(published_loss(), args.dim, args.memory_size)
rows = torch.zeros(args.memory_size, args.dim)
row_labels, row_ids = torch.full((args.memory_size,), -1), torch.full((args.memory_size,), -1)
head = count = 0
initial = recall_at_1(network, test_images, test_labels)
begun = time.perf_counter()
for step in range(args.steps):
    chosen = []
    for label in random.sample(sorted(by_class), args.batch_size // args.samples_per_class):
        pool = by_class[label]
        draw = random.sample if len(pool) >= args.samples_per_class else random.choices
        chosen += draw(pool, k=args.samples_per_class)
    images, labels, ids = [train_images[index] for index in chosen], train_labels[chosen], torch.tensor(chosen)
    embeddings = embed(network, images)
    if args.memory == "pml":
        loss = batch_loss(embeddings, labels) / args.batch_size
        if step >= args.memory_start:
            loss = loss + memory_loss(embeddings, labels) / args.batch_size
    else:
        loss = pair_loss(embeddings, labels, ids, embeddings, labels, ids)
    if args.memory in ("cross-batch", "momentum"):
        with torch.no_grad():
            keys = embeddings.detach()
            if args.memory == "momentum":
                for slow, fast in zip(key_network.state_dict().values(), network.state_dict().values()):
                    slow.lerp_(fast, 1 - args.momentum) if slow.is_floating_point() else slow.copy_(fast)
                keys = embed(key_network, images)
            slots = (head + torch.arange(args.batch_size)) % args.memory_size
            rows[slots], row_labels[slots], row_ids[slots] = keys, labels, ids
            head, count = (head + args.batch_size) % args.memory_size, min(args.memory_size, count + args.batch_size)
        if step >= args.memory_start:
            loss = loss + pair_loss(embeddings, labels, ids, rows[:count], row_labels[:count], row_ids[:count])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
seconds = time.perf_counter() - begun
result = {
    "memory": args.memory,
    "seed": args.seed,
    "initial_recall_at_1": round(initial, 4),
    "recall_at_1": round(recall_at_1(network, test_images, test_labels), 4),
    "seconds": round(seconds, 1),
    "images_per_second": round(args.steps * args.batch_size / seconds, 1),
}
if args.memory == "momentum":
    result["recall_at_1_key_encoder"] = round(recall_at_1(key_network, test_images, test_labels), 4)
print(json.dumps(result))
