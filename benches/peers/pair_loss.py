"""Pair loss and gradient against a memory of 60,000 rows of length 512, and the memory that a large one takes.

Gradients are compared before anything is timed. Peers:
  masks  two matrix products and boolean masks, gradient written by hand
  auto   the same masks, gradient by autograd
  pml    CrossBatchMemory around ContrastiveLoss with its default distance (sum of the losses), own rows removed by slot; the
         distance normalises the anchors, so its gradient is compared with the engine's pulled back through that
"""

import numpy
import torch
from contest import Engine, Peer, Row, compare, spread, take_turns
from pytorch_metric_learning import distances, losses, reducers

ROWS, DIM, PER_CLASS, FIRST = 60_000, 512, 5, 1000
LARGE_ROWS, LARGE_DIM = 1_000_000, 128
GAMMA = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
LEAST_COSINE = 0.9999
THRESHOLDS = {"rule": 0.5, "kept all": -1.0}
TARGETS = {"rule": {"pml": 10, "auto": 5}, "kept all": {}}
LEAST_SHARE_OF_PEAK = 0.7
MOST_EXTRA_MEMORY = 0.1


def mix(z):
    """SplitMix64's output function on an array of 64-bit states."""
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return z ^ (z >> numpy.uint64(31))


def stream(seed, name):
    """State of the engine's stream `Rng::new(seed).at(name)`."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 & MASK
    one = lambda value: int(mix(numpy.array([value & MASK], dtype=numpy.uint64))[0])
    rotated = one(key + GAMMA)
    rotated = (rotated << 17 | rotated >> 47) & MASK
    return one(seed + GAMMA) ^ rotated


def unit_rows():
    steps = numpy.arange(1, ROWS * DIM + 1, dtype=numpy.uint64)
    bits = mix(numpy.uint64(stream(0, "pair_loss benchmark")) + steps * numpy.uint64(GAMMA))
    unit = (bits >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(1 << 24)
    return torch.nn.functional.normalize(torch.from_numpy(unit * 2 - 1).view(ROWS, DIM), dim=1)


class Case:
    def __init__(self, memory, anchors, threshold):
        self.memory, self.threshold = memory, threshold
        self.labels = torch.arange(ROWS) // PER_CLASS
        self.slots = torch.arange(FIRST, FIRST + anchors)
        self.anchors, self.anchor_labels = memory[self.slots].clone(), self.labels[self.slots]

    def pairs(self, similarity):
        equal = self.anchor_labels[:, None] == self.labels[None]
        negative = ~equal & (similarity > self.threshold)
        equal[torch.arange(len(self.slots)), self.slots] = False
        return equal, negative

    def masks(self):
        similarity = self.anchors @ self.memory.T
        positive, negative = self.pairs(similarity)
        loss = ((1 - similarity) * positive).sum() + ((similarity - self.threshold) * negative).sum()
        return loss, (negative.float() - positive.float()) @ self.memory

    def auto(self):
        anchors = self.anchors.clone().requires_grad_()
        similarity = anchors @ self.memory.T
        positive, negative = self.pairs(similarity.detach())
        loss = torch.where(positive, 1 - similarity, 0.0).sum()
        loss = loss + torch.where(negative, similarity - self.threshold, 0.0).sum()
        loss.backward()
        return loss, anchors.grad

    def pml(self):
        contrastive = losses.ContrastiveLoss(
            pos_margin=1, neg_margin=self.threshold, distance=distances.CosineSimilarity(), reducer=reducers.SumReducer()
        )
        memory = losses.CrossBatchMemory(contrastive, DIM, memory_size=ROWS)
        memory.embedding_memory, memory.label_memory = self.memory, self.labels
        memory.has_been_filled, memory.queue_idx = True, 0
        memory.add_to_memory = lambda *_: setattr(memory, "curr_batch_idx", self.slots)
        anchors = self.anchors.clone().requires_grad_()
        loss = memory(anchors, self.anchor_labels)
        loss.backward()
        return loss, anchors.grad


def check(case, name, own):
    _, gradient = getattr(case, name)()
    if name == "pml":
        own = own - case.anchors * (own * case.anchors).sum(dim=1, keepdim=True)
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), own.flatten(), dim=0).item()
    if not cosine >= LEAST_COSINE:
        raise SystemExit(f"{case.threshold}, {len(case.slots)} anchors: gradient of {name} has cosine {cosine:.6f} with the engine's")


def share_of_peak(options, regime, anchors, case, roof):
    """Both products of a pass that keeps every pair, beside multiply-adds on numbers in registers."""
    times = take_turns({"engine": case, "roof": roof}, options.rounds)
    work = 4.0 * anchors * ROWS * DIM
    pairs = list(zip(times["engine"], times["roof"]))
    ratios = {
        clock: spread([(work / own[index]) / (roof.facts["operations"] / peak[index]) for own, peak in pairs])
        for index, clock in enumerate(("wall", "processor"))
    }
    wall, peak = (spread([wall for wall, _ in times[who]])[1] for who in ("engine", "roof"))
    rates = [work / wall * 1e-9, roof.facts["operations"] / peak * 1e-9]
    return Row(f"pair loss, {regime}, batch {anchors}", "GFLOP/s", rates[0], "peak", rates[1], ratios, LEAST_SHARE_OF_PEAK, samples=times)


def rows(options):
    memory = unit_rows()
    for anchors in (64,) if options.quick else (64, 256):
        for regime, threshold in THRESHOLDS.items():
            settings = {"regime": regime, "anchors": anchors, "rows": ROWS, "dim": DIM, "threads": options.threads}
            engine = Engine(options.program, "pair_loss", **settings)
            engine.time(1)
            own = torch.from_numpy(engine.result(options.folder / "gradient")).view(anchors, DIM)
            case = Case(memory, anchors, threshold)
            for name in ("masks", "auto", "pml"):
                check(case, name, own)
            if TARGETS[regime]:
                names = TARGETS[regime]
                times = take_turns({"engine": engine, **{name: Peer(getattr(case, name)) for name in names}}, options.rounds)
                yield from compare(f"pair loss, {regime}, batch {anchors}", times, names)
            else:
                roof = Engine(options.program, "multiply_add", threads=options.threads)
                yield share_of_peak(options, regime, anchors, engine, roof)
                roof.close()
            engine.close()
    if not options.quick:
        yield large_memory(options)


def large_memory(options):
    """Memory of loss and gradient beyond the ring itself, which are enqueued batch by batch."""
    engine = Engine(options.program, "memory", anchors=64, rows=LARGE_ROWS, dim=LARGE_DIM, threads=options.threads)
    engine.time(2)
    ring = engine.facts["ring_megabytes"]
    extra = engine.peak_megabytes - engine.facts["held_before_megabytes"] - ring
    engine.close()
    share = (extra / ring,) * 3
    name = f"pair loss, {LARGE_ROWS} rows of {LARGE_DIM}: memory beyond the ring"
    return Row(name, "MB", extra, "the ring", ring, {"memory": share}, MOST_EXTRA_MEMORY, least=False)
