"""The node language: one interned DAG for relations, scalars, tensors and learning."""
