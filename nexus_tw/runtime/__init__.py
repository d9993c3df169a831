"""The foundation of all services: ends of turns, long work in pieces, guards, and calls of the operator's own Python."""
