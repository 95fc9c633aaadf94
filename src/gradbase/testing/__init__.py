"""Public helpers for tests: the contract of engines, and .slt files."""
