"""How a module reaches its engine: by functions of autograd, and by operators of torch.library where torch.compile traces it.

`position`, `(2)` int64, is the queue's head and count. One operator writes it and the other reads it, which is how a compiler knows that
they stay in order; a ring is found by its key.
"""

import torch

from ._ring import RINGS, Ring
from .errors import XbmError


SECOND_DERIVATIVE = "the engine has first derivatives only; leave create_graph=True out, or take another loss for a gradient penalty"


def ring_of(key: int) -> Ring:
    ring = RINGS.get(key)
    if ring is None:
        raise XbmError("the module of this memory is gone; a compiled function must not outlive its modules")
    return ring


def in_backward() -> bool:
    """Whether this call is part of a backward pass, as the recomputation of torch.utils.checkpoint is."""
    return torch._C._current_graph_task_id() != -1


def already_there(ring: Ring, rows: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether a batch that is recomputed in a backward pass is the one enqueued last. XbmError where another one came between: its loss
    would be another one than in the forward pass."""
    embeddings, label_memory, *_ = ring.buffers()
    if len(ring.enqueued) == len(rows) and embeddings.device == rows.device:
        at = torch.tensor(ring.enqueued, dtype=torch.int64, device=rows.device)
        if torch.equal(label_memory[at], labels.to(label_memory.dtype)) and torch.equal(embeddings[at], rows.to(embeddings.dtype)):
            return True
    raise XbmError(
        "the loss is recomputed in the backward pass, after another batch was enqueued, and would be another one than in the forward pass; "
        "leave the loss outside torch.utils.checkpoint"
    )


def enqueue_rows(ring: Ring, position: torch.Tensor, rows: torch.Tensor, labels: torch.Tensor, ids: torch.Tensor | None) -> None:
    """Writes unit rows, `(batch, dim)` float32, with labels and ids, `(batch)` int64, into the queue."""
    with ring.lock:
        if not (in_backward() and already_there(ring, rows, labels)):
            ring.enqueue(rows, labels.tolist(), None if ids is None else ids.tolist(), rows)
        position.copy_(torch.tensor([ring.head, ring.count]))


def row_losses(ring: Ring, anchors: torch.Tensor, labels: torch.Tensor, ids: torch.Tensor | None, weighting: str, own: int) -> tuple:
    """Of each anchor against the queue: its loss, `(batch)` float32; the gradient of that, `(batch, dim)` float32; how many positives and
    negatives had a weight, `(batch, 2)` int32. A batch that was enqueued for a loss that fails is taken back."""
    with ring.lock:
        try:
            return ring.pair_loss(anchors, labels.tolist(), None if ids is None else ids.tolist(), weighting, own)
        except XbmError:
            ring.take_back()
            raise


# Without a compiler: less to do for each call.


class PairLoss(torch.autograd.Function):
    """Losses and numbers of pairs, as `row_losses`."""

    @staticmethod
    def forward(ctx, anchors, labels, ids, ring, weighting, own):
        losses, gradient, kept = row_losses(ring, anchors, labels, ids, weighting, own)
        ctx.save_for_backward(gradient, anchors)
        ctx.mark_non_differentiable(kept)
        return losses, kept

    @staticmethod
    def backward(ctx, upstream, _):
        gradient, anchors = ctx.saved_tensors
        return RowGradient.apply(gradient, upstream, anchors), None, None, None, None, None


class KnownLoss(torch.autograd.Function):
    """Losses of anchors, `(batch)`, whose gradients, `(batch, dim)`, are known already."""

    @staticmethod
    def forward(ctx, anchors, losses, gradient):
        ctx.save_for_backward(gradient, anchors)
        return losses.clone()

    @staticmethod
    def backward(ctx, upstream):
        gradient, anchors = ctx.saved_tensors
        return RowGradient.apply(gradient, upstream, anchors), None, None


class RowGradient(torch.autograd.Function):
    """`(batch, dim)`: the gradient of each anchor times that of its loss, `(batch)`. It depends on the anchors, so that their second
    derivative is asked for here, and refused."""

    @staticmethod
    def forward(ctx, gradient, upstream, anchors):
        return gradient * upstream.unsqueeze(1)

    @staticmethod
    def backward(ctx, _):
        raise XbmError(SECOND_DERIVATIVE)


# With one: what it can trace.


@torch.library.custom_op("xbm_fast::enqueue", mutates_args=("position",))
def enqueue(position: torch.Tensor, rows: torch.Tensor, labels: torch.Tensor, ids: torch.Tensor | None, key: int) -> None:
    """As `enqueue_rows`."""
    enqueue_rows(ring_of(key), position, rows.detach(), labels, ids)


@torch.library.custom_op("xbm_fast::pair_loss", mutates_args=())
def pair_loss(
    anchors: torch.Tensor, labels: torch.Tensor, ids: torch.Tensor | None, position: torch.Tensor, key: int, weighting: str, own: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `row_losses`."""
    return row_losses(ring_of(key), anchors, labels, ids, weighting, own)


@pair_loss.register_fake
def _(anchors, labels, ids, position, key, weighting, own):
    rows = anchors.shape[0]
    return anchors.new_empty(rows), torch.empty_like(anchors), anchors.new_empty(rows, 2, dtype=torch.int32)


@torch.library.custom_op("xbm_fast::row_gradient", mutates_args=())
def row_gradient(gradient: torch.Tensor, upstream: torch.Tensor) -> torch.Tensor:
    """`(batch, dim)`: the gradient of each anchor times that of its loss, `(batch)`."""
    return gradient * upstream.unsqueeze(1)


@row_gradient.register_fake
def _(gradient, upstream):
    return torch.empty_like(gradient)


def _keep_gradient(ctx, inputs, output):
    ctx.save_for_backward(output[1])


def _first_derivative(ctx, upstream, *_):
    return row_gradient(ctx.saved_tensors[0], upstream), None, None, None, None, None, None


def _second_derivative(ctx, *_):
    raise XbmError(SECOND_DERIVATIVE)


pair_loss.register_autograd(_first_derivative, setup_context=_keep_gradient)
row_gradient.register_autograd(_second_derivative)
