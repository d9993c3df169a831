"""Authentication methods of WAMP."""
