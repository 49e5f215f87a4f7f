"""`make chaos`: every fault, or one.

What is done at this commit is not done again: neither what held nor what broke a rule. What only was late, or gave up,
on a machine that was too slow perhaps, is tried anew.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tests.chaos import apart, report, switches
from tests.chaos.apart import PLAIN, Job
from tests.chaos.catalogue import FAULTS, POSTGRESQL, SQLITE, TIERS, shares
from tests.chaos.runs import Outcome
from tests.project import ROOT

_KEPT = ROOT / ".chaos"
_SEED = 7
_AT_ONCE = 2
# What is switched off, under which fault, how often in CI and in full.
_OFF = {
    "sweeper": ("worker-kill", SQLITE, 10, 50),
    "ring": ("broker-wipe", SQLITE, 2, 3),
    "lease": ("worker-kill", SQLITE, 5, 20),
    "fence": ("worker-stop", POSTGRESQL, 6, 20),
    "fsync": ("power-cut", SQLITE, 2, 10),
    "plain": (PLAIN, SQLITE, 30, 150),
    switches.NOTHING: ("worker-kill", SQLITE, 10, 50),
}
_HISTORIES = {"short": (40, 30), "middle": (500, 30), "full": (5000, 50)}
_console = Console(soft_wrap=True)


def main() -> None:
    given = _arguments()
    tier, seed, start = given.tier, given.seed, time.monotonic()
    also = [_commit(name) for name in given.also]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_console, transient=True) as bars, ThreadPoolExecutor(1) as beside:
        if given.fault:
            jobs = [Job(given.fault, *share, seed) for share in shares(given.fault, tier, given.times)]
            done = _carried_out(jobs, given.at_once, partial(_outcome, bars=bars))
            sys.exit(not all(outcome.holds for _, outcome in done))
        histories = beside.submit(_histories, tier, also)
        jobs = [Job(name, *share, seed) for name in FAULTS for share in shares(name, tier)]
        jobs += [_crippled(name, tier, seed) for name in _OFF]
        done = _carried_out(jobs, given.at_once, partial(_outcome, bars=bars, tier=tier, also=also))
        outcomes = [outcome for job, outcome in done if not job.off]
        off = [(job.off, outcome) for job, outcome in done if job.off]
        words = histories.result()
    failed = [one for one in outcomes if not one.holds or (tier == "full" and one.late)]
    wrong = [name for name, one in off if not _as_expected(name, one)]
    total = sum(one.times for one in outcomes)
    lost, twice = sum(one.lost for one in outcomes), sum(one.duplicated for one in outcomes)
    if tier == "full" or given.report:
        report.write(outcomes, off, words, tier=tier, seed=seed)
        _console.print(f"written: {report.DOCUMENT.relative_to(ROOT)}")
    _console.print(
        f"{total:,} faults, {sum(one.images for one in outcomes):,} images: lost {lost}, duplicated {twice}; "
        f"{len(failed)} runs failed; switched off and not as expected: {', '.join(wrong) or 'none'}; "
        f"{(time.monotonic() - start) / 60:.0f} min"
    )
    sys.exit(bool(failed or wrong))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--times", type=int)
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--tier", choices=TIERS, default="full")
    parser.add_argument("--at-once", type=int, default=_AT_ONCE, help="runs side by side")
    parser.add_argument("--also", nargs="*", default=[], metavar="COMMIT", help="what was kept at these counts too")
    parser.add_argument("--report", action="store_true", help="write docs/reliability.md, as the full tier does")
    return parser.parse_args()


def _crippled(name: str, tier: str, seed: int) -> Job:
    fault, database, *times = _OFF[name]
    return Job(fault, database, times[tier == "full"], seed, off=name)


def _carried_out(jobs: Sequence[Job], lanes: int, run: Callable[[Job], Outcome]) -> list[tuple[Job, Outcome]]:
    """Run what this machine can do, from both ends: those at the front keep it busy, those at the back mostly wait."""
    possible = []
    for job in jobs:
        if job.possible:
            possible.append(job)
        else:
            _console.print(f"{job.name} is skipped: this machine lets us mount no small disk", style="yellow")
    waiting, outcomes = deque(possible), dict[Job, Outcome]()

    def work(take: Callable[[], Job]) -> None:
        while True:
            try:
                job = take()
            except IndexError:
                return
            outcomes[job] = run(job)

    with ThreadPoolExecutor(lanes) as pool:
        for lane in [pool.submit(work, (waiting.popleft, waiting.pop)[number % 2]) for number in range(lanes)]:
            lane.result()
    return [(job, outcomes[job]) for job in possible]


def _outcome(job: Job, *, bars: Progress, tier: str = "", also: Sequence[str] = ()) -> Outcome:
    """Run the job, unless that was done, and say what it showed."""
    outcome = _kept(job, tier, also)
    if outcome is None:
        bar = bars.add_task(job.name, total=job.times)
        outcome = replace(apart.run(job, partial(_advance, bars, bar)), commit=_commit())
        bars.remove_task(bar)
        if _settled(job, outcome, tier):
            _keep(job, outcome, tier)
    if job.off:
        _console.print(f"switched off, {job.off}: {report.line(outcome)}", highlight=False)
        return outcome
    for problem in outcome.problems:
        _console.print(f"    {problem}", style="red", highlight=False)
    if outcome.late:
        _console.print(f"    {outcome.late}", style="yellow", highlight=False)
    if tier and not outcome.holds:
        _console.print(f"    again: make chaos FAULT={job.fault} SEED={job.seed} TIER={tier}")
    _console.print(report.line(outcome), style=None if outcome.holds else "red", highlight=False)
    return outcome


def _advance(bars: Progress, bar: TaskID, number: int) -> None:
    bars.update(bar, completed=number)


def _settled(job: Job, outcome: Outcome, tier: str) -> bool:
    """Whether a second try could not show anything else."""
    if job.off and job.off != switches.NOTHING:
        return _as_expected(job.off, outcome)
    if outcome.holds:
        return not (tier == "full" and outcome.late)
    return bool(outcome.lost or outcome.duplicated or outcome.broken)


def _as_expected(name: str, one: Outcome) -> bool:
    """Losses or duplicates are noticed, a ticket that is not rung again only comes late; with nothing off, nothing is."""
    noticed = bool(one.lost or one.duplicated) or (name == "ring" and bool(one.late))
    return noticed != (name == switches.NOTHING)


def _histories(tier: str, also: Sequence[str]) -> str:
    """Play the queue against its model, and return what was played."""
    histories, steps = _HISTORIES[tier]
    words = f"{histories:,} histories of up to {steps} steps on SQLite, {histories // 10:,} on PostgreSQL"
    marker = _KEPT / tier / f"histories-{_commit()}"
    if not any((_KEPT / tier / f"histories-{commit}").exists() for commit in {_commit(), *also}) or _changed():
        command = [sys.executable, "-m", "pytest", "-q", "tests/test_machine.py"]
        done = subprocess.run(
            ["nice", "-n", "5", "env", f"HISTORIES={histories}", f"STEPS={steps}", *command],
            check=False,
            capture_output=True,
            cwd=ROOT,
        )
        if done.returncode:
            _console.print(done.stdout.decode(), style="red", markup=False, highlight=False)
            raise RuntimeError("the queue is not what its model says")
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    sentence = "after every step the counts, the states, the leases and the strikes were those of the model."
    _console.print(f"the queue against its model: {words}")
    return f"{words} (submit, claim, finish, give back, die, cancel, retry, expire, purge): {sentence}"


def _path(job: Job, tier: str) -> Path:
    return _KEPT / tier / f"{job.name}.json"


def _kept(job: Job, tier: str, also: Sequence[str]) -> Outcome | None:
    """What an earlier run at this commit showed, or at another one that counts."""
    path = _path(job, tier)
    if not tier or not path.exists() or _changed():
        return None
    told = Outcome(**json.loads(path.read_text()))
    if told.commit not in {_commit(), *also} or (told.times, told.seed) != (job.times, job.seed):
        return None
    return told


def _keep(job: Job, outcome: Outcome, tier: str) -> None:
    if tier:
        path = _path(job, tier)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(outcome)))


def _changed() -> bool:
    """Whether the tree is not that of the commit; then nothing that was kept is of this code."""
    return bool(subprocess.run(["git", "diff", "--quiet", "HEAD"], check=False, cwd=ROOT).returncode)


def _commit(name: str = "HEAD") -> str:
    return subprocess.run(
        ["git", "rev-parse", name], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()


if __name__ == "__main__":
    main()
