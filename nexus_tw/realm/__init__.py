"""Realms: one world of events, commands and agents each."""
