"""Retrieval scores."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from ._engine import as_batch, engine_for
from ._library import Evaluation, Scores, call
from ._ring import Dense
from ._rows import integers, unit_rows


def evaluate(embeddings: torch.Tensor, labels: Any, ks: Sequence[int] = (1, 10)) -> dict[str, float]:
    """Retrieval scores of every row against all others, computed on the CPU.

    embeddings: `(rows, dim)`, any floating-point type. labels: `(rows)`, integers. ks: where recall is wanted.

    A dictionary with recall_at_1 and so on, map_at_r, r_precision, mean_reciprocal_rank, each in [0, 1]; and over how many `queries`, with
    how many `excluded_queries` left out because no other row is of their class. ValueError for other shapes and for a k below 1.
    """
    if not all(isinstance(k, int) and k >= 1 for k in ks):
        raise ValueError(f"ks: expected whole numbers of at least 1, found {tuple(ks)}")
    if embeddings.dim() != 2:
        raise ValueError(f"embeddings: expected numbers of shape (rows, dim), found shape {tuple(embeddings.shape)}")
    rows, _ = unit_rows("embeddings", embeddings.detach().cpu(), embeddings.shape[1])
    numbers = Dense().of(integers("labels", labels, rows).tolist(), rows.device)
    batch, places = as_batch(rows, numbers), (ctypes.c_size_t * len(ks))(*ks)
    recall = (ctypes.c_double * len(ks))()
    what, scores = Evaluation(queries=ctypes.pointer(batch), ks=places, k_count=len(ks)), Scores(recall=recall)
    call("xbm_evaluate", engine_for(rows.device), ctypes.byref(what), ctypes.byref(scores))
    named = {f"recall_at_{k}": value for k, value in zip(ks, recall, strict=True)}
    counted = ("map_at_r", "r_precision", "mean_reciprocal_rank", "queries", "excluded_queries")
    return named | {name: getattr(scores, name) for name in counted}
