"""A client of Nexus for Python: events, telemetry and commands over one connection that is kept up."""
