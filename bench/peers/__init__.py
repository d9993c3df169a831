"""Simple servers for the same JSON protocol, as a comparison.

They check no rights, store nothing, and know no other nodes. They implement only what the scenarios need.
"""
