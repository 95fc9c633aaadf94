"""Rewrites plans in stages; estimates rows, bytes, FLOPs and seconds; explains what it did."""
