"""xbm-fast's embedding memory and fused pair loss for PyTorch: one file over ctypes, nothing to build but the library.

    loss_function = XbmLoss(dim=128, memory_size=8192)
    loss = loss_function(embeddings, labels)      # enqueues the batch, compares it with the memory
    loss.backward()

It takes the place of pytorch-metric-learning's CrossBatchMemory around ContrastiveLoss(pos_margin=1, neg_margin=0.5) with
CosineSimilarity: the batch is enqueued first, and an anchor is no pair with its own row. Build the library with

    cargo build --release --lib

and leave it in target/release, put it beside this file, or set XBM_FAST_LIBRARY to its path.
"""

import ctypes
import functools
import os
import sys
import weakref

import torch

__all__ = ["XbmError", "XbmLoss", "evaluate"]

ABI_VERSION = 1
HOST, DEVICE = 0, 1
LEGACY_STREAM = 1  # what CUDA calls the default stream where 0 means none
OWN_INSTANCE, OWN_LAST_ENQUEUE, OWN_NONE = 0, 1, 2
LABELS = torch.iinfo(torch.int32)
SMALLEST_NORM = 1e-12  # as the engine's own normalisation has it


class XbmError(RuntimeError):
    """What the engine refused, in its words."""


class Batch(ctypes.Structure):
    _fields_ = [
        ("embeddings", ctypes.c_void_p),
        ("labels", ctypes.c_void_p),
        ("ids", ctypes.c_void_p),
        ("rows", ctypes.c_size_t),
        ("dim", ctypes.c_size_t),
        ("location", ctypes.c_int32),
    ]


class LossSettings(ctypes.Structure):
    _fields_ = [("scale", ctypes.c_float), ("own", ctypes.c_int32), ("accumulate", ctypes.c_int32)]


class LossOutputs(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("gradient", "row_losses", "kept", "loss")]


class Evaluation(ctypes.Structure):
    _fields_ = [
        ("queries", ctypes.POINTER(Batch)),
        ("gallery", ctypes.POINTER(Batch)),
        ("own_rows", ctypes.c_void_p),
        ("ks", ctypes.POINTER(ctypes.c_size_t)),
        ("k_count", ctypes.c_size_t),
    ]


class Scores(ctypes.Structure):
    _fields_ = [
        ("recall", ctypes.POINTER(ctypes.c_double)),
        ("map_at_r", ctypes.c_double),
        ("r_precision", ctypes.c_double),
        ("mean_reciprocal_rank", ctypes.c_double),
        ("queries", ctypes.c_size_t),
        ("excluded_queries", ctypes.c_size_t),
    ]


def library_path():
    name = {"win32": "xbm_fast.dll", "darwin": "libxbm_fast.dylib"}.get(sys.platform, "libxbm_fast.so")
    here = os.path.dirname(os.path.abspath(__file__))
    places = [os.path.join(here, name), os.path.join(here, "..", "..", "target", "release", name)]
    places = [os.environ["XBM_FAST_LIBRARY"]] if "XBM_FAST_LIBRARY" in os.environ else places
    for place in places:
        if os.path.exists(place):
            return place
    raise XbmError(f"{name} was looked for at {' and '.join(places)}; build it with `cargo build --release --lib`, or set XBM_FAST_LIBRARY")


@functools.cache
def library():
    """The library, its functions typed."""
    lib = ctypes.CDLL(library_path())
    found = lib.xbm_abi_version()
    if found != ABI_VERSION:
        raise XbmError(f"{library_path()} has interface {found}, this file is for interface {ABI_VERSION}; take both from one release")
    lib.xbm_last_error.restype = ctypes.c_char_p
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    lib.xbm_engine_create.argtypes = [text, pointer, size, pointer]
    lib.xbm_engine_set_stream.argtypes = [pointer, pointer]
    lib.xbm_weighting_create.argtypes = [text, pointer]
    lib.xbm_memory_create.argtypes = [pointer, size, size, ctypes.c_int32, pointer]
    lib.xbm_memory_enqueue.argtypes = [pointer, pointer]
    lib.xbm_memory_clear.argtypes = [pointer]
    lib.xbm_pair_loss.argtypes = [pointer] * 5
    lib.xbm_evaluate.argtypes = [pointer] * 3
    lib.xbm_memory_to_bytes.argtypes = [pointer, pointer, size, pointer]
    lib.xbm_memory_from_bytes.argtypes = [pointer, pointer, size]
    for kind in ("weighting", "memory"):
        getattr(lib, f"xbm_{kind}_destroy").argtypes = [pointer]
    return lib


def call(name, *arguments):
    """Calls a function of the library; what it refuses is raised."""
    if getattr(library(), name)(*arguments) != 0:
        raise XbmError(library().xbm_last_error().decode())


def created(name, *arguments):
    handle = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(handle))
    return handle


def destroy(name, handle, process):
    # A forked child has its parent's handles, but none of its threads.
    if os.getpid() == process:
        getattr(library(), name)(handle)


@functools.cache
def engine(device, threads):
    """The engine on a device; it lives as long as the process."""
    return created("xbm_engine_create", device.encode(), None, threads)


def engine_for(device):
    """The engine where tensors of `device` are, in order with PyTorch's current stream."""
    if device.type != "cuda":
        return engine("cpu", torch.get_num_threads())
    found = engine(f"cuda:{torch.cuda.current_device() if device.index is None else device.index}", 0)
    call("xbm_engine_set_stream", found, torch.cuda.current_stream(device).cuda_stream or LEGACY_STREAM)
    return found


def as_int32(name, values, like):
    """Labels or ids as the engine takes them: `(batch)` int32, contiguous, beside the embeddings. Integers of every type, in tensors,
    arrays and lists, keep their values or are refused."""
    values = torch.as_tensor(values)
    if values.shape != like.shape[:1] or values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool:
        raise ValueError(f"{name}: expected integers of shape ({like.shape[0]},), found {values.dtype} of shape {tuple(values.shape)}")
    values = values.to(like.device)
    if torch.iinfo(values.dtype).max > LABELS.max and values.numel() > 0:
        # Of unsigned types PyTorch compares only the smallest; 64 unsigned bits become negative where they are too large.
        wide = values.to(torch.int64)
        low, high = (end.item() for end in wide.aminmax())
        if low < 0 and values.dtype == torch.uint64:
            low, high = 0, 2**64 + wide[wide < 0].max().item()
        if low < LABELS.min or high > LABELS.max:
            advice = "number them anew, as torch.unique(values, return_inverse=True) does for all of them"
            raise ValueError(f"{name}: expected values from {LABELS.min} to {LABELS.max}, found some from {low} to {high}; {advice}")
    return values.to(torch.int32).contiguous()


def unit_rows(name, embeddings, dim):
    """Rows of length 1, `(batch, dim)` float32, contiguous; differentiable. And which of them have no direction: those shorter than
    SMALLEST_NORM, of float16 numbers also those shorter than the smallest such number of full precision. They become rows of zeros and
    get a gradient of zeros, where normalize() would divide it by next to nothing."""
    if embeddings.dim() != 2 or embeddings.shape[1] != dim or not embeddings.dtype.is_floating_point:
        raise ValueError(f"{name}: expected numbers of shape (batch, {dim}), found {embeddings.dtype} of shape {tuple(embeddings.shape)}")
    lengths = torch.linalg.vector_norm(embeddings.detach(), dim=1, keepdim=True, dtype=torch.float64)
    short = lengths < max(SMALLEST_NORM, torch.finfo(embeddings.dtype).tiny)
    # A power of two changes no digit, and rows too long or too short to be squared in 32 bit can be.
    scale = torch.exp2(-lengths.masked_fill(short, 1.0).log2().round()).where((lengths > 2.0**40) | (lengths < 2.0**-40), 1.0)
    rows = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    rows = (rows.masked_fill(short, 1.0) * scale.to(rows.dtype)).float().contiguous()
    return torch.nn.functional.normalize(rows, dim=1).masked_fill(short, 0.0), short.squeeze(1)


def as_batch(embeddings, labels, ids=None):
    """A batch whose pointers are the tensors' own, which must outlive it."""
    location = DEVICE if embeddings.is_cuda else HOST
    ids = None if ids is None else ids.data_ptr()
    return Batch(embeddings.data_ptr(), labels.data_ptr(), ids, embeddings.shape[0], embeddings.shape[1], location)


class Memory:
    """A memory and its weighting in the engine; copied and pickled with all its rows."""

    def __init__(self, dim, capacity, weighting, device):
        self.arguments = (dim, capacity, weighting)
        self.device = device
        self.weighting = created("xbm_weighting_create", weighting.encode())
        weakref.finalize(self, destroy, "xbm_weighting_destroy", self.weighting, os.getpid())
        self.handle = created("xbm_memory_create", engine_for(device), capacity, dim, 0)
        weakref.finalize(self, destroy, "xbm_memory_destroy", self.handle, os.getpid())

    def to_bytes(self):
        length = ctypes.c_size_t()
        call("xbm_memory_to_bytes", self.handle, None, 0, ctypes.byref(length))
        content = torch.empty(length.value, dtype=torch.uint8)
        call("xbm_memory_to_bytes", self.handle, content.data_ptr(), length.value, ctypes.byref(length))
        return content

    def from_bytes(self, content):
        content = content.to("cpu", torch.uint8).contiguous()
        call("xbm_memory_from_bytes", self.handle, content.data_ptr(), content.numel())

    def on(self, device):
        """This memory, or its copy where the embeddings are."""
        if device != self.device:
            return Memory.rebuilt(self.arguments, device, self.to_bytes())
        engine_for(device)
        return self

    @staticmethod
    def rebuilt(arguments, device, content):
        memory = Memory(*arguments, device)
        memory.from_bytes(content)
        return memory

    def __reduce__(self):
        return Memory.rebuilt, (self.arguments, self.device, self.to_bytes())


class PairLoss(torch.autograd.Function):
    """Loss of unit rows against the memory. The engine computes the gradient with the loss; backward hands it on."""

    @staticmethod
    def forward(ctx, anchors, labels, ids, memory, settings):
        gradient, row_losses = torch.empty_like(anchors), anchors.new_empty(anchors.shape[0])
        kept = torch.empty(anchors.shape[0], 2, dtype=torch.int32, device=anchors.device)
        batch, outputs = as_batch(anchors, labels, ids), LossOutputs(gradient.data_ptr(), row_losses.data_ptr(), kept.data_ptr(), None)
        arguments = (ctypes.byref(part) for part in (batch, settings, outputs))
        call("xbm_pair_loss", memory.handle, memory.weighting, *arguments)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(kept)
        return (row_losses.sum(dtype=torch.float64) * settings.scale).float(), kept

    @staticmethod
    def backward(ctx, grad_loss, _):
        if torch.is_grad_enabled():
            raise XbmError("the engine has first derivatives only: expected backward without create_graph=True")
        (gradient,) = ctx.saved_tensors
        return gradient * grad_loss, None, None, None, None


class XbmLoss(torch.nn.Module):
    """Loss of a batch against a memory of the `memory_size` embeddings of length `dim` seen last.

    weighting: the name of a loss, or TOML, as include/xbm_fast.h says.
    reduction: "mean" over the anchors, or "sum".

    The memory is part of state_dict, of copies and of pickles, and comes back to the bit. Afterwards `kept` holds, for each anchor, the
    number of positives and of negatives that had a weight, and `zero_rows` how many embeddings of the batch had no direction: they are
    rows of zeros to the engine and get a gradient of zeros.
    """

    def __init__(self, dim, memory_size, weighting="contrastive", reduction="mean"):
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise ValueError(f'reduction: expected "mean" or "sum", found {reduction!r}')
        for name, value in (("dim", dim), ("memory_size", memory_size)):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name}: expected a number of at least 1, found {value!r}")
        self.dim, self.memory_size, self.reduction, self.kept, self.without_direction = dim, memory_size, reduction, None, None
        self.memory = Memory(dim, memory_size, weighting, torch.device("cpu"))

    def forward(self, embeddings, labels, ids=None, keys=None, enqueue=True):
        """The loss, a scalar.

        embeddings: (batch, dim), any floating type and strides; they are normalised here. labels: (batch), integers.
        ids: (batch), which image each row is of: an anchor is then no pair with any row of its image. Without them it is no pair with
        its own row of this batch.
        keys: (batch, dim), enqueued in place of the embeddings, as those of a momentum encoder.
        enqueue: False leaves the memory as it is.
        """
        anchors, self.without_direction = unit_rows("embeddings", embeddings, self.dim)
        labels = as_int32("labels", labels, anchors)
        ids = None if ids is None else as_int32("ids", ids, anchors)
        self.memory = self.memory.on(anchors.device)
        if enqueue:
            rows = anchors if keys is None else unit_rows("keys", keys, self.dim)[0].to(anchors.device)
            if rows.shape != anchors.shape:
                raise ValueError(f"keys: expected shape {tuple(anchors.shape)} as the embeddings have, found {tuple(rows.shape)}")
            batch = as_batch(rows, labels, ids)
            call("xbm_memory_enqueue", self.memory.handle, ctypes.byref(batch))
        own = OWN_INSTANCE if ids is not None else OWN_LAST_ENQUEUE if enqueue else OWN_NONE
        scale = 1.0 / max(1, len(anchors)) if self.reduction == "mean" else 1.0
        loss, self.kept = PairLoss.apply(anchors, labels, ids, self.memory, LossSettings(scale, own, 0))
        return loss

    @property
    def zero_rows(self):
        """Embeddings of the last batch without a direction."""
        return 0 if self.without_direction is None else int(self.without_direction.sum())

    def reset(self):
        """Forgets every row."""
        call("xbm_memory_clear", self.memory.handle)

    def get_extra_state(self):
        return self.memory.to_bytes()

    def set_extra_state(self, state):
        self.memory.from_bytes(state)


def evaluate(embeddings, labels, ks=(1, 10)):
    """Retrieval scores of every row against all others: a dictionary with recall_at_1 and so on, map_at_r, r_precision,
    mean_reciprocal_rank, each in [0, 1]; and over how many `queries`, with how many `excluded_queries` left out because no other row is
    of their class."""
    if not all(isinstance(k, int) and k >= 1 for k in ks):
        raise ValueError(f"ks: expected whole numbers of at least 1, found {tuple(ks)}")
    rows, _ = unit_rows("embeddings", embeddings.detach().cpu(), embeddings.shape[-1])
    labels = as_int32("labels", labels, rows)
    batch, places = as_batch(rows, labels), (ctypes.c_size_t * len(ks))(*ks)
    recall = (ctypes.c_double * len(ks))()
    what, scores = Evaluation(queries=ctypes.pointer(batch), ks=places, k_count=len(ks)), Scores(recall=recall)
    call("xbm_evaluate", engine_for(rows.device), ctypes.byref(what), ctypes.byref(scores))
    named = {f"recall_at_{k}": value for k, value in zip(ks, recall)}
    counted = ("map_at_r", "r_precision", "mean_reciprocal_rank", "queries", "excluded_queries")
    return named | {name: getattr(scores, name) for name in counted}
