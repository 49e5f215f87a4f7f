"""Keys, on the database itself or, with CXR_URL, over HTTP; tenants, and a link that signs a browser in."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.orm import Session

import home
import operator_key
import running
from api.connection import connected
from cxr_client import Key
from db import audit, clock, keys, tenancy, tenants
from db.keys import ApiKey, Scope
from settings import Settings
from terminal import Exit, answer, answers, fail, json_option, operator, plain, table, words


@click.group()
def key() -> None:
    """API keys: who may do what, for which hospital."""


@key.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it may do.",
)
@click.option("--tenant", help=f"The hospital that it speaks for; {tenancy.DEFAULT} if none is given.")
@click.option(
    "--days", default=keys.DAYS, show_default=True, type=click.IntRange(keys.SHORTEST_DAYS, keys.LONGEST_DAYS)
)
@click.option("--person", help="Whom the sign-in provider knows; the key then opens the pages to them.")
@click.option("--keep", is_flag=True, help="Keep it in CXR_HOME for this machine's command line.")
@json_option
@click.pass_obj
def create(
    settings: Settings,
    name: str,
    *,
    scopes: tuple[str, ...],
    tenant: str | None,
    days: int,
    person: str | None,
    keep: bool,
) -> None:
    """Make a key and print it: this once, for only its hash is stored."""
    if settings.url:
        if tenant or person or keep:
            fail("--tenant, --person and --keep need the server's own machine, without CXR_URL", status=Exit.USAGE)
        with connected(settings) as client:
            there = client.keys.create(name, scopes, days=days)
        if there.key is None:
            fail(f"the answer was lost on its way, and the key with it: cxr key revoke {there.id}, and make another")
        _tell(there.key)
        return
    tenant = tenant or tenancy.DEFAULT
    with _changing(settings) as session:
        if not tenants.exists(session, tenant):
            fail(f"there is no tenant {tenant}: cxr tenant create {tenant}", code="tenant_unknown")
        made = keys.create(
            session, tenant, set(map(Scope, scopes)), name=name, actor=operator()[0], days=days, person=person
        )
        if keep:
            operator_key.keep(settings, made)
    _tell(made)


def _tell(made: str) -> None:
    answer({"key": made}, lambda: answers.print(made))


@key.command("list")
@json_option
@click.pass_obj
def list_(settings: Settings) -> None:
    """Show every key: whose, for what, until when, and when it was last used."""
    if settings.url:
        with connected(settings) as client:
            found = [_row(one, one.state) for one in client.keys.all()]
    else:
        with _changing(settings) as session:
            present = clock.read(session)
            found = [_row(one, keys.state(one, present)) for one in keys.every(session)]
    answer(found, lambda: _show(found))


@key.command()
@click.argument("key_id")
@json_option
@click.pass_obj
def revoke(settings: Settings, key_id: str) -> None:
    """Close a key from now on; browsers that signed in with it are signed out."""
    if settings.url:
        with connected(settings) as client:
            client.keys.revoke(key_id)
    else:
        with _changing(settings) as session:
            try:
                keys.revoke(session, key_id, actor=operator()[0])
            except keys.KeyUnknown:
                fail(f"there is no key {key_id}: cxr key list", code="key_unknown")
    answer({"id": key_id, "state": "revoked"}, lambda: words.print(f"key {key_id} is revoked"))


@click.group()
def tenant() -> None:
    """Tenants: hospitals that do not see each other's data."""


@tenant.command("create")
@click.argument("name")
@json_option
@click.pass_obj
def create_tenant(settings: Settings, name: str) -> None:
    """Make room for one more hospital."""
    with _changing(settings) as session:
        try:
            tenants.add(session, name, actor=operator()[0])
        except tenants.TenantUnusable as error:
            fail(str(error))
    said = f"tenant {name} is there; give it a key: cxr key create NAME --tenant {name} --scope submit"
    answer({"id": name}, lambda: words.print(said))


@tenant.command("list")
@json_option
@click.pass_obj
def list_tenants(settings: Settings) -> None:
    """Show every tenant."""
    with _changing(settings) as session:
        found = [{"id": one.id} for one in tenants.every(session)]
    answer(found, lambda: answers.print("\n".join(one["id"] for one in found)))


@click.command("sign-in")
@json_option
@click.pass_obj
def sign_in(settings: Settings) -> None:
    """Print a link that signs one browser in, once within the hour, as this machine's key."""
    try:
        link = operator_key.link(settings, running.url(settings))
    except running.NotRunning as error:
        fail(str(error), code="not_running", retryable=True, status=Exit.AWAY)
    if link is None:
        fail("no key of this machine opens the database: cxr key create NAME --scope read --keep")
    answer({"link": link}, lambda: answers.print(link, soft_wrap=True, markup=False))


def _show(found: list[dict[str, str | None]]) -> None:
    columns = ("id", "name", "tenant", "scopes", "state", "expires", "last used")
    shown = table(*columns, whole=set(columns) - {"name", "scopes"})
    for row in found:
        shown.add_row(*(plain(value or "") for value in row.values()))
    answers.print(shown)


def _row(one: ApiKey | Key, state: str) -> dict[str, str | None]:
    return {
        "id": one.id,
        "name": one.name,
        "tenant": one.tenant,
        "scopes": " ".join(one.scopes),
        "state": state,
        "expires_at": f"{one.expires_at:%Y-%m-%d}",
        "last_used_at": f"{one.last_used_at:%Y-%m-%d %H}h" if one.last_used_at else None,
    }


@contextmanager
def _changing(settings: Settings) -> Iterator[Session]:
    with audit.coming_from(operator()[1]), home.database(settings).write() as session:
        yield session
