"""Listening sockets, and the layers between them and the door."""
