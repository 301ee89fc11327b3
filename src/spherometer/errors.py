"""The exceptions Spherometer raises on purpose.

Every message is one line: ``function: argument must ..., because .... Got .... Fix.``
"""


class SpherometerError(Exception):
    """Base of everything raised here on purpose."""


class InputError(SpherometerError, ValueError):
    """An argument, file or option cannot be used; the message names it and says what to pass instead."""


class ShapeError(InputError):
    """An array has the wrong number of axes, rows or columns, or two arrays do not match."""


class NotOnSphereError(InputError):
    """Rows that must be unit vectors, or must have a direction, are not or have none."""


class UndefinedError(InputError):
    """The quantity has no value for this input (for instance a mean over no pairs)."""


class MissingExtraError(SpherometerError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class LostProcessError(SpherometerError, RuntimeError):
    """Another process of the group died or froze while this one waited for it; the message names it."""
