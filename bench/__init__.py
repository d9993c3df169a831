"""Load for Nexus, and what it takes to compare: `python -m bench`. See docs/performance.md."""
