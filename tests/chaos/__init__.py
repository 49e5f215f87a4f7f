"""The fault harness: real processes that are killed, cut, filled and wiped, and one checker for what must hold."""
