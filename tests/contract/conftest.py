"""Nodes for the tests of the contract."""

from tests.node import nodes as nodes
