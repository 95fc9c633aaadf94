"""Chains of fully connected layers in machine code, built where a C compiler is found."""
