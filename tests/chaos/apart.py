"""One run in a process of its own, so that several go on at once."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass

from tests.chaos import plain, runs
from tests.chaos.catalogue import FAULTS
from tests.chaos.runs import Outcome
from tests.project import ROOT

PLAIN = "plain"
_SAID = 4_000  # characters of what a run that failed wrote last


@dataclass(frozen=True)
class Job:
    """A fault on a database so many times; for comparison with a part switched off, or on plain Celery."""

    fault: str
    database: str
    times: int
    seed: int
    off: str = ""

    @property
    def name(self) -> str:
        return f"off-{self.off}" if self.off else f"{self.fault}-{self.database}"

    @property
    def possible(self) -> bool:
        """Whether this machine lets us mount a small disk, where one is needed, that nobody else sees."""
        if not self._small_disk:
            return True
        command = [*_unshared(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    @property
    def command(self) -> list[str]:
        own = [sys.executable, "-m", "tests.chaos.apart", json.dumps(asdict(self))]
        return [*_unshared(), *own] if self._small_disk else own

    @property
    def _small_disk(self) -> bool:
        return self.fault != PLAIN and FAULTS[self.fault].small_disk


def run(job: Job, injected: Callable[[int], object] = lambda _: None) -> Outcome:
    """Run it to its end; `injected` hears of every injection."""
    told = None
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(job.command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as process:
            for line in process.stdout or ():
                told = json.loads(line)
                if isinstance(told, int):
                    injected(told)
        errors.seek(0)
        said = errors.read()
    if process.returncode or not isinstance(told, dict):
        problem = f"the run ended with {process.returncode} before it was through: {said[-_SAID:]}"
        return Outcome(job.fault, job.database, job.times, job.seed, 0, 0, 0, [problem], [], 0)
    return Outcome(**told)


def _unshared() -> list[str]:
    """As root, or in a name space of our own."""
    return ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]


def _main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    if job.fault == PLAIN:
        outcome = plain.run(job.times, job.seed)
    else:
        outcome = runs.run(job.fault, job.database, job.times, job.seed, off=job.off, injected=_say)
    print(json.dumps(asdict(outcome)))


def _say(number: int) -> None:
    print(number, flush=True)


if __name__ == "__main__":
    _main()
