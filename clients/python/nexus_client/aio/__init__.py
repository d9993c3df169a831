"""The client for asyncio. Its public names are those of `nexus_client`."""
