"""Engines by device, weightings by text, and batches whose pointers are tensors'."""

import ctypes
import functools
import weakref

import torch

from ._library import DEVICE, F32, HOST, Batch, call, created, destroy

LEGACY_STREAM = 1  # what CUDA calls the default stream where 0 means none


class Handle:
    """A handle that is given back with this object."""

    def __init__(self, kind: str, create: str, *arguments: object) -> None:
        self.value = created(create, *arguments)
        weakref.finalize(self, destroy, f"xbm_{kind}_destroy", self.value)


@functools.cache
def _engine(device: str, threads: int) -> ctypes.c_void_p:
    return created("xbm_engine_create", device.encode(), None, threads)


def engine_for(device: torch.device) -> ctypes.c_void_p:
    """The engine where tensors of `device` are, in order with PyTorch's current stream; it lives as long as the process."""
    if device.type == "cpu":
        return _engine("cpu", torch.get_num_threads())
    if device.type != "cuda":
        raise ValueError(f"embeddings: expected a tensor on cpu or cuda, found one on {device}")
    engine = _engine(f"cuda:{torch.cuda.current_device() if device.index is None else device.index}", 0)
    call("xbm_engine_set_stream", engine, torch.cuda.current_stream(device).cuda_stream or LEGACY_STREAM)
    return engine


@functools.lru_cache(maxsize=256)
def weighting_for(text: str) -> Handle:
    """The weighting of a name or TOML. XbmError for a text that means none."""
    return Handle("weighting", "xbm_weighting_create", text.encode())


def as_batch(embeddings: torch.Tensor, labels: torch.Tensor | None, ids: torch.Tensor | None = None) -> Batch:
    """A batch whose pointers are the tensors' own, which must outlive it: `(batch, dim)` float32, `(batch)` int32, all contiguous."""
    location = DEVICE if embeddings.is_cuda else HOST
    labels_at, ids_at = (None if numbers is None else numbers.data_ptr() for numbers in (labels, ids))
    return Batch(embeddings.data_ptr(), labels_at, ids_at, embeddings.shape[0], embeddings.shape[1], location, F32)
