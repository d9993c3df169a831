"""Measures the cost of hostile clients for a server with default limits, and for other clients: `python -m bench harm`."""
