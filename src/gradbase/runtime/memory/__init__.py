"""Memory of training steps: traced, kept under a limit, and laid out by a plan."""
