"""Telemetry: validation, storage, announcement to subscribers, and retention."""
