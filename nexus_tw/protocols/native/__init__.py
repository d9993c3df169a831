"""The JSON protocol: its messages, its session and its encoding."""
