"""Connections that the server opens, and bytes past the reactor."""
