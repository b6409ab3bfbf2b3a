"""What the rows of `run.py` are made of: contenders that are asked for one run at a time, and what came of it."""

import dataclasses
import json
import math
import os
import statistics
import subprocess
import time

LEAST_SECONDS = 0.3


class Engine:
    """The engine's side of a case: a process of `cargo bench --bench peers`, asked through pipes."""

    def __init__(self, program, case, **settings):
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self.ask({"open": case, **settings})

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the engine ended at {request}, exit code {self.process.wait()}")
        return json.loads(answer)

    def time(self, runs):
        answer = self.ask({"run": runs})
        self.peak_megabytes = answer["peak_megabytes"]
        return answer["seconds"] / runs, answer["processor_seconds"] / runs

    def result(self, path):
        import numpy

        self.ask({"result": str(path)})
        return numpy.fromfile(path, dtype="<f4")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Peer:
    """A function of this process."""

    def __init__(self, call):
        self.call = call

    def time(self, runs):
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(runs):
            self.call()
        return (time.perf_counter() - wall) / runs, (time.process_time() - processor) / runs

    def close(self):
        self.call = None


@dataclasses.dataclass
class Row:
    """One line of the table. `ratio` is how many times the engine is ahead, of wall and of processor time or of something else."""

    name: str
    unit: str
    engine: float
    peer: str
    other: float | None
    ratios: dict
    target: float
    least: bool = True
    samples: dict | None = None

    def ratio(self, clock):
        return self.ratios[clock if clock in self.ratios else next(iter(self.ratios))]

    def holds(self, clock):
        middle = self.ratio(clock)[1]
        return middle >= self.target if self.least else middle <= self.target


def spread(values):
    return min(values), statistics.median(values), max(values)


def take_turns(contenders, rounds, least_seconds=LEAST_SECONDS):
    """Runs everyone once to warm up, then in turn, so that all see the same machine. Returns (wall, processor) by name and round."""
    runs = {}
    for name, contender in contenders.items():
        contender.time(1)
        runs[name] = max(1, math.ceil(least_seconds / max(contender.time(1)[0], 1e-6)))
    times = {name: [] for name in contenders}
    for turn in range(rounds):
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(contenders[name].time(runs[name]))
    return times


def compare(name, times, targets, unit="ms", per=1):
    """Rows of the engine beside each peer that has a target; times are divided by `per`, the units of work in a run."""
    scale = {"ms": 1e3, "s": 1}[unit] / per
    own = times["engine"]
    rows = []
    for peer, target in targets.items():
        pairs = list(zip(own, times[peer]))
        ratios = {
            clock: spread([theirs[index] / max(ours[index], 1e-9) for ours, theirs in pairs])
            for index, clock in enumerate(("wall", "processor"))
        }
        walls = [scale * statistics.median(wall for wall, _ in times[who]) for who in ("engine", peer)]
        rows.append(Row(name, unit, walls[0], peer, walls[1], ratios, target, samples={who: times[who] for who in ("engine", peer)}))
    return rows


def quicker(times, names):
    """The peer with the least median of processor time."""
    return min(names, key=lambda name: statistics.median(processor for _, processor in times[name]))


def threads():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
