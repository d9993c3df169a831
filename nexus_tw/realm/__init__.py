"""Realms: separate sets of events, commands, agents and sessions."""
