"""Nodes for the tests of the doors."""

from tests.node import nodes as nodes
