"""Golden values of tests/engine/optimizer.rs: three steps of torch's optimisers on five parameters in two groups."""

import torch

PARAMETERS = [0.5, -1.25, 2.0, 0.0, -0.75]
GRADIENTS = [[0.1, -0.2, 0.3, 0.4, -0.5], [0.05, 0.25, -0.15, 0.0, 1.0], [-0.3, 0.2, 0.1, 2.0, 0.001]]

for name, kind, extra in [
    ("SGD", torch.optim.SGD, dict(momentum=0.9)),
    ("ADAM", torch.optim.Adam, dict(betas=(0.9, 0.999), eps=1e-8)),
    ("ADAM_W", torch.optim.AdamW, dict(betas=(0.9, 0.999), eps=1e-8)),
]:
    first = torch.nn.Parameter(torch.tensor(PARAMETERS[:3], dtype=torch.float64))
    second = torch.nn.Parameter(torch.tensor(PARAMETERS[3:], dtype=torch.float64))
    groups = [dict(params=[first], lr=0.1, weight_decay=0.01), dict(params=[second], lr=0.02, weight_decay=0.0)]
    optimizer = kind(groups, **extra)
    for gradient in GRADIENTS:
        first.grad = torch.tensor(gradient[:3], dtype=torch.float64)
        second.grad = torch.tensor(gradient[3:], dtype=torch.float64)
        optimizer.step()
    values = first.tolist() + second.tolist()
    print(f"const {name}: [f64; 5] = [{', '.join(f'{value:.9f}' for value in values)}];")
