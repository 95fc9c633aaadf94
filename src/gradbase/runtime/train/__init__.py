"""Training: from a relation to rows in canonical order, kernels and trainers."""
