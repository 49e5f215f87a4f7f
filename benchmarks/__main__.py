"""`make bench`: print every figure as a ratio or a median of this run; takes about ten minutes."""

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import audit, forecast, instance, limit, png, retraining, start
from benchmarks.images import originals, repeated
from db.tables import Lane

_IMAGES = 2_000
_ROUNDS = 5
_URGENT = 15
_SENDERS, _PARTS = 2, 8


def main() -> None:
    """Run the named figures, or all of them."""
    for name in sys.argv[1:] or FIGURES:
        FIGURES[name]()


def by_reference() -> None:
    """The images stand on the disk; the line claims, decodes, predicts, stores and audits them."""
    paths = repeated(_IMAGES)
    with instance.running() as bench:
        items = bench.keep(paths)
        bench.wait(bench.submit(items[:200]))  # warm
        ratio = _against_limit(paths, lambda: bench.wait(bench.submit(items)))
    print(f"line / limit (by reference): {ratio:.2f}")


def over_http() -> None:
    """The same images, sent over HTTP by two senders in eight batches, on the same cores as everything else."""
    paths = repeated(_IMAGES)
    with instance.running() as bench:
        bench.send(paths[:100])  # warm
        ratio = _against_limit(paths, lambda: bench.send_in_parts(paths, senders=_SENDERS, parts=_PARTS))
    print(f"line / limit (over HTTP): {ratio:.2f}")


def _against_limit(paths: Sequence[Path], line: Callable[[], float]) -> float:
    """The median ratio of rounds, each line between two limits, since these machines' speed drifts.

    `line` returns its seconds.
    """
    ratios = []
    before = limit.images_per_second(paths)
    for number in range(_ROUNDS):
        real, after = len(paths) / line(), limit.images_per_second(paths)
        most = (before + after) / 2
        ratios.append(real / most)
        print(f"  round {number + 1}: limit {most:.0f} images/s, line {real:.0f} images/s, ratio {real / most:.2f}")
        before = after
    return statistics.median(ratios)


def urgent() -> None:
    """One urgent image over HTTP, from the request to the finished row: idle, then while 5,000 routine ones wait."""
    path = originals()[0]
    with instance.running() as bench:
        bench.send([path], lane=Lane.URGENT)
        idle = [bench.send([path], lane=Lane.URGENT) for _ in range(_URGENT)]
        print(f"urgent, idle: median {statistics.median(idle) * 1000:.0f} ms, worst {max(idle) * 1000:.0f} ms")
        items = bench.keep(repeated(5_000))
        bench.submit(items)
        loaded = [bench.send([path], lane=Lane.URGENT) for _ in range(_URGENT)]
        words = f"median {statistics.median(loaded):.2f} s, worst {max(loaded):.2f} s"
        print(f"urgent, {bench.queued()} of 5,000 routine still waiting: {words}")


def memory() -> None:
    """Proportional set sizes while 20,000 images go through, and how they grow."""
    with instance.running() as bench:
        items = bench.keep(repeated(_IMAGES))
        bench.send_in_parts(repeated(_IMAGES), senders=_SENDERS, parts=_PARTS)
        sizes = []
        for _ in range(10):
            bench.wait(bench.submit(items))
            sizes.append(bench.worker_bytes() / 1e6)
        per_thousand = statistics.linear_regression([number * 2 for number in range(10)], sizes).slope
        print(f"memory of the API: {bench.api_bytes() / 1e6:.0f} MB")
        print(f"memory of the worker with its children: {max(sizes):.0f} MB at most over 20,000 images")
        later = statistics.linear_regression([number * 2 for number in range(5, 10)], sizes[5:]).slope
        print(f"its growth: {per_thousand:.2f} MB per 1,000 images, {later:.2f} over the second half")


FIGURES: dict[str, Callable[[], None]] = {
    "png": png.figure,
    "import": start.figure,
    "reference": by_reference,
    "http": over_http,
    "urgent": urgent,
    "memory": memory,
    "forecast": forecast.figure,
    "retraining": retraining.figure,
    "audit": audit.figure,
}


if __name__ == "__main__":
    main()
