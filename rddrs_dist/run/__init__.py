"""A run: its configuration, its shards, the worker that does them and the cluster."""
