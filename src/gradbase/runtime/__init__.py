"""Physical operators: what plans run on, one file each."""
