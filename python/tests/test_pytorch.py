"""XbmLoss under what PyTorch does around a loss: compilation, checkpointing, autocast, scaling, fork, a second derivative."""

import copy
import os
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from helpers import BATCH, DIM, MEMORY, batches, close, loss_and_gradient
from xbm_fast import XbmError, XbmLoss


def test_the_operators_pass_pytorchs_own_checks():
    from xbm_fast import _operators

    function = XbmLoss(DIM, MEMORY)
    (embeddings, labels), *_ = batches(1)
    rows = torch.nn.functional.normalize(embeddings, dim=1).requires_grad_()
    function(embeddings, labels)
    arguments = (rows, labels, None, function.position, function._key, "contrastive", 2)
    torch.library.opcheck(_operators.pair_loss, arguments, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))
    torch.library.opcheck(_operators.enqueue, (function.position, rows.detach(), labels, None, function._key), test_utils="test_faketensor")


def test_compile_traces_everything_and_gives_the_same_numbers():
    torch.manual_seed(0)
    network = torch.nn.Linear(DIM, DIM)
    plain, traced = XbmLoss(DIM, MEMORY, reduction="sum"), XbmLoss(DIM, MEMORY, reduction="sum")

    def step(inputs, labels):
        return traced(network(inputs), labels)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for inputs, labels in batches(6):
        found = []
        for function in (compiled, lambda inputs, labels: plain(network(inputs), labels)):
            network.zero_grad()
            loss = function(inputs, labels + 2**40)
            loss.backward()
            found.append((loss.detach(), network.weight.grad.clone()))
        close(found[0][0], found[1][0], 1e-6)
        close(found[0][1], found[1][1], 1e-5)
    assert torch.equal(plain.position, traced.position)
    close(traced.embedding_memory, plain.embedding_memory, 1e-6)


def test_two_calls_in_one_compiled_function_stay_in_order():
    plain, traced = XbmLoss(DIM, MEMORY), XbmLoss(DIM, MEMORY)

    def twice(function):
        return lambda first, second, labels: function(first, labels) + 3 * function(second, labels)

    compiled = torch.compile(twice(traced), fullgraph=True, backend="aot_eager")
    (first, labels), (second, _), *_ = batches(2)
    for _ in range(3):
        close(compiled(first, second, labels), twice(plain)(first, second, labels), 1e-6)
    assert torch.equal(plain.position, traced.position)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_around_the_loss_enqueues_once(reentrant):
    plain, wrapped = XbmLoss(DIM, MEMORY), XbmLoss(DIM, MEMORY)
    for embeddings, labels in batches(6):
        expected = loss_and_gradient(plain, embeddings, labels)
        found = loss_and_gradient(lambda rows, labels: checkpoint(wrapped, rows, labels, use_reentrant=reentrant), embeddings, labels)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    assert torch.equal(plain.position, wrapped.position)


def test_checkpointing_of_a_batch_that_is_not_the_last_is_refused():
    function = XbmLoss(DIM, MEMORY)
    (first, labels), (second, _), *_ = batches(2)
    leaf = first.clone().requires_grad_()
    loss = checkpoint(function, leaf, labels, use_reentrant=False)
    function(second, labels)
    with pytest.raises(XbmError, match="recomputed in the backward pass"):
        loss.backward()
    assert function.position.tolist() == [2 * BATCH, 2 * BATCH]


def test_checkpointing_the_network_changes_nothing():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(DIM, 32), torch.nn.Tanh(), torch.nn.Linear(32, DIM))
    plain, other = XbmLoss(DIM, MEMORY), XbmLoss(DIM, MEMORY)
    for inputs, labels in batches(4):
        expected = loss_and_gradient(lambda rows, labels: plain(network(rows), labels), inputs, labels)
        found = loss_and_gradient(lambda rows, labels: other(checkpoint(network, rows, use_reentrant=False), labels), inputs, labels)
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_a_second_derivative_is_refused_in_words():
    (embeddings, labels), *_ = batches(1)
    embeddings.requires_grad_()
    (gradient,) = torch.autograd.grad(XbmLoss(DIM, MEMORY)(embeddings, labels), embeddings, create_graph=True)
    with pytest.raises(XbmError, match="first derivatives only"):
        gradient.square().sum().backward()


def test_a_loss_may_be_differentiated_twice_if_its_graph_is_kept():
    (embeddings, labels), *_ = batches(1)
    embeddings.requires_grad_()
    loss = XbmLoss(DIM, MEMORY)(embeddings, labels)
    first = torch.autograd.grad(loss, embeddings, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, embeddings)[0])


def test_autocast_leaves_the_loss_in_32_bit():
    torch.manual_seed(0)
    network = torch.nn.Linear(DIM, DIM)
    plain, other = XbmLoss(DIM, MEMORY), XbmLoss(DIM, MEMORY)
    for inputs, labels in batches(3):
        expected = plain(network(inputs), labels)
        with torch.autocast("cpu", torch.bfloat16):
            loss = other(network(inputs), labels)
        assert loss.dtype == torch.float32
        close(loss, expected, 3e-2)
        loss.backward()
    assert network.weight.grad.isfinite().all()


def test_a_scaled_loss_has_the_gradient_of_the_plain_one():
    torch.manual_seed(0)
    gradients = []
    for enabled in (False, True):
        network = torch.nn.Linear(DIM, DIM, bias=False)
        torch.nn.init.eye_(network.weight)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=enabled)
        function = XbmLoss(DIM, MEMORY)
        for inputs, labels in batches(4):
            optimizer.zero_grad()
            scaler.scale(function(network(inputs), labels)).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        gradients.append(network.weight.detach().clone())
    close(gradients[1], gradients[0], 1e-6)


def test_no_grad_and_inference_mode_give_the_same_loss():
    plain, others = XbmLoss(DIM, MEMORY), [XbmLoss(DIM, MEMORY) for _ in range(2)]
    for embeddings, labels in batches(5):
        expected = plain(embeddings, labels)
        for function, mode in zip(others, (torch.no_grad, torch.inference_mode), strict=True):
            with mode():
                assert torch.equal(function(embeddings, labels), expected)


def test_threads_may_share_a_memory():
    import threading

    function = XbmLoss(DIM, 8 * BATCH)
    threads = [threading.Thread(target=function, args=batch) for batch in batches(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    labels = [label for _, batch_labels in batches(8) for label in batch_labels.tolist()]
    assert sorted(function.label_memory.tolist()) == sorted(labels)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("used_before", [True, False])
def test_a_forked_child_is_told_and_does_not_hang(used_before):
    code = f"""
        import os, torch
        from xbm_fast import XbmError, XbmLoss
        function = XbmLoss(4, 8)
        if not {used_before}:
            function = None
        else:
            function(torch.eye(4), [0, 0, 1, 1])
        child = os.fork()
        if child == 0:
            try:
                (function or XbmLoss(4, 8))(torch.eye(4), [0, 0, 1, 1])
                answer = 0
            except XbmError as error:
                answer = 7 if "forked" in str(error) and "spawn" in str(error) else 8
            os._exit(answer)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if function is not None:
            function(torch.eye(4), [0, 0, 1, 1])
    """
    code = textwrap.dedent(code)
    if not used_before:
        code = code.replace("function = XbmLoss(4, 8)\nif", "if", 1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == (["7"] if used_before else ["0"])


def test_without_torch_the_words_say_so():
    code = """
        import sys
        sys.modules["torch"] = None
        import xbm_fast
        assert xbm_fast.__version__ and issubclass(xbm_fast.XbmError, RuntimeError)
        try:
            xbm_fast.XbmLoss
        except ImportError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100)
    assert "xbm_fast.XbmLoss needs PyTorch, which is not installed here" in done.stdout, done.stderr


def test_a_module_around_the_loss_carries_it():
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network, self.loss = torch.nn.Linear(DIM, DIM), XbmLoss(DIM, MEMORY)

        def forward(self, inputs, labels):
            return self.loss(self.network(inputs), labels)

    torch.manual_seed(0)
    whole = Whole()
    for inputs, labels in batches(5):
        whole(inputs, labels)
    other = Whole()
    other.load_state_dict(copy.deepcopy(whole.state_dict()))
    for inputs, labels in batches(3, seed=1):
        assert torch.equal(other(inputs, labels), whole(inputs, labels))


def test_nothing_warns_in_a_plain_step():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (embeddings, labels), *_ = batches(1)
        loss_and_gradient(XbmLoss(DIM, MEMORY), embeddings, labels)
