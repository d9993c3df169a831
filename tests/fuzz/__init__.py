"""Random bytes at a live node. `python -m tests.fuzz --minutes 10` says whether it stood, and by which seed it did not."""
