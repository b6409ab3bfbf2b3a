"""Loading and augmenting photographs: the engine beside torchvision and a PyTorch DataLoader, on the same files.

    python benches/peers/data_loader.py [--rounds 3] [--cargo "cargo bench --bench data_loader"]

Needs torch, torchvision, pillow and numpy. Makes 256 JPEG files of 500 x 375 pixels (noise of all scales, quality 90, 4:2:0), then runs
in turn, each on one core's worth of threads, and prints milliseconds of processor time per image and ratios of medians:
  engine jpeg, packed_raw   RandomResizedCrop(224, 0.2 to 1), flip, normalise
  torch jpeg                ImageFolder and torchvision's transforms on Pillow images, the usual way
  torch raw pillow          the same transforms on rows of a numpy memory map of decoded pixels
  torch raw tensor          torchvision.transforms.v2 on 8-bit tensors of that map, the fastest way torchvision has
The DataLoader works in its own process (num_workers=0), which spares it the copies between processes.
"""

import argparse
import os
import pathlib
import shlex
import statistics
import subprocess
import tempfile
import time

import numpy
import PIL.Image
import torch
import torchvision
from torchvision.transforms import v2

HEIGHT, WIDTH, SIZE, BATCH, CLASSES, PER_CLASS, EPOCHS = 375, 500, 224, 64, 32, 8, 4
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def photograph(rng):
    """Noise whose amplitude falls with its frequency, as in photographs, correlated between channels."""
    fy, fx = numpy.fft.fftfreq(HEIGHT)[:, None], numpy.fft.rfftfreq(WIDTH)[None]
    amplitude = 1 / numpy.maximum(numpy.hypot(fy, fx), 1 / WIDTH) ** 1.2
    planes = []
    for _ in range(4):
        phase = numpy.exp(2j * numpy.pi * rng.random(amplitude.shape))
        plane = numpy.fft.irfft2(amplitude * phase, (HEIGHT, WIDTH))
        planes.append(plane / plane.std())
    levels = numpy.stack([128 + 45 * planes[0] + 12 * plane for plane in planes[1:]], axis=2)
    return numpy.clip(levels, 0, 255).astype(numpy.uint8)


def write_photographs(root):
    rng = numpy.random.default_rng(0)
    for index in range(CLASSES * PER_CLASS):
        folder = root / f"{index // PER_CLASS:03}"
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(photograph(rng)).save(folder / f"{index:04}.jpg", quality=90)


class Rows(torch.utils.data.Dataset):
    def __init__(self, pixels, transform, as_tensor):
        self.pixels, self.transform, self.as_tensor = pixels, transform, as_tensor

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        row = self.pixels[index]
        image = torch.from_numpy(row).permute(2, 0, 1) if self.as_tensor else PIL.Image.fromarray(row)
        return self.transform(image), 0


def peers(root, raw):
    from torchvision import transforms

    classic = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE, scale=(0.2, 1)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, DEVIATION),
        ]
    )
    tensors = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=(0.2, 1), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, DEVIATION),
        ]
    )
    # Copy on write: torch warns of arrays that cannot be written.
    pixels = numpy.memmap(raw, numpy.uint8, "c", shape=(CLASSES * PER_CLASS, HEIGHT, WIDTH, 3))
    return {
        "torch jpeg": torchvision.datasets.ImageFolder(root, classic),
        "torch raw pillow": Rows(pixels, classic, False),
        "torch raw tensor": Rows(pixels, tensors, True),
    }


def measure(dataset):
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True)
    for _ in loader:
        pass
    spent, begun, images = time.process_time(), time.perf_counter(), 0
    for _ in range(EPOCHS):
        for batch, _ in loader:
            images += len(batch)
    return 1e3 * (time.process_time() - spent) / images, 1e3 * (time.perf_counter() - begun) / images


def engine(command, root):
    environment = os.environ | {"XBM_FAST_PEER": str(root)}
    output = subprocess.run(shlex.split(command), env=environment, check=True, capture_output=True, text=True).stdout
    lines = [line.split("|") for line in output.splitlines() if "|" in line]
    return {f"engine {name}": tuple(float(value) for value in values.split()) for name, values in lines}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cargo", default="cargo bench --bench data_loader")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root, raw = pathlib.Path(folder) / "photographs", pathlib.Path(folder) / "pixels"
        write_photographs(root)
        files = sorted(root.glob("*/*.jpg"))
        print(f"{len(files)} files, {sum(file.stat().st_size for file in files) / len(files) / 1e3:.0f} KB each")
        raw.write_bytes(b"".join(numpy.asarray(PIL.Image.open(file)).tobytes() for file in files))
        times = {}
        for _ in range(args.rounds):
            for name, value in engine(args.cargo, root).items():
                times.setdefault(name, []).append(value)
            for name, dataset in peers(root, raw).items():
                times.setdefault(name, []).append(measure(dataset))
        median = {name: statistics.median(processor for processor, _ in values) for name, values in times.items()}
        for name, values in times.items():
            wall = statistics.median(wall for _, wall in values)
            ratios = "".join(f"  {median[name] / median[own]:5.2f}x {own}" for own in median if own.startswith("engine"))
            print(f"{name:18} {median[name]:7.3f} ms of processor, {wall:7.3f} ms of wall time{ratios}")


main()
