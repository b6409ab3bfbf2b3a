"""The engine's copy of a queue: an embedding memory kept in step with the buffers of a module, in which the rows also are.

The buffers are what state_dict, copies and pickles hold. Whoever writes to them from outside is noticed by their version counters, and
the engine's memory is filled from them anew; so is it on another device.
"""

import ctypes
import itertools
import threading
import weakref
from collections import Counter
from typing import Any

import torch

from ._engine import Handle, as_batch, engine_for, weighting_for
from ._library import LossOutputs, LossSettings, call
from ._rows import unit_rows
from .errors import XbmError

RINGS: "weakref.WeakValueDictionary[int, Ring]" = weakref.WeakValueDictionary()
_KEYS = itertools.count(1)
_INT32_VALUES = 2**31 - 1


class Dense:
    """Any 64-bit integers as small ones, equal where those are equal; -1 stays what it is."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {-1: -1}
        self.next = 0
        self.last: tuple[list[int], torch.Tensor] | None = None

    def of(self, values: list[int], device: torch.device) -> torch.Tensor:
        """`(values)` int32 on `device`."""
        if self.last is not None and self.last[0] == values and self.last[1].device == device:
            return self.last[1]
        numbers = self.numbers
        for value in values:
            if value not in numbers:
                numbers[value] = self.next
                self.next += 1
        self.last = (values, torch.tensor([numbers[value] for value in values], dtype=torch.int32).to(device))
        return self.last[1]

    def crowded(self, capacity: int, batch: int) -> bool:
        """Whether most of what is known here can no longer be in the memory."""
        return len(self.numbers) > 2 * (capacity + batch) + 1024

    def keep(self, values: list[int]) -> None:
        """Forgets every other value."""
        self.numbers = {value: self.numbers[value] for value in {-1, *values} if value in self.numbers}
        self.last = None

    def full(self, batch: int) -> bool:
        return self.next > _INT32_VALUES - batch


class Ring:
    """The engine's memory of one module, which has the buffers `embedding_memory`, `label_memory` and maybe `id_memory`."""

    def __init__(self, owner: Any, normalise: bool, dtype: int) -> None:
        self.owner = weakref.ref(owner)
        self.normalise = normalise  # whether the buffer's rows are of any length
        self.dtype = dtype  # of the engine's rows
        self.key = next(_KEYS)
        self.lock = threading.RLock()
        self.memory: Handle | None = None
        self.device: torch.device | None = None
        self.seen: tuple = ()
        self.head = self.count = 0
        self.enqueued: list[int] = []  # slots of the last batch
        self.undo: tuple | None = None
        self.classes: Counter[int] = Counter()
        RINGS[self.key] = self

    # What the module holds.

    def module(self) -> Any:
        owner = self.owner()
        if owner is None:
            raise XbmError("the module of this memory is gone")
        return owner

    def buffers(self) -> list[torch.Tensor]:
        owner = self.module()
        ids = getattr(owner, "id_memory", None)
        return [owner.embedding_memory, owner.label_memory] + ([] if ids is None else [ids])

    def stamp(self) -> tuple:
        """Changes with every write to a buffer, and with every buffer put in the place of another."""
        return tuple((id(buffer), 0 if buffer.is_inference() else buffer._version) for buffer in self.buffers())

    def handle(self) -> ctypes.c_void_p:
        assert self.memory is not None, "the memory is made before it is used"
        return self.memory.value

    # In step with it.

    def fresh(self, device: torch.device) -> None:
        """Brings the memory to `device` and fills it from the buffers where it is behind them."""
        if self.memory is not None and device == self.device and self.stamp() == self.seen:
            engine_for(device)  # for the current stream
            return
        self.follow(device)
        embeddings, labels, *ids = self.buffers()
        capacity, dim = embeddings.shape
        self.memory = Handle("memory", "xbm_memory_create", engine_for(device), capacity, dim, self.dtype)
        self.device, self.dense_labels, self.dense_ids = device, Dense(), Dense()
        with torch.no_grad():
            rows = embeddings[: self.count]
            rows = unit_rows("embedding_memory", rows, dim)[0] if self.normalise else rows.float().contiguous()
            known = labels[: self.count].tolist()
            known_ids = ids[0][: self.count].tolist() if ids else None
            self.classes = Counter(known)
            self._enqueue(rows, known, known_ids)
            if self.count == capacity and self.head > 0:  # moves the head on over rows that stay what they are
                self._enqueue(rows[: self.head].contiguous(), known[: self.head], known_ids and known_ids[: self.head])
        self.undo, self.seen = None, self.stamp()

    def follow(self, device: torch.device) -> None:
        """Brings the buffers to `device`, and head and count to what they say."""
        owner = self.module()
        for name in ("embedding_memory", "label_memory", "id_memory"):
            buffer = getattr(owner, name, None)
            if buffer is not None and buffer.device != device:
                setattr(owner, name, buffer.to(device))
        self.head, self.count = owner._occupancy()

    def _enqueue(self, rows: torch.Tensor, labels: list[int], ids: list[int] | None) -> None:
        numbers = self.dense_labels.of(labels, rows.device)
        id_numbers = None if ids is None else self.dense_ids.of(ids, rows.device)
        call("xbm_memory_enqueue", self.handle(), ctypes.byref(as_batch(rows, numbers, id_numbers)))

    def tidy(self, batch: int, device: torch.device) -> None:
        """Forgets labels and ids that have left the memory."""
        _, labels, *ids = self.buffers()
        for dense, buffer in zip((self.dense_labels, self.dense_ids), [labels, *ids], strict=False):
            if dense.full(batch):
                self.memory = None
            elif dense.crowded(len(buffer), batch):
                dense.keep(buffer[: self.count].tolist())
        if self.memory is None:
            self.fresh(device)

    # What the module asks for.

    def enqueue(self, rows: torch.Tensor, labels: list[int], ids: list[int] | None, kept: torch.Tensor) -> None:
        """Writes unit rows into the engine's memory, and `kept`, the module's own form of them, into its buffers; nothing where the
        engine refuses them."""
        self.fresh(rows.device)
        self.tidy(len(rows), rows.device)
        self._enqueue(rows, labels, ids)
        values = [kept, torch.tensor(labels, dtype=torch.int64)]
        if len(self.buffers()) == 3:
            values.append(torch.tensor([-1] * len(rows) if ids is None else ids, dtype=torch.int64))
        count = self.count
        for start, labels_before in self.store(values)[1]:
            self.classes.subtract(labels_before[: max(0, count - start)].tolist())
        self.classes.update(labels[len(labels) - len(self.enqueued) :])
        if len(self.classes) > 2 * (len(self.buffers()[0]) + len(rows)) + 1024:
            self.classes = +self.classes  # without those that are gone
        self.seen = self.stamp()

    def store(self, values: list[torch.Tensor]) -> list[list[tuple[int, torch.Tensor]]]:
        """Writes a batch into the buffers alone, one tensor each. Returns what was there before, of each buffer by the first slot."""
        buffers, rows, head, count = self.buffers(), len(values[0]), self.head, self.count
        capacity = len(buffers[0])
        skipped = max(0, rows - capacity)
        first, written = (head + skipped) % capacity, rows - skipped
        to_the_end = min(written, capacity - first)
        runs = [(first, skipped, to_the_end), (0, skipped + to_the_end, written - to_the_end)]
        runs = [run for run in runs if run[2] > 0]
        with torch.no_grad():
            before = [[(slot, buffer[slot : slot + length].clone()) for slot, _, length in runs] for buffer in buffers]
            for buffer, value in zip(buffers, values, strict=True):
                value = value.detach().to(buffer.device, buffer.dtype)
                for slot, row, length in runs:
                    buffer[slot : slot + length] = value[row : row + length]
        self.undo = (before, head, count)
        self.enqueued = [slot + index for slot, _, length in runs for index in range(length)]
        self.head, self.count = (head + rows) % capacity, min(capacity, count + rows)
        return before

    def take_back(self) -> None:
        """Undoes the last batch, after a loss that could not be computed. The engine's memory is filled anew when it is next used."""
        if self.undo is not None:
            before, self.head, self.count = self.undo
            with torch.no_grad():
                for buffer, runs in zip(self.buffers(), before, strict=True):
                    for slot, rows in runs:
                        buffer[slot : slot + len(rows)] = rows
                self.module()._write_position()
        self.memory = self.undo = None

    def pair_loss(self, anchors: torch.Tensor, labels: list[int], ids: list[int] | None, weighting: str, own: int) -> tuple:
        """Of each anchor: its loss, `(batch)` float32; its gradient, `(batch, dim)` float32; how many positives and negatives had a
        weight, `(batch, 2)` int32."""
        self.fresh(anchors.device)
        gradient, row_losses = torch.empty_like(anchors), anchors.new_empty(anchors.shape[0])
        kept = torch.empty(anchors.shape[0], 2, dtype=torch.int32, device=anchors.device)
        numbers = self.dense_labels.of(labels, anchors.device)
        id_numbers = None if ids is None else self.dense_ids.of(ids, anchors.device)
        outputs = LossOutputs(gradient.data_ptr(), row_losses.data_ptr(), kept.data_ptr(), None)
        weights = weighting_for(weighting)
        batch, settings = as_batch(anchors, numbers, id_numbers), LossSettings(1.0, own, 0)
        arguments = (ctypes.byref(part) for part in (batch, settings, outputs))
        call("xbm_pair_loss", self.handle(), weights.value, *arguments)
        self.undo = None
        return row_losses, gradient, kept
