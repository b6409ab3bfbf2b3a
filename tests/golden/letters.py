"""Outlines of letters for figures: src/app/report/figure/letters.txt, from DejaVu Sans (Book).

    python tests/golden/letters.py /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf > src/app/report/figure/letters.txt

Needs fontTools.
"""

import sys

from fontTools.pens.basePen import BasePen
from fontTools.ttLib import TTFont

STEPS = 4
UNITS = 500


class Flat(BasePen):
    def __init__(self, glyphs):
        super().__init__(glyphs)
        self.outlines = []

    def _moveTo(self, point):
        self.outlines.append([point])

    def _lineTo(self, point):
        self.outlines[-1].append(point)

    def _qCurveToOne(self, control, end):
        start = self._getCurrentPoint()
        for step in range(1, STEPS + 1):
            t = step / STEPS
            blend = lambda a, b, c: (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c
            self.outlines[-1].append(tuple(blend(*axis) for axis in zip(start, control, end)))

    def _closePath(self):
        pass


font = TTFont(sys.argv[1])
glyphs, names, scale = font.getGlyphSet(), font.getBestCmap(), UNITS / font["head"].unitsPerEm
print(f"# Outlines of the printable ASCII characters and a few more in DejaVu Sans, {UNITS} units to its size: character code, width, then x and y")
print("# of each corner, outlines apart by `/`. Written by tests/golden/letters.py. Fonts are (c) Bitstream, Inc.; DejaVu changes are in the")
print("# public domain. Bitstream Vera is a trademark of Bitstream, Inc. Use, copying, changing and selling as part of other software are free.")
for code in [*range(32, 127), 0x2026, 0x2212, 0x00D7]:
    pen = Flat(glyphs)
    glyph = glyphs[names[code]]
    glyph.draw(pen)
    outlines = [" ".join(f"{round(x * scale)} {round(y * scale)}" for x, y in outline) for outline in pen.outlines]
    print(code, round(glyph.width * scale), " / ".join(outlines))
