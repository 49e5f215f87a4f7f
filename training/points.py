"""The command that sets a hospital's own operating point, from its own labelled results."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

import home
from db import audit, operating_points, registry, tenancy, tenants
from db.operating_points import Scored
from settings import Settings
from terminal import NOTICE, answer, answers, fail, json_option, operator, words
from worker.decision import Decision

LEAST: Final = 30
"""Patients of each class: with fewer, one of them moves the point too far."""

_SHARE = click.FloatRange(0, 1, min_open=True)


if TYPE_CHECKING:
    from training.calibration import Wanted


class TooFewPatients(Exception):
    """The hospital has not labelled enough; the message says how much there is."""


@click.command("operating-point")
@click.option("--site", default=tenancy.DEFAULT, show_default=True, help="The hospital, as `cxr tenant list` names it.")
@click.option("--model", "version", help="Registered version; the champion if none is named.")
@click.option("--sensitivity", type=_SHARE, default=0.95, show_default=True, help="Of the operating point.")
@click.option(
    "--specificity", type=_SHARE, default=0.9, show_default=True, help="From which on an image is called positive."
)
@click.option("--reset", is_flag=True, help="Go back to the version's own.")
@json_option
@click.pass_obj
def operating_point(
    settings: Settings, *, site: str, version: str | None, sensitivity: float, specificity: float, reset: bool
) -> None:
    """Choose a version's operating point and band for one hospital, on its own labelled results."""
    database = home.database(settings)
    from training.calibration import Wanted  # noqa: PLC0415 - every command would pay for it

    wanted = Wanted(sensitivity, specificity)
    actor, origin = operator()
    with audit.coming_from(origin), database.write() as session:
        if not tenants.exists(session, site):
            fail(f"there is no tenant {site}: `cxr tenant list` names them")
        try:
            model = registry.find(session, version) if version else registry.champion(session)
            own = Decision.of(model)
            rows = [] if reset else operating_points.scored(session, model.version, site)
            chosen = None if reset else choose(own, rows, wanted)
        except (registry.VersionUnknown, registry.NoChampion, TooFewPatients) as error:
            fail(str(error))
        on = _described(rows, wanted) if chosen else {}
        operating_points.put(session, model.version, site, chosen, on=on, actor=actor)
        told = {"site": site, "model": model.version, "own": chosen is not None} | _numbers(chosen, own) | on
    answer(told, lambda: _show(told))


def choose(own: Decision, rows: Sequence[Scored], wanted: "Wanted") -> tuple[float, tuple[float, float]]:
    """Return threshold and band on these images, as training does on its validation fold. Raises TooFewPatients."""
    import numpy as np  # noqa: PLC0415 - every command would pay for it

    from training import calibration  # noqa: PLC0415

    patients = {truth: len({row.patient for row in rows if row.positive is truth}) for truth in (True, False)}
    if min(patients.values()) < LEAST:
        raise TooFewPatients(
            f"{patients[True]} positive and {patients[False]} negative patients have a label and a score that count;"
            f" {LEAST} of each are needed"
        )
    decided = calibration.decided_at(
        own,
        np.array([row.probability for row in rows]),
        np.array([row.positive for row in rows]),
        np.array([row.patient for row in rows]),
        wanted=wanted,
    )
    if decided.band is None:
        raise AssertionError("what was chosen has a band")
    return decided.threshold, decided.band


def _described(rows: Sequence[Scored], wanted: "Wanted") -> dict[str, Any]:
    return {"images": len(rows), "positives": sum(row.positive for row in rows)} | asdict(wanted)


def _numbers(chosen: tuple[float, tuple[float, float]] | None, own: Decision) -> dict[str, float | None]:
    threshold, (low, high) = chosen or (own.threshold, own.band or (None, None))
    return {"threshold": threshold, "band_low": low, "band_high": high}


def _show(told: dict[str, Any]) -> None:
    whose = f"chosen on {told['images']} images" if told["own"] else "the version's own"
    answers.print(f"{told['model']} at {told['site']}: operating point {told['threshold']:.3f}, {whose}")
    if told["band_low"] is not None:
        answers.print(f"negative below {told['band_low']:.3f}, positive from {told['band_high']:.3f}")
    words.print(NOTICE, style="yellow")
