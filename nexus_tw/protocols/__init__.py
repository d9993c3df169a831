"""One module for each dialect: a session translates what a client says into verbs of the core, and only translates."""
