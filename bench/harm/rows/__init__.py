"""The rows, one module for each kind: attacks of one hostile client, or of a few clients of one subject."""
