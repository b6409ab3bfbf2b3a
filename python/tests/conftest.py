"""Settings of all tests."""

import torch

# Tensors here are so small that threads would only wait for each other; results do not depend on their number.
torch.set_num_threads(1)
