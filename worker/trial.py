"""An image with which workers died is judged in a process of its own, and that process's end is what counts against it.

That a worker died while it held an image says little: somebody may have cut the power, over and over.
"""

import contextlib
import os
import resource
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
# The GPU is the worker's, and the answer the same but for rounding. What it need not know, it is not told.
_INSTEAD = {"CUDA_VISIBLE_DEVICES": "-1", "REDIS_URL": "memory://", "CXR_KEY": "", "CXR_OIDC_CLIENT_SECRET": ""}


class Guilty(Exception):
    """Two processes that had judged a blank picture did not survive this image."""


class TrialImpossible(Exception):
    """No such process can be started here, or it cannot use the model; that is no fault of an image."""


class Trial:
    """Judges as worker.judge does, elsewhere."""

    def __init__(self, settings: Settings, *, gate_version: str, meanwhile: Callable[[], object]) -> None:
        self._settings = settings
        self.gate_version = gate_version
        self._meanwhile = meanwhile

    def judge(self, version: str, images: Sequence[Decoded]) -> list[Prediction]:
        """Return one Prediction per image, in order. Raises Guilty or TrialImpossible."""
        try:
            return self._once(version, images)
        except Ended:  # by the image, or by somebody who ends processes
            pass
        try:
            return self._once(version, images)
        except Ended as ended:
            raise Guilty(f"two processes that judged it alone ended: {ended}") from ended

    def _once(self, version: str, images: Sequence[Decoded]) -> list[Prediction]:
        seconds = self._settings.lease_seconds
        environment = os.environ | self._settings.environment() | _INSTEAD
        child = Child(MODULE, environment, version=version, seconds=seconds, parent=os.getpid())
        try:
            try:
                problem = child.start(_START_SECONDS, self._meanwhile, every=seconds / 3)
            except (OSError, Ended) as error:
                raise TrialImpossible(f"the process of a trial does not start: {error}") from error
            if problem:
                raise TrialImpossible(problem)
            self._meanwhile()
            found: list[Prediction] = child.ask(
                list(images), seconds + _PATIENCE_SECONDS, self._meanwhile, every=seconds / 3
            )
            return found
        finally:
            child.stop()


def serve(descriptor: int, *, version: str, seconds: int, parent: int) -> None:
    """Say what is wrong with the version, or nothing, then judge one list of images and end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the worker, which decides when this ends
        signal.signal(number, signal.SIG_IGN)
    end_with(parent, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from worker import device  # noqa: PLC0415

    device.prepare()
    from worker.judge import Judge  # noqa: PLC0415 - loads TensorFlow, which the device must precede
    from worker.models import Models  # noqa: PLC0415

    settings = Settings.from_environment()
    database = Database(settings.database_url)
    models = Models(database, Blobs(settings.blobs), batch_size=settings.batch_size)
    judge = Judge(models, batch_size=settings.batch_size, longest_seconds=seconds)
    with Connection(descriptor) as worker, contextlib.suppress(EOFError, ConnectionError):
        try:
            loaded = database.patiently(lambda: models.get(version))
            loaded.predictor.predict([BLANK])
            judge.judge(version, [Decoded(BLANK, 0, None)])  # the gate too
            worker.send("")
        except ModelUnusable as error:
            worker.send(str(error))
            return
        images = worker.recv()
        signal.alarm(seconds)  # ends this process, even within a C library
        worker.send(judge.judge(version, images))
