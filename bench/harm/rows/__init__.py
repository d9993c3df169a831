"""The rows, a module for each kind: what one hostile client, or a few of one subject, can do."""
