"""By hand: torchvision's weights go through a run and come back bit for bit.

    python tests/golden/round_trip.py target/release/xbm-fast        (needs torch, torchvision and safetensors)

The run takes one step at a rate too small to change any weight, so that what it keeps as best is the trunk it started from; batch
norms are frozen, so that their statistics stay.
"""

import pathlib
import subprocess
import sys
import tempfile

import torch
import torchvision
from safetensors.torch import load_file, save_file

with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    before = torchvision.models.resnet18(num_classes=1000)
    for name, tensor in before.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    save_file(before.state_dict(), folder / "published.safetensors")
    settings = "--data=synthetic:classes=8,views=4,size=24 --image-size=32 --dim=16 --batch-size=8 --samples-per-class=2 --memory=none"
    frozen = "--steps=1 --optimizer=sgd --lr=1e-38 --weight-decay=0 --freeze-batch-norm"
    command = [sys.argv[1], "train", *settings.split(), *frozen.split()]
    command += [f"--pretrained={folder / 'published.safetensors'}", f"--out={folder / 'run'}"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    model = torchvision.models.resnet18(num_classes=16)
    print(model.load_state_dict(load_file(folder / "run/checkpoints/best.safetensors")))
    after = model.state_dict()
    trunk = [name for name in after if not name.startswith("fc.") and not name.endswith("num_batches_tracked")]
    assert all(torch.equal(before.state_dict()[name], after[name]) for name in trunk)
    print(f"{len(trunk)} tensors of the trunk came back bit for bit")
