"""Golden values of tests/engine/model/torchvision.rs: torchvision's ResNets in double precision, written to tests/golden/resnet.txt.

Every tensor is filled from the engine's stream `Rng::new(0).at(name)`, `low + (high - low) * unit()`, in torch's order of elements
(images: batch, row, column, channel), with `name` the tensor's name in the state dictionary and these ranges:
  filters                 +- sqrt(6 / fan out), the variance of Kaiming's initialisation
  scales                  0.1 to 0.3
  shifts                  0.2 to 0.4
  running_var             0.5 to 1.5
  running_mean            -0.1 to 0.1
  fc.weight, fc.bias      +- 1 / sqrt(features)
  images                  -1 to 1
  embedding gradient      -1 to 1
These scales and shifts leave few values near a ReLU's corner. With unit scales torch's own gradients in 32 bits are 3 % off those in
64, with these 1e-5.
"""

import pathlib

import numpy
import torch
import torchvision

DIM, EVAL_BATCH, TRAIN_BATCH, TRAIN_SIZE, SHOWN = 4, 2, 8, 64, 6
GAMMA = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def mix(z):
    """SplitMix64's output function on an array of 64-bit states."""
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return z ^ (z >> numpy.uint64(31))


def state(name):
    """State of the engine's stream `Rng::new(0).at(name)`."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 & MASK
    one = lambda value: int(mix(numpy.array([value & MASK], dtype=numpy.uint64))[0])
    rotated = one(key + GAMMA)
    rotated = (rotated << 17 | rotated >> 47) & MASK
    return one(GAMMA) ^ rotated


def uniform(name, shape, low, high):
    steps = numpy.arange(1, numpy.prod(shape) + 1, dtype=numpy.uint64)
    bits = mix(numpy.uint64(state(name)) + steps * numpy.uint64(GAMMA))
    unit = (bits >> numpy.uint64(40)).astype(numpy.float64) / (1 << 24)
    return torch.from_numpy(low + (high - low) * unit).view(*shape)


def limits(name, shape):
    if name.startswith("fc."):
        return -(FEATURES**-0.5), FEATURES**-0.5
    if len(shape) == 4:
        bound = (6 / (shape[0] * shape[2] * shape[3])) ** 0.5
        return -bound, bound
    return {"weight": (0.1, 0.3), "bias": (0.2, 0.4), "running_var": (0.5, 1.5), "running_mean": (-0.1, 0.1)}[name.split(".")[-1]]


def network(depth, pooling):
    global FEATURES
    model = getattr(torchvision.models, f"resnet{depth}")(num_classes=DIM).double()
    FEATURES = model.fc.in_features
    if pooling == "max":
        model.avgpool = torch.nn.AdaptiveMaxPool2d(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(uniform(name, tensor.shape, *limits(name, tensor.shape)))
    return model


def embed(model, batch, size):
    images = uniform("images", (batch, size, size, 3), -1, 1).permute(0, 3, 1, 2)
    return torch.nn.functional.normalize(model(images), dim=1)


def line(key, values):
    return f"{key}: " + " ".join(f"{value:.9e}" for value in values)


def summary(tensor):
    """Length, then the first few values."""
    return [tensor.norm().item(), *tensor.flatten()[:SHOWN].tolist()]


def main():
    lines = ["# Written by resnet.py, which says what they are; do not edit."]
    for depth in (18, 34, 50, 101):
        for size in (64, 50):
            for pooling in ("avg", "max"):
                with torch.no_grad():
                    embeddings = embed(network(depth, pooling).eval(), EVAL_BATCH, size)
                lines.append(line(f"eval resnet{depth} {size} {pooling}", embeddings.flatten().tolist()))
    for depth in (18, 50):
        model = network(depth, "avg").train()
        embeddings = embed(model, TRAIN_BATCH, TRAIN_SIZE)
        embeddings.backward(uniform("embedding gradient", (TRAIN_BATCH, DIM), -1, 1))
        lines.append(line(f"train resnet{depth} embeddings", embeddings.flatten().tolist()))
        for name, parameter in model.named_parameters():
            if name in ("conv1.weight", "layer2.0.bn1.weight", "layer2.0.bn1.bias", "layer3.0.downsample.0.weight",
                        "layer4.1.conv2.weight", "fc.weight", "fc.bias"):
                lines.append(line(f"train resnet{depth} gradient {name}", summary(parameter.grad)))
        if depth == 18:
            frozen = network(depth, "avg").eval()
            embeddings = embed(frozen, TRAIN_BATCH, TRAIN_SIZE)
            embeddings.backward(uniform("embedding gradient", (TRAIN_BATCH, DIM), -1, 1))
            for name, parameter in frozen.named_parameters():
                if name in ("conv1.weight", "layer3.0.downsample.0.weight", "layer4.1.conv2.weight", "fc.weight"):
                    lines.append(line(f"frozen resnet{depth} gradient {name}", summary(parameter.grad)))
        for name, tensor in model.state_dict().items():
            if name in ("bn1.running_mean", "bn1.running_var", "layer3.0.bn2.running_mean", "layer3.0.bn2.running_var"):
                lines.append(line(f"train resnet{depth} statistics {name}", summary(tensor)))
    pathlib.Path(__file__).with_suffix(".txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
