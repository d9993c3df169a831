"""`nexus bench`: load on a running server, counted exactly."""
