"""The limit: processes that decode, judge and predict the same files, every core busy, and nothing else."""

import os
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

_TOGETHER = 64
_START_SECONDS, _SECONDS = 60, 600


def images_per_second(paths: Sequence[Path]) -> float:
    """Decode and predict the files once, shared out evenly as they go, and return images per second."""
    context = get_context("spawn")
    processes = os.cpu_count() or 1
    barrier, taken, ends = context.Barrier(processes + 1), context.Value("i", 0), context.Queue()
    workers = [context.Process(target=_work, args=(list(paths), barrier, taken, ends)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    barrier.wait(_START_SECONDS)
    start = time.time()
    last: float = max(ends.get(timeout=_SECONDS) for _ in workers)
    for worker in workers:
        worker.join()
    return len(paths) / (last - start)


def _work(paths: list[Path], barrier: Barrier, taken: Any, ends: Any) -> None:
    from worker import device  # noqa: PLC0415 - before TensorFlow's first use

    device.prepare()
    from benchmarks.instance import predictor  # noqa: PLC0415
    from worker.assessment import assess  # noqa: PLC0415
    from worker.decoder import decoded  # noqa: PLC0415
    from worker.gate import Gate  # noqa: PLC0415

    model, gate = predictor(_TOGETHER), Gate(batch_size=_TOGETHER)
    decoded(paths[0].read_bytes())
    barrier.wait(_START_SECONDS)
    while True:
        with taken.get_lock():
            start = taken.value
            taken.value += _TOGETHER
        if start >= len(paths):
            break
        images = [decoded(path.read_bytes()) for path in paths[start : start + _TOGETHER]]
        assess(images, gate, model.predict)
    ends.put(time.time())
