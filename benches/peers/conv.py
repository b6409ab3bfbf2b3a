"""The convolutions of ResNet-18 (64 images of 64 pixels) and ResNet-50 (16 images) in PyTorch, to set beside `cargo bench -- conv`.

Prints the least milliseconds of forward, input gradient and filter gradient of each layer and their sums over the network.
usage: conv.py [THREADS]
"""
import sys
import time

import torch

REPETITIONS = 15

# Image side, input channels, output channels, kernel, stride, how often the network has the layer.
NETWORKS = {
    ("resnet18", 64): [
        (64, 3, 64, 7, 2, 1),
        (16, 64, 64, 3, 1, 4),
        (16, 64, 128, 3, 2, 1),
        (16, 64, 128, 1, 2, 1),
        (8, 128, 128, 3, 1, 3),
        (8, 128, 256, 3, 2, 1),
        (8, 128, 256, 1, 2, 1),
        (4, 256, 256, 3, 1, 3),
        (4, 256, 512, 3, 2, 1),
        (4, 256, 512, 1, 2, 1),
        (2, 512, 512, 3, 1, 3),
    ],
    ("resnet50", 16): [
        (64, 3, 64, 7, 2, 1),
        (16, 64, 64, 1, 1, 1),
        (16, 256, 64, 1, 1, 2),
        (16, 64, 64, 3, 1, 3),
        (16, 64, 256, 1, 1, 4),
        (16, 256, 128, 1, 1, 1),
        (16, 128, 128, 3, 2, 1),
        (16, 256, 512, 1, 2, 1),
        (8, 512, 128, 1, 1, 3),
        (8, 128, 128, 3, 1, 3),
        (8, 128, 512, 1, 1, 4),
        (8, 512, 256, 1, 1, 1),
        (8, 256, 256, 3, 2, 1),
        (8, 512, 1024, 1, 2, 1),
        (4, 1024, 256, 1, 1, 5),
        (4, 256, 256, 3, 1, 5),
        (4, 256, 1024, 1, 1, 6),
        (4, 1024, 512, 1, 1, 1),
        (4, 512, 512, 3, 2, 1),
        (4, 1024, 2048, 1, 2, 1),
        (2, 2048, 512, 1, 1, 2),
        (2, 512, 512, 3, 1, 2),
        (2, 512, 2048, 1, 1, 3),
    ],
}


def least_milliseconds(call):
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return min(times)


@torch.no_grad()
def measure(batch, side, in_channels, out_channels, kernel, stride):
    layout = torch.channels_last
    images = torch.randn(batch, in_channels, side, side).contiguous(memory_format=layout)
    weight = torch.randn(out_channels, in_channels, kernel, kernel).contiguous(memory_format=layout)
    pad = kernel // 2

    def forward():
        return torch.nn.functional.conv2d(images, weight, stride=stride, padding=pad)

    def backward(mask):
        arguments = (None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, mask)
        return torch.ops.aten.convolution_backward(gradient, images, weight, *arguments)

    gradient = torch.randn_like(forward())
    input_gradient = least_milliseconds(lambda: backward([True, False, False])) if in_channels > 3 else 0.0
    return least_milliseconds(forward), input_gradient, least_milliseconds(lambda: backward([False, True, False]))


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    for (network, batch), layers in NETWORKS.items():
        sums = [0.0, 0.0, 0.0]
        for *layer, count in layers:
            times = measure(batch, *layer)
            sums = [total + count * time for total, time in zip(sums, times)]
            print(f"{network} {layer} x{count}: " + " ".join(f"{time:.2f}" for time in times), flush=True)
        print(f"{network}: " + " ".join(f"{total:.1f}" for total in sums) + f" = {sum(sums):.1f} ms")


main()
