"""Random bytes sent to a live node. `python -m tests.fuzz --minutes 10` reports whether it survived, or the seed of the
failure."""
