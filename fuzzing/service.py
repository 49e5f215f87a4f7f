"""The real service under attack, and what must stay true of it."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

import up
from db.batches import Line
from fuzzing.processes import Processes
from fuzzing.tally import Tally
from settings import Settings
from tests.service import Service, free_port, until

_ZIP = {"Content-Type": "application/zip"}
_SERVER_FAILED = 500
_BATCHES_TOGETHER = 50


@contextmanager
def running() -> Iterator["Fuzzed"]:
    """Start everything that `cxr up` starts, in an empty home."""
    with tempfile.TemporaryDirectory() as home:
        given = {"CXR_HOME": home, "CXR_PORT": str(free_port()), "CXR_REQUESTS_PER_MINUTE": "0"}
        settings = Settings.from_environment(given)
        up.bring_up_to_date(settings)
        with Service.started(settings) as service:
            until(lambda: service.http.get("/readyz").json()["workers"], "a worker is there")
            yield Fuzzed(service)


class Fuzzed:
    """Sends files and counts their answers; `problems` says what should not have happened."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._problems: list[str] = []
        self._waiting: list[tuple[str, int]] = []
        self.processes = Processes(service.instance)

    def send(self, files: Mapping[str, bytes], tally: Tally) -> None:
        """Submit the files as one batch, wait for its end, and count the answers."""
        answer = self._post(files=[("images", (name, data)) for name, data in files.items()])
        if answer is None or not answer.is_success:
            # All of them at once are no images, or a mutated zip among them is damaged.
            tally.add(Counter({_told(answer): len(files)}), refused=len(files))
            return
        lines = self._service.wait(answer.json()["id"])
        if len(lines) != len(files):
            self._problems.append(f"{len(files)} files, {len(lines)} answers")
        tally.add(_counted(lines), refused=len(answer.json()["rejected"]))
        self.processes.look()

    def send_zip(self, archive: bytes, tally: Tally, inside: Tally) -> None:
        """Submit one zip and count how it was answered; what was inside is counted later, see `settle`."""
        answer = self._post(content=archive, headers=_ZIP)
        taken = answer is not None and answer.is_success
        tally.add(Counter({_told(answer): 1}), refused=not taken)
        if answer is not None and taken:
            self._waiting.append((answer.json()["id"], len(answer.json()["rejected"])))
            if len(self._waiting) >= _BATCHES_TOGETHER:
                self.settle(inside)

    def settle(self, inside: Tally) -> None:
        """Wait for every batch that came out of a zip, and count its images."""
        for batch_id, refused in self._waiting:
            inside.add(_counted(self._service.wait(batch_id)), refused=refused)
        self._waiting.clear()
        self.processes.look()

    def problems(self) -> Iterator[str]:
        yield from self._problems
        yield from self.processes.problems()
        for log in sorted((self._service.settings.home / "logs").glob("*.log")):
            if "Traceback" in log.read_text(errors="replace"):
                yield f"a traceback in {log.name}: {_last_words(log)}"
        verdict = self._service.audit()
        if verdict.problem:
            yield f"the audit does not hold: {verdict.problem}"

    def _post(self, **body: object) -> httpx.Response | None:
        try:
            answer = self._service.http.post("/v1/batches", **body)  # type: ignore[arg-type]
        except httpx.TransportError as error:
            self._problems.append(f"no answer: {type(error).__name__}")
            return None
        if answer.status_code >= _SERVER_FAILED:
            self._problems.append(f"{answer.status_code}: {answer.text[:200]}")
        return answer


def _told(answer: httpx.Response | None) -> str:
    if answer is None:
        return "no answer"
    return f"{answer.status_code} {answer.json().get('code', '')}".strip()


def _counted(lines: list[Line]) -> Counter[str]:
    return Counter(line.code or f"{line.state}, {line.label}" for line in lines)


def _last_words(log: Path) -> str:
    text = log.read_text(errors="replace")
    return text[text.index("Traceback") :].splitlines()[-1][:200]
