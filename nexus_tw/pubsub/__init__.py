"""Publish and subscribe: from a client through the bus to all subscribers."""
