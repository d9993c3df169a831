"""Expected failures, and their tracebacks."""

from __future__ import annotations

from twisted.python.failure import Failure


def forget_trace(error: BaseException | None) -> None:
    """Remove the traceback of an exception that was caught after awaiting a Deferred.

    A traceback keeps the frames that it leads through. One of these belongs to the Deferred, which keeps the exception: all of
    them would stay in memory, with everything they refer to, until the garbage collector runs.
    """
    if error is not None:
        error.__traceback__ = None


def untraced(failure: Failure) -> Failure:
    """Return the failure without its traceback. Use it as an errback if the failure will not be logged."""
    failure.tb = None
    forget_trace(failure.value)
    return failure
