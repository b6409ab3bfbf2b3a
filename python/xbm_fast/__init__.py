"""xbm-fast: train image-retrieval embeddings with an embedding memory.

`XbmLoss` is the loss of a batch against a memory of past embeddings, `CrossBatchMemory` the same in the place of the class of that name of
pytorch-metric-learning, `evaluate` gives retrieval scores and `nearest` neighbours. All need torch, which the package does not install.

`XbmError` is what the engine refuses, in words. The command-line program `xbm-fast` is installed beside the package.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .errors import XbmError

if TYPE_CHECKING:
    from .cross_batch_memory import CrossBatchMemory
    from .evaluation import evaluate
    from .neighbours import Neighbours, nearest
    from .loss import XbmLoss

    __version__: str

__all__ = ["CrossBatchMemory", "Neighbours", "XbmError", "XbmLoss", "__version__", "evaluate", "nearest"]

_NEED_TORCH = {
    "XbmLoss": "loss",
    "CrossBatchMemory": "cross_batch_memory",
    "evaluate": "evaluation",
    "Neighbours": "neighbours",
    "nearest": "neighbours",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("._library", __name__).library().xbm_version().decode()
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ImportError(f"xbm_fast.{name} needs PyTorch, which is not installed here: `pip install torch`") from error
    found = getattr(importlib.import_module(f".{_NEED_TORCH[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
