"""XbmLoss over a process group: 2 and 4 processes of gloo beside one process with the global batch. ranks.py is what each of them does."""

import pathlib
import subprocess
import sys

import pytest
import torch

from helpers import close
from ranks import DIM, GLOBAL_BATCH, LOSSES, MEMORY, global_batches, run, trained
from xbm_fast import XbmLoss

# Sums over a part of the queue at a time are rounded elsewhere.
SAME = 1e-6
SECONDS = 900  # a bound, for machines that do much else


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    """What each rank found, in the order of the ranks."""
    folder, script = tmp_path_factory.mktemp("ranks"), pathlib.Path(__file__).with_name("ranks.py")
    command = [sys.executable, str(script)]
    started = [
        subprocess.Popen(
            [*command, str(rank), str(request.param), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for rank in range(request.param)
    ]
    try:
        words = [process.communicate(timeout=SECONDS)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * request.param, "\n".join(words)
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(request.param)]


def alone(**settings):
    return XbmLoss(DIM, MEMORY, **{"reduction": "none"} | settings)


def of_all(ranks, name, place):
    """Rows of every step in the order of the ranks, as one process has them."""
    parts = [found[name][place] for found in ranks]
    steps = len(parts[0]) * len(ranks) // GLOBAL_BATCH
    return torch.stack([part.reshape(steps, -1, *part.shape[1:]) for part in parts], dim=1).flatten(0, 2)


def agrees(ranks, name, expected, tolerance=SAME):
    for place, value in enumerate(expected):
        found = of_all(ranks, name, place)
        if value.dtype == torch.int32:
            assert torch.equal(found, value), name
        else:
            assert value.abs().max() > 0
            close(found, value, tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_gradients_and_pairs_are_those_of_one_process(ranks, name):
    agrees(ranks, name, run(alone(**LOSSES[name])))


@pytest.mark.parametrize("reduction", ["mean", "sum", "avg-non-zero"])
def test_the_mean_over_the_ranks_is_the_result_of_one_process(ranks, reduction):
    function = alone(reduction=reduction, weighting="triplet:margin=0.1")
    expected = torch.stack([function(embeddings, labels) for embeddings, labels, *_ in global_batches(4)])
    close(torch.stack([found[reduction] for found in ranks]).mean(dim=0), expected, SAME)


@pytest.mark.parametrize("reduction", ["mean", "sum", "avg-non-zero"])
def test_distributed_data_parallel_moves_the_parameters_as_one_process(ranks, reduction):
    expected = trained(lambda network: network, alone(reduction=reduction))
    for found in ranks:
        close(found[f"trained {reduction}"], expected, 1e-5)  # rounding differences grow with the steps
    assert all(torch.equal(found[f"trained {reduction}"], ranks[0][f"trained {reduction}"]) for found in ranks)


def test_so_do_a_model_with_the_loss_inside_and_sharded_parameters(ranks):
    expected = trained(lambda network: network, alone(reduction="mean"))
    for found in ranks:
        close(found["trained inside"], expected, 1e-5)
        close(found["trained sharded"], expected, 1e-5)


def test_buffers_that_are_broadcast_are_refused(ranks):
    assert "rank 1 refused its part of the batch" in ranks[0]["trained with buffers"]
    for rank, found in enumerate(ranks[1:], 1):
        words = f"the queue of rank {rank} was overwritten by that of rank 0; DistributedDataParallel does so unless"
        assert words in found["trained with buffers"]


def test_what_one_rank_gets_wrong_is_refused_on_all_and_changes_nothing(ranks):
    size = len(ranks)
    uneven = [3 + (rank == 1) for rank in range(size)]
    for rank, found in enumerate(ranks):
        told = "rank 1 refused its part of the batch" if rank != 1 else None
        for sizes, broken, enqueue, labels in zip(*[iter(found["refused"])] * 4, strict=True):
            assert f"ValueError: embeddings: expected the same on all {size} ranks, found {uneven}" in sizes
            assert (told or "embeddings: expected finite numbers, found NaN or infinity") in broken
            assert "enqueue: expected the same on all" in enqueue
            assert (told or "labels: expected integers of shape") in labels
        assert f"memory_size: expected a multiple of the {size} ranks, found {MEMORY + 1}" in found["settings"][0]
        assert "`mean-all` weighs by the pairs of all ranks' anchors" in found["settings"][1]
        assert found["empty"].shape == (0,)


@pytest.mark.parametrize("name", ["contrastive", "multi-similarity"])
def test_a_state_of_all_ranks_goes_on_in_one_process_and_in_any_number(ranks, name):
    one = alone(**LOSSES[name])
    run(one)
    for found in ranks:
        whole = found[f"whole {name}"]
        assert whole.keys() == one.state_dict().keys()
        assert torch.equal(whole["position"], one.position) and torch.equal(whole["label_memory"], one.label_memory)
        assert torch.equal(whole["id_memory"], one.id_memory)
        close(whole["embedding_memory"], one.embedding_memory, 1e-7)
    resumed = alone(**LOSSES[name])
    resumed.load_state_dict(ranks[0][f"whole {name}"])
    agrees(ranks, f"resumed {name}", run(resumed, seed=5))


def test_a_queue_that_is_anothers_is_refused(ranks):
    for rank, found in enumerate(ranks):
        expected = "rank 1 refused" if rank == 0 else f"the queue of rank {rank} was overwritten by that of rank 0"
        assert expected in found["overwritten"], found["overwritten"]
        assert f"expected the state of rank {rank} of {len(ranks)}, or a whole_state(), found that" in found["of another rank"]
        assert "not copied or pickled" in found["copied"]


def test_without_a_group_the_words_say_so():
    with pytest.raises(ValueError, match="process_group: expected torch.distributed to be initialised"):
        XbmLoss(DIM, MEMORY, process_group="nccl")
