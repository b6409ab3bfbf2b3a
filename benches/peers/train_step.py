"""A whole training step of ResNet-18 (64 images) and ResNet-50 (16 images) of 64 pixels: the engine beside PyTorch.

    python benches/peers/train_step.py [--rounds 5] [--cargo "cargo bench --bench train_step"]

Needs torch and torchvision. Forward, contrastive loss of the batch with itself (w+ = 1, w- = 1[s > 0.5]), backward, Adam (torch's
fused one). Each round runs the engine and then PyTorch in both memory formats, so that all of them see the same machine. Prints
medians, and the ratio to the better format.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import time

import torch
import torchvision

CASES = [("resnet18", 64), ("resnet50", 16)]
FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
SIZE, DIM, PER_CLASS, REPEATS = 64, 128, 4, 7


class Step:
    def __init__(self, name, batch, memory_format):
        torch.manual_seed(0)
        self.model = getattr(torchvision.models, name)(num_classes=DIM).to(memory_format=memory_format).train()
        self.images = torch.randn(batch, 3, SIZE, SIZE).contiguous(memory_format=memory_format)
        labels = torch.arange(batch) // PER_CLASS
        self.equal = labels[:, None] == labels[None]
        self.positive = self.equal & ~torch.eye(batch, dtype=torch.bool)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)

    def run(self):
        embeddings = torch.nn.functional.normalize(self.model(self.images), dim=1)
        similarity = embeddings @ embeddings.T
        negative = ~self.equal & (similarity.detach() > 0.5)
        loss = ((1 - similarity) * self.positive).sum() + ((similarity - 0.5) * negative).sum()
        self.optimizer.zero_grad(set_to_none=True)
        (loss / len(self.images)).backward()
        self.optimizer.step()


def engine(command, times):
    environment = {**os.environ, "XBM_FAST_PEER": "1"}
    run = subprocess.run(shlex.split(command), env=environment, check=True, stdout=subprocess.PIPE, text=True)
    for line in run.stdout.splitlines():
        if line.count("|") == 1:
            name, found = line.split("|")
            times.setdefault((name, "engine"), []).extend(map(float, found.split()))


def peers(times):
    for name, batch in CASES:
        for layout, memory_format in FORMATS.items():
            step = Step(name, batch, memory_format)
            step.run(), step.run()
            for _ in range(REPEATS):
                start = time.perf_counter()
                step.run()
                times.setdefault((name, layout), []).append((time.perf_counter() - start) * 1e3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cargo", default="cargo bench --bench train_step")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    times = {}
    for _ in range(arguments.rounds):
        engine(arguments.cargo, times)
        peers(times)
    print(f"torch {torch.__version__}, {os.cpu_count()} threads; load {os.getloadavg()[0]:.1f}; medians in ms")
    for name, batch in CASES:
        medians = {who: statistics.median(times[name, who]) for who in ["engine", *FORMATS]}
        best = min(medians[layout] for layout in FORMATS)
        found = "  ".join(f"{who} {ms:.1f}" for who, ms in medians.items())
        print(f"{name}, {batch} images: {found}  {batch / medians['engine'] * 1e3:.0f} images/s, {best / medians['engine']:.2f}x")


if __name__ == "__main__":
    main()
