"""Golden values of tests/engine/published_losses.rs: the published pair-wise losses and their gradients by autograd.

Each loss is written here as its publication has it, on the similarities of one anchor's positives and negatives, and compared with
pytorch-metric-learning wherever that library has it and a row has both kinds of pairs. Embeddings are unit rows, used as they are.

    python tests/golden/published_losses.py > tests/golden/published_losses.txt

Needs torch and pytorch-metric-learning.
"""

import functools

import torch
from pytorch_metric_learning import distances, losses, miners, reducers

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
DIM = 8


def lse(values):
    return torch.logsumexp(values, 0)


def contrastive(p, n, positive=1.0, negative=0.5):
    return torch.relu(positive - p).sum() + torch.relu(n - negative).sum()


def triplet(p, n, margin=0.1):
    return torch.relu(n[None, :] - p[:, None] + margin).sum()


def lifted(p, n, margin=1.0, scale=1.0):
    if not len(p) or not len(n):
        return p.sum() * 0 + n.sum() * 0
    return torch.relu(lse(scale * (1 - p)) + lse(scale * (margin - (1 - n)))) / scale


def nca(p, n, t=1.0):
    return -torch.log(torch.exp(p / t).sum() / (torch.exp(p / t).sum() + torch.exp(n / t).sum())) if len(p) else n.sum() * 0


def info_nce(p, n, t=0.07):
    return -(p / t - lse(torch.cat([p, n]) / t)).mean() if len(p) else n.sum() * 0


def n_pair(p, n, scale=1.0):
    return torch.log1p(torch.exp(scale * (n[None, :] - p[:, None])).sum(1)).sum()


def binomial_deviance(p, n, alpha=2.0, beta=50.0, lambda_=0.5):
    positive = torch.log1p(torch.exp(alpha * (lambda_ - p))).mean() if len(p) else 0
    negative = torch.log1p(torch.exp(beta * (n - lambda_))).mean() if len(n) else 0
    return positive + negative


def multi_similarity(p, n, alpha=2.0, beta=50.0, lambda_=0.5, eps=0.1):
    hardest_positive = p.detach().min() if len(p) else torch.inf
    hardest_negative = n.detach().max() if len(n) else -torch.inf
    p, n = p[p < hardest_negative + eps], n[n > hardest_positive - eps]
    return torch.log1p(torch.exp(-alpha * (p - lambda_)).sum()) / alpha + torch.log1p(torch.exp(beta * (n - lambda_)).sum()) / beta


def circle(p, n, gamma=80.0, m=0.4):
    if not len(p) or not len(n):
        return p.sum() * 0 + n.sum() * 0
    positive = -gamma * torch.relu(1 + m - p.detach()) * (p - (1 - m))
    negative = gamma * torch.relu(n.detach() + m) * (n - m)
    return torch.nn.functional.softplus(lse(positive) + lse(negative))


LOSSES = {
    "contrastive": contrastive,
    "triplet": triplet,
    "lifted-structure": lifted,
    "nca": nca,
    "info-nce": info_nce,
    "n-pair": n_pair,
    "binomial-deviance": binomial_deviance,
    "multi-similarity": multi_similarity,
    "circle": circle,
}
# Every parameter away from its default.
OTHERS = {
    "contrastive": {"positive": 0.75, "negative": 0.25},
    "triplet": {"margin": 0.375},
    "lifted-structure": {"margin": 0.5, "scale": 3},
    "nca": {"t": 0.5},
    "info-nce": {"t": 0.25},
    "n-pair": {"scale": 3},
    "binomial-deviance": {"alpha": 3, "beta": 20, "lambda": 0.25},
    "multi-similarity": {"alpha": 4, "beta": 20, "lambda": 0.25, "eps": 0.25},
    "circle": {"gamma": 32, "m": 0.25},
}


def rows(labels, noise, centres):
    values = centres[labels] + noise * torch.randn(len(labels), DIM)
    values = torch.nn.functional.normalize(values)
    return values.float().double()


def row_losses(loss, anchors, anchor_labels, memory, memory_labels, same):
    similarities = anchors @ memory.T
    result = []
    for i, s in enumerate(similarities):
        pair = torch.ones(len(s), dtype=torch.bool)
        if same:
            pair[i] = False
        positive = anchor_labels[i] == memory_labels
        result.append(loss(s[positive & pair], s[~positive & pair]))
    return torch.stack(result)


class UnitDistance(distances.BaseDistance):
    """1 - similarity."""

    def __init__(self):
        super().__init__(normalize_embeddings=False)

    def compute_mat(self, query, reference):
        return 1 - query @ (query if reference is None else reference).T

    def pairwise_distance(self, query, reference):
        return 1 - (query * reference).sum(1)


def library_losses(anchors, anchor_labels, memory, memory_labels):
    cosine = distances.CosineSimilarity()
    given = {"distance": cosine, "reducer": reducers.DoNothingReducer()}
    miner = miners.MultiSimilarityMiner(epsilon=0.1, distance=cosine)
    library = {
        "lifted-structure": losses.GeneralizedLiftedStructureLoss(distance=UnitDistance(), reducer=reducers.DoNothingReducer()),
        "nca": losses.NCALoss(softmax_scale=1, **given),
        "info-nce": losses.SupConLoss(temperature=0.07, **given),
        "multi-similarity": losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5, **given),
        "circle": losses.CircleLoss(m=0.4, gamma=80, **given),
    }
    for name, loss in library.items():
        reference = {"ref_emb": memory, "ref_labels": memory_labels}
        pairs = miner(anchors, anchor_labels, memory, memory_labels) if name == "multi-similarity" else None
        yield name, loss(anchors, anchor_labels, pairs, **reference)["loss"]["losses"]
    triplets = losses.TripletMarginLoss(margin=0.1, **given)(anchors, anchor_labels, ref_emb=memory, ref_labels=memory_labels)
    yield "triplet", triplets["loss"]["losses"].sum()
    tuplets = losses.TupletMarginLoss(margin=0, scale=1, **given)(anchors, anchor_labels, ref_emb=memory, ref_labels=memory_labels)
    yield "n-pair", tuplets["loss"]["losses"].sum()


def show(*words, values):
    print(*words, *(repr(float(value)) for value in values.flatten()))


print("# Written by published_losses.py, which says what they are; do not edit.")
centres = torch.nn.functional.normalize(torch.randn(4, DIM))
CASES = {
    "memory": (torch.tensor([0, 1, 2, 0, 9]), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 0, 2, 3, 3, 1, 2, 0]), 0.35),
    "one-class": (torch.tensor([0, 0]), torch.tensor([0, 0, 0]), 0.35),
    "batch": (torch.tensor([0, 0, 1, 1, 2, 2, 2, 3, 3]), None, 0.35),
}
for case, (anchor_labels, memory_labels, noise) in CASES.items():
    anchors = rows(anchor_labels % 4, noise, centres)
    same = memory_labels is None
    memory_labels = anchor_labels if same else memory_labels
    memory = anchors if same else rows(memory_labels, noise, centres)
    show(case, "anchors", values=anchors)
    show(case, "anchor-labels", values=anchor_labels)
    show(case, "memory", values=memory)
    show(case, "memory-labels", values=memory_labels)
    expected = {}
    named = dict(LOSSES)
    for name, parameters in OTHERS.items() if case == "memory" else ():
        text = ",".join(f"{key}={value}" for key, value in parameters.items())
        given = {key.replace("lambda", "lambda_"): value for key, value in parameters.items()}
        named[f"{name}:{text}"] = functools.partial(LOSSES[name], **given)
    for name, loss in named.items():
        leaf = anchors.clone().requires_grad_()
        values = row_losses(loss, leaf, anchor_labels, leaf if same else memory, memory_labels, same)
        values.sum().backward()
        expected[name] = values.detach()
        assert torch.isfinite(values).all() and torch.isfinite(leaf.grad).all(), (case, name)
        show(case, name, "losses", values=values.detach())
        show(case, name, "gradient", values=leaf.grad)
    if case == "memory":
        both = torch.tensor([label in memory_labels for label in anchor_labels])
        for name, found in library_losses(anchors[both], anchor_labels[both], memory, memory_labels):
            found = found.squeeze(1) if found.dim() == 2 else found
            wanted = expected[name][both] if found.dim() else expected[name][both].sum()
            assert torch.allclose(found, wanted, rtol=1e-5), (name, found, wanted)
