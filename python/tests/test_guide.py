"""docs/python.md: every block of it, and what it says about the numbers."""

import pathlib
import re
import warnings

import pytest
import torch

pytest.importorskip("pytorch_metric_learning")

PAGE = (pathlib.Path(__file__).parents[2] / "docs/python.md").read_text()


def blocks():
    """The page's blocks by section, in their order; the first section has what all begin with."""
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        code = re.findall(r"(?:^(?: {4}.*)?\n)+", section, re.MULTILINE)
        yield section.split("\n")[0], ["\n".join(line[4:] for line in block.splitlines()) for block in code if block.strip()]


BLOCKS = dict(blocks())
START = next(iter(BLOCKS.values()))[0]


def run(code):
    """What the names of a script are at its end."""
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(START + "\n" + code, names)
    return names


@pytest.mark.parametrize("section", ["pytorch-metric-learning 2", "A key encoder, as in MoCo"])
def test_the_curve_is_the_same_before_and_after(section):
    before, after = (torch.tensor(run(block)["curve"]) for block in BLOCKS[section])
    assert len(before) == 30 and before.std() > 0
    # Rounding differences grow with the steps.
    torch.testing.assert_close(before, after, rtol=1e-4, atol=0)


def test_a_loop_of_ones_own_has_the_same_loss_with_a_memory_of_one_batch_and_learns_with_more():
    before, after = BLOCKS["A loop of your own: timm, sentence-transformers"]
    small = after.replace("memory_size=2000", "memory_size=24")
    torch.testing.assert_close(torch.tensor(run(before)["curve"]), torch.tensor(run(small)["curve"]), rtol=1e-4, atol=0)
    curve = torch.tensor(run(after)["curve"])
    assert curve.isfinite().all() and len(curve) == 30


def test_a_model_with_the_loss_inside_gives_the_loss_beside_it_and_carries_the_memory():
    names = run(BLOCKS["Trainer of transformers"][0])
    beside = run(BLOCKS["A loop of your own: timm, sentence-transformers"][1])
    assert names["curve"] == beside["curve"]
    assert torch.equal(names["model"].state_dict()["loss_function.embedding_memory"], beside["loss_function"].embedding_memory)
    names["model"].eval()
    position = names["model"].loss_function.position.clone()
    names["model"](torch.randn(4, 32), torch.zeros(4, dtype=torch.int64))
    assert torch.equal(names["model"].loss_function.position, position)


def test_neighbours_carry_their_ids():
    names = run(BLOCKS["Neighbours"][0])
    assert names["similarities"].shape == names["rows"].shape == (10, 5)
    assert torch.equal(names["ids"], names["labels"][names["rows"]] + 10**12)


def test_every_block_has_its_test():
    tested = {"pytorch-metric-learning 2": 2, "A key encoder, as in MoCo": 2, "Neighbours": 1, "Trainer of transformers": 1}
    tested |= {"A loop of your own: timm, sentence-transformers": 2, next(iter(BLOCKS)): 1}
    tested |= {"More than one process": 1}  # a line of python/tests/ranks.py
    assert {section: len(code) for section, code in BLOCKS.items() if code} == tested
