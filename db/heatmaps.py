"""Heatmaps of results: made on request, kept beside the blobs, gone with the pixels of their batch."""

import secrets
import shutil
import time
from pathlib import Path

from db.blobs import Blobs

_FOLDER = "heatmaps"


def path(blobs: Blobs, batch_id: str, result_id: str) -> Path:
    return blobs.root / _FOLDER / batch_id / f"{result_id}.png"


def put(blobs: Blobs, batch_id: str, result_id: str, png: bytes) -> None:
    """Keep it; whoever reads meanwhile sees none or all of it."""
    target = path(blobs, batch_id, result_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    incoming = target.with_name(f"{secrets.token_hex(8)}.part")
    incoming.write_bytes(png)
    incoming.replace(target)


def remove(blobs: Blobs, batch_id: str) -> None:
    """Remove those of a batch."""
    shutil.rmtree(blobs.root / _FOLDER / batch_id, ignore_errors=True)


def tidy(blobs: Blobs, *, older_than_seconds: int) -> int:
    """Remove old ones, which can be made again, and return how many."""
    removed = 0
    for old in (blobs.root / _FOLDER).glob("*/*"):
        if old.stat().st_mtime < time.time() - older_than_seconds:
            old.unlink(missing_ok=True)
            removed += 1
    return removed
