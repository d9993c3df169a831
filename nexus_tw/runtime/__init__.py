"""What all services run on: ends of turns, long work in pieces, guards, and the operator's own Python."""
