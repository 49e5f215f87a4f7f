"""`make fuzz`: mutated images, DICOM files and zips through HTTP and a worker; exits with 1 if anything broke."""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

from rich.progress import MofNCompleteColumn, Progress

from fuzzing import seeds
from fuzzing.mutations import mutated
from fuzzing.processes import Processes
from fuzzing.service import Fuzzed, running
from fuzzing.tally import Tally
from terminal import bar

_TOGETHER = 500  # images in one batch
_HALF = 0.5
# Shares of what is sent: let in at the door, and read; about half of what is seen where nothing is wrong.
_LEAST, _LEAST_ZIPS = (0.25, 0.1), 0.25


def main() -> None:
    given = _arguments()
    print(f"seed {given.seed}: {given.images} images, {given.dicoms} DICOM files, {given.zips} zips")
    start = time.monotonic()
    images, files, inside = (Tally(what, *_LEAST) for what in ("images", "DICOM files", "files in zips"))
    zips = Tally("zips", _LEAST_ZIPS)
    with running() as service, bar("fuzzing", MofNCompleteColumn()) as progress:
        image, dicom = seeds.images(), seeds.dicom()
        _files(service, progress, images, image, count=given.images, seed=given.seed)
        _files(service, progress, files, dicom, count=given.dicoms, seed=given.seed + 1)
        _zips(service, progress, zips, inside, [*image, *dicom], count=given.zips, seed=given.seed + 2)
        tallies = (images, files, zips, inside)
        broken = [*service.problems(), *(problem for tally in tallies for problem in tally.problems())]
        _show(tallies, service.processes)
    print(f"{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}, seed {given.seed}, {time.monotonic() - start:.0f} s")
    for problem in broken:
        print(f"BROKEN: {problem}")
    sys.exit(bool(broken))


def _show(tallies: Sequence[Tally], processes: Processes) -> None:
    """The table as SECURITY.md keeps it."""
    print("| of | answer | how many |", "| --- | --- | ---: |", sep="\n")
    for tally in tallies:
        print(*tally.rows(), sep="\n")
    print(f"| decoding children | *ended and started again* | {processes.children_ended} |")
    print(", ".join(f"{name}: {size >> 20} MiB" for name, size in processes.peaks.items()))


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzzing", description=__doc__)
    for name, default in (("images", 100_000), ("dicoms", 50_000), ("zips", 10_000), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def _files(service: Fuzzed, progress: Progress, tally: Tally, whole: Sequence[bytes], *, count: int, seed: int) -> None:
    random = Random(seed)
    task = progress.add_task(tally.what, total=count)
    for first in range(0, count, _TOGETHER):
        size = min(_TOGETHER, count - first)
        service.send({f"{first + n}": mutated(random, random.choice(whole), whole) for n in range(size)}, tally)
        progress.advance(task, size)


def _zips(
    service: Fuzzed, progress: Progress, tally: Tally, inside: Tally, whole: Sequence[bytes], *, count: int, seed: int
) -> None:
    """Half of them sound archives of mutated files, half themselves mutated."""
    random = Random(seed)
    task = progress.add_task(tally.what, total=count)
    for number in range(count):
        files = random.sample(whole, random.randint(1, 6))
        if number % 2:
            archive = seeds.archive([mutated(random, data, whole) for data in files], deflated=random.random() < _HALF)
        else:
            sound = seeds.archive(files, deflated=random.random() < _HALF)
            archive = mutated(random, sound, [sound, *whole])
        service.send_zip(archive, tally, inside)
        progress.advance(task, 1)
    service.settle(inside)


if __name__ == "__main__":
    main()
