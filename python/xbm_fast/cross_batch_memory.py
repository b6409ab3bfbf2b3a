"""`CrossBatchMemory`: in the place of the class of that name of pytorch-metric-learning."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from . import _operators
from ._foreign import foreign_loss, release
from ._hardest import hardest_loss
from ._library import OWN_LAST_ENQUEUE, OWN_NONE
from ._mapping import HardestPairs, Mapped, Unmapped, mapped, triplets_of
from ._pairs import PairCounts, counted_triplets, violated_triplets
from ._queue import Queue, whole_number
from ._rows import number_type, unit_rows

COMPARED_RELEASE = 2
# Below this the rounding of a loss is no longer small beside its margins.
LEAST_COUNTED_MARGIN = 0.005
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class CrossBatchMemory(Queue):
    """`loss`, an object of pytorch-metric-learning, of a batch against the `memory_size` embeddings seen last.

    loss, miner: ContrastiveLoss, TripletMarginLoss, MultiSimilarityLoss, NTXentLoss, SupConLoss, CircleLoss, NCALoss and
    GeneralizedLiftedStructureLoss with their usual distances and reducers, and the miners MultiSimilarityMiner, PairMarginMiner,
    TripletMarginMiner and BatchHardMiner, are computed by the engine. Any other object is called itself, with the queue as its references,
    and a warning says so once.
    embedding_size: the length of an embedding. memory_size: how many are remembered.
    label_dtype, label_shape: of the labels of one row, where they are no integers; such labels need `pair_function`.
    pair_function: called with labels and the queue's labels where there is no miner; returns indices of pairs or triplets.
    collect_stats: taken for the sake of scripts, and not used.

    The queue is in the buffers `embedding_memory`, `(memory_size, embedding_size)`, rows of any length, and `label_memory`,
    `(memory_size, *label_shape)`; `position`, `(2)` int64, goes with them. A state_dict of pytorch-metric-learning's, which has no
    `position`, is loaded too: rows of zeros at the end are then taken for free. Theirs takes ours with `strict=False`.

    ValueError for settings without a meaning.
    """

    _normalise = True

    def __init__(
        self,
        loss: torch.nn.Module,
        embedding_size: int,
        memory_size: int = 1024,
        miner: torch.nn.Module | None = None,
        *,
        label_dtype: torch.dtype = torch.long,
        label_shape: tuple[int, ...] = (),
        pair_function: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]] | None = None,
        collect_stats: bool | None = None,
    ) -> None:
        super().__init__()
        self.embedding_size, self.memory_size = whole_number("embedding_size", embedding_size), whole_number("memory_size", memory_size)
        self.loss, self.miner, self.pair_function = loss, miner, pair_function
        self._plain_labels = label_dtype in INTEGERS and tuple(label_shape) == ()
        if not self._plain_labels and pair_function is None and miner is None:
            raise ValueError("label_dtype, label_shape: labels that are no integers need a pair_function or a miner")
        self._warned = self._differs = False
        self._compared = release() == COMPARED_RELEASE
        self.register_buffer("embedding_memory", torch.zeros(memory_size, embedding_size))
        self.register_buffer("label_memory", torch.zeros((memory_size, *label_shape), dtype=label_dtype))
        self.register_buffer("position", torch.zeros(2, dtype=torch.int64))

    def extra_repr(self) -> str:
        return f"embedding_size={self.embedding_size}, memory_size={self.memory_size}"

    # The queue, under pytorch-metric-learning's names.

    @property
    def queue_idx(self) -> int:
        """The slot that the next row takes."""
        return int(self.position[0])

    @property
    def has_been_filled(self) -> bool:
        """Whether every slot is in use."""
        return int(self.position[1]) == self.memory_size

    @property
    def curr_batch_idx(self) -> torch.Tensor:
        """`(rows)` int64: the slots of the rows that were enqueued last."""
        return torch.tensor(self._ring.enqueued, dtype=torch.int64, device=self.label_memory.device)

    def reset_queue(self) -> None:
        """Forgets every row."""
        self._clear()

    def add_to_memory(self, embeddings: torch.Tensor, labels: torch.Tensor, batch_size: int | None = None) -> None:
        """Enqueues `embeddings`, `(rows, embedding_size)`, with `labels`, `(rows)`, without a loss. ValueError as `forward`."""
        labels = self._checked(embeddings, labels, None, None)
        if batch_size not in (None, len(embeddings)):
            raise ValueError(f"batch_size: expected {len(embeddings)}, the number of embeddings, found {batch_size}")
        with self._ring.lock:
            self._fits(embeddings)
            self._store(embeddings.detach(), labels)
            self._ring.undo = None
            self._write_position()

    def forward(
        self,
        embeddings: torch.Tensor,
        labels: torch.Tensor,
        indices_tuple: tuple[torch.Tensor, ...] | None = None,
        enqueue_mask: torch.Tensor | None = None,
    ) -> Any:
        """The loss as `loss` and its reducer give it: for most a scalar, float64 for float64 embeddings, float32 for all others where the
        engine computes it.

        embeddings: `(batch, embedding_size)`, any floating-point type. labels: `(batch, *label_shape)`.
        indices_tuple: pairs or triplets to be added to the others, of anchors in the batch and rows of the queue.
        enqueue_mask: `(batch)` bool: rows that are enqueued and no anchors; the others are anchors and not enqueued. Without it every row
        is both, and no pair with itself.

        An empty batch and one without references have a loss of 0, which can be differentiated. ValueError for shapes, types and numbers
        that do not fit, for more rows than the memory has, and for indices_tuple together with enqueue_mask. Whatever is raised, the
        queue is as before.
        """
        labels = self._checked(embeddings, labels, indices_tuple, enqueue_mask)
        if enqueue_mask is None:
            rows, row_labels, anchors, anchor_labels = embeddings, labels, embeddings, labels
        else:
            mask = enqueue_mask.to(embeddings.device)
            rows, row_labels, anchors, anchor_labels = embeddings[mask], labels[mask], embeddings[~mask], labels[~mask]
        with self._ring.lock:
            self._fits(rows)
            form = self._form(indices_tuple)
            stored = self._store(rows.detach(), row_labels)
            undo = self._ring.undo
            try:
                if len(anchors) == 0 or self._ring.count == 0:
                    loss = embeddings[:0].sum().to(number_type(embeddings))
                elif form is None:
                    loss = foreign_loss(self, anchors, anchor_labels, indices_tuple, own=enqueue_mask is None)
                else:
                    loss = self._engine_loss(form, anchors, anchor_labels, own=enqueue_mask is None)
                    if not self._compared and not self._agrees(loss, anchors, anchor_labels, own=enqueue_mask is None):
                        loss = foreign_loss(self, anchors, anchor_labels, None, own=enqueue_mask is None)
            except BaseException:
                if stored:
                    self._ring.undo = undo
                    self._ring.take_back()
                raise
            self._ring.undo = None
            self._write_position()
        return loss

    # Before anything changes.

    def _checked(self, embeddings: Any, labels: Any, indices: Any, mask: Any) -> torch.Tensor:
        """Labels beside the embeddings, once everything is known to fit."""
        if not torch.is_tensor(embeddings) or embeddings.dim() != 2 or embeddings.shape[1] != self.embedding_size:
            found = tuple(embeddings.shape) if torch.is_tensor(embeddings) else type(embeddings).__name__
            raise ValueError(f"embeddings: expected a tensor of shape (batch, {self.embedding_size}), found {found}")
        if not embeddings.dtype.is_floating_point:
            raise ValueError(f"embeddings: expected floating-point numbers, found {embeddings.dtype}")
        labels = torch.as_tensor(labels).to(embeddings.device)
        shape = (len(embeddings), *self.label_memory.shape[1:])
        if tuple(labels.shape) != shape:
            raise ValueError(f"labels: expected shape {shape}, found {tuple(labels.shape)}")
        if self._plain_labels and labels.numel() > 0 and labels.dtype not in INTEGERS:
            raise ValueError(f"labels: expected integers, found {labels.dtype}; label_dtype is for others")
        if indices is not None and mask is not None:
            raise ValueError("indices_tuple and enqueue_mask: expected one of them, found both")
        if mask is not None and (not torch.is_tensor(mask) or mask.dtype != torch.bool or mask.shape != (len(embeddings),)):
            found = f"{mask.dtype} of shape {tuple(mask.shape)}" if torch.is_tensor(mask) else type(mask).__name__
            raise ValueError(f"enqueue_mask: expected bool of shape ({len(embeddings)},), found {found}")
        if indices is not None and (len(indices) not in (3, 4) or any(part.dim() != 1 or part.dtype.is_floating_point for part in indices)):
            raise ValueError("indices_tuple: expected three or four tensors of indices")
        if not bool(torch.isfinite(embeddings).all()):
            raise ValueError("embeddings: expected finite numbers, found NaN or infinity")
        kept = labels.to(self.label_memory.dtype)
        if self._plain_labels and kept.dtype.itemsize < labels.dtype.itemsize and not torch.equal(kept.to(labels.dtype), labels):
            raise ValueError(f"labels: expected values that label_dtype={kept.dtype} holds, found others")
        return kept

    def _fits(self, rows: torch.Tensor) -> None:
        if len(rows) > self.memory_size:
            raise ValueError(f"expected at most memory_size={self.memory_size} rows to enqueue, found {len(rows)}")

    def _form(self, indices: Any) -> Mapped | HardestPairs | None:
        """The engine's form of the loss, or none, about which a warning is given once."""
        try:
            if indices is not None:
                return None  # a call of its own kind, and no property of the loss
            if not self._plain_labels or self.pair_function is not None:
                raise Unmapped("labels that are no integers, or a pair_function")
            if self._differs:
                return None
            return mapped(self.loss, self.miner)
        except Unmapped as reason:
            if not self._warned:
                self._warned = True
                words = f"the engine does not compute {reason}; the loss itself is called, at its own speed"
                warnings.warn(f"xbm_fast.CrossBatchMemory: {words}", stacklevel=5)
            return None

    # What changes, and what is computed.

    def _store(self, rows: torch.Tensor, labels: torch.Tensor) -> bool:
        """Enqueues a batch; False for none, and for a batch that is recomputed in a backward pass and there already."""
        ring = self._ring
        if rows.dtype == torch.float64 and self.embedding_memory.dtype != torch.float64:
            self.embedding_memory = self.embedding_memory.double()
        ring.fresh(rows.device) if self._plain_labels else ring.follow(rows.device)
        if len(rows) == 0 or (_operators.in_backward() and _operators.already_there(ring, rows, labels)):
            return False
        if self._plain_labels:
            ring.enqueue(unit_rows("embeddings", rows, self.embedding_size)[0], labels.tolist(), None, rows)
        else:
            ring.store([rows, labels])
        return True

    def _engine_loss(self, form: Mapped | HardestPairs, anchors: torch.Tensor, labels: torch.Tensor, own: bool) -> Any:
        if isinstance(form, HardestPairs):
            return hardest_loss(self.loss, self._ring, anchors, labels, own)
        ring = self._ring
        units, _ = unit_rows("embeddings", anchors, self.embedding_size)
        known = labels.tolist()
        pairs = PairCounts.of(known, ring.classes, ring.count, own and not form.own_copy)
        kind = OWN_LAST_ENQUEUE if own and not form.own_copy else OWN_NONE
        weighting = form.weighting(pairs)
        with torch.no_grad():
            losses, gradient, _ = _operators.row_losses(ring, units, labels, None, weighting, kind)

        def violated(margin: float) -> int:
            with torch.no_grad():
                if margin >= LEAST_COUNTED_MARGIN:
                    named = triplets_of(margin)
                    found = (losses, gradient) if named == weighting else _operators.row_losses(ring, units, labels, None, named, kind)[:2]
                    return counted_triplets(*found, units, margin)
                rows = unit_rows("embedding_memory", self.embedding_memory[: ring.count], self.embedding_size)[0]
                same = labels.unsqueeze(1) == self.label_memory[: ring.count].unsqueeze(0)
                return violated_triplets(units @ rows.T, same, self.curr_batch_idx if own else None, margin)

        rows = _operators.KnownLoss.apply(units, losses, gradient).to(torch.float64)
        value, dtype = form.value(rows, pairs, violated), number_type(anchors)
        if isinstance(value, dict):
            return {name: {**part, "losses": part["losses"].to(dtype)} for name, part in value.items()}
        return value.to(dtype)

    def _agrees(self, loss: Any, anchors: torch.Tensor, labels: torch.Tensor, own: bool) -> bool:
        """Whether a release with which this package was not compared has the same loss: the first that is not zero is looked at."""
        with torch.no_grad():
            expected = foreign_loss(self, anchors, labels, None, own)
        if not torch.is_tensor(loss) or not torch.is_tensor(expected) or (loss == 0 and expected == 0):
            return torch.is_tensor(loss) == torch.is_tensor(expected)
        self._compared = True
        self._differs = not torch.allclose(loss.double(), expected.double(), rtol=1e-2 if anchors.dtype.itemsize < 4 else 1e-4)
        if self._differs:
            words = f"{type(self.loss).__name__} is {float(expected):.6g} and the engine's is {float(loss):.6g}; the loss itself is called"
            warnings.warn(f"xbm_fast.CrossBatchMemory: {words}, at its own speed", stacklevel=5)
        return not self._differs

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, *arguments) -> None:  # noqa: ANN001
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *arguments)
        if f"{prefix}position" in missing_keys and f"{prefix}embedding_memory" in state_dict:
            missing_keys.remove(f"{prefix}position")
            used = (self.embedding_memory != 0).any(dim=1).nonzero()
            count = int(used[-1]) + 1 if len(used) > 0 else 0
            self.position.copy_(torch.tensor([count % self.memory_size, count]))
