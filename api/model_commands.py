"""The commands that show models: which there are, and how one does."""

from collections.abc import Sequence
from typing import Any

import click

import home
from api.connection import connected, plain_data
from cxr_client import Monitoring, Rate
from db import registry, verdicts
from settings import Settings
from terminal import NOTICE, answer, answers, json_option, plain, table, words


@click.command()
@json_option
@click.pass_obj
def models(settings: Settings) -> None:
    """List the registered model versions."""
    told = _of_server(settings) if settings.url else _of_home(settings)
    answer(told, lambda: _show_models(told))


def _of_server(settings: Settings) -> list[dict[str, Any]]:
    with connected(settings) as client:
        found = [plain_data(client.models.one(model.version)) for model in client.models.all().data]
    return [
        one | {"champion": registry.CHAMPION in one["aliases"], "passed": (one["verdict"] or {}).get("passed")}
        for one in found
    ]


def _of_home(settings: Settings) -> list[dict[str, Any]]:
    with home.database(settings).read() as session:
        aliases = registry.aliases(session)
        found = registry.cards(session)
        newest = {card.version: verdicts.newest(session, card.version) for card in found}
        passed = {version: verdict.passed for version, verdict in newest.items() if verdict}
    return [
        {
            **vars(card),
            "champion": registry.CHAMPION in aliases.get(card.version, []),
            "aliases": aliases.get(card.version, []),
            "passed": passed.get(card.version),
        }
        for card in found
    ]


def _show_models(found: Sequence[dict[str, Any]]) -> None:
    right = ("AUROC on the held-out fold", "threshold")
    shown = table("version", "", "gate", *right, right=right, whole={"version", ""})
    for one in found:
        gate = {None: "", True: "passed", False: "failed"}[one["passed"]]
        auroc = one["metrics"].get("auroc", float("nan"))
        shown.add_row(one["version"], " ".join(one["aliases"]), gate, f"{auroc:.3f}", f"{one['threshold']:.3f}")
    answers.print(shown)


@click.command()
@click.argument("version", required=False)
@json_option
@click.pass_obj
def monitoring(settings: Settings, version: str | None) -> None:
    """Show how a version does by ground truth, and how far what comes in has moved; the champion if none is named."""
    with connected(settings) as client:
        if version is None:
            version = next(model.version for model in client.models.all().data if registry.CHAMPION in model.aliases)
        found = client.models.monitoring(version)
    answer(plain_data(found), lambda: _show_monitoring(found))


def _show_monitoring(found: Monitoring) -> None:
    answers.print(found.version)
    if not found.performance:
        answers.print("no image of it has a label yet: `cxr label` gives one")
    else:
        shown = table("site", "sensitivity", "specificity", "undecided", right={"undecided"}, whole={"site"})
        for one in found.performance:
            shown.add_row(plain(one.site), _rate(one.sensitivity), _rate(one.specificity), str(one.inconclusive))
        answers.print(shown)
    if not found.drift:
        answers.print("no drift is known: `cxr judge` keeps what it is measured against")
    else:
        shown = table("feature", "images of the last week", "index", "", right={"index", "images of the last week"})
        for moved in found.drift:
            index = "" if moved.index is None else f"{moved.index:.3f}"
            shown.add_row(moved.feature, str(moved.images), index, "alarm" if moved.alarm else "")
        answers.print(shown)
    words.print(NOTICE, style="yellow")


def _rate(rate: Rate) -> str:
    if rate.value is None or rate.interval is None:
        return "no image"
    return f"{rate.value:.2f} ({rate.interval[0]:.2f} to {rate.interval[1]:.2f}, {rate.right} of {rate.of})"
