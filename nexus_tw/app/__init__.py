"""The process: configuration, log, node, service and workers."""
