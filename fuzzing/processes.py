"""The processes of an instance under attack: which run, how much memory each took, how many decoding children ended."""

from collections.abc import Iterator
from pathlib import Path

import psutil

import up

# The API streams, so it stays small whatever comes; a worker holds TensorFlow; a child has CXR_DECODE_BYTES.
_MOST_OF_API, _MOST_OF_WORKER = 400 << 20, 3 << 30
_NAMES = ("api", "worker", "beat", "valkey")


class Processes:
    """Looked at between batches: what begins and ends between two looks is not seen."""

    def __init__(self, instance: up.Instance, *, decode_bytes: int) -> None:
        self._instance = instance
        self._begun = self._running()
        self._children: set[int] = set()
        self._first_children: set[int] = set()
        self._limits = {"the API": _MOST_OF_API, "the worker": _MOST_OF_WORKER, "a decoding child": decode_bytes}
        self.peaks = dict.fromkeys(self._limits, 0)
        self.look()
        self._first_children = set(self._children)

    @property
    def children_ended(self) -> int:
        """Decoding children that were started for others which had ended, as often as a look saw one."""
        return len(self._children - self._first_children)

    def look(self) -> None:
        for name, part in (("the API", "api"), ("the worker", "worker")):
            for pid in self._instance.pids(part):
                for process in _family(pid):
                    decodes = part == "worker" and _decodes(process)
                    if decodes:
                        self._children.add(process.pid)
                    self._note("a decoding child" if decodes else name, process)

    def problems(self) -> Iterator[str]:
        """Yield what should not have happened; that a decoding child ends is what it is for."""
        if self._running() != self._begun:
            yield f"a process was started again: {self._begun} became {self._running()}"
        if not self._first_children:
            yield "no decoding child was seen"
        for name, peak in self.peaks.items():
            if peak > self._limits[name]:
                yield f"{name} took {peak >> 20} MiB"

    def _running(self) -> dict[str, list[int]]:
        return {name: self._instance.pids(name) for name in _NAMES}

    def _note(self, name: str, process: psutil.Process) -> None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return  # it ended meanwhile
        kilobytes = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
        self.peaks[name] = max(self.peaks[name], int(kilobytes) << 10)


def _family(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _decodes(process: psutil.Process) -> bool:
    try:
        return any("worker.decoder" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False
