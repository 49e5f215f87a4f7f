"""A power cut for the blobs: what was not fsynced is gone. The kernel keeps it through a SIGKILL, so we take it away."""

import os
from pathlib import Path
from typing import Any

_JOURNAL = "CHAOS_JOURNAL"


def keep_journal() -> None:
    """Write down every fsync and every rename of this process, if it is told where to."""
    path = os.environ.get(_JOURNAL)
    if not path:
        return
    journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        os.write(journal, f"fsync\t{Path(f'/proc/self/fd/{descriptor}').readlink()}\t\n".encode())

    def noted_replace(source: Any, target: Any, **more: Any) -> None:
        replace(source, target, **more)
        os.write(journal, f"rename\t{source}\t{target}\n".encode())

    os.fsync, os.replace = noted_fsync, noted_replace  # type: ignore[assignment]


def cut(blobs: Path, journal: Path, before: set[Path]) -> int:
    """Remove the blobs that a power cut would have taken, and return how many; `before` were on the disk for long."""
    whole, named, kept = set[str](), dict[str, str](), set(before)
    for line in journal.read_text().splitlines() if journal.exists() else ():
        what, path, target = line.split("\t")
        if what == "rename":
            if path in whole:
                named[target] = str(Path(target).parent)
        elif Path(path).is_dir():
            kept |= {Path(target) for target, parent in named.items() if parent == path}
        else:
            whole.add(path)
    gone = [blob for blob in present(blobs) if blob not in kept]
    for blob in gone:
        blob.unlink()
    return len(gone)


def present(blobs: Path) -> set[Path]:
    return {path for path in blobs.glob("??/*") if path.is_file()}
