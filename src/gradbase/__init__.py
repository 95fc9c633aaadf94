"""gradbase: deep-learning workloads as queries over the data system that already holds the data."""
