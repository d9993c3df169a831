"""Failures that are expected, and where they came from."""

from __future__ import annotations

from twisted.python.failure import Failure


def forget_trace(error: BaseException | None) -> None:
    """Have an exception that was caught, after awaiting a Deferred, forget where it came from.

    A traceback keeps the frames that it leads through. One of these belongs to the Deferred, which keeps the exception: all of
    them would stay, with what was under way, until the garbage collector comes.
    """
    if error is not None:
        error.__traceback__ = None


def untraced(failure: Failure) -> Failure:
    """Return the failure without its traceback. To be an errback, where nobody is going to log it."""
    failure.tb = None
    forget_trace(failure.value)
    return failure
