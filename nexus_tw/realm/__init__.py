"""Realms: separate worlds of events, commands and agents."""
