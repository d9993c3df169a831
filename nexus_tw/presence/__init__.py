"""Which agents and sessions are connected."""
