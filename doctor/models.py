"""Whether the registered weights are what was registered, and whether model and gate say anything sensible."""

import io
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select

from db import migrate, registry
from db.blobs import BlobDamaged, Blobs
from db.database import Database
from db.tables import Label, Model
from doctor.finding import Finding, failed, unseen, well
from settings import Settings
from worker import device

if TYPE_CHECKING:
    from worker.decoder import Decoded

_BATCH = 8
_TOLERANCE = 1e-3
_RESTORE = "restore the blobs from the backup, or register the version again"


def check_models(settings: Settings, *, quick: bool) -> Iterator[Finding]:
    """The SHA-256 of every version's weights, then a self-test of champion and gate."""
    database = migrate.existing(settings.database_url)
    if database is None:
        yield unseen("model", "there is no database of this version to name one")
        return
    try:
        with database.read() as session:
            weights = {model.version: model.weights_sha256 for model in session.scalars(select(Model))}
            champion = registry.champion(session).version
        damaged = [version for version, sha256 in weights.items() if not _whole(Blobs(settings.blobs), sha256)]
        if damaged:
            yield failed("model", f"weights missing or damaged: {', '.join(damaged)}", _RESTORE)
        else:
            yield well("model", f"{champion} is the champion; weights that are whole: {len(weights)} of {len(weights)}")
        if champion in damaged or quick:
            yield unseen("self-test", "asked not to" if quick else "the champion cannot be loaded")
        else:
            yield from _self_test(database, settings, champion)
    except registry.NoChampion:
        yield failed("model", "no model is registered as champion", "run `cxr migrate`: it registers the shipped one")
    finally:
        database.close()


def _whole(blobs: Blobs, sha256: str) -> bool:
    try:
        blobs.read(sha256)
    except (OSError, BlobDamaged):
        return False
    return True


def _self_test(database: Database, settings: Settings, version: str) -> Iterator[Finding]:
    """A blank picture must get no number, a drawn radiograph one, and alone the same as among others."""
    device.quiet()
    from worker.decision import ModelUnusable  # noqa: PLC0415
    from worker.gate import GateDamaged  # noqa: PLC0415 - these load TensorFlow
    from worker.judge import Judge  # noqa: PLC0415
    from worker.models import Models  # noqa: PLC0415

    blank, drawn = _pictures()
    try:
        judge = Judge(Models(database, Blobs(settings.blobs), batch_size=_BATCH), batch_size=_BATCH, longest_seconds=60)
        refused, scored = judge.judge(version, [blank, drawn])
        (alone,) = judge.judge(version, [drawn])
    except GateDamaged as error:
        yield failed("gate", str(error), "install the program again: `make setup`, or the image anew")
        return
    except ModelUnusable as error:
        yield failed("self-test", str(error), _RESTORE)
        return
    if refused.label == Label.INCONCLUSIVE and refused.probability is None:
        yield well("gate", f"{judge.gate_version} gives a blank picture no number")
    else:
        yield failed("gate", f"{judge.gate_version} lets a blank picture pass", "install the program again")
    yield _numbers(version, scored.probability, alone.probability)


def _numbers(version: str, among_others: float | None, alone: float | None) -> Finding:
    if among_others is None or alone is None or not math.isfinite(among_others):
        return failed("self-test", f"{version} gives a drawn radiograph no number", _RESTORE)
    if abs(among_others - alone) > _TOLERANCE:
        seen = f"{version} says {alone:.6f} of a picture alone and {among_others:.6f} among others"
        return failed("self-test", seen, "the processor or TensorFlow is at fault: install again, try another machine")
    return well("self-test", f"{version} says {alone:.6f} of a drawn radiograph, alone and among others")


def _pictures() -> tuple["Decoded", "Decoded"]:
    """A blank picture and a drawn radiograph, through the decoder."""
    from PIL import Image  # noqa: PLC0415

    from training import phantoms  # noqa: PLC0415 - every command would pay for the decoders
    from worker.decoder import decoded  # noqa: PLC0415

    blank = io.BytesIO()
    Image.new("L", (256, 256)).save(blank, "PNG")
    with tempfile.TemporaryDirectory() as directory:
        (drawn,) = phantoms.write(Path(directory), count=1, seed=1)
        return decoded(blank.getvalue()), decoded(drawn.read_bytes())
