"""The convolutions of a network in PyTorch: median milliseconds of forward, input gradient and filter gradient, a line per layer.

usage: conv.py [THREADS] < layers, each `name batch size in_channels out_channels kernel stride count`
"""
import statistics
import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
REPETITIONS = 11


def milliseconds(call):
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


for line in sys.stdin:
    batch, size, in_channels, out_channels, kernel, stride, _ = map(int, line.split()[1:])
    layout = torch.channels_last
    images = torch.randn(batch, in_channels, size, size).contiguous(memory_format=layout)
    weight = torch.randn(out_channels, in_channels, kernel, kernel).contiguous(memory_format=layout)
    pad = kernel // 2
    with torch.no_grad():
        result = torch.nn.functional.conv2d(images, weight, stride=stride, padding=pad)
        gradient = torch.randn_like(result)

        def backward(mask):
            arguments = (None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, mask)
            return torch.ops.aten.convolution_backward(gradient, images, weight, *arguments)

        forward = milliseconds(lambda: torch.nn.functional.conv2d(images, weight, stride=stride, padding=pad))
        input_gradient = milliseconds(lambda: backward([True, False, False])) if in_channels != 3 else 0.0
        filter_gradient = milliseconds(lambda: backward([False, True, False]))
    print(f"{forward:.3f} {input_gradient:.3f} {filter_gradient:.3f}", flush=True)
