"""Threads, bytes and the speeds of the machine, as values."""
