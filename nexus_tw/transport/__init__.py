"""The doors: everything that touches a client's socket."""
