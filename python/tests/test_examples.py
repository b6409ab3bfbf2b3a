"""The training scripts among the examples."""

import difflib
import pathlib

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples" / "pytorch"


def test_the_training_scripts_differ_where_the_loss_is_made():
    ours, theirs = ((EXAMPLES / name).read_text().splitlines() for name in ("train.py", "train_peer.py"))
    added = [line for line in difflib.ndiff(theirs, ours) if line.startswith("+ ")]
    assert added == [
        "+ from xbm_fast import XbmLoss, evaluate",
        '+     loss_function = XbmLoss(args.dim, args.memory_size, reduction="sum")',
    ]
