"""Presence: the connected agents and sessions."""
