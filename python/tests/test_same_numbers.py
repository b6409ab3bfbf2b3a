"""CrossBatchMemory beside that of pytorch-metric-learning 2.9: losses and gradients of every object that the engine takes over.

The other side computes in 64 bit, so that the differences are this side's alone.
"""

import warnings

import pytest
import torch

from helpers import BATCH, DIM, MEMORY, batches, close, loss_and_gradient, near
from xbm_fast import CrossBatchMemory

pml = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import distances, losses, miners, reducers  # noqa: E402

SAME = 1e-6
# A weight e^(k s) has k times the rounding error of the similarity, and k is 14 to 80 in these.
STEEP, STEEP_LOSSES = 4e-6, ("multi-similarity", "MultiSimilarity", "circle", "NTXentLoss-default")
COSINE, DOT = distances.CosineSimilarity(), distances.DotProductSimilarity()
SQUARED = distances.LpDistance(power=2)
EACH = {"mean": reducers.MeanReducer, "sum": reducers.SumReducer, "avg": reducers.AvgNonZeroReducer}


def cases():
    for name, reducer in EACH.items():
        for distance in (COSINE, DOT):
            yield (
                f"contrastive-{name}-{type(distance).__name__}",
                lambda r=reducer, d=distance: losses.ContrastiveLoss(0.95, 0.4, distance=d, reducer=r()),
            )
        yield f"contrastive-{name}-squared", lambda r=reducer: losses.ContrastiveLoss(0.1, 1.2, distance=SQUARED, reducer=r())
        yield f"triplet-{name}", lambda r=reducer: losses.TripletMarginLoss(0.1, distance=COSINE, reducer=r())
        yield f"triplet-{name}-small", lambda r=reducer: losses.TripletMarginLoss(0.01, distance=COSINE, reducer=r())
        yield f"triplet-{name}-none", lambda r=reducer: losses.TripletMarginLoss(0, distance=COSINE, reducer=r())
        yield f"triplet-{name}-squared", lambda r=reducer: losses.TripletMarginLoss(0.2, distance=SQUARED, reducer=r())
        yield f"multi-similarity-{name}", lambda r=reducer: losses.MultiSimilarityLoss(2, 40, 0.6, reducer=r())
        yield f"multi-similarity-{name}-squared", lambda r=reducer: losses.MultiSimilarityLoss(1, 20, 0.8, distance=SQUARED, reducer=r())
        yield f"sup-con-{name}", lambda r=reducer: losses.SupConLoss(0.2, reducer=r())
        yield f"sup-con-{name}-squared", lambda r=reducer: losses.SupConLoss(0.5, distance=SQUARED, reducer=r())
        yield f"circle-{name}", lambda r=reducer: losses.CircleLoss(0.3, 20, reducer=r())
        yield f"nca-{name}", lambda r=reducer: losses.NCALoss(3, distance=COSINE, reducer=r())
        yield f"nca-{name}-squared", lambda r=reducer: losses.NCALoss(reducer=r())
        yield f"lifted-{name}", lambda r=reducer: losses.GeneralizedLiftedStructureLoss(0.8, 0.3, distance=COSINE, reducer=r())
        yield f"lifted-{name}-squared", lambda r=reducer: losses.GeneralizedLiftedStructureLoss(0.9, 0.1, distance=SQUARED, reducer=r())
        if name != "avg":
            yield f"nt-xent-{name}", lambda r=reducer: losses.NTXentLoss(0.2, reducer=r())
            yield f"nt-xent-{name}-squared", lambda r=reducer: losses.NTXentLoss(0.5, distance=SQUARED, reducer=r())
    # As they are made without any argument, where that has an equal here.
    for kind in (losses.MultiSimilarityLoss, losses.NTXentLoss, losses.SupConLoss, losses.NCALoss):
        yield f"{kind.__name__}-default", kind
    yield "circle-soft", lambda: losses.CircleLoss(0.25, 32)


CASES = dict(cases())
MULTI_SIMILARITY, HARDEST = miners.MultiSimilarityMiner(0.1), miners.BatchHardMiner()
TRIPLETS = miners.TripletMarginMiner(0.15, distance=COSINE)
PAIRS = miners.PairMarginMiner(0.3, 1.1)  # of plain Euclidean distances, as it is made without a distance
# Names, losses and miners.
MINED = {
    "multi-similarity": (lambda: losses.MultiSimilarityLoss(), MULTI_SIMILARITY),
    "multi-similarity-squared": (lambda: losses.MultiSimilarityLoss(1, 20, 0.8, distance=SQUARED), MULTI_SIMILARITY),
    "multi-similarity-triplets": (lambda: losses.MultiSimilarityLoss(), TRIPLETS),
    "multi-similarity-pairs": (lambda: losses.MultiSimilarityLoss(), PAIRS),
    "multi-similarity-hardest": (lambda: losses.MultiSimilarityLoss(), HARDEST),
    "lifted-mined": (lambda: losses.GeneralizedLiftedStructureLoss(distance=COSINE), MULTI_SIMILARITY),
    "lifted-triplets": (lambda: losses.GeneralizedLiftedStructureLoss(distance=SQUARED), TRIPLETS),
    "lifted-pairs": (lambda: losses.GeneralizedLiftedStructureLoss(distance=COSINE), miners.PairMarginMiner(0.9, 0.2, distance=COSINE)),
    "lifted-hardest": (lambda: losses.GeneralizedLiftedStructureLoss(), HARDEST),
    "contrastive-sum": (lambda: losses.ContrastiveLoss(1, 0.5, distance=COSINE, reducer=reducers.SumReducer()), MULTI_SIMILARITY),
    "contrastive-avg": (lambda: losses.ContrastiveLoss(1, 0.5, distance=COSINE), MULTI_SIMILARITY),
    "contrastive-pairs": (lambda: losses.ContrastiveLoss(0.9, 0.5, distance=COSINE), miners.PairMarginMiner(0.95, 0.3, distance=COSINE)),
    "contrastive-hardest": (lambda: losses.ContrastiveLoss(), HARDEST),
    "contrastive-hardest-mean": (lambda: losses.ContrastiveLoss(1, 0.5, distance=COSINE, reducer=reducers.MeanReducer()), HARDEST),
    "triplet-hardest": (lambda: losses.TripletMarginLoss(0.2), HARDEST),
    "triplet-hardest-mean": (lambda: losses.TripletMarginLoss(0.3, distance=SQUARED, reducer=reducers.MeanReducer()), HARDEST),
    "triplet-triplets": (lambda: losses.TripletMarginLoss(0.1, distance=COSINE), TRIPLETS),
    "triplet-triplets-mean": (lambda: losses.TripletMarginLoss(0.1, distance=COSINE, reducer=reducers.MeanReducer()), TRIPLETS),
    "triplet-triplets-squared": (lambda: losses.TripletMarginLoss(0.2, distance=SQUARED), miners.TripletMarginMiner(0.2, distance=SQUARED)),
    "sup-con-hardest": (lambda: losses.SupConLoss(0.2), HARDEST),
    "nt-xent-hardest": (lambda: losses.NTXentLoss(0.2), HARDEST),
    "circle-hardest": (lambda: losses.CircleLoss(0.3, 20), HARDEST),
}


def both(make, miner=None):
    ours = CrossBatchMemory(make(), DIM, memory_size=MEMORY, miner=miner)
    theirs = losses.CrossBatchMemory(make().double(), DIM, memory_size=MEMORY, miner=miner)
    return ours, theirs


def tolerance_of(name):
    return STEEP if name.startswith(STEEP_LOSSES) else SAME


def compared(ours, theirs, embeddings, labels, tolerance=SAME, **named):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an object that is not taken over
        found = loss_and_gradient(ours, embeddings, labels, **named)
    expected = loss_and_gradient(theirs, embeddings.double(), labels, **named)
    assert expected[0] != 0
    close(found[0].double(), expected[0], tolerance)
    near(found[1], expected[1], tolerance)


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_agree_while_the_memory_fills_and_wraps(name):
    ours, theirs = both(CASES[name])
    for embeddings, labels in batches(8):
        compared(ours, theirs, embeddings, labels, tolerance_of(name))
    assert ours.queue_idx == theirs.queue_idx and ours.has_been_filled == theirs.has_been_filled
    close(ours.embedding_memory.double(), theirs.embedding_memory)
    assert torch.equal(ours.label_memory, theirs.label_memory)


@pytest.mark.parametrize("name", MINED)
def test_mined_losses_and_gradients_agree(name):
    ours, theirs = both(*MINED[name])
    for embeddings, labels in batches(8):
        compared(ours, theirs, embeddings, labels, tolerance_of(name))


@pytest.mark.parametrize("name", ["triplet-hardest", "multi-similarity-hardest", "contrastive-hardest-mean", "triplet-triplets"])
def test_anchors_without_a_positive_or_a_negative_have_no_hardest_pair(name):
    ours, theirs = both(*MINED[name])
    for embeddings, _ in batches(4):
        labels = torch.cat([torch.arange(BATCH - 8) + 100, torch.zeros(8, dtype=torch.int64)])
        compared(ours, theirs, embeddings, labels, tolerance_of(name), enqueue_mask=None)


@pytest.mark.parametrize("name", CASES)
def test_they_agree_where_some_rows_are_references_only(name):
    ours, theirs = both(CASES[name])
    for step, (embeddings, labels) in enumerate(batches(6)):
        compared(ours, theirs, embeddings, labels, tolerance_of(name), enqueue_mask=(torch.arange(BATCH) + step) % 3 > 0)


def test_a_setting_that_changes_during_training_counts():
    ours, theirs = both(CASES["sup-con-sum"])
    for step, (embeddings, labels) in enumerate(batches(4)):
        ours.loss.temperature = theirs.loss.temperature = 0.1 + 0.1 * step
        compared(ours, theirs, embeddings, labels)


def test_classes_without_another_row_agree():
    for name in ("sup-con-avg", "circle-avg", "nt-xent-mean", "contrastive-avg-CosineSimilarity", "multi-similarity-mean"):
        ours, theirs = both(CASES[name])
        for embeddings, _ in batches(3):
            labels = torch.cat([torch.arange(BATCH - 4), torch.zeros(4, dtype=torch.int64)])
            compared(ours, theirs, embeddings, labels, tolerance_of(name))


def test_float64_comes_back_as_float64():
    ours, theirs = both(CASES["contrastive-sum-CosineSimilarity"])
    for embeddings, labels in batches(3, dtype=torch.float64):
        found, expected = (loss_and_gradient(function, embeddings, labels) for function in (ours, theirs))
        assert found[0].dtype == found[1].dtype == ours.embedding_memory.dtype == torch.float64
        close(found[0], expected[0], SAME)
        near(found[1], expected[1], SAME)


def test_losses_of_each_anchor_are_those_of_do_nothing_reducer():
    ours, theirs = both(lambda: losses.SupConLoss(reducer=reducers.DoNothingReducer()))
    for embeddings, labels in batches(2):
        found, expected = ours(embeddings, labels)["loss"], theirs(embeddings.double(), labels)["loss"]
        assert found["reduction_type"] == expected["reduction_type"] and torch.equal(found["indices"], expected["indices"])
        close(found["losses"].double(), expected["losses"], 1e-5)


FOREIGN = {
    "lp": (lambda: losses.ContrastiveLoss(), None),
    "triplet-lp": (lambda: losses.TripletMarginLoss(), None),
    "lifted-lp": (lambda: losses.GeneralizedLiftedStructureLoss(), None),
    "lifted-of-pairs": (lambda: losses.LiftedStructureLoss(distance=SQUARED), None),
    "margin": (lambda: losses.MarginLoss(), None),
    "raw-dot": (lambda: losses.ContrastiveLoss(3, 1, distance=distances.DotProductSimilarity(normalize_embeddings=False)), None),
    "class-weighted": (lambda: losses.SupConLoss(reducer=reducers.ClassWeightedReducer(torch.rand(6))), None),
    "semihard": (lambda: losses.TripletMarginLoss(distance=COSINE), miners.TripletMarginMiner(0.2, "semihard", distance=COSINE)),
    "stricter-miner": (lambda: losses.TripletMarginLoss(0.3, distance=COSINE), miners.TripletMarginMiner(0.2, "all", distance=COSINE)),
    "stricter-pairs": (lambda: losses.ContrastiveLoss(1, 0.3, distance=COSINE), miners.PairMarginMiner(0.9, 0.4, distance=COSINE)),
    "triplets-of-pairs": (lambda: losses.ContrastiveLoss(1, 0.5, distance=COSINE), miners.TripletMarginMiner(0.2, distance=COSINE)),
    "easy-hard": (lambda: losses.TripletMarginLoss(distance=COSINE), miners.BatchEasyHardMiner("hard", "easy")),
    "hardest-in-range": (lambda: losses.TripletMarginLoss(distance=COSINE), miners.BatchHardMiner(allowed_neg_range=(0.1, 1.2))),
    "nca-hardest": (lambda: losses.NCALoss(), miners.BatchHardMiner()),
    "subclass": (lambda: type("SupConLoss", (losses.SupConLoss,), {})(), None),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_the_engine_has_not_is_called_itself_and_said_once(name):
    make, miner = FOREIGN[name]
    torch.manual_seed(3)
    ours = CrossBatchMemory(make(), DIM, memory_size=MEMORY, miner=miner)
    torch.manual_seed(3)
    theirs = losses.CrossBatchMemory(make(), DIM, memory_size=MEMORY, miner=miner)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for embeddings, labels in batches(5):
            found = loss_and_gradient(ours, embeddings, labels)
            expected = loss_and_gradient(theirs, embeddings, labels)
            close(found[0], expected[0], SAME)
            near(found[1], expected[1], SAME)
    assert len([warning for warning in said if "the engine does not compute" in str(warning.message)]) == 1


def test_triplets_are_counted_in_a_memory_of_some_size():
    generator = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(6000, 16, generator=generator) + 0.5, torch.randint(0, 40, (6000,), generator=generator)
    for margin in (0.01, 0.2):
        memory = CrossBatchMemory(losses.TripletMarginLoss(margin, distance=COSINE), 16, memory_size=6000)
        memory.add_to_memory(rows, labels)
        total = CrossBatchMemory(losses.TripletMarginLoss(margin, distance=COSINE, reducer=reducers.SumReducer()), 16, memory_size=6000)
        total.add_to_memory(rows, labels)
        anchors, classes = rows[:8] + 0.1, labels[:8]
        nothing = torch.zeros(8, dtype=torch.bool)
        mean, whole = (function(anchors.double(), classes, enqueue_mask=nothing).item() for function in (memory, total))
        unit, unit_rows = (torch.nn.functional.normalize(part.double()) for part in (anchors, rows))
        similarity, same = unit @ unit_rows.T, classes.unsqueeze(1) == labels
        differences = [row[~mask].unsqueeze(0) - row[mask].unsqueeze(1) for row, mask in zip(similarity, same, strict=True)]
        expected = sum(int((part + margin > 0).sum()) for part in differences)
        assert expected > 10**6 and whole / mean == pytest.approx(expected, rel=SAME)


def test_given_pairs_and_triplets_are_added():
    for indices in (miners.MultiSimilarityMiner(), miners.TripletMarginMiner(0.3)):
        ours, theirs = both(CASES["contrastive-sum-CosineSimilarity"])
        for embeddings, labels in batches(5):
            compared(ours, theirs, embeddings, labels, indices_tuple=indices(embeddings, labels))


def test_three_changed_lines_give_a_script_the_same_loss_curve():
    script = """
import torch
from pytorch_metric_learning import losses, miners

def train(batches):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(24, 32), torch.nn.ReLU(), torch.nn.Linear(32, 24))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    loss_function = losses.CrossBatchMemory(losses.MultiSimilarityLoss(), 24, memory_size=70, miner=miners.MultiSimilarityMiner())
    curve = []
    for inputs, labels in batches:
        loss = loss_function(network(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return torch.tensor(curve)
"""
    changed = script.replace("import torch\n", "import torch\nimport xbm_fast\n", 1).replace(
        "losses.CrossBatchMemory", "xbm_fast.CrossBatchMemory"
    )
    assert len(set(changed.splitlines()) - set(script.splitlines())) <= 3
    curves = []
    for text in (script, changed):
        names = {}
        exec(text, names)
        curves.append(names["train"](batches(60, seed=1)))
    assert curves[0][-5:].mean() < curves[0][:5].mean() or curves[0].std() > 0
    # Rounding differences grow with the steps.
    torch.testing.assert_close(curves[0], curves[1], rtol=1e-3, atol=0)
