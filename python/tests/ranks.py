"""One rank of test_distributed.py: `python ranks.py RANK SIZE FOLDER` runs every scenario of a process group, and saves what came out."""

import datetime
import functools
import pathlib
import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from xbm_fast import XbmError, XbmLoss

DIM, GLOBAL_BATCH, MEMORY = 12, 24, 64  # the ring wraps inside a batch, and inside a rank's part of one
HASHES = 2**61  # labels and ids that fit no 32-bit number

# What a rank computes, by name: settings of the loss, and of its calls.
LOSSES = {
    "contrastive": {},
    "steep negatives": {"weighting": 'negative = { curve = "exp:k=4,s0=1", gate = "above:0.1" }'},
    "multi-similarity": {"weighting": "multi-similarity:alpha=2,beta=10"},
    "triplet": {"weighting": "triplet:margin=0.2"},
    "in 16 bit": {"memory_dtype": torch.float16},
}
CALLS = {"plain": {}, "with ids": {"ids": True}, "with keys": {"keys": True}, "not enqueued": {"enqueue": False}}
STEPS = ["plain", "plain", "with ids", "plain", "not enqueued", "with keys", "plain", "with ids"]


def global_batches(count, seed=0):
    """Embeddings of any length, labels, ids and keys of a global batch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        embeddings, keys = (torch.randn(GLOBAL_BATCH, DIM, generator=generator) + 0.5 for _ in range(2))
        labels, ids = (torch.randint(0, top, (GLOBAL_BATCH,), generator=generator) + HASHES for top in (5, 40))
        yield embeddings, labels, ids, keys


def part(rank, size):
    return slice(rank * GLOBAL_BATCH // size, (rank + 1) * GLOBAL_BATCH // size)


def losses_and_gradients(function, call, batch, rows=slice(None)):
    """Of each step's anchors, or of `rows` of them, the loss and the gradient of the sum of its squares."""
    embeddings, labels, ids, keys = batch
    settings = dict(CALLS[call])
    settings |= {"ids": ids[rows]} if settings.pop("ids", False) else {}
    settings |= {"keys": keys[rows]} if settings.pop("keys", False) else {}
    anchors = embeddings[rows].clone().requires_grad_()
    losses = function(anchors, labels[rows], **settings)
    losses.square().sum().backward()
    return losses.detach(), anchors.grad, function.kept


def run(function, seed=0, rows=slice(None), steps=STEPS):
    batches = global_batches(len(steps), seed)
    results = [losses_and_gradients(function, call, batch, rows) for call, batch in zip(steps, batches, strict=True)]
    return [torch.cat(parts) for parts in zip(*results, strict=True)]


class WithLoss(torch.nn.Module):
    """A network that gives its loss, as trainers want it."""

    def __init__(self, network, function):
        super().__init__()
        self.network, self.loss_function = network, function

    def forward(self, inputs, labels):
        return self.loss_function(self.network(inputs), labels)


def trained(wrap, function, rows=slice(None), steps=5, inside=False):
    """The parameters of a small network after some steps; `wrap` is around the network, or around network and loss."""
    torch.manual_seed(0)
    network = torch.nn.Linear(DIM, DIM)
    model = wrap(WithLoss(network, function)) if inside else WithLoss(wrap(network), function)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for embeddings, labels, *_ in global_batches(steps):
        loss = model(embeddings[rows], labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    whole = [parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter for parameter in network.parameters()]
    return torch.cat([parameter.detach().flatten() for parameter in whole])


def refused(call):
    """What is said, and by which kind of error."""
    try:
        call()
    except (ValueError, XbmError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def scenarios(rank, size):
    world, own = dist.group.WORLD, part(rank, size)
    grouped = lambda **settings: XbmLoss(DIM, MEMORY, process_group=world, **{"reduction": "none"} | settings)  # noqa: E731
    found = {}
    for name, settings in LOSSES.items():
        found[name] = run(grouped(**settings), rows=own)
    for reduction in ("mean", "sum", "avg-non-zero"):
        function = grouped(reduction=reduction, weighting="triplet:margin=0.1")
        found[reduction] = torch.stack([function(embeddings[own], labels[own]) for embeddings, labels, *_ in global_batches(4)])
        function = grouped(reduction=reduction)
        found[f"trained {reduction}"] = trained(DistributedDataParallel, function, rows=own)

    inside = functools.partial(DistributedDataParallel, broadcast_buffers=False)
    found["trained inside"] = trained(inside, grouped(reduction="mean"), rows=own, inside=True)
    found["trained with buffers"] = refused(lambda: trained(DistributedDataParallel, grouped(reduction="mean"), rows=own, inside=True))
    mesh = init_device_mesh("cpu", (size,))
    found["trained sharded"] = trained(functools.partial(fully_shard, mesh=mesh), grouped(reduction="mean"), rows=own)

    # What is refused, and that it changes nothing.
    function, plain = grouped(), grouped()
    found["refused"] = []
    for step, (embeddings, labels, *_) in enumerate(global_batches(5)):
        uneven = slice(0, 3 + (rank == 1))
        broken = embeddings[own] / (0.0 if rank == 1 else 1.0)
        wrong = [
            lambda: function(embeddings[uneven], labels[uneven]),
            lambda: function(broken, labels[own]),
            lambda: function(embeddings[own], labels[own], enqueue=rank == 0),
            lambda: function(embeddings[own], labels[own][: 2 if rank == 1 else None]),
        ]
        found["refused"] += [refused(call) for call in wrong]
        assert torch.equal(function(embeddings[own], labels[own]), plain(embeddings[own], labels[own])), step
    found["settings"] = [
        refused(lambda: XbmLoss(DIM, MEMORY + 1, process_group=world)),
        refused(lambda: grouped(weighting='positive = { curve = "constant:1", scale = "mean-all" }\n')),
    ]
    found["empty"] = function(torch.zeros(0, DIM), torch.zeros(0, dtype=torch.int64))

    # A memory that is carried.
    for name in ("contrastive", "multi-similarity"):
        function = grouped(**LOSSES[name])
        run(function, rows=own)
        whole, ranks_own = function.whole_state(), {key: value.clone() for key, value in function.state_dict().items()}
        found[f"whole {name}"] = whole
        expected = run(function, seed=5, rows=own)
        for state in (whole, ranks_own):
            resumed = grouped(**LOSSES[name])
            resumed.load_state_dict(state)
            again = run(resumed, seed=5, rows=own)
            assert all(torch.equal(part, other) for part, other in zip(again, expected, strict=True)), name
        found[f"resumed {name}"] = expected
    function = grouped()
    run(function, rows=own)
    dist.broadcast(function.embedding_memory, 0)
    dist.broadcast(function.shard, 0)
    embeddings, labels, *_ = next(global_batches(1))
    found["overwritten"] = refused(lambda: function(embeddings[own], labels[own]))
    state = function.state_dict() | {"shard": torch.tensor([size - 1 - rank, size])}
    found["of another rank"] = refused(lambda: grouped().load_state_dict(state))
    found["copied"] = refused(lambda: function.__getstate__())
    return found


def main():
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
    torch.set_num_threads(1)
    timeout = datetime.timedelta(minutes=10)  # a rank that waits for one that has gone ends
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size, timeout=timeout)
    torch.save(scenarios(rank, size), folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
