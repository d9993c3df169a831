"""What hostile clients cost a server with the limits as shipped, and everybody else: `python -m bench harm`."""
