"""An image with which workers died is judged in a process of its own, and that process's end is what counts against it.

That a worker died while it held an image says little: somebody may have cut the power, over and over.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

from db.blobs import Blobs
from db.database import Database
from settings import Settings
from worker.child import Child, Ended, end_with
from worker.decision import ModelUnusable, Prediction
from worker.decoder import Decoded
from worker.radiograph import BLANK

MODULE = "worker.trial"
_START_SECONDS = 120
_PATIENCE_SECONDS = 5  # it ends itself in time


class Guilty(Exception):
    """The process that judged a blank picture did not survive this image."""


class Trial:
    """Judges as worker.judge does, once, elsewhere."""

    def __init__(self, settings: Settings, *, gate_version: str, meanwhile: Callable[[], object]) -> None:
        self._settings = settings
        self.gate_version = gate_version
        self._meanwhile = meanwhile

    def judge(self, version: str, images: Sequence[Decoded]) -> list[Prediction]:
        """Return one Prediction per image, in order. Raises Guilty, ModelUnusable, and what keeps the process from starting."""
        seconds = self._settings.lease_seconds
        # The GPU is the worker's; the answer is the same but for rounding.
        environment = os.environ | self._settings.environment() | {"CUDA_VISIBLE_DEVICES": "-1"}
        child = Child(MODULE, environment, version=version, seconds=seconds, parent=os.getpid())
        try:
            if problem := child.start(_START_SECONDS, self._meanwhile, every=seconds / 3):
                raise ModelUnusable(problem)
            self._meanwhile()
            try:
                found: list[Prediction] = child.ask(list(images), seconds + _PATIENCE_SECONDS)
            except Ended as ended:
                raise Guilty(f"the process that judged it alone ended: {ended}") from ended
            return found
        finally:
            child.stop()


def serve(descriptor: int, *, version: str, seconds: int, parent: int) -> None:
    """Say what is wrong with the version, or nothing, then judge one list of images and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides when this ends
    end_with(parent)
    from worker import device  # noqa: PLC0415

    device.prepare()
    from worker.judge import Judge  # noqa: PLC0415 - loads TensorFlow, which the device must precede
    from worker.models import Models  # noqa: PLC0415

    settings = Settings.from_environment()
    models = Models(Database(settings.database_url), Blobs(settings.blobs), batch_size=settings.batch_size)
    judge = Judge(models, batch_size=settings.batch_size, longest_seconds=seconds)
    with Connection(descriptor) as worker, contextlib.suppress(EOFError, ConnectionError):
        try:
            models.get(version).predictor.predict([BLANK])
            judge.judge(version, [Decoded(BLANK, 0, None)])  # the gate too
            worker.send("")
        except ModelUnusable as error:
            worker.send(str(error))
            return
        images = worker.recv()
        signal.alarm(seconds)  # ends this process, even within a C library
        worker.send(judge.judge(version, images))
