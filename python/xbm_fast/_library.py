"""The engine's C interface (include/xbm_fast.h) by ctypes. Needs no torch.

The library is looked for beside this file, where the wheel puts it; the environment variable XBM_FAST_LIBRARY names another one.
"""

import ctypes
import functools
import os
import pathlib
import sys
from typing import Any

from .errors import XbmError

ABI_VERSION = 2
HOST, DEVICE = 0, 1
DTYPE_DEFAULT, F32, F16, BF16 = 0, 1, 2, 3
OWN_INSTANCE, OWN_LAST_ENQUEUE, OWN_NONE = 0, 1, 2


class Batch(ctypes.Structure):
    """`xbm_batch`."""

    _fields_ = [
        ("embeddings", ctypes.c_void_p),
        ("labels", ctypes.c_void_p),
        ("ids", ctypes.c_void_p),
        ("rows", ctypes.c_size_t),
        ("dim", ctypes.c_size_t),
        ("location", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
    ]


class LossSettings(ctypes.Structure):
    """`xbm_loss_settings`."""

    _fields_ = [("scale", ctypes.c_float), ("own", ctypes.c_int32), ("accumulate", ctypes.c_int32)]


class LossOutputs(ctypes.Structure):
    """`xbm_loss_outputs`."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("gradient", "row_losses", "kept", "loss")]


class Evaluation(ctypes.Structure):
    """`xbm_evaluation`."""

    _fields_ = [
        ("queries", ctypes.POINTER(Batch)),
        ("gallery", ctypes.POINTER(Batch)),
        ("own_rows", ctypes.c_void_p),
        ("ks", ctypes.POINTER(ctypes.c_size_t)),
        ("k_count", ctypes.c_size_t),
    ]


class Scores(ctypes.Structure):
    """`xbm_scores`."""

    _fields_ = [
        ("recall", ctypes.POINTER(ctypes.c_double)),
        ("map_at_r", ctypes.c_double),
        ("r_precision", ctypes.c_double),
        ("mean_reciprocal_rank", ctypes.c_double),
        ("queries", ctypes.c_size_t),
        ("excluded_queries", ctypes.c_size_t),
    ]


class Search(ctypes.Structure):
    """`xbm_search`."""

    _fields_ = [
        ("queries", ctypes.POINTER(Batch)),
        ("gallery", ctypes.POINTER(Batch)),
        ("own_rows", ctypes.c_void_p),
        ("k", ctypes.c_size_t),
    ]


class Neighbours(ctypes.Structure):
    """`xbm_neighbours`."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("rows", "ids", "similarities")]


def library_path() -> pathlib.Path:
    """Where the library is. XbmError if it is not there."""
    name = {"win32": "xbm_fast.dll", "darwin": "libxbm_fast.dylib"}.get(sys.platform, "libxbm_fast.so")
    given = os.environ.get("XBM_FAST_LIBRARY")
    place = pathlib.Path(given) if given else pathlib.Path(__file__).resolve().parent / name
    if not place.exists():
        advice = "set XBM_FAST_LIBRARY to its path" if given else "install the package, or set XBM_FAST_LIBRARY to the library's path"
        raise XbmError(f"expected the library at {place}, found nothing there; {advice}")
    return place


@functools.cache
def library() -> ctypes.CDLL:
    """The library, its functions typed. XbmError if it is missing or of another interface."""
    path = library_path()
    lib = ctypes.CDLL(str(path))
    found = lib.xbm_abi_version()
    if found != ABI_VERSION:
        raise XbmError(f"{path} has interface {found}, this package is for interface {ABI_VERSION}; take both from one release")
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    lib.xbm_last_error.restype = lib.xbm_version.restype = text
    lib.xbm_engine_create.argtypes = [text, pointer, size, pointer]
    lib.xbm_engine_set_stream.argtypes = [pointer, pointer]
    lib.xbm_weighting_create.argtypes = [text, pointer]
    lib.xbm_memory_create.argtypes = [pointer, size, size, ctypes.c_int32, pointer]
    lib.xbm_memory_enqueue.argtypes = [pointer, pointer]
    lib.xbm_memory_clear.argtypes = [pointer]
    lib.xbm_pair_loss.argtypes = [pointer] * 5
    lib.xbm_evaluate.argtypes = [pointer] * 3
    lib.xbm_nearest.argtypes = [pointer] * 3
    for kind in ("weighting", "memory"):
        getattr(lib, f"xbm_{kind}_destroy").argtypes = [pointer]
    return lib


class _Process:
    """Whether this process is the child of one that had opened an engine: it then has the engine's handles, but none of its threads."""

    opened = False
    forked = False

    @classmethod
    def in_child(cls) -> None:
        cls.forked = cls.opened


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Process.in_child)


def call(name: str, *arguments: Any) -> None:
    """Calls a function of the library. XbmError for what it refuses, and in a forked child, where it would wait for ever."""
    if _Process.forked:
        raise XbmError(
            "this process was forked from one that had used xbm-fast, whose worker threads a fork leaves behind; start it by "
            'multiprocessing\'s "spawn", or use xbm-fast in the children only'
        )
    lib = library()
    _Process.opened = True
    if getattr(lib, name)(*arguments) != 0:
        raise XbmError(lib.xbm_last_error().decode())


def created(name: str, *arguments: Any) -> ctypes.c_void_p:
    """A new handle."""
    handle = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(handle))
    return handle


def destroy(name: str, handle: ctypes.c_void_p) -> None:
    """Gives a handle back, unless it is a parent process's."""
    if not _Process.forked:
        getattr(library(), name)(handle)
