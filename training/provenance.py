"""With what a run is made: code, libraries, machine."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow as tf

_ROOT = Path(__file__).parents[1]
_LIBRARIES = ("keras", "numpy", "pillow")


def provenance() -> dict[str, Any]:
    """Return what stands in the card of a run; call it before, while the files are those that were loaded."""
    gpus = tf.config.list_physical_devices("GPU")
    return {
        "commit": commit(),
        "package": version("cxr-batch"),
        "libraries": {name: version(name) for name in _LIBRARIES} | {"tensorflow": tf.__version__},
        "python": platform.python_version(),
        "devices": len(gpus) or f"CPU, {os.cpu_count()} cores",
    }


def commit() -> str | None:
    """Return the commit of the code, with a + where files differ from it; None where it is no checkout."""
    told = _git("rev-parse", "HEAD")
    return None if told is None else told + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", _ROOT, *arguments], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
