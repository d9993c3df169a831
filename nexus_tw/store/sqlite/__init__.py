"""Telemetry in an SQLite file."""
