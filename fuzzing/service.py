"""The real service under attack, and what must stay true of it."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

import up
from db.batches import Line
from settings import Settings
from tests.service import Service, free_port

_ZIP = {"Content-Type": "application/zip"}
_SERVER_FAILED = 500
# The API streams, so it stays small whatever comes; a worker holds TensorFlow; a child has CXR_DECODE_BYTES.
_MOST_OF_API, _MOST_OF_WORKER = 400 << 20, 3 << 30
_BATCHES_TOGETHER = 50


@contextmanager
def running() -> Iterator["Fuzzed"]:
    """Start everything that `cxr up` starts, in an empty home."""
    with tempfile.TemporaryDirectory() as home:
        given = {"CXR_HOME": home, "CXR_PORT": str(free_port()), "CXR_REQUESTS_PER_MINUTE": "0"}
        settings = Settings.from_environment(given)
        up.bring_up_to_date(settings)
        with Service.started(settings) as service:
            yield Fuzzed(service)


class Fuzzed:
    """Sends files and collects their answers; `broken` says what should not have happened."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._problems: list[str] = []
        self._begun = self._processes()
        self._waiting: list[str] = []
        self.in_zips: Counter[str] = Counter()
        self.peaks = {"the API": 0, "the worker": 0, "a decoding child": 0}

    def answers(self, files: Mapping[str, bytes]) -> Counter[str]:
        """Submit the files as one batch, wait for its end, and count the answers."""
        parts = [("images", (name, data)) for name, data in files.items()]
        answer = self._post(files=parts)
        if answer is None or not answer.is_success:
            # All of them at once are no images, or a mutated zip among them is damaged.
            return Counter({self._told(answer): len(files)})
        lines = self._service.wait(answer.json()["id"])
        if len(lines) != len(files):
            self._problems.append(f"{len(files)} files, {len(lines)} answers")
        self._watch()
        return _counted(lines)

    def submit_zip(self, archive: bytes) -> str:
        """Submit one zip, and return how it was answered; its batch is waited for later."""
        answer = self._post(content=archive, headers=_ZIP)
        if answer is not None and answer.is_success:
            self._waiting.append(answer.json()["id"])
            if len(self._waiting) >= _BATCHES_TOGETHER:
                self.settle()
        return self._told(answer)

    def settle(self) -> None:
        """Wait for every batch that came out of a zip."""
        for batch_id in self._waiting:
            self.in_zips += _counted(self._service.wait(batch_id))
        self._waiting.clear()
        self._watch()

    def broken(self) -> list[str]:
        if self._processes() != self._begun:
            self._problems.append(f"a process was started again: {self._begun} became {self._processes()}")
        for log in sorted((self._service.settings.home / "logs").glob("*.log")):
            if "Traceback" in log.read_text(errors="replace"):
                self._problems.append(f"a traceback in {log.name}: {_last_words(log)}")
        limits = (_MOST_OF_API, _MOST_OF_WORKER, self._service.settings.decode_bytes)
        for (name, peak), most in zip(self.peaks.items(), limits, strict=True):
            if peak > most:
                self._problems.append(f"{name} took {peak >> 20} MiB")
        verdict = self._service.audit()
        if verdict.problem:
            self._problems.append(f"the audit does not hold: {verdict.problem}")
        return self._problems

    def _post(self, **body: object) -> httpx.Response | None:
        try:
            answer = self._service.http.post("/v1/batches", **body)  # type: ignore[arg-type]
        except httpx.TransportError as error:
            self._problems.append(f"no answer: {type(error).__name__}")
            return None
        if answer.status_code >= _SERVER_FAILED:
            self._problems.append(f"{answer.status_code}: {answer.text[:200]}")
        return answer

    def _told(self, answer: httpx.Response | None) -> str:
        if answer is None:
            return "no answer"
        return f"{answer.status_code} {answer.json().get('code', '')}".strip()

    def _processes(self) -> dict[str, list[int]]:
        return {name: self._service.instance.pids(name) for name in ("api", "worker", "beat", "valkey")}

    def _watch(self) -> None:
        for name, part in (("the API", "api"), ("the worker", "worker")):
            for pid in self._service.instance.pids(part):
                family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
                for process in family:
                    child = part == "worker" and process.pid != pid
                    self._peak("a decoding child" if child else name, process)

    def _peak(self, name: str, process: psutil.Process) -> None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return  # it ended meanwhile
        kilobytes = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
        self.peaks[name] = max(self.peaks[name], int(kilobytes) << 10)


def _counted(lines: list[Line]) -> Counter[str]:
    return Counter(line.code or f"{line.state}, {line.label}" for line in lines)


def _last_words(log: Path) -> str:
    text = log.read_text(errors="replace")
    return text[text.index("Traceback") :].splitlines()[-1][:200]
