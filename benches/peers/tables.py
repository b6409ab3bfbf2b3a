"""The tables and the chart of BENCHMARKS.md, and the ratios of README.md, from the recorded samples in benches/results/.

    python benches/peers/tables.py           # writes the blocks between the markers, and docs/benchmarks.svg
    python benches/peers/tables.py --check   # fails if one of them is not what the samples say

Needs Python alone. A new recording (`run.py --json benches/results/NAME.json`) counts once its machine names it in `MACHINES`.
"""

import argparse
import json
import math
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from contest import Row

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "BENCHMARKS.md"
README = ROOT / "README.md"
CHART = ROOT / "docs" / "benchmarks.svg"
BEGIN, END = "<!-- begin: benches/peers/tables.py -->", "<!-- end: benches/peers/tables.py -->"

# The machine of the tables first. Of its recordings each row comes from the first one that has it.
MACHINES = {
    "Zen 5": ["2026-11-28-cpu"],
    "Zen 4, AVX2": ["2026-11-24-cpu-network", "2026-11-24-cpu-evaluation", "2026-11-24-cpu"],
}
# A question, and which rows answer it.
QUESTIONS = [
    ("How fast is the loss against a large memory?", lambda row: row.name.startswith("pair loss, rule")),
    ("How much of the processor does it use, when no pair can be skipped?", lambda row: row.peer == "peak"),
    ("How fast is a training step?", lambda row: row.name.startswith("training") and row.unit == "ms"),
    ("How fast is inference?", lambda row: row.name.startswith("inference")),
    ("How fast is evaluation?", lambda row: row.name.startswith("evaluation")),
    ("How fast are images read and augmented?", lambda row: row.name.startswith("input")),
    ("How much memory does it take?", lambda row: row.unit == "MB"),
    ("How long until the first step is done?", lambda row: row.name.startswith("start-up")),
]
# The ratios of README.md: what is measured, beside what, and in which rows; several rows give the range of their medians.
HEADLINES = [
    (
        "loss and gradient of 256 anchors against 60,000 rows of 512",
        "pytorch-metric-learning",
        lambda row: row.name == "pair loss, rule, batch 256" and row.peer == "pml",
    ),
    ("Recall and MAP@R of 60,000 embeddings of 512", "faiss", lambda row: row.name == "evaluation, 60000 rows of 512"),
    ("training step of ResNet-18 and ResNet-50", "PyTorch", lambda row: row.name.startswith("training") and row.unit == "ms"),
]
PEERS = {
    "pml": "pytorch-metric-learning",
    "auto": "masks and autograd in torch",
    "peak": "peak of multiply-adds",
    "faiss, 11": "faiss, 11 neighbours",
    "torch jpeg": "torch, the same files",
    "torch raw pillow": "torch, Pillow images",
    "torch raw tensor": "torch, tensors (transforms v2)",
}


class Recording:
    """One file of samples."""

    def __init__(self, name):
        facts = json.loads((ROOT / "benches" / "results" / f"{name}.json").read_text())
        self.name, self.clock, self.commit, self.date = name, facts["clock"], facts["commit"], facts["date"]
        self.processor, self.threads = facts["processor"], facts["threads"]
        self.rows = [Row(**row) for row in facts["rows"]]

    def link(self):
        return f"[{self.name}](benches/results/{self.name}.json) ({self.date} UTC, commit {self.commit})"


class Machine:
    """The recordings of a machine; each row is that of the first one that has it."""

    def __init__(self, name, recordings):
        self.name, self.recordings, self.rows = name, [Recording(recording) for recording in recordings], {}
        for recording in self.recordings:
            for row in recording.rows:
                # The better of torch's two memory formats is not the same on all machines.
                peer = row.peer.removesuffix(" nhwc").removesuffix(" nchw")
                self.rows.setdefault((row.name, peer), (row, recording))


def spelled(name):
    """A row's name, long numbers in groups of three."""
    return re.sub(r"\d{5,}", lambda digits: f"{int(digits[0]):,}", name)


def number(value):
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def amount(value, row):
    return f"{number(value)} {row.unit.replace(' of processor', '')}"


def is_share(row):
    """Whether the ratio is a part of a whole, to be read in per cent."""
    return row.peer in ("peak", "the ring")


def ahead(row, clock):
    least, middle, most = row.ratio(clock)
    if row.other is None:
        return f"{number(middle)} {row.unit} ({number(least)} to {number(most)})"
    if is_share(row):
        least, middle, most = (f"{100 * value:.0f} %" for value in (least, middle, most))
    else:
        least, middle, most = (f"{value:.3g}x" for value in (least, middle, most))
    return middle if least == most else f"{middle} ({least} to {most})"


def target(row):
    bound = "at least" if row.least else "at most"
    value = f"{100 * row.target:g} %" if is_share(row) else f"{row.target:g} {row.unit}" if row.other is None else f"{row.target:g}x"
    return f"{bound} {value}"


def table(rows, older):
    lines = [f"| what | engine | beside | engine ahead | target | | on {older.name} |", "|---|---|---|---|---|---|---|"]
    for key, (row, recording) in rows:
        peer = PEERS.get(row.peer, row.peer)
        beside = "" if row.other is None else f"{peer}: {amount(row.other, row)}"
        verdict = "held" if row.holds(recording.clock) else "**missed**"
        before = ""
        if key in older.rows:
            earlier, its = older.rows[key]
            before = ahead(earlier, its.clock).split(" (")[0] + ("" if earlier.holds(its.clock) else ", missed")
        cells = [spelled(row.name), amount(row.engine, row), beside, ahead(row, recording.clock), target(row), verdict, before]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def block(machines):
    newest, older = machines
    lines = []
    for question, answers in QUESTIONS:
        rows = [(key, found) for key, found in newest.rows.items() if answers(found[0])]
        lines += [f"### {question}", "", *table(rows, older), ""]
    rows = list(newest.rows.values())
    missed = [spelled(row.name) for row, recording in rows if not row.holds(recording.clock)]
    lines += [f"{len(rows) - len(missed)} of {len(rows)} targets are held. Missed:", "", *(f"* {name}" for name in missed), ""]
    lines += ["Recordings, with every sample:", ""]
    for machine in machines:
        lines += [f"* {machine.name}: {'; '.join(recording.link() for recording in machine.recordings)}"]
    return "\n".join(lines)


def headlines(machine):
    newest = machine.recordings[0]
    lines = [f"| on {newest.threads} cores of {newest.processor} ({machine.name}), no GPU | beside | times as fast |", "|---|---|---|"]
    for what, peer, answers in HEADLINES:
        ratios = sorted(row.ratio(recording.clock)[1] for row, recording in machine.rows.values() if answers(row))
        ends = dict.fromkeys(f"{ratio:.3g}x" for ratio in (ratios[0], ratios[-1]))
        lines.append(f"| {what} | {peer} | {' to '.join(ends)} |")
    return "\n".join(lines)


def chart(machine):
    """Bars of how many times the engine is ahead, on a logarithmic scale, with the least and largest ratio and the target."""
    found = [(key, row, recording.clock) for key, (row, recording) in machine.rows.items()]
    compared = [entry for entry in found if entry[1].other is not None and not is_share(entry[1])]
    left, width, step, top = 470, 380, 22, 46
    x = lambda ratio: left + width * math.log2(max(ratio, 1)) / 6
    height = top + step * len(compared) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 70} {height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="10" y="18" font-weight="bold">Ratio to the peer, in time or memory, on two cores of {machine.name}</text>',
        '<text x="10" y="34" fill="#555">bar: median; thin line: least to largest; mark: target</text>',
    ]
    for power in range(7):
        at = x(2**power)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 6}" y2="{height - 8}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{top - 10}" text-anchor="middle" fill="#555">{2**power}</text>')
    for index, ((_, peer), row, clock) in enumerate(compared):
        (least, middle, most), y = row.ratio(clock), top + step * index
        color = "#3b7dd8" if row.holds(clock) else "#d0722b"
        name = spelled(row.name).replace("peak memory beyond the loaded libraries", "memory beyond libraries")
        what = f"{name}: {PEERS.get(row.peer, peer).split(',')[0]}"
        parts += [
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{what}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{x(middle) - left:.1f}" height="12" fill="{color}"/>',
            f'<line x1="{x(least):.1f}" x2="{x(most):.1f}" y1="{y + 8}" y2="{y + 8}" stroke="#222"/>',
            f'<line x1="{x(row.target):.1f}" x2="{x(row.target):.1f}" y1="{y}" y2="{y + 16}" stroke="#111" stroke-width="2"/>',
            f'<text x="{x(max(most, row.target)) + 6:.1f}" y="{y + 12}">{middle:.3g}x</text>',
        ]
    return "\n".join(parts) + "\n</svg>\n"


def filled(page, text):
    """A page with this text between its markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page or the chart is out of date")
    check = parser.parse_args().check
    machines = [Machine(name, recordings) for name, recordings in MACHINES.items()]
    made = {path: filled(path.read_text(), text) for path, text in ((PAGE, block(machines)), (README, headlines(machines[0])))}
    made[CHART] = chart(machines[0])
    for path, text in made.items():
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            raise SystemExit(f"{path.relative_to(ROOT)} is not what benches/results/ says: run python benches/peers/tables.py")


if __name__ == "__main__":
    main()
