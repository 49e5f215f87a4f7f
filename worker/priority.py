"""A process that is in nobody's way."""

import os


def yield_to_everybody() -> None:
    """Take the processor only where nobody else wants it (Linux), or as little as may be; children inherit it."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
