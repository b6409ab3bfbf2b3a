"""Writes the names and shapes of torchvision's resnet18(num_classes=16) state dict, one `name shape` a line.

Run: python tests/golden/state_dict.py > tests/golden/state_dict_resnet18.txt   (torchvision 0.15 or later)
"""

import torchvision

for name, tensor in torchvision.models.resnet18(num_classes=16).state_dict().items():
    print(name, "x".join(map(str, tensor.shape)) or "scalar")
