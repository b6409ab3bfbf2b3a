"""Embeddings and labels as the engine takes them. Everything here can be traced by torch.compile."""

from typing import Any

import torch

SMALLEST_NORM = 1e-12  # as the engine's own normalisation has it


def unit_rows(name: str, embeddings: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of length 1, `(batch, dim)` float32, contiguous; differentiable. And `(batch)` bool: which of them have no direction.

    Those are shorter than SMALLEST_NORM, of float16 numbers also those shorter than the smallest such number of full precision. They
    become rows of zeros and get a gradient of zeros, where normalize() would divide it by next to nothing. ValueError for another shape
    or for integers.
    """
    if embeddings.dim() != 2 or embeddings.shape[1] != dim or not embeddings.dtype.is_floating_point:
        raise ValueError(f"{name}: expected numbers of shape (batch, {dim}), found {embeddings.dtype} of shape {tuple(embeddings.shape)}")
    lengths = torch.linalg.vector_norm(embeddings.detach(), dim=1, keepdim=True, dtype=torch.float64)
    short = lengths < max(SMALLEST_NORM, torch.finfo(embeddings.dtype).tiny)
    # A power of two changes no digit, and rows too long or too short to be squared in 32 bit can be.
    scale = torch.exp2(-lengths.masked_fill(short, 1.0).log2().round()).where((lengths > 2.0**40) | (lengths < 2.0**-40), 1.0)
    rows = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    rows = (rows.masked_fill(short, 1.0) * scale.to(rows.dtype)).float().contiguous()
    return torch.nn.functional.normalize(rows, dim=1).masked_fill(short, 0.0), short.squeeze(1)


def integers(name: str, values: Any, like: torch.Tensor) -> torch.Tensor:
    """Labels or ids: `(batch)` int64, equal where `values` are equal. Tensors, arrays and lists of every integer type are taken;
    ValueError for another shape, for floating-point numbers and for truth values. Unsigned 64-bit numbers keep their bits."""
    values = torch.as_tensor(values)
    refused = values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool
    if values.shape != like.shape[:1] or (refused and values.numel() > 0):
        raise ValueError(f"{name}: expected integers of shape ({like.shape[0]},), found {values.dtype} of shape {tuple(values.shape)}")
    return values.view(torch.int64) if values.dtype == torch.uint64 else values.to(torch.int64)


def number_type(embeddings: torch.Tensor) -> torch.dtype:
    """The type of a loss: float64 for float64 embeddings, float32 for all others."""
    return torch.float64 if embeddings.dtype == torch.float64 else torch.float32
