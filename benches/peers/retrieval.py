"""Recall at 1..1000 and MAP at R, all against all: the engine beside faiss's exact search, on the same embeddings.

    python benches/peers/retrieval.py [--rows 10000] [--dim 512] [--rounds 3] [--engine "cargo bench --bench retrieval --"]

Needs numpy and faiss-cpu. Each round runs the engine and then faiss, two threads each, so that both see the same machine; processor
time is the figure to compare on a loaded one. Scores are compared before any ratio is printed. Peers:
  k 1001   IndexFlatIP, as many neighbours as Recall@1000 needs with the query itself among them
  k 11     IndexFlatIP, as many as R-precision, MAP@R and Recall@10 need here; Recall@100 and @1000 cannot be told from it
"""

import argparse
import json
import pathlib
import shlex
import statistics
import subprocess
import tempfile
import time

import faiss
import numpy

PER_CLASS, THREADS = 5, 2
RANKS = (1, 10, 100, 1000)
# A rounding of one similarity may exchange two neighbours.
TOLERANCE = 2e-4


def embeddings(rows, dim):
    """Class centre plus noise, unit rows, in random order."""
    generator = numpy.random.default_rng(0)
    labels = generator.permutation(rows).astype(numpy.int32) // PER_CLASS
    centres = generator.standard_normal((rows // PER_CLASS + 1, dim), dtype=numpy.float32)
    values = centres[labels] + 1.9 * generator.standard_normal((rows, dim), dtype=numpy.float32)
    return values / numpy.linalg.norm(values, axis=1, keepdims=True), labels


def search(values, k):
    index = faiss.IndexFlatIP(values.shape[1])
    index.add(values)
    wall, processor = time.perf_counter(), time.process_time()
    _, found = index.search(values, k)
    return found, time.perf_counter() - wall, time.process_time() - processor


def scores(found, labels):
    """Recall at each rank that the search was deep enough for, and MAP at R."""
    rows = numpy.arange(len(labels))
    found = numpy.stack([row[row != own][: found.shape[1] - 1] for own, row in zip(rows, found)])
    right = labels[found] == labels[:, None]
    relevant = numpy.bincount(labels)[labels] - 1
    counted = relevant > 0
    recall = {k: right[counted, :k].any(axis=1).mean() for k in RANKS if k <= found.shape[1]}
    depth = relevant.max()
    places = numpy.arange(1, depth + 1)
    within = right[:, :depth] & (places <= relevant[:, None])
    precision = within.cumsum(axis=1) / places * within
    return recall, (precision.sum(axis=1)[counted] / relevant[counted]).mean()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=10_000)
    arguments.add_argument("--dim", type=int, default=512)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--engine", default="cargo bench --bench retrieval --")
    arguments = arguments.parse_args()
    faiss.omp_set_num_threads(THREADS)
    values, labels = embeddings(arguments.rows, arguments.dim)
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        files = [str(pathlib.Path(folder) / name) for name in ("rows", "labels")]
        values.tofile(files[0])
        labels.tofile(files[1])
        for _ in range(arguments.rounds):
            command = shlex.split(arguments.engine) + files + [str(arguments.dim), str(THREADS)]
            engine = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            times.setdefault("engine", []).append((engine["seconds"], engine["processor_seconds"]))
            for k in (1001, 11):
                found, wall, processor = search(values, k)
                times.setdefault(f"k {k}", []).append((wall, processor))
                recall, map_at_r = scores(found, labels)
                del found
                for rank, share in engine["recall"]:
                    assert rank not in recall or abs(recall[rank] - share) < TOLERANCE, (rank, recall[rank], share)
                assert abs(map_at_r - engine["map_at_r"]) < TOLERANCE, (map_at_r, engine["map_at_r"])
    print(f"{arguments.rows} x {arguments.rows} x {arguments.dim}, {arguments.rounds} rounds, medians")
    print({"recall": engine["recall"], "map_at_r": engine["map_at_r"], "extra_megabytes": engine["extra_megabytes"]})
    ours = [statistics.median(column) for column in zip(*times["engine"])]
    for name, measured in times.items():
        wall, processor = (statistics.median(column) for column in zip(*measured))
        print(f"{name:8} {wall:8.2f} s  {processor:8.2f} s of processor  {processor / ours[1]:5.2f}x the engine's")


if __name__ == "__main__":
    main()
