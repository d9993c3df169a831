"""The client's behaviour without I/O, clock or randomness of its own. `Core` is the whole of it."""
