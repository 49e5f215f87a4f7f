"""Memory that one step of training frees is kept for the next."""

import ctypes
import sys
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEPT: Final = 1 << 30  # bytes


def keep() -> None:
    """Let glibc keep what is freed; elsewhere nothing is done.

    Each step takes and frees hundreds of megabytes, which glibc hands back to the kernel and asks for again: two fifths
    of the processor's time. TensorFlow asks for that itself when a data set begins, so call this at every epoch.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:  # musl has none
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _KEPT)
