"""Writes tests/golden/rows.npy: what numpy.save makes of a small matrix.  Run: python tests/golden/npy.py"""

import pathlib

import numpy

rows = numpy.array([[0.0, 0.5, -1.0], [2.0, 3.5, -0.25]], dtype="<f4")
numpy.save(pathlib.Path(__file__).with_name("rows.npy"), rows)
