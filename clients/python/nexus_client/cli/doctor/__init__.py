"""`nexus doctor`: what stands between a client and a server, looked at piece by piece."""
