"""The error of this package."""


class XbmError(RuntimeError):
    """What the engine refused, in its words."""
