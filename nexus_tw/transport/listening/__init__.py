"""Sockets to listen on, and the layers between them and the door."""
