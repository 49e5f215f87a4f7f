"""The processes of an instance under attack: which run, how much memory they took or kept, how many decoding children ended."""

from collections.abc import Iterator
from pathlib import Path

import psutil

import up

# The API streams, so it stays small whatever comes; a worker holds TensorFlow. What a child takes for one image the
# system holds to CXR_DECODE_BYTES; that it gives that back is for us to see.
_API, _WORKER, _CHILD = "peak of the API", "peak of the worker", "kept by a decoding child"
_MOST = {_API: 400 << 20, _WORKER: 3 << 30, _CHILD: 256 << 20}
_NAMES = ("api", "worker", "beat", "valkey")


class Processes:
    """Looked at between batches: what begins and ends between two looks is not seen."""

    def __init__(self, instance: up.Instance) -> None:
        self._instance = instance
        self._begun = self._running()
        self._fresh: dict[int, int] = {}
        self.peaks = dict.fromkeys(_MOST, 0)
        self.look()
        self._first_children = set(self._fresh)

    @property
    def children_ended(self) -> int:
        """Decoding children that were started for others which had ended, as often as a look saw one."""
        return len(self._fresh.keys() - self._first_children)

    def look(self) -> None:
        for name, part in ((_API, "api"), (_WORKER, "worker")):
            for process in (process for pid in self._instance.pids(part) for process in _family(pid)):
                if not _decodes(process):
                    self.peaks[name] = max(self.peaks[name], _memory(process, "VmHWM"))
                elif holds := _memory(process, "VmRSS"):
                    kept = holds - self._fresh.setdefault(process.pid, holds)
                    self.peaks[_CHILD] = max(self.peaks[_CHILD], kept)

    def problems(self) -> Iterator[str]:
        """Yield what should not have happened; that a decoding child ends is what it is for."""
        if self._running() != self._begun:
            yield f"a process was started again: {self._begun} became {self._running()}"
        if not self._first_children:
            yield "no decoding child was seen"
        for name, peak in self.peaks.items():
            if peak > _MOST[name]:
                yield f"{name}: {peak >> 20} MiB, more than {_MOST[name] >> 20}"

    def _running(self) -> dict[str, list[int]]:
        return {name: self._instance.pids(name) for name in _NAMES}


def _family(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory(process: psutil.Process, figure: str) -> int:
    """In bytes; 0 where it ended meanwhile."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(next((line.split()[1] for line in status.splitlines() if line.startswith(figure)), "0")) << 10


def _decodes(process: psutil.Process) -> bool:
    try:
        return any("worker.decoder" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False
