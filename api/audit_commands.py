"""The commands of the audit: list it, and, on the database itself, verify, sign and export it."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import click

import home
from api import fhir
from api.connection import connected, plain_data
from cxr_client import AuditEvent
from db import audit as chain
from db import proof, trail
from db.audit import Entry
from db.chains import AuditRow
from db.database import Database
from db.trail import Search
from settings import Settings
from terminal import answer, answers, fail, json_option, operator, plain, table, words


@click.group()
def audit() -> None:
    """The append-only record of what happened."""


@audit.command()
@click.option("--head", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Signed heads, a line each.")
@click.option("--key", help="The public key to trust, in hexadecimal; that of CXR_AUDIT_HEADS if none is given.")
@json_option
@click.pass_obj
def verify(settings: Settings, head: Path | None, key: str | None) -> None:
    """Walk every chain, compare it with its signed heads; exits with 1 if a row was edited, deleted, swapped or cut off."""
    from db import heads  # noqa: PLC0415 - every command would pay for the cryptography

    database, own = home.database(settings), heads.Heads(settings.audit_heads)
    trusted = key or own.public
    if head and not trusted:
        fail(f"there is no key in {settings.audit_heads}: give the one to trust with --key", code="no_public_key")
    try:
        signed = heads.hashes(heads.read(head, str(trusted)) if head else own.kept())
        with words.status("walking the chains"), database.read() as session:
            verdict = proof.verify(session, signed)
        if not verdict.problem:
            heads.vouch(verdict, trusted)
    except heads.HeadUnusable as error:
        fail(f"the audit cannot be verified: {error}", code="heads_unusable")
    if verdict.problem:
        fail(f"the audit does not hold: {verdict.problem}", code="audit_broken")
    compared = f"{len(signed)} signed heads agree" if signed else "none of them signed yet"
    told = {"rows": verdict.rows, "heads": len(signed)}
    answer(told, lambda: answers.print(f"the audit holds: {verdict.rows} rows; {compared}"))


@audit.command()
@click.pass_obj
def head(settings: Settings) -> None:
    """Sign where each chain ends now and print that, a line each: to be kept where nobody who holds the database can reach it."""
    from db import heads  # noqa: PLC0415

    with home.database(settings).read() as session:
        for one in heads.Heads(settings.audit_heads).sign(session):
            click.echo(one.line())


@audit.command("list")
@click.option("--from", "since", type=click.DateTime(), help="Rows of then (UTC) and later.")
@click.option("--to", "until", type=click.DateTime(), help="Rows before then (UTC).")
@click.option("--actor", help="Only what this one did.")
@click.option("--action", help="Only rows of this action, such as result.viewed.")
@click.option("--subject", help="Only what was done to this: a batch, a result, a key.")
@json_option
@click.pass_obj
def list_(settings: Settings, /, since: datetime | None, until: datetime | None, **wanted: str | None) -> None:
    """Show the rows of one's own hospital, oldest first, from the server."""
    with connected(settings) as client:
        found = list(client.audit(since=_utc(since), until=_utc(until), **wanted))
    answer([plain_data(row) for row in found], lambda: _show(found))


def _show(found: Sequence[AuditEvent]) -> None:
    shown = table("row", "at (UTC)", "who", "what", "to what", "from", right={"row"}, whole={"row", "at (UTC)", "what"})
    for row in found:
        at = row.at[:19].replace("T", " ")
        shown.add_row(str(row.seq), at, plain(row.actor), row.action, plain(row.subject), row.origin or "")
    answers.print(shown)


@audit.command()
@click.option(
    "--form", type=click.Choice(["ndjson", "fhir"]), default="ndjson", help="FHIR: R4 AuditEvents, a line each."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write there, not to stdout.")
@click.option("--from", "since", type=click.DateTime(), help="Rows of then (UTC) and later.")
@click.option("--to", "until", type=click.DateTime(), help="Rows before then (UTC).")
@click.option("--tenant", help="Only this hospital's chain; `*` is that of what belongs to none.")
@click.option("--action", help="Only rows of this action, such as result.viewed.")
@click.option("--actor", help="Only what this one did.")
@click.pass_obj
def export(
    settings: Settings,
    /,
    form: str,
    output: Path | None,
    since: datetime | None,
    until: datetime | None,
    **wanted: str | None,
) -> None:
    """Write the audit, oldest row first, a line for each; the export itself leaves a row before it begins."""
    database = home.database(settings)
    _note(database, form)
    search = Search(since=_utc(since), until=_utc(until), **wanted)
    write = fhir.as_line if form == "fhir" else as_line
    number = 0
    with output.open("w", encoding="utf-8") if output else nullcontext(sys.stdout) as file, database.read() as session:
        for row in trail.rows(session, search):
            file.write(write(row) + "\n")
            session.expunge(row)
            number += 1
    words.print(f"{number} rows exported")


def as_line(row: AuditRow) -> str:
    """The row as it stands in the chain: whoever has the lines can compute every hash again."""
    told = {column: getattr(row, column) for column in AuditRow.__table__.columns.keys()}  # noqa: SIM118 - iterating gives columns
    return json.dumps(told)


def _note(database: Database, form: str) -> None:
    actor, origin = operator()
    with chain.coming_from(origin), database.write() as session:
        chain.append(session, actor, [Entry("audit.exported", "audit", None, {"form": form})])


def _utc(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC)
