"""Neighbours beside a plain search over all rows in 64 bit."""

import pytest
import torch

from xbm_fast import XbmError, nearest

# Both round similarities of 32-bit rows, in different orders.
SAME = 1e-6


def rows_of(count, dim=24, seed=0, dtype=torch.float32):
    return (torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)) * 3 + 0.5).to(dtype)


def plain_search(queries, gallery, own=None):
    similarities = torch.nn.functional.normalize(queries.double()) @ torch.nn.functional.normalize(gallery.double()).T
    if own is not None:
        rows = (own >= 0).nonzero().flatten()
        similarities[rows, own[rows]] = -torch.inf
    return similarities


def agrees(found, similarities, k):
    expected = similarities.topk(min(k, similarities.shape[1])).values
    rows = found.rows[:, : expected.shape[1]]
    torch.testing.assert_close(similarities.gather(1, rows), expected, rtol=0, atol=SAME)
    torch.testing.assert_close(found.similarities[:, : expected.shape[1]].double(), expected, rtol=0, atol=SAME)
    assert all(len(set(row)) == len(row) for row in rows.tolist())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_they_are_those_of_a_plain_search_in_every_type(dtype):
    queries, gallery = rows_of(30, dtype=dtype), rows_of(900, seed=1, dtype=dtype)
    ids = torch.arange(900) * 2**40 - 2**60
    for k in (1, 7, 900):
        found = nearest(queries, gallery, k, ids=ids)
        agrees(found, plain_search(queries, gallery), k)
        assert torch.equal(found.ids, ids[found.rows])
    assert torch.equal(nearest(queries, gallery, 3).ids, nearest(queries, gallery, 3).rows)


def test_own_rows_are_left_out_or_not():
    gallery = rows_of(60)
    alone = nearest(gallery, k=4)
    agrees(alone, plain_search(gallery, gallery, torch.arange(60)), 4)
    assert torch.equal(nearest(gallery, gallery, 1).rows.flatten(), torch.arange(60))
    own = torch.arange(60).where(torch.arange(60) % 2 == 0, -1)
    agrees(nearest(gallery, gallery, 4, own_rows=own), plain_search(gallery, gallery, own), 4)


def test_a_small_gallery_leaves_places_free():
    found = nearest(rows_of(5), rows_of(2, seed=1), 3, ids=[7, 9])
    assert found.rows[:, 2].tolist() == found.ids[:, 2].tolist() == [-1] * 5
    assert found.similarities[:, 2].tolist() == [float("-inf")] * 5 and set(found.ids[:, :2].flatten().tolist()) == {7, 9}
    assert nearest(rows_of(0), rows_of(2), 3).rows.shape == (0, 3)
    assert nearest(rows_of(2), rows_of(0), 1).rows.tolist() == [[-1], [-1]]


def test_strides_gradients_and_rows_without_a_direction():
    queries, gallery = rows_of(24, dim=40).T.requires_grad_(), rows_of(80, dim=48)[:, ::2]
    assert not queries.is_contiguous() and not gallery.is_contiguous()
    found = nearest(queries, gallery, 2)
    agrees(found, plain_search(queries.detach(), gallery), 2)
    assert not found.similarities.requires_grad
    assert nearest(torch.zeros(1, 24), gallery, 1).similarities.item() == 0


def test_what_makes_no_sense_is_refused():
    rows = rows_of(4)
    for k in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="k: expected a whole number of at least 1"):
            nearest(rows, rows, k)
    for wrong in (rows[0], rows[:, :3], rows.long(), [[1.0]]):
        with pytest.raises(ValueError, match="gallery: expected"):
            nearest(rows, wrong, 1)
    with pytest.raises(ValueError, match=r"ids: expected integers of shape \(4,\)"):
        nearest(rows, rows, 1, ids=[1, 2])
    with pytest.raises(XbmError, match="own rows: expected -1 or a row below 4, found 4"):
        nearest(rows, rows, 1, own_rows=[0, 1, 2, 4])
    with pytest.raises(XbmError, match="not finite"):
        nearest(rows, rows / 0, 1)
