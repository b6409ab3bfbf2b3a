"""Training steps and embedding passes of ResNets, beside torchvision's with the same weights on the same images.

A step is forward, contrastive loss of the batch with itself (w+ = 1, w- = 1[s > 0.5]), backward, Adam (torch's fused one). Embeddings,
loss and the norm of the gradient of the first step are compared before anything is timed. PyTorch runs in both memory formats, and the
quicker one counts.

`network.py CASE NETWORK BATCH SIZE FORMAT` is one side of the rows about memory: two runs, then what the process held at most and before
the network was made.
"""

import json
import struct
import subprocess
import sys

import numpy
import torch
import torchvision
from contest import Engine, Peer, Row, compare, quicker, take_turns

# Network, batch, pixels.
TRAINING = [("resnet18", 64, 64), ("resnet50", 16, 64), ("resnet50", 8, 224)]
INFERENCE = [("resnet18", 64, 64), ("resnet50", 16, 64), ("resnet50", 8, 224)]
FORMATS = {"torch nchw": torch.contiguous_format, "torch nhwc": torch.channels_last}
DIM, PER_CLASS = 128, 4
TRAINING_TARGET, INFERENCE_TARGET, MEMORY_TARGET = 1.3, 1.2, 2.0
LEAST_COSINE, LARGEST_DIFFERENCE = 0.9999, 1e-2


class Network:
    def __init__(self, name, batch, size, memory_format):
        torch.manual_seed(0)
        self.model = getattr(torchvision.models, name)(num_classes=DIM).to(memory_format=memory_format)
        self.images = torch.randn(batch, 3, size, size).contiguous(memory_format=memory_format)
        labels = torch.arange(batch) // PER_CLASS
        self.equal = labels[:, None] == labels[None]
        self.positive = self.equal & ~torch.eye(batch, dtype=torch.bool)

    def embed(self):
        return torch.nn.functional.normalize(self.model(self.images), dim=1)

    def loss(self):
        self.embeddings = self.embed()
        similarity = self.embeddings @ self.embeddings.T
        negative = ~self.equal & (similarity.detach() > 0.5)
        return ((1 - similarity) * self.positive).sum() + ((similarity - 0.5) * negative).sum()


class Training(Network):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.model.train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)

    def run(self):
        loss = self.loss()
        self.optimizer.zero_grad(set_to_none=True)
        (loss / len(self.images)).backward()
        self.optimizer.step()
        return loss

    def result(self):
        loss = self.run().item()
        norm = sum(float(parameter.grad.double().square().sum()) for parameter in self.model.parameters()) ** 0.5
        return self.embeddings.detach(), [loss, norm]


class Inference(Network):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.model.eval()

    @torch.inference_mode()
    def run(self):
        return self.embed()

    def result(self):
        return self.run(), []


CASES = {"training": Training, "inference": Inference}


def write_start(network, folder):
    """Weights and images as the engine reads them."""
    tensors = {name: value.float().contiguous().numpy() for name, value in network.model.state_dict().items() if value.dim()}
    header, offset = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    files = {name: folder / name for name in ("weights", "head", "images")}
    files["weights"].write_bytes(struct.pack("<Q", len(text)) + text + b"".join(value.tobytes() for value in tensors.values()))
    files["head"].write_bytes(tensors["fc.weight"].tobytes() + tensors["fc.bias"].tobytes())
    files["images"].write_bytes(network.images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
    return {name: str(path) for name, path in files.items()}


def check(name, peer, own):
    embeddings, numbers = peer.result()
    count = embeddings.numel()
    cosines = torch.nn.functional.cosine_similarity(embeddings, torch.from_numpy(own[:count]).view(embeddings.shape), dim=1)
    off = [abs(theirs - ours) / abs(theirs) for theirs, ours in zip(numbers, own[count:].tolist())]
    if not (cosines.min().item() >= LEAST_COSINE and all(share < LARGEST_DIFFERENCE for share in off)):
        raise SystemExit(f"{name}: embeddings have cosine {cosines.min().item():.6f}, loss and gradient differ by {off}")


def contest(options, kind, network, batch, size, target):
    name = f"{kind}, {network}, {batch} images of {size} px"
    peers = {layout: CASES[kind](network, batch, size, memory_format) for layout, memory_format in FORMATS.items()}
    files = write_start(next(iter(peers.values())), options.folder)
    engine = Engine(options.program, kind, network=network, size=size, threads=options.threads, **files)
    engine.time(1)
    own = engine.result(options.folder / "result")
    for layout, peer in peers.items():
        check(f"{name}, {layout}", peer, own)
    engine.time(1)
    memory = engine.peak_megabytes, engine.facts["held_before_megabytes"]
    contenders = {"engine": engine, **{layout: Peer(peer.run) for layout, peer in peers.items()}}
    times = take_turns(contenders, options.rounds)
    engine.close()
    yield from compare(name, times, {quicker(times, FORMATS): target})
    if kind == "training":
        yield from memory_rows(name, (kind, network, batch, size), memory, options)


def memory_rows(name, arguments, own, options):
    sides = []
    for layout in FORMATS:
        command = [sys.executable, __file__, *map(str, arguments), layout, str(options.threads)]
        sides.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    best = min(sides)
    whole = best[0] / own[0]
    beyond = (best[0] - best[1]) / (own[0] - own[1])
    yield Row(f"{name}: peak memory", "MB", own[0], "torch", best[0], {"memory": (whole,) * 3}, MEMORY_TARGET)
    what = f"{name}: peak memory beyond the loaded libraries"
    yield Row(what, "MB", own[0] - own[1], "torch", best[0] - best[1], {"memory": (beyond,) * 3}, MEMORY_TARGET)


def rows(options):
    for kind, cases, target in (("training", TRAINING, TRAINING_TARGET), ("inference", INFERENCE, INFERENCE_TARGET)):
        for network, batch, size in cases[:2] if options.quick else cases:
            yield from contest(options, kind, network, batch, size, target)


def status(name):
    """Megabytes by Linux's account of this process; the account of `getrusage` begins with the process that started it."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024e-6 for line in lines if line.startswith(name))


def main():
    kind, network, batch, size, layout, count = sys.argv[1:]
    torch.set_num_threads(int(count))
    before = status("VmRSS")
    peer = CASES[kind](network, int(batch), int(size), FORMATS[layout])
    peer.run(), peer.run()
    print(json.dumps([status("VmHWM"), before]))


if __name__ == "__main__":
    main()
