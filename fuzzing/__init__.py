"""Mutated files by the thousand through the real service: nothing may break, and each gets an answer."""
