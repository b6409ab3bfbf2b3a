"""PyTorch on the same device and on the same day: ceilings, the pair loss, a training step, convolutions. benches/device/collect calls it.

    python torch_beside.py PART --results FOLDER [--rehearsal]

Appends a line of JSON a measurement to FOLDER/results.jsonl, in microseconds or images a second; `ceilings` also writes
FOLDER/ceilings.sh, what the engine's benchmarks read their floors from. A rehearsal runs everything once, tiny, on whatever there is.
Needs torch, and torchvision for the network.
"""

import argparse
import json
import pathlib
import time

import torch
import torch.nn.functional as F

ROWS = 60_000
CLASSES = 1000
THRESHOLD = 0.5
RESNET_CONVOLUTIONS = [  # input channels, output channels, kernel, stride, height of the input: the distinct ones of a ResNet-50
    *[(3, 64, 7, 2, 224), (64, 64, 1, 1, 56), (64, 64, 3, 1, 56), (64, 256, 1, 1, 56), (256, 64, 1, 1, 56)],
    *[(256, 128, 1, 1, 56), (128, 128, 3, 2, 56), (128, 512, 1, 1, 28), (256, 512, 1, 2, 56), (512, 128, 1, 1, 28)],
    *[(128, 128, 3, 1, 28), (512, 256, 1, 1, 28), (256, 256, 3, 2, 28), (256, 1024, 1, 1, 14), (512, 1024, 1, 2, 28)],
    *[(1024, 256, 1, 1, 14), (256, 256, 3, 1, 14), (1024, 512, 1, 1, 14), (512, 512, 3, 2, 14), (512, 2048, 1, 1, 7)],
    *[(1024, 2048, 1, 2, 14), (2048, 512, 1, 1, 7), (512, 512, 3, 1, 7)],
]


class Recorder:
    def __init__(self, options):
        self.part, self.folder, self.rehearsal = options.part, options.results, options.rehearsal
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu" and not self.rehearsal:
            raise SystemExit("torch sees no GPU")
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        self("torch", version=torch.__version__, device=name, outcome="ok")

    def __call__(self, name, **values):
        with open(self.folder / "results.jsonl", "a") as file:
            file.write(json.dumps({"part": self.part, "name": name, **values}) + "\n")

    def size(self, real, rehearsed):
        return rehearsed if self.rehearsal else real

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def microseconds(self, function, seconds=0.3):
        """Median of the times of single calls, each waited for by the device's clock where there is one; two calls warm up."""
        function()
        function()
        self.wait()
        times, end = [], time.perf_counter() + (0 if self.rehearsal else seconds)
        while not times or time.perf_counter() < end:
            if self.device.type == "cuda":
                begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begun.record()
                function()
                ended.record()
                torch.cuda.synchronize()
                times.append(begun.elapsed_time(ended) * 1e3)
            else:
                begun = time.perf_counter()
                function()
                times.append((time.perf_counter() - begun) * 1e6)
        return sorted(times)[len(times) // 2]


def ceilings(record):
    n, gigabytes = record.size(8192, 64), record.size(8, 0.001)
    a, b = (torch.randn(n, n, device=record.device, dtype=torch.bfloat16) for _ in range(2))
    teraflops = 2 * n**3 / record.microseconds(lambda: a @ b) * 1e-6
    source = torch.empty(int(gigabytes * 5e8), dtype=torch.uint8, device=record.device)
    target = torch.empty_like(source)
    terabytes = 2 * source.numel() / record.microseconds(lambda: target.copy_(source)) * 1e-6
    record("ceilings", teraflops=teraflops, terabytes_per_second=terabytes, outcome="ok")
    (record.folder / "ceilings.sh").write_text(f"export XBM_PEAK_TFLOPS={teraflops:.1f} XBM_PEAK_TBS={terabytes:.3f}\n")
    for batch in record.size([64, 256, 512], [8]):
        for dim in record.size([128, 256, 512], [16]):
            anchors, rows = unit_rows(record, batch, dim), unit_rows(record, record.size(ROWS, 64), dim)
            both = record.microseconds(lambda: (anchors @ rows.T) @ rows)
            record(f"two products {batch}x{rows.shape[0]}x{dim}", microseconds=both, outcome="ok")


def unit_rows(record, count, dim):
    return F.normalize(torch.randn(count, dim, device=record.device)).to(torch.float16)


def pair_loss(anchors, labels, rows, row_labels):
    """Sum over the pairs of an anchor: 1 - s of positives, s of negatives above the threshold."""
    similarity = anchors @ rows.T
    same = labels[:, None] == row_labels
    return torch.where(same, 1 - similarity, torch.where(similarity > THRESHOLD, similarity, 0)).sum(dtype=torch.float32)


def loss(record):
    # Each size is compiled on its own, which takes seconds.
    compiled = torch.compile(pair_loss, dynamic=False)
    few = record.size([(64, 128), (256, 512)], [(8, 16)])
    sizes = record.size([(batch, dim) for dim in (128, 512) for batch in (64, 256, 512)], few)
    for name, function, batch, dim in [("eager", pair_loss, *size) for size in sizes] + [("compiled", compiled, *size) for size in few]:
        count = record.size(ROWS, 64)
        anchors, rows = unit_rows(record, batch, dim).requires_grad_(), unit_rows(record, count, dim)
        labels, row_labels = (torch.arange(n, device=record.device) * CLASSES // n for n in (batch, count))

        def step():
            anchors.grad = None
            function(anchors, labels, rows, row_labels).backward()

        record(f"{name} pair loss {batch}x{count}x{dim}", microseconds=record.microseconds(step), outcome="ok")


def train(record):
    """A ResNet-50 in 16 bit, channels last, its loss against a memory of 60,000 rows; images lie on the device already."""
    import torchvision

    torch.backends.cudnn.benchmark = True
    batch, size, dim, count = record.size((64, 224, 512, ROWS), (4, 32, 16, 64))
    build = record.size(torchvision.models.resnet50, torchvision.models.resnet18)
    network = build(num_classes=dim).to(record.device).to(memory_format=torch.channels_last)
    is_cuda = record.device.type == "cuda"
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=is_cuda, capturable=is_cuda)
    images = torch.randn(batch, 3, size, size, device=record.device).to(memory_format=torch.channels_last)
    rows, row_labels = unit_rows(record, count, dim), torch.arange(count, device=record.device) % CLASSES
    labels = torch.arange(batch, device=record.device) // 4
    head = torch.zeros((), dtype=torch.long, device=record.device)
    scale = 1024.0

    def step():
        optimizer.zero_grad(set_to_none=False)
        # Without the cache of narrowed weights, which a captured graph must not hold.
        with torch.autocast(record.device.type, dtype=torch.float16 if is_cuda else torch.bfloat16, cache_enabled=False):
            embeddings = F.normalize(network(images).float()).to(torch.float16)
            slots = (head + torch.arange(batch, device=record.device)) % count
            rows.index_copy_(0, slots, embeddings.detach())
            row_labels.index_copy_(0, slots, labels)
            head.add_(batch)
            both = pair_loss(embeddings, labels, embeddings, labels) + pair_loss(embeddings, labels, rows, row_labels)
        (both * (scale / batch)).backward()
        for parameter in network.parameters():
            parameter.grad.div_(scale)
        optimizer.step()

    step()
    eager = record.microseconds(step, 4)
    record("train eager", images_per_second=batch / eager * 1e6, outcome="ok")
    if not is_cuda:
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    record("train graph", images_per_second=batch / record.microseconds(graph.replay, 4) * 1e6, outcome="ok")


def convolutions(record):
    """Forward of each distinct convolution of a ResNet-50 at batch 64, the heuristic's engine and the quickest."""
    batch = record.size(64, 1)
    for channels, filters, kernel, stride, height in record.size(RESNET_CONVOLUTIONS, RESNET_CONVOLUTIONS[-1:]):
        layer = torch.nn.Conv2d(channels, filters, kernel, stride, kernel // 2, bias=False).to(record.device, torch.bfloat16)
        layer = layer.to(memory_format=torch.channels_last)
        images = torch.randn(batch, channels, height, height, device=record.device, dtype=torch.bfloat16)
        images = images.to(memory_format=torch.channels_last)
        times = {}
        for name, benchmark in (("heuristic_microseconds", False), ("quickest_microseconds", True)):
            torch.backends.cudnn.benchmark = benchmark
            with torch.no_grad():
                times[name] = record.microseconds(lambda: layer(images), 0.05)
        record(f"convolution {channels} to {filters}, {kernel}x{kernel} by {stride}, {height} high", **times, outcome="ok")


PARTS = {"ceilings": ceilings, "loss": loss, "train": train, "convolutions": convolutions}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--results", type=pathlib.Path, required=True)
    parser.add_argument("--rehearsal", action="store_true")
    options = parser.parse_args()
    PARTS[options.part](Recorder(options))
