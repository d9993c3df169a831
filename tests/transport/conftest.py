"""Nodes for the tests of connections."""

from tests.node import nodes as nodes
from tests.transport.house import houses as houses
