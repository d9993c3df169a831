"""The load generator, and comparisons with other servers: `python -m bench`. See docs/performance.md."""
