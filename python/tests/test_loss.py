"""XbmLoss: what it returns, and what becomes of its memory."""

import copy
import io
import pickle

import pytest
import torch

from helpers import BATCH, DIM, MEMORY, TOLERANCE, batches, close, loss_and_gradient
from xbm_fast import XbmError, XbmLoss

NAMES = "contrastive triplet lifted-structure nca info-nce n-pair binomial-deviance multi-similarity circle".split()


def after_some_batches(count=5, **settings):
    function = XbmLoss(DIM, MEMORY, **settings)
    for embeddings, labels in batches(count):
        function(embeddings, labels)
    return function


def one_batch(seed=2):
    return next(iter(batches(1, seed)))


def same(found, expected):
    return torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_mean_sum_and_avg_non_zero_are_reductions_of_none():
    embeddings, labels = one_batch()
    rows = after_some_batches(reduction="none", weighting="triplet")(embeddings, labels)
    assert rows.shape == (BATCH,) and (rows > 0).any()
    expected = {"sum": rows.sum(), "mean": rows.mean(), "avg-non-zero": rows[rows > 0].mean()}
    for reduction, value in expected.items():
        close(after_some_batches(reduction=reduction, weighting="triplet")(embeddings, labels), value)


def test_avg_non_zero_of_nothing_is_zero():
    loss, gradient = loss_and_gradient(XbmLoss(DIM, MEMORY, reduction="avg-non-zero"), torch.eye(DIM)[:3], [0, 1, 2])
    assert loss == 0 and gradient.abs().sum() == 0


def test_an_upstream_gradient_of_each_row_scales_that_row():
    embeddings, labels = one_batch()
    _, whole = loss_and_gradient(after_some_batches(reduction="sum"), embeddings, labels)
    weights = torch.linspace(-1, 2, BATCH)
    leaf = embeddings.clone().requires_grad_()
    after_some_batches(reduction="none")(leaf, labels).backward(weights)
    close(leaf.grad, whole * weights.unsqueeze(1))


@pytest.mark.parametrize("weighting", ["nca", "info-nce", "n-pair", "binomial-deviance"])
def test_the_gradient_of_a_smooth_loss_is_its_slope(weighting):
    embeddings, labels = one_batch()
    embeddings = torch.nn.functional.normalize(embeddings.double(), dim=1)
    function = after_some_batches(weighting=weighting)
    _, gradient = loss_and_gradient(function, embeddings, labels, enqueue=False)
    direction = torch.randn(BATCH, DIM, generator=torch.Generator().manual_seed(1)).double()
    step = 1e-3
    ends = [function(embeddings + sign * step * direction, labels, enqueue=False) for sign in (1, -1)]
    expected = (gradient * direction).sum()
    assert (ends[0] - ends[1]).item() / (2 * step) == pytest.approx(expected.item(), rel=0.01, abs=1e-3)


def test_the_memory_comes_back_to_the_bit_however_it_is_carried():
    original = after_some_batches()
    file, whole = io.BytesIO(), io.BytesIO()
    torch.save(original.state_dict(), file)
    torch.save(original, whole)
    file.seek(0)
    whole.seek(0)
    loaded = XbmLoss(DIM, MEMORY)
    loaded(*one_batch(seed=9))
    loaded.load_state_dict(torch.load(file, weights_only=True))
    others = [loaded, copy.deepcopy(original), pickle.loads(pickle.dumps(original)), torch.load(whole, weights_only=False)]
    for embeddings, labels in batches(6, seed=3):
        expected = loss_and_gradient(original, embeddings, labels)
        assert all(same(loss_and_gradient(function, embeddings, labels), expected) for function in others)


def test_a_state_taken_earlier_brings_the_memory_of_then_back():
    function = after_some_batches()
    state = copy.deepcopy(function.state_dict())
    embeddings, labels = one_batch()
    expected = loss_and_gradient(function, embeddings, labels)
    function(*one_batch(seed=7))
    function.load_state_dict(state)
    assert same(loss_and_gradient(function, embeddings, labels), expected)


def test_what_is_written_to_the_buffers_counts():
    function = after_some_batches()
    embeddings, labels = one_batch()
    with torch.no_grad():
        function.label_memory.fill_(99)
    assert function(embeddings, labels, enqueue=False).item() != 0
    function(embeddings, labels, enqueue=False)
    assert function.kept[:, 0].sum() == 0
    function(embeddings, torch.full_like(labels, 99), enqueue=False)
    assert (function.kept[:, 0] == MEMORY).all()


def test_buffers_are_registered_and_described():
    function = XbmLoss(DIM, MEMORY, weighting="triplet:margin=0.2", reduction="sum")
    assert {name: tuple(buffer.shape) for name, buffer in function.named_buffers()} == {
        "embedding_memory": (MEMORY, DIM),
        "label_memory": (MEMORY,),
        "id_memory": (MEMORY,),
        "position": (2,),
    }
    assert repr(function) == f"XbmLoss(dim={DIM}, memory_size={MEMORY}, weighting='triplet:margin=0.2', reduction='sum')"
    embeddings, labels = one_batch()
    function(embeddings, labels)
    torch.testing.assert_close(function.embedding_memory[:BATCH], torch.nn.functional.normalize(embeddings, dim=1))
    assert function.label_memory[:BATCH].tolist() == labels.tolist() and function.position.tolist() == [BATCH, BATCH]


def test_a_module_of_another_type_keeps_its_rows():
    function, half = after_some_batches(), after_some_batches().double().to("cpu")
    embeddings, labels = one_batch()
    assert same(loss_and_gradient(half, embeddings, labels), loss_and_gradient(function, embeddings, labels))


def test_a_memory_in_16_bit_has_the_loss_of_its_rounded_rows_and_is_carried_as_it_is():
    function, plain = after_some_batches(memory_dtype=torch.float16), after_some_batches(memory_dtype=torch.float32)
    assert function.embedding_memory.dtype == torch.float16 and plain.embedding_memory.dtype == torch.float32
    assert torch.equal(function.embedding_memory, plain.embedding_memory.half())
    embeddings, labels = one_batch()
    found, other = (loss_and_gradient(memory, embeddings, labels, enqueue=False) for memory in (function, plain))
    assert not same(found, other)
    close(found[0], other[0], 2**-10)
    with torch.no_grad():
        plain.embedding_memory.copy_(function.embedding_memory)
    expected = loss_and_gradient(plain, embeddings, labels, enqueue=False)
    close(found[0], expected[0], 1e-6)
    close(found[1], expected[1], 1e-6)
    for carried in (copy.deepcopy(function), pickle.loads(pickle.dumps(function))):
        assert same(loss_and_gradient(carried, embeddings, labels, enqueue=False), found)
        assert same(loss_and_gradient(carried, embeddings, labels), loss_and_gradient(copy.deepcopy(function), embeddings, labels))


def test_types_that_a_memory_has_not_are_refused():
    with pytest.raises(ValueError, match="torch.float32, torch.float16, torch.bfloat16 or None, found torch.float64"):
        XbmLoss(DIM, MEMORY, memory_dtype=torch.float64)
    with pytest.raises(XbmError, match="XBM_F16 on device `cpu`, found XBM_BF16"):
        XbmLoss(DIM, MEMORY, memory_dtype=torch.bfloat16)(*one_batch())


def test_strides_and_floating_types_do_not_matter():
    embeddings, labels = one_batch(seed=4)
    expected = loss_and_gradient(after_some_batches(), embeddings, labels)
    columns, spaced = embeddings.t().contiguous().t(), labels.repeat_interleave(3)[::3]
    assert not columns.is_contiguous() and not spaced.is_contiguous()
    assert same(loss_and_gradient(after_some_batches(), columns, spaced), expected)
    for dtype, tolerance in ((torch.float64, TOLERANCE), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)):
        loss, gradient = loss_and_gradient(after_some_batches(), embeddings.to(dtype), labels.to(torch.int16))
        assert gradient.dtype == dtype and loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        close(loss, expected[0], tolerance)


@pytest.mark.parametrize("name", "uint8 int8 int16 uint16 int32 uint32 int64 uint64".split())
def test_labels_and_ids_of_every_integer_type_and_value_tell_classes_apart(name):
    dtype = getattr(torch, name)
    ends = torch.iinfo(dtype)
    embeddings, _ = one_batch()
    places = torch.arange(BATCH) % 4
    plain = XbmLoss(DIM, MEMORY)
    expected = [loss_and_gradient(plain, embeddings, places, ids=torch.arange(BATCH) % 10) for _ in range(2)]
    values = torch.tensor([ends.min, ends.max, 5, ends.max - 1], dtype=dtype)
    ids = torch.tensor([ends.max - index for index in range(10)], dtype=dtype)
    function = XbmLoss(DIM, MEMORY)
    for value in expected:
        found = loss_and_gradient(function, embeddings, torch.stack([values[place] for place in places]), ids=ids[:10].repeat(2))
        assert same(found, value)


def test_hashes_that_leave_the_memory_are_forgotten():
    function = XbmLoss(DIM, 8, weighting="contrastive")
    for step in range(200):
        hashes = torch.arange(BATCH) + step * 2**40
        function(torch.eye(DIM)[:BATCH], hashes, ids=hashes)
    assert len(function._ring.dense_labels.numbers) < 2000 and len(function._ring.dense_ids.numbers) < 2000
    function(torch.eye(DIM)[:8], function.label_memory, enqueue=False)
    assert function.kept[:, 0].sum() == 8


def test_ids_leave_out_older_rows_of_an_image_and_keys_take_the_embeddings_place():
    one = torch.eye(DIM)[:1]
    function = XbmLoss(DIM, MEMORY, reduction="sum")
    for _ in range(2):
        loss = function(one, [1], ids=[7], keys=torch.eye(DIM)[1:2])
    assert (loss.item(), function.kept.tolist()) == (0.0, [[0, 0]])
    # Two rows of another image of this class, both at right angles: the loss of each is 1.
    loss = function(one, [1], ids=[8], enqueue=False)
    assert (loss.item(), function.kept.tolist()) == (2.0, [[2, 0]])
    function.reset()
    assert function(one, [1], enqueue=False).item() == 0.0 and function.position.tolist() == [0, 0]


def test_an_empty_batch_has_a_loss_of_zero():
    for reduction in ("mean", "sum", "avg-non-zero"):
        loss, gradient = loss_and_gradient(after_some_batches(reduction=reduction), torch.empty(0, DIM), torch.empty(0, dtype=torch.int64))
        assert loss == 0.0 and gradient.shape == (0, DIM)


def test_a_batch_larger_than_the_memory_is_compared_with_its_end():
    embeddings, labels = one_batch()
    function, whole = XbmLoss(DIM, 7, reduction="sum"), XbmLoss(DIM, 7, reduction="sum")
    function(embeddings, labels)
    whole(embeddings[-7:], labels[-7:])
    assert sorted(function.label_memory.tolist()) == sorted(whole.label_memory.tolist())
    close(function(embeddings, labels, enqueue=False), whole(embeddings, labels, enqueue=False))


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_of_next_to_nothing_is_zero_or_finite(name):
    for rows in (0, 1):
        for settings in ({}, {"ids": torch.arange(rows)}, {"enqueue": False}):
            function = XbmLoss(DIM, MEMORY, weighting=name)
            loss, gradient = loss_and_gradient(function, torch.ones(rows, DIM), torch.zeros(rows, dtype=torch.int64), **settings)
            assert (loss.item(), gradient.abs().sum().item(), function.kept.sum().item()) == (0.0, 0.0, 0)
    for labels in ([0, 0], [0, 1]):
        loss, gradient = loss_and_gradient(XbmLoss(DIM, MEMORY, weighting=name), torch.eye(DIM)[:2] + 0.5, labels)
        assert loss.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "short"),
    [(torch.float32, (0.0, 1e-14, 1e-40)), (torch.float64, (0.0, 1e-14, 1e-300)), (torch.float16, (0.0, 6e-8, 1e-6))],
)
def test_rows_without_a_direction_get_no_gradient_and_are_counted(dtype, short):
    embeddings, labels = one_batch(seed=5)
    batch = embeddings.to(dtype)
    batch[: len(short)] = 0
    batch[: len(short), 0] = torch.tensor(short, dtype=dtype)
    function = XbmLoss(DIM, MEMORY, reduction="sum")
    loss, gradient = loss_and_gradient(function, batch, labels)
    assert (function.zero_rows, gradient[: len(short)].abs().max().item()) == (len(short), 0.0)
    assert loss.isfinite() and gradient.isfinite().all() and gradient[len(short) :].abs().sum() > 0


def test_rows_of_any_length_have_the_same_loss():
    embeddings, labels = one_batch(seed=6)
    expected, _ = loss_and_gradient(XbmLoss(DIM, MEMORY), embeddings, labels)
    for length in (2.0**-30, 2.0**100):
        loss, gradient = loss_and_gradient(XbmLoss(DIM, MEMORY), embeddings * length, labels)
        assert torch.equal(loss, expected) and gradient.isfinite().all()


def test_what_makes_no_sense_is_refused_in_words_and_changes_nothing():
    embeddings, labels = one_batch()
    function = XbmLoss(DIM, MEMORY)
    function(embeddings, labels)
    before = copy.deepcopy(function.state_dict())
    broken = embeddings.clone()
    broken[3, 5] = float("nan")
    shape = r"expected numbers of shape \(batch, 24\)"
    refusals = [
        (ValueError, shape, (embeddings[:, 1:], labels), {}),
        (ValueError, shape, (embeddings[0], labels), {}),
        (ValueError, shape, (embeddings.long(), labels), {}),
        (ValueError, r"labels: expected integers of shape \(20,\)", (embeddings, labels[1:]), {}),
        (ValueError, "labels: expected integers", (embeddings, labels.float()), {}),
        (ValueError, "labels: expected integers", (embeddings, [True, False] * 10), {}),
        (ValueError, "ids: expected integers", (embeddings, labels), {"ids": labels[1:]}),
        (ValueError, "keys: expected shape", (embeddings, labels), {"keys": embeddings[1:]}),
        (XbmError, "not finite .*first in row 3", (broken, labels), {}),
    ]
    for error, words, arguments, named in refusals:
        with pytest.raises(error, match=words):
            function(*arguments, **named)
    after = function.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (XbmError, "unknown weighting `contrastiv`", (DIM, MEMORY, "contrastiv")),
        (XbmError, "margin must be from -100 to 100", (DIM, MEMORY, "triplet:margin=1e38")),
        (ValueError, "memory_size: expected a whole number of at least 1, found 0", (DIM, 0)),
        (ValueError, "memory_size: expected a whole number of at least 1, found -1", (DIM, -1)),
        (ValueError, "reduction: expected one of mean, sum, avg-non-zero, none, found 'median'", (DIM, MEMORY, "contrastive", "median")),
    ],
)
def test_settings_without_a_meaning_are_refused(error, words, arguments):
    with pytest.raises(error, match=words):
        XbmLoss(*arguments)


def test_a_state_of_another_size_is_refused_and_leaves_the_memory_alone():
    function, other = after_some_batches(), XbmLoss(DIM, MEMORY + 1)
    before = copy.deepcopy(function.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        function.load_state_dict(other.state_dict())
    assert torch.equal(before["embedding_memory"], function.embedding_memory)
