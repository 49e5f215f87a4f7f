"""The commands of the audit: list, verify and export it, on the database itself or from a server, and sign its ends."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import home
from api import fhir
from api.connection import connected, plain_data
from cxr_client import AuditEvent
from db import audit as audits
from db import proof, tenancy, trail
from db.audit import Entry
from db.chains import AuditRow
from db.database import Database
from db.trail import Search
from settings import Settings
from terminal import Exit, answer, answers, fail, json_option, operator, plain, table, words

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from db.proof import Signed


_OWN, _INSTALLATION = "own", "installation"
_of_the_installation = click.option(
    "--installation",
    "chain",
    flag_value=_INSTALLATION,
    default=_OWN,
    help="The chain of what belongs to no hospital: models, promotions, tenants.",
)


@click.group()
def audit() -> None:
    """The append-only record of what happened."""


@audit.command()
@click.option("--head", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Signed heads, a line each.")
@click.option("--key", help="The public key to trust, in hexadecimal; that of CXR_AUDIT_HEADS if none is given.")
@_of_the_installation
@json_option
@click.pass_obj
def verify(settings: Settings, head: Path | None, key: str | None, chain: str) -> None:
    """Walk every chain, compare it with its signed heads; exits with 1 if a row was edited, deleted, swapped or cut off.

    With CXR_URL: every row of one's own hospital, or of the installation, comes over HTTP, and every hash is computed here.
    """
    from db import heads  # noqa: PLC0415 - every command would pay for the cryptography

    database = None if settings.url else home.database(settings)
    own = None if settings.url else heads.Heads(settings.audit_heads)  # another server's lie elsewhere
    trusted = key or (own.public if own else None)
    if head and not trusted:
        fail("there is no key here that could be trusted: give it with --key", code="no_public_key")
    try:
        signed = heads.hashes(heads.read(head, str(trusted)) if head else own.kept() if own else ())
        with words.status("walking the chains"):
            verdict, signed = _of_database(database, signed) if database else _of_server(settings, signed, chain)
        if verdict.pruned and not trusted:
            fail("rows were removed by retention: give the key that vouches for that with --key", code="no_public_key")
        if not verdict.problem:
            heads.vouch(verdict, trusted)
    except heads.HeadUnusable as error:
        fail(f"the audit cannot be verified: {error}", code="heads_unusable")
    if verdict.problem:
        fail(f"the audit does not hold: {verdict.problem}", code="audit_broken")
    compared = f"{len(signed)} signed heads agree" if signed else "none of them signed yet"
    told = {"rows": verdict.rows, "heads": len(signed)}
    answer(told, lambda: answers.print(f"the audit holds: {verdict.rows} rows; {compared}"))


def _of_database(database: Database, signed: "Signed") -> "tuple[proof.Verdict, Signed]":
    """The verdict, and the heads that it was held against."""
    with database.read() as session:
        return proof.verify(session, signed), signed


def _of_server(settings: Settings, signed: "Signed", chain: str) -> "tuple[proof.Verdict, Signed]":
    """The same of one chain, whose heads alone can be compared."""
    with connected(settings) as client:
        end = client.audit_end(chain=chain)
        mine = {(tenant, seq): told for (tenant, seq), told in signed.items() if tenant == end.tenant}
        if signed and not mine:
            fail(f"none of these heads is of {end.tenant}, whose chain this is", code="heads_unusable")
        verdict = proof.verify_chain(end, map(_row, _until(client.audit(chain=chain), end.seq)), mine)
        later = client.audit_end(chain=chain) if verdict.problem else end
        if later.pruned > end.pruned:
            fail("retention removed rows while they were read: ask again", code="audit_moved", retryable=True)
        return verdict, mine


def _until(events: Iterator[AuditEvent], last: int) -> Iterator[AuditEvent]:
    """What was read itself leaves rows behind it."""
    for event in events:
        if event.seq > last:
            return
        yield event


def _row(event: AuditEvent) -> dict[str, Any]:
    """As it stands in the chain, where the detail is text."""
    return event.model_dump() | {"detail": audits.detail_text(event.detail)}


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
@_of_the_installation
@json_option
@click.pass_obj
def list_(
    settings: Settings, /, since: datetime | None, until: datetime | None, chain: str, **wanted: str | None
) -> None:
    """Show the rows of one's own hospital, or of the installation, oldest first, from the server."""
    with connected(settings) as client:
        found = list(client.audit(chain=chain, since=_utc(since), until=_utc(until), **wanted))
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
@click.option(
    "--tenant", help="Only this hospital's chain; on the server's own machine, where all are exported otherwise."
)
@_of_the_installation
@click.option("--action", help="Only rows of this action, such as result.viewed.")
@click.option("--actor", help="Only what this one did.")
@click.pass_obj
def export(settings: Settings, /, form: str, output: Path | None, chain: str, **wanted: Any) -> None:
    """Write the audit, oldest row first, a line for each; the export itself leaves a row before it begins."""
    if chain == _INSTALLATION and wanted["tenant"]:
        fail("--tenant and --installation are two chains: give one of them", status=Exit.USAGE)
    if chain == _INSTALLATION:
        wanted["tenant"] = tenancy.SYSTEM
    search = Search(**wanted | {name: _utc(wanted[name]) for name in ("since", "until")})
    write = fhir.as_line if form == "fhir" else as_line
    number = 0
    with (
        _from_server(settings, search) if settings.url else _from_database(settings, search, form) as rows,
        output.open("w", encoding="utf-8") if output else nullcontext(sys.stdout) as file,
    ):
        for row in rows:
            file.write(write(row) + "\n")
            number += 1
    words.print(f"{number} rows exported")


@contextmanager
def _from_database(settings: Settings, search: Search, form: str) -> Iterator[Iterator[AuditRow]]:
    database = home.database(settings)
    _note(database, form)
    with database.read() as session:
        yield _let_go(session, trail.rows(session, search))


def _let_go(session: "Session", rows: Iterator[AuditRow]) -> Iterator[AuditRow]:
    for row in rows:
        yield row
        session.expunge(row)


@contextmanager
def _from_server(settings: Settings, search: Search) -> Iterator[Iterator[AuditRow]]:
    chain = _INSTALLATION if search.tenant == tenancy.SYSTEM else _OWN
    if search.tenant and chain == _OWN:
        fail("a server shows the chain of the key's own hospital: --tenant is for its own machine", status=Exit.USAGE)
    wanted = {name: getattr(search, name) for name in ("actor", "action", "since", "until")}
    columns = AuditRow.__table__.columns.keys()
    with connected(settings) as client:
        client.audit_end(chain=chain)  # whether it answers, before a file of yesterday is written over
        found = map(_row, client.audit(chain=chain, **wanted))
        yield (AuditRow(**{name: row[name] for name in columns}) for row in found)


def as_line(row: AuditRow) -> str:
    """The row as it stands in the chain: whoever has the lines can compute every hash again."""
    told = {column: getattr(row, column) for column in AuditRow.__table__.columns.keys()}  # noqa: SIM118 - iterating gives columns
    return json.dumps(told)


def _note(database: Database, form: str) -> None:
    actor, origin = operator()
    with audits.coming_from(origin), database.write() as session:
        audits.append(session, actor, [Entry("audit.exported", "audit", None, {"form": form})])


def _utc(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(tzinfo=UTC)
