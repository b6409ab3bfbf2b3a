"""Makes tests/fixtures/cars_annos.mat: five annotations in the form of Cars-196's file, compressed as MATLAB's `save -v7` does.

usage: python tests/golden/cars.py        needs scipy
"""

import pathlib

import numpy
import scipy.io

FIELDS = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
CARS = [
    ("car_ims/000001.jpg", 112, 7, 853, 717, 1, 0),
    ("car_ims/000002.jpg", 48, 24, 441, 202, 1, 1),
    ("car_ims/000003.jpg", 7, 4, 277, 180, 98, 0),
    ("car_ims/000004.JPG", 33, 50, 197, 150, 99, 0),
    ("car_ims/000005.jpg", 5, 8, 83, 58, 196, 1),
]

annotations = numpy.zeros((1, len(CARS)), dtype=[(field, object) for field in FIELDS])
for column, car in enumerate(CARS):
    for field, value in zip(FIELDS, car):
        annotations[field][0, column] = value if isinstance(value, str) else numpy.array([[value]], dtype=numpy.uint8 if value < 256 else numpy.uint16)
names = numpy.array([[f"Maker Model {year}" for year in range(1815, 2011)]], dtype=object)
out = pathlib.Path(__file__).parent.parent / "fixtures" / "cars_annos.mat"
scipy.io.savemat(out, {"annotations": annotations, "class_names": names}, do_compression=True)
scipy.io.savemat(out.with_name("cars_plain.mat"), {"annotations": annotations[:, :2], "class_names": names[:, :1]})
