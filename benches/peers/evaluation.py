"""Recall at 1..1000 and MAP at R, all against all, beside faiss's exact search of the same embeddings.

The engine counts and lists no neighbours; faiss lists 11, as many as R-precision, MAP@R and Recall@10 need here with the query itself
among them (Recall@100 and @1000 could not be told from that), and with `--deep` also the 1,001 that all of them need. Scores are compared.
"""

import faiss
import numpy
from contest import Engine, Peer, compare, take_turns

DIM, PER_CLASS = 512, 5
RANKS = (1, 10, 100, 1000)
TARGET = 2
# A rounding of one similarity may exchange two neighbours.
TOLERANCE = 2e-4


def embeddings(rows, dim):
    """Class centre plus noise, unit rows, in random order."""
    generator = numpy.random.default_rng(0)
    labels = generator.permutation(rows).astype(numpy.int32) // PER_CLASS
    centres = generator.standard_normal((rows // PER_CLASS + 1, dim), dtype=numpy.float32)
    values = centres[labels] + 1.9 * generator.standard_normal((rows, dim), dtype=numpy.float32)
    return values / numpy.linalg.norm(values, axis=1, keepdims=True), labels


class Search:
    def __init__(self, values, depth):
        self.values, self.depth = values, depth

    def run(self):
        index = faiss.IndexFlatIP(self.values.shape[1])
        index.add(self.values)
        _, self.found = index.search(self.values, self.depth)


def scores(found, labels):
    """Recall at each rank that the search was deep enough for, and MAP at R."""
    rows = numpy.arange(len(labels))
    found = numpy.stack([row[row != own][: found.shape[1] - 1] for own, row in zip(rows, found)])
    right = labels[found] == labels[:, None]
    relevant = numpy.bincount(labels)[labels] - 1
    counted = relevant > 0
    recall = [right[counted, :k].any(axis=1).mean() if k <= found.shape[1] else None for k in RANKS]
    depth = relevant.max()
    places = numpy.arange(1, depth + 1)
    within = right[:, :depth] & (places <= relevant[:, None])
    precision = within.cumsum(axis=1) / places * within
    return [*recall, (precision.sum(axis=1)[counted] / relevant[counted]).mean()]


def rows(options):
    faiss.omp_set_num_threads(options.threads)
    values, labels = embeddings(options.evaluation_rows, DIM)
    files = {name: str(options.folder / name) for name in ("rows", "labels")}
    values.tofile(files["rows"])
    labels.tofile(files["labels"])
    engine = Engine(options.program, "evaluation", dim=DIM, threads=options.threads, **files)
    searches = {f"faiss, {depth}": Search(values, depth) for depth in ((11, 1001) if options.deep else (11,))}
    contenders = {"engine": engine, **{name: Peer(search.run) for name, search in searches.items()}}
    # A minute each at 60,000 rows: not warmed up, and in fewer rounds.
    long = options.evaluation_rows > 20_000
    rounds = min(options.rounds, 2) if long else options.rounds
    times = {name: [contender.time(1) for _ in range(rounds)] for name, contender in contenders.items()} if long else None
    times = times or take_turns(contenders, rounds)
    own = engine.result(options.folder / "result")
    engine.close()
    for name, search in searches.items():
        for what, theirs, ours in zip((*RANKS, "MAP@R"), scores(search.found, labels), own):
            if theirs is not None and abs(theirs - ours) > TOLERANCE:
                raise SystemExit(f"evaluation, {name}: {what} is {theirs}, the engine's {ours}")
    yield from compare(f"evaluation, {options.evaluation_rows} rows of {DIM}", times, {name: TARGET for name in searches}, unit="s")
