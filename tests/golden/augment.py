"""Golden values of tests/engine/augment.rs: torchvision's transforms of a generated PIL image, as 8-bit levels."""

import numpy
import PIL.Image
from torchvision.transforms import functional

HEIGHT, WIDTH = 37, 53


def image():
    y, x, c = numpy.mgrid[0:HEIGHT, 0:WIDTH, 0:3]
    return PIL.Image.fromarray(((x * 5 + y * 3 + c * 40 + 9 * ((x * y) % 7)) % 256).astype(numpy.uint8))


def show(name, result):
    pixels = numpy.asarray(result)
    size = pixels.shape[0]
    picked = [pixels[y, x].tolist() for y, x in [(0, 0), (0, size - 1), (size // 2, size // 3), (size - 1, 0), (size - 1, size - 1)]]
    print(f"const {name}: [[u8; 3]; 5] = {picked};")


show("CROP_SHRUNK", functional.resized_crop(image(), 3, 6, 30, 41, [12, 12]))
show("CROP_ENLARGED", functional.resized_crop(image(), 11, 20, 9, 14, [24, 24]))
show("FLIPPED", functional.hflip(functional.resized_crop(image(), 3, 6, 30, 41, [12, 12])))
show("CENTRE", functional.center_crop(functional.resize(image(), [20, 28]), [16, 16]))
