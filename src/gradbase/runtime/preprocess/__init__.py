"""Preprocessing functions in the program: computed on Arrow arrays, and learnt from them."""
