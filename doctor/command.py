"""The command: every check in turn, a line for each, and what to do."""

import sys
from collections.abc import Iterator

import click

from doctor import machine, models, records, server
from doctor.finding import Finding, State, unseen
from settings import Settings
from terminal import Exit, answer, answers, json_option, plain, table, words

_STYLES = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red", State.UNSEEN: "dim"}


@click.command()
@click.option("--quick", is_flag=True, help="Do not load the model, which takes some seconds.")
@json_option
@click.pass_obj
def doctor(settings: Settings, *, quick: bool) -> None:
    """Check everything and say how to mend what does not work. Exits with 1 if something does not."""
    with words.status("looking"):
        found = list(_checked(settings, quick=quick))
    ill = [one for one in found if one.state == State.FAILED]
    answer({"well": not ill, "checks": [vars(one) for one in found]}, lambda: _show(found))
    if ill:
        sys.exit(Exit.PROBLEM)


def _checked(settings: Settings, *, quick: bool) -> Iterator[Finding]:
    yield machine.check_versions()
    if settings.url:
        yield unseen("machine", "CXR_URL names a server; without it, on its machine, the doctor sees more")
    else:
        yield machine.check_home(settings)
        yield machine.check_disk(settings)
        yield machine.check_broker(settings)
        yield from records.check_database(settings)
        yield from models.check_models(settings, quick=quick)
    yield from server.check_server(settings)


def _show(found: list[Finding]) -> None:
    shown = table("", "what", "found", whole={"", "what"})
    for one in found:
        shown.add_row(f"[{_STYLES[one.state]}]{one.state}[/]", one.what, plain(one.seen))
        if one.mend:
            shown.add_row("", "", f"[bold]→ {plain(one.mend)}[/]")
    answers.print(shown)
