"""Transport: everything that touches a client's socket."""
