"""Interfaces: the contracts between the parts of the server, so that each part can be replaced."""
