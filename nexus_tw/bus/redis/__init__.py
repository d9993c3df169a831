"""The bus over Redis Pub/Sub."""
