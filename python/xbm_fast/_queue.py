"""A module with a queue of embeddings: its buffers, its state, and the ring that is the engine's copy of it."""

from typing import Any

import torch

from ._library import DTYPE_DEFAULT
from ._ring import Ring


def whole_number(name: str, value: Any) -> int:
    """ValueError unless `value` is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, found {value!r}")
    return value


class Queue(torch.nn.Module):
    """Buffers `embedding_memory`, `label_memory` and whatever a subclass adds, with `position`, `(2)` int64: the slot that the next row
    takes, and how many are in use."""

    embedding_memory: torch.Tensor
    label_memory: torch.Tensor
    position: torch.Tensor
    _normalise = False
    _row_dtype = DTYPE_DEFAULT

    def __init__(self) -> None:
        super().__init__()
        self._new_ring()

    def _new_ring(self) -> None:
        self._ring = Ring(self, self._normalise, self._row_dtype)
        self._key = self._ring.key

    def _occupancy(self) -> tuple[int, int]:
        """Head and count, as the buffers have them."""
        head, count = self.position.tolist()
        return head, count

    def _write_position(self) -> None:
        self.position.copy_(torch.tensor([self._ring.head, self._ring.count]))

    def _clear(self) -> None:
        """Forgets every row."""
        with self._ring.lock, torch.no_grad():
            for buffer in (*self._ring.buffers(), self.position):
                buffer.zero_()
            self._ring.memory = None
            self._ring.head = self._ring.count = 0
            self._ring.enqueued = []

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.pop("_ring", None)
        state.pop("_key", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._new_ring()
