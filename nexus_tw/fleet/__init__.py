"""The fleet: which nodes share a realm's bus, and reliable messages between them."""
