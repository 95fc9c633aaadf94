"""Tests of the node language."""
