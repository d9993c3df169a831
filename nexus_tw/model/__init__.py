"""Values and rules: no clock, no socket, no Twisted."""
