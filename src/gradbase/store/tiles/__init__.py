"""Tensors on disk as tiles in pages of one size, and the buffer pool they are read through."""
