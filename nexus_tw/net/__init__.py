"""Outgoing connections of the server, and sending past the reactor."""
