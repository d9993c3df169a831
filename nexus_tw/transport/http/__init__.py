"""HTTP: the server, the API, health and metrics."""
