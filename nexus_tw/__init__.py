"""Nexus: a real-time server for fleets of agents and the people who watch them."""

__version__ = "0.1.0"
