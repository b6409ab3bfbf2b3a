"""Retrieval scores."""

import pytest
import torch

from xbm_fast import evaluate


def test_scores_of_separated_classes_are_perfect():
    scores = evaluate(torch.eye(4).repeat_interleave(3, dim=0), torch.arange(4).repeat_interleave(3) + 2**60, ks=(1, 2))
    ones = dict.fromkeys(("recall_at_1", "recall_at_2", "map_at_r", "r_precision", "mean_reciprocal_rank"), 1.0)
    assert scores == ones | {"queries": 12, "excluded_queries": 0}


def test_queries_without_another_row_of_their_class_are_counted():
    scores = evaluate(torch.eye(5), torch.tensor([0, 0, 1, 2, 3]), ks=(4,))
    assert (scores["queries"], scores["excluded_queries"], scores["recall_at_4"]) == (2, 3, 1.0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="ks: expected whole numbers of at least 1"):
        evaluate(torch.eye(4), [0, 0, 1, 1], ks=(0,))
    with pytest.raises(ValueError, match="embeddings: expected numbers of shape"):
        evaluate(torch.zeros(4), [0, 0, 1, 1])
