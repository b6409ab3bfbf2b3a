"""Nearest neighbours, exactly."""

import ctypes
from typing import Any, NamedTuple

import torch

from ._engine import as_batch, engine_for
from ._library import Neighbours as Places
from ._library import Search, call
from ._rows import integers, unit_rows


class Neighbours(NamedTuple):
    """What `nearest` finds, the most similar first; where the gallery is too small -1, and minus infinity."""

    similarities: torch.Tensor
    """`(queries, k)` float32, in [-1, 1]."""
    rows: torch.Tensor
    """`(queries, k)` int64: rows of the gallery."""
    ids: torch.Tensor
    """`(queries, k)` int64: the ids of these rows; the rows themselves where no ids were given."""


def nearest(
    queries: torch.Tensor, gallery: torch.Tensor | None = None, k: int = 10, *, ids: Any = None, own_rows: Any = None
) -> Neighbours:
    """The `k` rows of the gallery most similar to each query by cosine, among all of them, on the device of the queries.

    queries: `(queries, dim)`; gallery: `(rows, dim)`; both of any floating-point type, on one device; they are normalised here and
    compared in 32 bit, after a look in 8 bit that passes over what cannot be among the nearest.
    Without a gallery the queries are it, and each leaves itself out.
    ids: `(rows)`, integers of any type and value, one for each row of the gallery.
    own_rows: `(queries)`, integers: the row of the gallery that is the query itself and is left out, or -1.

    ValueError for other shapes and types and for a k below 1; XbmError for what the engine refuses, such as NaN.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k: expected a whole number of at least 1, found {k!r}")
    for name, rows in (("queries", queries), ("gallery", queries if gallery is None else gallery)):
        if not torch.is_tensor(rows) or rows.dim() != 2 or rows.device != queries.device:
            found = f"shape {tuple(rows.shape)} on {rows.device}" if torch.is_tensor(rows) else type(rows).__name__
            raise ValueError(f"{name}: expected a tensor of shape (rows, dim), all on one device, found {found}")
    with torch.no_grad():
        looking, _ = unit_rows("queries", queries, queries.shape[1])
        looked_at = looking if gallery is None else unit_rows("gallery", gallery, queries.shape[1])[0]
        known = None if ids is None else integers("ids", ids, looked_at).cpu()
        own = None if own_rows is None else integers("own_rows", own_rows, looking).to("cpu", torch.int32).contiguous()
        shape = (len(looking), k)
        rows, similarities = torch.full(shape, -1, dtype=torch.int32), torch.full(shape, -torch.inf)
        what = Search(
            ctypes.pointer(as_batch(looking, None)),
            None if gallery is None else ctypes.pointer(as_batch(looked_at, None)),
            None if own is None else own.data_ptr(),
            k,
        )
        places = Places(rows.data_ptr(), None, similarities.data_ptr())
        call("xbm_nearest", engine_for(queries.device), ctypes.byref(what), ctypes.byref(places))
        found = rows.long()
        named = found if known is None else torch.cat([known, known.new_full((1,), -1)])[found]
        return Neighbours(*(part.to(queries.device) for part in (similarities, found, named)))
