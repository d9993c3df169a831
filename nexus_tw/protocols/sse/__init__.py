"""Server-Sent Events: the events of the JSON protocol as a stream over HTTP (HTML standard, "Server-sent events")."""
