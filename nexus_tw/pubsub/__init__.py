"""Publish and subscribe: events from publishers through the bus to all subscribers."""
