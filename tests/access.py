"""Keys for the tests: one for everything, or one that lacks something."""

from collections.abc import Collection

from flask.testing import FlaskClient

from api.wiring import Parts
from db import keys, tenancy, tenants
from db.database import Database
from db.keys import Scope

EVERYTHING = frozenset(Scope)


def key(
    database: Database, scopes: Collection[Scope] = EVERYTHING, *, tenant: str = tenancy.DEFAULT, days: int = 1
) -> str:
    """A key of the tenant, which is made where it is not there."""
    with database.write() as session:
        if not tenants.exists(session, tenant):
            tenants.add(session, tenant, actor="test")
        return keys.create(session, tenant, scopes, name="test", actor="test", days=days)


def show_key(
    client: FlaskClient, scopes: Collection[Scope] = EVERYTHING, *, tenant: str = tenancy.DEFAULT
) -> FlaskClient:
    """Have the client send a key with every request."""
    parts: Parts = client.application.extensions["cxr"]
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key(parts.system, scopes, tenant=tenant)}"
    return client
