"""CrossBatchMemory as a queue: the documented contract of pytorch-metric-learning 3, line by line, and what 2.9 has beside it.

Release 3 itself was not at hand: this is what its documentation says, not a comparison.
"""

import copy
import inspect
import io
import pickle

import pytest
import torch

from helpers import BATCH, DIM, MEMORY, batches, close, loss_and_gradient
from xbm_fast import CrossBatchMemory, XbmError, cross_batch_memory

pml = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import distances, losses, miners  # noqa: E402


def taken_over(**settings):
    return CrossBatchMemory(losses.SupConLoss(), DIM, MEMORY, **settings)


def called_itself(**settings):
    return CrossBatchMemory(losses.MarginLoss(), DIM, MEMORY, **settings)


WAYS = pytest.mark.parametrize("make", [taken_over, called_itself])
pytestmark = pytest.mark.filterwarnings("ignore:xbm_fast.CrossBatchMemory")


def state(memory):
    return {name: value.clone() for name, value in memory.state_dict().items()} | {"head": memory.queue_idx, "full": memory.has_been_filled}


def unchanged(memory, before):
    after = state(memory)
    return before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) if torch.is_tensor(before[name]) else before[name] == after[name] for name in before
    )


def one_batch(seed=2):
    return next(iter(batches(1, seed)))


def test_the_signature_is_the_documented_one():
    parameters = inspect.signature(CrossBatchMemory).parameters
    assert list(parameters)[:4] == ["loss", "embedding_size", "memory_size", "miner"]
    assert parameters["memory_size"].default == 1024 and parameters["miner"].default is None
    for name in ("label_dtype", "label_shape", "pair_function"):
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["label_dtype"].default == torch.long and parameters["label_shape"].default == ()
    assert list(inspect.signature(CrossBatchMemory.forward).parameters)[1:] == ["embeddings", "labels", "indices_tuple", "enqueue_mask"]


@WAYS
def test_every_row_is_enqueued_as_it_was_given(make):
    memory = make()
    assert (memory.queue_idx, memory.has_been_filled) == (0, False)
    for step, (embeddings, labels) in enumerate(batches(4)):
        memory(embeddings, labels)
        slots = (torch.arange(BATCH) + step * BATCH) % MEMORY
        assert torch.equal(memory.curr_batch_idx, slots)
        assert torch.equal(memory.embedding_memory[slots], embeddings) and torch.equal(memory.label_memory[slots], labels)
    assert (memory.queue_idx, memory.has_been_filled) == (4 * BATCH - MEMORY, True)


@WAYS
def test_with_a_mask_the_selected_rows_are_references_only(make):
    memory = make()
    for embeddings, labels in batches(3):
        mask = torch.arange(BATCH) >= BATCH // 2
        _, gradient = loss_and_gradient(memory, embeddings, labels, enqueue_mask=mask)
        assert gradient[mask].abs().max() == 0 and gradient[~mask].abs().max() > 0
        assert torch.equal(memory.embedding_memory[memory.curr_batch_idx], embeddings[mask])
    assert memory.queue_idx == 3 * (BATCH // 2)


@WAYS
def test_more_rows_than_the_memory_are_refused(make):
    memory = make()
    memory(*one_batch())
    before = state(memory)
    many = torch.randn(MEMORY + 1, DIM)
    with pytest.raises(ValueError, match=f"at most memory_size={MEMORY} rows to enqueue, found {MEMORY + 1}"):
        memory(many, torch.zeros(MEMORY + 1, dtype=torch.int64))
    assert unchanged(memory, before)
    # The anchors of a mask are not enqueued.
    memory(many, torch.arange(MEMORY + 1) % 5, enqueue_mask=torch.arange(MEMORY + 1) < 4)


@WAYS
def test_an_empty_batch_and_one_without_references_have_a_differentiable_zero(make):
    memory = make()
    no_rows = (torch.zeros(0, DIM), torch.zeros(0, dtype=torch.int64))
    embeddings, labels = one_batch()
    nothing = torch.zeros(BATCH, dtype=torch.bool)
    for batch, named in (
        (no_rows, {}),
        ((embeddings, labels), {"enqueue_mask": nothing}),
        ((embeddings, labels), {"enqueue_mask": ~nothing}),
    ):
        loss, gradient = loss_and_gradient(memory, *batch, **named)
        assert loss == 0 and gradient.abs().sum() == 0
    assert memory.queue_idx == BATCH
    before = state(memory)
    assert loss_and_gradient(memory, *no_rows)[0] == 0 and unchanged(memory, before)


@WAYS
def test_an_empty_enqueue_keeps_the_queue(make):
    memory = make()
    for embeddings, labels in batches(2):
        memory(embeddings, labels)
    before = state(memory)
    loss, _ = loss_and_gradient(memory, *one_batch(), enqueue_mask=torch.zeros(BATCH, dtype=torch.bool))
    assert loss > 0 and unchanged(memory, before)


def broken_calls():
    embeddings, labels = one_batch()
    bad = embeddings.clone()
    bad[3, 5] = float("inf")
    mask = torch.ones(BATCH, dtype=torch.bool)
    yield "embeddings: expected a tensor of shape", (embeddings[:, 1:], labels), {}
    yield "embeddings: expected a tensor of shape", (embeddings[0], labels), {}
    yield "embeddings: expected floating-point numbers", (embeddings.long(), labels), {}
    yield "embeddings: expected finite numbers", (bad, labels), {}
    yield "labels: expected shape", (embeddings, labels[1:]), {}
    yield "labels: expected shape", (embeddings, labels.unsqueeze(1)), {}
    yield "labels: expected integers", (embeddings, labels.float()), {}
    yield "enqueue_mask: expected bool of shape", (embeddings, labels), {"enqueue_mask": mask[1:]}
    yield "enqueue_mask: expected bool of shape", (embeddings, labels), {"enqueue_mask": mask.long()}
    yield "expected one of them, found both", (embeddings, labels), {"enqueue_mask": mask, "indices_tuple": (labels,) * 3}
    yield "indices_tuple: expected three or four", (embeddings, labels), {"indices_tuple": (labels,) * 2}


@WAYS
def test_everything_is_validated_before_the_queue_changes(make):
    memory = make()
    memory(*one_batch())
    before = state(memory)
    for words, arguments, named in broken_calls():
        with pytest.raises(ValueError, match=words):
            memory(*arguments, **named)
        assert unchanged(memory, before), words


def test_a_loss_that_raises_leaves_the_queue_unchanged():
    class Raises(losses.SupConLoss):
        def forward(self, *_):
            raise FloatingPointError("on purpose")

    memory = taken_over()
    twin = taken_over()
    for embeddings, labels in batches(4):
        memory(embeddings, labels)
        twin(embeddings, labels)
    before, good = state(memory), memory.loss
    memory.loss = Raises()
    with pytest.raises(FloatingPointError):
        memory(*one_batch())
    assert unchanged(memory, before)
    memory.loss = losses.SupConLoss(temperature=-1)
    with pytest.raises(XbmError):
        memory(*one_batch())
    assert unchanged(memory, before)
    memory.loss = good
    assert torch.equal(memory(*one_batch()), twin(*one_batch()))


def test_an_own_copy_is_out_before_mining():
    """From release 3 on: a miner that takes the hardest positive, which is never another row while an anchor's own copy is there."""
    from xbm_fast import _foreign

    class MostSimilarPositive(miners.BaseMiner):
        def mine(self, embeddings, labels, ref_emb, ref_labels):
            similarity = self.distance(embeddings, ref_emb).masked_fill(labels.unsqueeze(1) != ref_labels, -9)
            anchors = (similarity.max(dim=1).values > -9).nonzero().squeeze(1)
            positives = similarity.argmax(dim=1)[anchors]
            negatives = (labels[anchors].unsqueeze(1) != ref_labels).byte().argmax(dim=1)
            return anchors, positives, anchors, negatives

    miner = MostSimilarPositive(distance=distances.CosineSimilarity())
    embeddings, labels = torch.nn.functional.normalize(torch.eye(DIM)[:4] + 0.3, dim=1), torch.tensor([0, 0, 1, 1])
    seen = []

    class Watches(losses.SupConLoss):
        def forward(self, embeddings, labels, indices_tuple, ref_emb, ref_labels):
            seen.append(indices_tuple)
            return super().forward(embeddings, labels, indices_tuple, ref_emb, ref_labels)

    for major, expected in ((2, []), (3, [1, 0, 3, 2])):
        memory = CrossBatchMemory(Watches(), DIM, MEMORY, miner=miner)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_foreign, "release", lambda major=major: major)
            memory(embeddings, labels)
        assert seen[-1][1].tolist() == expected, major


def test_another_release_is_compared_once_before_it_is_taken_over(monkeypatch):
    """Release 3 may compute what 2.9 did not: the first loss is computed by both."""
    calls = []

    def counts(factor):
        def forward(self, *arguments):
            calls.append(factor)
            return factor * losses.SupConLoss.forward(self, *arguments)

        return type("SupConLoss", (losses.SupConLoss,), {"forward": forward, "__module__": losses.SupConLoss.__module__})()

    monkeypatch.setattr(cross_batch_memory, "release", lambda: 3)
    memory, plain = CrossBatchMemory(counts(1), DIM, MEMORY), taken_over()
    for embeddings, labels in batches(3):
        close(memory(embeddings, labels), plain(embeddings, labels))
    assert calls == [1]
    memory, plain = CrossBatchMemory(counts(2), DIM, MEMORY), taken_over()
    (embeddings, labels), *others = batches(3)
    with pytest.warns(UserWarning, match="the loss itself is called"):
        close(memory(embeddings, labels), 2 * plain(embeddings, labels))
    for embeddings, labels in others:
        close(memory(embeddings, labels), 2 * plain(embeddings, labels))


def test_the_loss_gets_copies_so_that_backward_may_come_later():
    memory = called_itself()
    leaves, values = [], []
    for embeddings, labels in batches(3):
        leaves.append(embeddings.clone().requires_grad_())
        values.append(memory(leaves[-1], labels))
    sum(values).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_labels_of_another_type_and_shape_need_a_pair_function():
    def any_in_common(labels, ref_labels):
        common = (labels.unsqueeze(1) * ref_labels.unsqueeze(0)).sum(dim=2) > 0
        return (*common.nonzero(as_tuple=True), *(~common).nonzero(as_tuple=True))

    class OfPairs(losses.SupConLoss):  # 2.9 takes labels of one dimension only
        def forward(self, embeddings, labels, indices_tuple, ref_emb, ref_labels):
            assert labels.shape == (len(embeddings), 6) and ref_labels.shape == (len(ref_emb), 6)
            return super().forward(embeddings, None, indices_tuple, ref_emb, None)

    with pytest.raises(ValueError, match="need a pair_function or a miner"):
        taken_over(label_shape=(3,))
    one_hot = {"label_dtype": torch.float32, "label_shape": (6,), "pair_function": any_in_common}
    memory, plain = CrossBatchMemory(OfPairs(), DIM, MEMORY, **one_hot), taken_over()
    for embeddings, labels in batches(5):
        found = loss_and_gradient(memory, embeddings, torch.nn.functional.one_hot(labels, 6))
        expected = loss_and_gradient(plain, embeddings, labels)
        close(found[0], expected[0])
        close(found[1], expected[1])
    assert memory.label_memory.shape == (MEMORY, 6) and memory.label_memory.dtype == torch.float32


def test_labels_of_any_value_are_told_apart():
    plain, hashed = taken_over(), taken_over()
    hashes = torch.tensor([2**63 - 1, -(2**63), 2**40, 2**40 + 1, -5, 7])
    for embeddings, labels in batches(6):
        assert torch.equal(plain(embeddings, labels), hashed(embeddings, hashes[labels]))


def test_labels_that_label_dtype_cannot_hold_are_refused():
    memory = taken_over(label_dtype=torch.int32)
    embeddings, labels = one_batch()
    assert torch.equal(memory(embeddings, labels), taken_over()(embeddings, labels))
    with pytest.raises(ValueError, match="label_dtype=torch.int32 holds"):
        memory(embeddings, labels + 2**40)


def test_add_to_memory_enqueues_without_a_loss_and_reset_queue_forgets():
    memory, twin = taken_over(), taken_over()
    for embeddings, labels in batches(4):
        memory.add_to_memory(embeddings, labels, len(embeddings))
        twin(embeddings, labels)
    assert unchanged(memory, state(twin)) and torch.equal(memory(*one_batch()), twin(*one_batch()))
    with pytest.raises(ValueError, match="batch_size: expected 20"):
        memory.add_to_memory(*one_batch(), 3)
    memory.reset_queue()
    assert (memory.queue_idx, memory.has_been_filled, memory.embedding_memory.abs().sum()) == (0, False, 0)
    assert torch.equal(memory(*one_batch()), taken_over()(*one_batch()))


@WAYS
def test_the_queue_goes_on_from_a_state_a_copy_and_a_pickle(make):
    original = make()
    for embeddings, labels in batches(5):
        original(embeddings, labels)
    file = io.BytesIO()
    torch.save(original.state_dict(), file)
    file.seek(0)
    loaded = make()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    others = [loaded, copy.deepcopy(original), pickle.loads(pickle.dumps(original))]
    for embeddings, labels in batches(4, seed=3):
        expected = original(embeddings, labels)
        assert all(torch.equal(memory(embeddings, labels), expected) for memory in others)


def test_a_state_of_pytorch_metric_learning_is_loaded_and_ours_by_it():
    theirs = losses.CrossBatchMemory(losses.SupConLoss(), DIM, memory_size=MEMORY)
    for step, (embeddings, labels) in enumerate(batches(5)):
        theirs(embeddings, labels)
        ours = taken_over()
        ours.load_state_dict(theirs.state_dict())
        assert torch.equal(ours.embedding_memory, theirs.embedding_memory)
        assert ours.has_been_filled == theirs.has_been_filled
        # Where a full queue goes on, a state of theirs does not say.
        assert ours.queue_idx == (0 if ours.has_been_filled else theirs.queue_idx)
        if step < 3:
            close(ours(*one_batch()), copy.deepcopy(theirs)(*one_batch()))
    missing = theirs.load_state_dict(taken_over().state_dict(), strict=False)
    assert missing.missing_keys == [] and missing.unexpected_keys == ["position"]


def test_it_is_described():
    text = repr(taken_over())
    assert text.startswith("CrossBatchMemory(") and f"embedding_size={DIM}, memory_size={MEMORY}" in text and "SupConLoss" in text


@pytest.mark.parametrize("reentrant", [False, True])
@WAYS
def test_checkpointing_around_it_enqueues_once(make, reentrant):
    from torch.utils.checkpoint import checkpoint

    plain, wrapped = make(), make()
    for embeddings, labels in batches(5):
        expected = loss_and_gradient(plain, embeddings, labels)
        found = loss_and_gradient(lambda rows, labels: checkpoint(wrapped, rows, labels, use_reentrant=reentrant), embeddings, labels)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    assert unchanged(wrapped, state(plain))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_have_a_loss_in_32_bit(dtype):
    memory, plain = taken_over(), taken_over()
    for embeddings, labels in batches(3):
        loss, gradient = loss_and_gradient(memory, embeddings.to(dtype), labels)
        expected, _ = loss_and_gradient(plain, embeddings.to(dtype).float(), labels)
        assert loss.dtype == torch.float32 and gradient.dtype == dtype
        close(loss, expected, 1e-6)


def test_a_collected_statistic_or_a_regularizer_is_not_ignored():
    from pytorch_metric_learning import regularizers

    for loss in (losses.SupConLoss(embedding_regularizer=regularizers.LpRegularizer()), losses.SupConLoss(collect_stats=True)):
        memory = CrossBatchMemory(loss, DIM, MEMORY)
        with pytest.warns(UserWarning, match="the engine does not compute an embedding regularizer"):
            memory(*one_batch())


def test_settings_without_a_meaning_are_refused():
    for arguments in ((0,), (DIM, 0), (DIM, -3), (2.5,)):
        with pytest.raises(ValueError, match="expected a whole number of at least 1"):
            CrossBatchMemory(losses.SupConLoss(), *arguments)
