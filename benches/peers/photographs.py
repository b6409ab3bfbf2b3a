"""Loading and augmenting photographs, beside torchvision and a PyTorch DataLoader on the same files, each on one core.

256 JPEG files of 500 x 375 pixels (noise of all scales, quality 90, 4:2:0) to random crops of 224, flipped and normalised, batches of 64.
Crops are random on both sides, so nothing is compared but the count. Processor time is the figure: the engine loads on one thread and
augments on another. Peers:
  jpeg        ImageFolder and torchvision's transforms on Pillow images, the usual way
  raw pillow  the same transforms on rows of a numpy memory map of decoded pixels
  raw tensor  torchvision.transforms.v2 on 8-bit tensors of that map, the fastest way torchvision has
The DataLoader works in this process (num_workers=0), which spares it the copies between processes.
"""

import statistics

import numpy
import PIL.Image
import torch
import torchvision
from contest import Engine, Peer, compare, take_turns
from torchvision import transforms
from torchvision.transforms import v2

HEIGHT, WIDTH, SIZE, BATCH, CLASSES, PER_CLASS = 375, 500, 224, 64, 32, 8
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


class Feed:
    """Batch after batch, without end."""

    def __init__(self, dataset):
        self.loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True)
        self.batches = iter(())

    def next(self):
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.loader)
            batch = next(self.batches)
        assert batch[0].shape == (BATCH, 3, SIZE, SIZE)


def rows(options):
    root, raw = options.folder / "photographs", options.folder / "pixels"
    write_photographs(root)
    files = sorted(root.glob("*/*.jpg"))
    raw.write_bytes(b"".join(numpy.asarray(PIL.Image.open(file)).tobytes() for file in files))
    found = {name: Peer(Feed(dataset).next) for name, dataset in peers(root, raw).items()}
    torch.set_num_threads(1)
    for kind, targets in (("jpeg", {"torch jpeg": 1.5}), ("packed_raw", {"torch raw pillow": 3, "torch raw tensor": 3})):
        settings = {"kind": kind, "photographs": str(root), "packed": str(options.folder / "set.xbm")}
        engine = Engine(options.program, "input", **settings)
        times = take_turns({"engine": engine, **{name: found[name] for name in targets}}, options.rounds, least_seconds=1)
        engine.close()
        for row in compare(f"input, {kind}, an image", times, targets, per=BATCH):
            row.ratios = {"processor": row.ratios["processor"]}
            processor = [1e3 * statistics.median(spent for _, spent in times[who]) / BATCH for who in ("engine", row.peer)]
            row.engine, row.other, row.unit = *processor, "ms of processor"
            yield row
    torch.set_num_threads(options.threads)
