"""Telemetry: taken in, stored, announced, and removed when it is old."""
