"""Nodes for the tests of attacks."""

from tests.node import nodes as nodes
