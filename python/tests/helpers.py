"""What the tests share: batches, and losses with their gradients."""

import torch

DIM, BATCH, MEMORY = 24, 20, 70  # the batch does not divide the memory: the ring wraps inside a batch
# Both sides compute in 32 bit, in different orders.
TOLERANCE = 1e-5


def batches(count, seed=0, dtype=torch.float32):
    """Embeddings of any length, alike enough that some negatives are hard, and labels."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        embeddings = torch.randn(BATCH, DIM, generator=generator) + 0.8
        embeddings = embeddings * torch.rand(BATCH, 1, generator=generator).add(0.1)
        yield embeddings.to(dtype), torch.randint(0, 6, (BATCH,), generator=generator)


def loss_and_gradient(function, embeddings, *arguments, **named):
    embeddings = embeddings.clone().requires_grad_()
    loss = function(embeddings, *arguments, **named)
    loss.backward()
    return loss.detach(), embeddings.grad


def close(found, expected, tolerance=TOLERANCE):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item(), check_dtype=False)


def near(found, expected, tolerance):
    """Whether a gradient is another one but for `tolerance` of its length."""
    difference = (found.double() - expected.double()).norm() / expected.double().norm()
    assert difference <= tolerance, f"relative difference {difference:.2e}, expected at most {tolerance:.0e}"
