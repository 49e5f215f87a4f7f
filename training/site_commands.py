"""The command that sets a hospital's own operating point."""

from pathlib import Path

import click

from db import migrate, registry, sites, tenants
from db.blobs import Blobs
from db.sites import Point
from settings import Settings
from terminal import NOTICE, answers, fail, operator, words
from training.index import DataUnusable
from worker import device


@click.command()
@click.option("--site", required=True, help="The hospital, as `cxr tenant list` names it.")
@click.option(
    "--data",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of CLASS/images of that hospital, none of which was trained on.",
)
@click.option("--model", "version", help="Registered version; the champion if none is named.")
@click.option("--sensitivity", type=click.FloatRange(0, 1, min_open=True), default=0.95, show_default=True)
@click.option("--specificity", type=click.FloatRange(0, 1, min_open=True), default=0.9, show_default=True)
@click.pass_obj
def threshold(
    settings: Settings, site: str, folder: Path, version: str | None, *, sensitivity: float, specificity: float
) -> None:
    """Choose a model version's operating point and band on a hospital's own images, for that hospital alone."""
    database = migrate.existing(settings.database_url)
    if database is None:
        fail("this home has no database yet: run `cxr migrate` or `cxr up` first")
    blobs = Blobs(settings.blobs)
    with database.read() as session:
        if not tenants.exists(session, site):
            fail(f"there is no tenant {site}: `cxr tenant list` names them")
        try:
            model = registry.find(session, version) if version else registry.champion(session)
        except (registry.VersionUnknown, registry.NoChampion) as error:
            fail(str(error))
        card = registry.card_of(model)
        weights = blobs.read(model.weights_sha256)
    device.quiet()
    from training import runs  # noqa: PLC0415 - loads TensorFlow
    from training.calibration import Wanted  # noqa: PLC0415

    try:
        chosen = runs.decide_for_site(folder, card, weights, wanted=Wanted(sensitivity, specificity))
    except DataUnusable as error:
        fail(str(error))
    if chosen.decision.band is None:
        raise AssertionError("a decision that was chosen has a band")
    actor, _ = operator()
    with database.write() as session:
        point = Point(chosen.decision.threshold, chosen.decision.band)
        sites.put(session, card.version, site, point, chosen_on=chosen.on, actor=actor)
    low, high = chosen.decision.band
    answers.print(f"{card.version} at {site}: negative below {low:.3f}, positive from {high:.3f}")
    answers.print(f"operating point {chosen.decision.threshold:.3f}, chosen on {chosen.on['images']} images")
    words.print(NOTICE, style="yellow")
