"""Clients, measured: one client at a server of Nexus, beside the same work on a bare WebSocket."""
