"""`make chaos`: every fault, or one; what is done at this commit is not done again."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tests.chaos import plain, report, runs
from tests.chaos.catalogue import FAULTS, POSTGRESQL, SQLITE, TIERS, shares
from tests.chaos.runs import Outcome
from tests.project import ROOT

_KEPT = ROOT / ".chaos"
_SEED = 7
_OFF_PATIENCE_SECONDS = 25
# What is switched off, under which fault, how often in CI and in full.
_OFF = {
    "sweeper": ("worker-kill", SQLITE, 10, 50),
    "ring": ("broker-wipe", SQLITE, 2, 5),
    "lease": ("worker-kill", SQLITE, 5, 20),
    "fence": ("worker-stop", POSTGRESQL, 4, 20),
    "fsync": ("power-cut", SQLITE, 2, 10),
    "plain": ("plain", SQLITE, 30, 150),
}
_HISTORIES = {"middle": (500, 30), "full": (5000, 50)}
_console = Console(soft_wrap=True)


def main() -> None:
    given = _arguments()
    if given.fault:
        outcomes = list(_runs(given.fault, shares(given.fault, given.tier, given.times), given.seed))
        sys.exit(not all(outcome.holds for outcome in outcomes))
    start = time.monotonic()
    tier, seed = given.tier, given.seed
    outcomes = [one for name in FAULTS for one in _runs(name, shares(name, tier), seed, keep=tier)]
    off = [(name, _switched_off(name, tier, seed)) for name in _OFF]
    histories = _machine(tier)
    failed = [one for one in outcomes if not one.holds or (tier == "full" and one.late)]
    blind = [name for name, one in off if not _noticed(name, one)]
    total = sum(one.times for one in outcomes)
    lost, twice = sum(one.lost for one in outcomes), sum(one.duplicated for one in outcomes)
    _console.print(
        f"{total:,} faults, {sum(one.images for one in outcomes):,} images: lost {lost}, duplicated {twice}; "
        f"{len(failed)} runs failed; switched off and not noticed: {', '.join(blind) or 'nothing'}; "
        f"{(time.monotonic() - start) / 60:.0f} min"
    )
    if tier == "full" or given.report:
        report.write(outcomes, off, histories, tier=tier, seed=seed)
        _console.print(f"written: {report.DOCUMENT.relative_to(ROOT)}")
    sys.exit(bool(failed or blind))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--times", type=int)
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--tier", choices=TIERS, default="full")
    parser.add_argument("--report", action="store_true", help="write docs/reliability.md, as the full tier does")
    return parser.parse_args()


def _runs(name: str, on: Sequence[tuple[str, int]], seed: int, *, keep: str = "") -> Iterator[Outcome]:
    """One run on each of the databases."""
    for database, share in on:
        if FAULTS[name].small_disk and not runs.can_have_a_small_disk():
            _console.print(f"{name} is skipped: this machine lets us mount no small disk", style="yellow")
            continue
        outcome = _kept(keep, f"{name}-{database}", share, seed)
        if outcome is None:
            with _bar(f"{name} on {database}", share) as (progress, task):
                outcome = runs.run(
                    name, database, share, seed, injected=lambda done: progress.update(task, completed=done)
                )
            _keep(keep, f"{name}-{database}", outcome)
        _console.print(report.line(outcome), style=None if outcome.holds else "red", highlight=False)
        for problem in outcome.problems:
            _console.print(f"    {problem}", style="red", highlight=False)
        if outcome.late:
            _console.print(f"    {outcome.late}", style="yellow", highlight=False)
        if not outcome.holds:
            _console.print(f"    again: make chaos FAULT={name} N={sum(times for _, times in on)} SEED={seed}")
        yield outcome


def _switched_off(name: str, tier: str, seed: int) -> Outcome:
    fault, database, *times = _OFF[name]
    share = times[tier == "full"]
    outcome = _kept(tier, f"off-{name}", share, seed)
    if outcome is None:
        with _bar(f"without {name}", share) as (progress, task):
            if name == "plain":
                outcome = plain.run(share, seed)
            else:
                outcome = runs.run(
                    fault, database, share, seed, off=name, patience_seconds=_OFF_PATIENCE_SECONDS,
                    injected=lambda done: progress.update(task, completed=done),
                )  # fmt: skip
        _keep(tier, f"off-{name}", outcome)
    _console.print(f"switched off, {name}: {report.line(outcome)}", highlight=False)
    return outcome


def _noticed(name: str, one: Outcome) -> bool:
    """Losses or duplicates; a ticket that is not rung again only comes late."""
    return bool(one.lost or one.duplicated) or (name == "ring" and bool(one.late))


def _machine(tier: str) -> str:
    """Play the queue against its model, and return what was played."""
    if tier not in _HISTORIES:
        return ""
    histories, steps = _HISTORIES[tier]
    words = f"{histories:,} histories of up to {steps} steps on SQLite, {histories // 10:,} on PostgreSQL"
    marker = _KEPT / tier / f"machine-{_commit()}"
    if not marker.exists() or _changed():
        command = [sys.executable, "-m", "pytest", "-q", "tests/test_machine.py"]
        subprocess.run(["env", f"HISTORIES={histories}", f"STEPS={steps}", *command], check=True, cwd=ROOT)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    sentence = "after every step the counts, the states, the leases and the strikes were those of the model."
    _console.print(f"the queue against its model: {words}")
    return f"{words} (submit, claim, finish, give back, die, cancel, retry, expire, purge): {sentence}"


class _bar:  # noqa: N801 - reads as the function that it replaces
    """A progress bar on a terminal; nothing in a log."""

    def __init__(self, words: str, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=_console, transient=True)
        self._task = self._progress.add_task(words, total=total)

    def __enter__(self) -> tuple[Progress, TaskID]:
        self._progress.start()
        return self._progress, self._task

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _path(tier: str, name: str) -> Path:
    return _KEPT / tier / f"{name}.json"


def _kept(tier: str, name: str, times: int, seed: int) -> Outcome | None:
    """What an earlier run at this commit showed."""
    path = _path(tier, name)
    if not tier or not path.exists() or _changed():
        return None
    told = json.loads(path.read_text())
    if told.pop("commit") != _commit() or (told["times"], told["seed"]) != (times, seed):
        return None
    return Outcome(**told)


def _keep(tier: str, name: str, outcome: Outcome) -> None:
    if tier:
        path = _path(tier, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(outcome) | {"commit": _commit()}))


def _changed() -> bool:
    """Whether the tree is not that of the commit; then nothing that was kept is of this code."""
    return bool(subprocess.run(["git", "diff", "--quiet", "HEAD"], check=False, cwd=ROOT).returncode)


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()


if __name__ == "__main__":
    main()
