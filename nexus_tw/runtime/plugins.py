"""Plug-ins: finds the operator's own Python code, and reports why it cannot be used.

A reference `package.module:function` in the configuration is imported; a single word is looked up among the entry
points of installed packages.
"""

from __future__ import annotations

import inspect
import os
import stat
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, Final

from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from nexus_tw.model.errors import ConfigError

_WRITABLE: Final = stat.S_IWOTH


def search(folder: str) -> None:
    """Make the modules in a folder importable, after all installed ones, so that they replace none.

    Raise `ConfigError` if there is no such folder, or if everybody may write to it, as its modules run with the server's
    rights.
    """
    try:
        mode = os.stat(folder).st_mode
    except OSError as error:
        raise ConfigError(f"python_path: cannot read {folder}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"python_path: {folder} is no folder")
    if mode & _WRITABLE:
        raise ConfigError(f"python_path: everybody may write to {folder}, so nothing is imported from there")
    if folder not in sys.path:
        sys.path.append(folder)


def load(where: str, what: str, reference: str, parameters: tuple[str, ...]) -> Callable[..., Any]:
    """Return the function at `package.module:function`, which takes these parameters. A `ConfigError` begins with `where`.

    `what` names its purpose, such as "a command handler".
    """
    _check_form(where, reference)
    return _checked(where, what, reference, parameters, lambda: resolve_name(reference))


def fitting(where: str, what: str, function: Any, parameters: tuple[str, ...]) -> Callable[..., Any]:
    """Return the function if it takes these parameters; else raise like `load`."""
    reference = f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', function)}"
    return _checked(where, what, reference, parameters, lambda: function)


class EntryPoints:
    """A group of entry points in installed packages; each names a function that takes the same parameters."""

    def __init__(self, group: str, what: str, parameters: tuple[str, ...]) -> None:
        """`what` names the purpose of the functions, such as "a command handler"."""
        self.group = group
        self._what = what
        self._parameters = parameters

    def __iter__(self) -> Iterator[EntryPoint]:
        return iter(entry_points(group=self.group))

    def find(self, name: str) -> EntryPoint | None:
        """Return the first entry point of that name."""
        return next(iter(entry_points(group=self.group, name=name)), None)

    def load(self, where: str, entry: EntryPoint) -> Callable[..., Any]:
        """Return the function that an entry point names; like `load` of the module."""
        _check_form(where, entry.value)
        return _checked(where, self._what, entry.value, self._parameters, entry.load)


def make(where: str, what: str, reference: str, interface: Any, factory: Callable[..., Any], *args: Any) -> Any:
    """Return the product of a factory of the operator's. Raise `ConfigError` if it fails or lacks the interface.

    Neither the arguments nor the text of an exception is shown: they may contain passwords.
    """
    try:
        made = factory(*args)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{where}: {reference!r} failed to make {what}: {place(error)} {type(error).__name__}") from error
    try:
        verifyObject(interface, made, tentative=True)
    except Invalid as error:
        faults = getattr(error, "exceptions", (error,))  # one, or several as one
        reasons = "; ".join(str(fault).rpartition(f"{interface.__name__}.")[2].strip(" .") for fault in faults)
        contract = f"{what} ({interface.__name__} of nexus_tw.interfaces.plugins)"
        raise ConfigError(f"{where}: {reference!r} made a {type(made).__name__}, which is not {contract}: {reasons}") from None
    return made


def place(error: BaseException) -> str:
    """Return the origin of an exception, for the log: files, lines and functions, but none of their data."""
    found = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    return " > ".join(found[-4:])


def _check_form(where: str, reference: str) -> None:
    module, colon, function = reference.partition(":")
    if not (module and colon and function):
        raise ConfigError(f"{where}: {reference!r} is not of the form package.module:function")


def _checked(
    where: str, what: str, reference: str, parameters: tuple[str, ...], find: Callable[[], Any]
) -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = find()
    except Exception as error:  # importing runs the operator's code, which may raise anything
        raise ConfigError(f"{where}: {reference!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{where}: {reference!r} cannot be called")
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # implemented in C: a wrong call will fail by itself
        return found
    try:
        signature.bind(*parameters)
    except TypeError:
        count = f"{len(parameters)} argument{'s' * (len(parameters) != 1)}"
        bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
        shown = inspect.Signature(bare)
        raise ConfigError(
            f"{where}: {reference!r} is {reference.rpartition(':')[2]}{shown}, but {what} is called with {count}: "
            f"({', '.join(parameters)})"
        ) from None
    if inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        raise ConfigError(f"{where}: {reference!r} is a generator; {what} must return its result, not yield it")
    return found
