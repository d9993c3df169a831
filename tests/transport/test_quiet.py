"""The changed parts of Autobahn exist, and are used only for log messages."""

from __future__ import annotations

import ast
import inspect
from types import ModuleType

import pytest
from autobahn.twisted import websocket as adapter
from autobahn.websocket import protocol

from nexus_tw.transport import quiet, websocket


@pytest.mark.parametrize("module", [protocol, adapter])
def test_the_helpers_are_called_only_for_arguments_of_log_messages(module: ModuleType) -> None:
    logged: set[ast.AST] = set()
    calls: list[ast.Call] = []
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and node.func.id in quiet.HELPERS:
            calls.append(node)
        elif isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value).endswith("log"):
            logged.update(inner for argument in node.keywords for inner in ast.walk(argument.value))
    assert calls, "Autobahn has changed"
    assert all(call in logged for call in calls)


def test_they_do_nothing_once_there_are_connections() -> None:
    assert issubclass(websocket.WebSocketConnection, adapter.WebSocketServerProtocol)
    for module in (protocol, adapter):
        for name in quiet.HELPERS:
            assert getattr(module, name)(object()) == ""
