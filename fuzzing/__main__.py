"""`make fuzz`: mutated images, DICOM files and zips through HTTP and a worker; exits with 1 if anything broke."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from random import Random

from rich.progress import MofNCompleteColumn, Progress

from fuzzing import seeds
from fuzzing.mutations import mutated
from fuzzing.service import Fuzzed, running
from terminal import bar

_TOGETHER = 500  # images in one batch
_HALF = 0.5


def main() -> None:
    given = _arguments()
    print(f"seed {given.seed}: {given.images} images, {given.dicoms} DICOM files, {given.zips} zips")
    start = time.monotonic()
    answers: dict[str, Counter[str]] = {}
    with running() as service, bar("fuzzing", MofNCompleteColumn()) as progress:
        image, dicom = seeds.images(), seeds.dicom()
        answers["images"] = _files(service, progress, "images", image, count=given.images, seed=given.seed)
        answers["DICOM files"] = _files(
            service, progress, "DICOM files", dicom, count=given.dicoms, seed=given.seed + 1
        )
        answers["zips"] = _zips(service, progress, [*image, *dicom], count=given.zips, seed=given.seed + 2)
        answers["files in zips"] = service.in_zips
        broken = service.broken()
        peaks = service.peaks
    for what, counted in answers.items():
        print(f"{what}: {counted.total()}")
        for answer, number in counted.most_common():
            print(f"  {number:8} {answer}")
    print(", ".join(f"peak of {name}: {size >> 20} MiB" for name, size in peaks.items()))
    print(f"{time.monotonic() - start:.0f} s, seed {given.seed}")
    for problem in broken:
        print(f"BROKEN: {problem}")
    sys.exit(bool(broken))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzzing", description=__doc__)
    for name, default in (("images", 100_000), ("dicoms", 50_000), ("zips", 10_000), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def _files(
    service: Fuzzed, progress: Progress, what: str, whole: Sequence[bytes], *, count: int, seed: int
) -> Counter[str]:
    random = Random(seed)
    task = progress.add_task(what, total=count)
    answers: Counter[str] = Counter()
    for first in range(0, count, _TOGETHER):
        size = min(_TOGETHER, count - first)
        batch = {f"{first + n}": mutated(random, random.choice(whole), whole) for n in range(size)}
        answers += service.answers(batch)
        progress.advance(task, size)
    return answers


def _zips(service: Fuzzed, progress: Progress, whole: Sequence[bytes], *, count: int, seed: int) -> Counter[str]:
    """Half of them sound archives of mutated files, half themselves mutated."""
    random = Random(seed)
    task = progress.add_task("zips", total=count)
    answers: Counter[str] = Counter()
    for number in range(count):
        inside = random.sample(whole, random.randint(1, 6))
        if number % 2:
            archive = seeds.archive([mutated(random, data, whole) for data in inside], deflated=random.random() < _HALF)
        else:
            sound = seeds.archive(inside, deflated=random.random() < _HALF)
            archive = mutated(random, sound, [sound, *whole])
        answers[service.submit_zip(archive)] += 1
        progress.advance(task, 1)
    service.settle()
    return answers


if __name__ == "__main__":
    main()
