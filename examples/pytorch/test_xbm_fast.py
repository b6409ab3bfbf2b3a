"""XbmLoss against pytorch-metric-learning's CrossBatchMemory, through state_dict and back, and with what it must refuse.

    cargo build --release --lib
    python examples/pytorch/test_xbm_fast.py

Needs torch; the comparisons need pytorch-metric-learning and are skipped without it.
"""

import copy
import difflib
import io
import pathlib
import unittest

import torch

from xbm_fast import XbmError, XbmLoss, as_int32, evaluate

try:
    from pytorch_metric_learning import distances, losses, reducers
except ImportError:
    losses = None

DIM, BATCH, MEMORY = 24, 20, 70  # the batch does not divide the memory: the ring wraps inside a batch
# Both sides compute in 32 bit, in different orders.
TOLERANCE = 1e-5


def batches(count, seed=0):
    """Embeddings of any length, alike enough that some negatives are hard, and labels."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        embeddings = torch.randn(BATCH, DIM, generator=generator) + 0.8
        yield embeddings * torch.rand(BATCH, 1, generator=generator).add(0.1), torch.randint(0, 6, (BATCH,), generator=generator)


def peer(reducer=None):
    contrastive = losses.ContrastiveLoss(
        pos_margin=1, neg_margin=0.5, distance=distances.CosineSimilarity(), reducer=reducer or reducers.SumReducer()
    )
    return losses.CrossBatchMemory(contrastive, DIM, memory_size=MEMORY)


def loss_and_gradient(function, embeddings, *arguments, **named):
    embeddings = embeddings.clone().requires_grad_()
    loss = function(embeddings, *arguments, **named)
    loss.backward()
    return loss.detach(), embeddings.grad


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE * expected.abs().max().item())


@unittest.skipIf(losses is None, "pytorch-metric-learning is not installed")
class LikeCrossBatchMemory(unittest.TestCase):
    def test_losses_and_gradients_agree_while_the_memory_fills_and_wraps(self):
        ours, theirs = XbmLoss(DIM, MEMORY, reduction="sum"), peer()
        for embeddings, labels in batches(12):
            loss, gradient = loss_and_gradient(ours, embeddings, labels)
            expected_loss, expected_gradient = loss_and_gradient(theirs, embeddings, labels)
            self.assertGreater(expected_loss, 1.0)
            close(loss, expected_loss)
            close(gradient, expected_gradient)

    def test_a_network_has_the_same_loss_curve(self):
        curves = []
        for function in (XbmLoss(DIM, MEMORY, reduction="sum"), peer()):
            torch.manual_seed(0)
            network = torch.nn.Sequential(torch.nn.Linear(DIM, 32), torch.nn.ReLU(), torch.nn.Linear(32, DIM))
            optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
            curve = []
            for inputs, labels in batches(40, seed=1):
                loss = function(network(inputs), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                curve.append(loss.item())
            curves.append(torch.tensor(curve))
        # Rounding differences grow with the steps.
        torch.testing.assert_close(curves[0], curves[1], rtol=1e-3, atol=0)

    def test_a_mean_over_all_pairs_of_a_kind_is_the_default_reducer(self):
        mean = """
            positive = { curve = "constant:1", scale = "mean-all" }
            negative = { curve = "constant:1", gate = "above:0.5", scale = "mean-all" }
        """
        ours, theirs = XbmLoss(DIM, MEMORY, weighting=mean), peer(reducers.AvgNonZeroReducer())
        for embeddings, labels in batches(8):
            loss, gradient = loss_and_gradient(ours, embeddings, labels)
            expected_loss, expected_gradient = loss_and_gradient(theirs, embeddings, labels)
            close(loss, expected_loss)
            close(gradient, expected_gradient)

    def test_named_losses_agree_with_theirs(self):
        distance, reducer = distances.CosineSimilarity(), reducers.MeanReducer()
        multi_similarity = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5, distance=distance, reducer=reducer)
        ours = XbmLoss(DIM, MEMORY, weighting="multi-similarity:eps=9")  # mined so widely that nothing is left out
        theirs = losses.CrossBatchMemory(multi_similarity, DIM, memory_size=MEMORY)
        for embeddings, labels in batches(8):
            loss, gradient = loss_and_gradient(ours, embeddings, labels)
            expected_loss, expected_gradient = loss_and_gradient(theirs, embeddings, labels)
            close(loss, expected_loss)
            close(gradient, expected_gradient)

class Behaviour(unittest.TestCase):
    def after_some_batches(self, count=5, **settings):
        function = XbmLoss(DIM, MEMORY, **settings)
        for embeddings, labels in batches(count):
            function(embeddings, labels)
        return function

    def test_mean_is_the_sum_over_the_batch_size(self):
        (embeddings, labels), *_ = batches(1, seed=2)
        mean = loss_and_gradient(self.after_some_batches(), embeddings, labels)
        whole = loss_and_gradient(self.after_some_batches(reduction="sum"), embeddings, labels)
        close(mean[0] * BATCH, whole[0])
        close(mean[1] * BATCH, whole[1])

    def test_the_memory_comes_back_to_the_bit(self):
        original = self.after_some_batches()
        file = io.BytesIO()
        torch.save(original.state_dict(), file)
        file.seek(0)
        loaded = XbmLoss(DIM, MEMORY)
        loaded.load_state_dict(torch.load(file))
        copied = copy.deepcopy(original)
        for embeddings, labels in batches(6, seed=3):
            expected = loss_and_gradient(original, embeddings, labels)
            for function in (loaded, copied):
                found = loss_and_gradient(function, embeddings, labels)
                self.assertTrue(torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1]))

    def test_strides_and_floating_types_do_not_matter(self):
        (embeddings, labels), *_ = batches(1, seed=4)
        expected = loss_and_gradient(self.after_some_batches(), embeddings, labels)
        columns = embeddings.t().contiguous().t()
        spaced = labels.repeat_interleave(3)[::3]
        self.assertFalse(columns.is_contiguous() or spaced.is_contiguous())
        found = loss_and_gradient(self.after_some_batches(), columns, spaced)
        self.assertTrue(torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1]))
        for dtype, tolerance in ((torch.float64, TOLERANCE), (torch.float16, 2e-2), (torch.bfloat16, 1e-1)):
            loss, gradient = loss_and_gradient(self.after_some_batches(), embeddings.to(dtype), labels.to(torch.int16))
            self.assertEqual(gradient.dtype, dtype)
            torch.testing.assert_close(loss, expected[0], rtol=tolerance, atol=0)

    def test_ids_leave_out_older_rows_of_an_image_and_keys_take_the_embeddings_place(self):
        one = torch.eye(DIM)[:1]
        function = XbmLoss(DIM, MEMORY, reduction="sum")
        for _ in range(2):
            loss = function(one, torch.tensor([1]), ids=torch.tensor([7]), keys=torch.eye(DIM)[1:2])
        self.assertEqual((loss.item(), function.kept.tolist()), (0.0, [[0, 0]]))
        # Two rows of another image of this class, both at right angles: the loss of each is 1.
        loss = function(one, torch.tensor([1]), ids=torch.tensor([8]), enqueue=False)
        self.assertEqual((loss.item(), function.kept.tolist()), (2.0, [[2, 0]]))
        function.reset()
        self.assertEqual(function(one, torch.tensor([1]), enqueue=False).item(), 0.0)

    def test_an_empty_batch_has_a_loss_of_zero(self):
        loss, gradient = loss_and_gradient(self.after_some_batches(), torch.empty(0, DIM), torch.empty(0, dtype=torch.int64))
        self.assertEqual((loss.item(), gradient.shape), (0.0, (0, DIM)))

    def test_scores_of_separated_classes_are_perfect(self):
        scores = evaluate(torch.eye(4).repeat_interleave(3, dim=0), torch.arange(4).repeat_interleave(3), ks=(1, 2))
        ones = dict.fromkeys(("recall_at_1", "recall_at_2", "map_at_r", "r_precision", "mean_reciprocal_rank"), 1.0)
        self.assertEqual(scores, ones | {"queries": 12, "excluded_queries": 0})

    def test_queries_without_another_row_of_their_class_are_counted(self):
        scores = evaluate(torch.eye(5), torch.tensor([0, 0, 1, 2, 3]), ks=(4,))
        self.assertEqual((scores["queries"], scores["excluded_queries"], scores["recall_at_4"]), (2, 3, 1.0))


class NextToNothing(unittest.TestCase):
    NAMES = "contrastive triplet lifted-structure nca info-nce n-pair binomial-deviance multi-similarity circle".split()

    def test_every_loss_of_none_or_one_row_without_others_is_zero(self):
        for name in self.NAMES:
            for rows in (0, 1):
                for settings in ({}, {"ids": torch.arange(rows)}, {"enqueue": False}):
                    function = XbmLoss(DIM, MEMORY, weighting=name)
                    loss, gradient = loss_and_gradient(function, torch.ones(rows, DIM), torch.zeros(rows, dtype=torch.int64), **settings)
                    self.assertEqual((loss.item(), gradient.abs().sum().item(), function.kept.sum().item()), (0.0, 0.0, 0), (name, settings))

    def test_every_loss_of_two_rows_is_finite_in_one_class_and_in_two(self):
        two = torch.eye(DIM)[:2] + 0.5
        for name in self.NAMES:
            for labels in ([0, 0], [0, 1]):
                loss, gradient = loss_and_gradient(XbmLoss(DIM, MEMORY, weighting=name), two, torch.tensor(labels))
                self.assertTrue(loss.isfinite() and gradient.isfinite().all(), (name, labels))

    def test_rows_without_a_direction_get_no_gradient_and_are_counted(self):
        (embeddings, labels), *_ = batches(1, seed=5)
        for dtype, short in ((torch.float32, (0.0, 1e-14, 1e-40)), (torch.float64, (0.0, 1e-14, 1e-300)), (torch.float16, (0.0, 6e-8, 1e-6))):
            batch = embeddings.to(dtype)
            batch[: len(short)] = 0
            batch[: len(short), 0] = torch.tensor(short, dtype=dtype)
            function = XbmLoss(DIM, MEMORY, reduction="sum")
            loss, gradient = loss_and_gradient(function, batch, labels)
            self.assertEqual((function.zero_rows, gradient[: len(short)].abs().max().item()), (len(short), 0.0), dtype)
            self.assertTrue(loss.isfinite() and gradient.isfinite().all() and gradient[len(short) :].abs().sum() > 0, dtype)

    def test_rows_of_any_length_have_the_same_loss(self):
        (embeddings, labels), *_ = batches(1, seed=6)
        expected, _ = loss_and_gradient(XbmLoss(DIM, MEMORY), embeddings, labels)
        for length in (2.0**-30, 2.0**100):
            loss, gradient = loss_and_gradient(XbmLoss(DIM, MEMORY), embeddings * length, labels)
            self.assertTrue(torch.equal(loss, expected) and gradient.isfinite().all(), length)


class Refusals(unittest.TestCase):
    def refused(self, error, words, function, *arguments, **named):
        with self.assertRaisesRegex(error, words):
            function(*arguments, **named)

    def test_what_makes_no_sense_is_refused_in_words(self):
        (embeddings, labels), *_ = batches(1)
        function = XbmLoss(DIM, MEMORY)
        shape = r"expected numbers of shape \(batch, 24\)"
        self.refused(ValueError, shape, function, embeddings[:, 1:], labels)
        self.refused(ValueError, shape, function, embeddings[0], labels)
        self.refused(ValueError, shape, function, embeddings.long(), labels)
        self.refused(ValueError, r"labels: expected integers of shape \(20,\)", function, embeddings, labels[1:])
        self.refused(ValueError, "labels: expected integers", function, embeddings, labels.float())
        self.refused(ValueError, "found some from 0 to 4294967296", function, embeddings, labels + (labels == labels[0]) * 2**32 - labels)
        self.refused(ValueError, "ids: expected integers", function, embeddings, labels, ids=labels[1:])
        self.refused(ValueError, "keys: expected shape", function, embeddings, labels, keys=embeddings[1:])
        embeddings[3, 5] = float("nan")
        self.refused(XbmError, "not finite .*first in row 3", function, embeddings, labels)
        self.refused(XbmError, "unknown weighting `contrastiv`", XbmLoss, DIM, MEMORY, weighting="contrastiv")
        self.refused(XbmError, "memory of 0 rows", XbmLoss, DIM, 0)
        self.refused(ValueError, "reduction", XbmLoss, DIM, MEMORY, reduction="median")
        self.refused(ValueError, "memory_size: expected a number of at least 1, found -1", XbmLoss, DIM, -1)
        self.refused(XbmError, "out of memory: the memory of 2000000000 rows", XbmLoss, 2**20, 2_000_000_000)
        self.refused(XbmError, "margin must be from -100 to 100", XbmLoss, DIM, MEMORY, weighting="triplet:margin=1e38")
        self.refused(ValueError, "ks: expected whole numbers of at least 1", evaluate, torch.eye(4), torch.zeros(4, dtype=torch.int64), ks=(0,))

    def test_labels_of_every_integer_type_keep_their_values_or_are_refused(self):
        like, fits = torch.zeros(3, DIM), torch.iinfo(torch.int32)
        for name in ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
            dtype = getattr(torch, name)
            ends = torch.iinfo(dtype)
            for values in ([0, 1, 2], [ends.min, 0, 1], [0, 1, ends.max], [ends.max] * 3):
                labels = torch.tensor(values, dtype=dtype)
                if all(fits.min <= value <= fits.max for value in values):
                    self.assertEqual(as_int32("labels", labels, like).tolist(), values)
                else:
                    self.refused(ValueError, "labels: expected values from -2147483648 to 2147483647", as_int32, "labels", labels, like)
        self.assertEqual(as_int32("labels", [3, 4, 5], like).tolist(), [3, 4, 5])
        for labels in ([True, False, True], [1.0, 2.0, 3.0]):
            self.refused(ValueError, "labels: expected integers", as_int32, "labels", labels, like)

    def test_a_state_of_another_size_is_refused_and_leaves_the_memory_alone(self):
        function, other = XbmLoss(DIM, MEMORY), XbmLoss(DIM, MEMORY + 1)
        (embeddings, labels), *_ = batches(1)
        function(embeddings, labels)
        before = function.state_dict()["_extra_state"]
        self.refused(XbmError, "expected 70 rows of length 24, found 71", function.load_state_dict, other.state_dict())
        self.assertTrue(torch.equal(before, function.state_dict()["_extra_state"]))

    def test_a_second_derivative_is_refused(self):
        (embeddings, labels), *_ = batches(1)
        embeddings.requires_grad_()
        loss = XbmLoss(DIM, MEMORY)(embeddings, labels)
        self.refused(XbmError, "first derivatives only", torch.autograd.grad, loss, embeddings, create_graph=True)


class Scripts(unittest.TestCase):
    def test_the_training_scripts_differ_where_the_loss_is_made(self):
        ours, theirs = ((pathlib.Path(__file__).parent / name).read_text().splitlines() for name in ("train.py", "train_peer.py"))
        added = [line for line in difflib.ndiff(theirs, ours) if line.startswith("+ ")]
        self.assertEqual(added, ["+ from xbm_fast import XbmLoss, evaluate", '+     loss_function = XbmLoss(args.dim, args.memory_size, reduction="sum")'])


if __name__ == "__main__":
    unittest.main()
