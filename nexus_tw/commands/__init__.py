"""Commands and calls: from a caller to an executor, and back."""
