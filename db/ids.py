"""Identifiers that sort by the time they were made and cannot be guessed."""

import secrets
import time


def new(prefix: str) -> str:
    """Return `prefix_` with 48 bits of milliseconds and 64 random bits, in hexadecimal."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"
