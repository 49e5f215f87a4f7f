"""Who asks, and what they may do: every route names the scope that it needs, or says that it is open to all."""

import contextlib
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from apiflask import APIFlask
from flask import current_app, g, redirect, request, url_for
from sqlalchemy.exc import OperationalError
from werkzeug.wrappers import Response

from api import browsers
from api.problems import Problem
from api.wiring import parts
from db import keys, sign_ins
from db.keys import Caller, Scope
from db.tenancy import DEFAULT

View = TypeVar("View", bound=Callable[..., Any])

_MARK, _SHARED = "cxr_scopes", "cxr_shared"
_OPEN: Final = {"static", "openapi.spec"}  # nothing of a hospital


def needs(*scopes: Scope) -> Callable[[View], View]:
    """Let a view answer only callers that have one of the scopes."""

    def mark(view: View) -> View:
        setattr(view, _MARK, frozenset(scopes))
        return view

    return mark


open_to_all = needs()


def of_the_installation(view: View) -> View:
    """Let a view that changes what all hospitals share, or counts over them, answer the keys of the installation's own tenant alone."""
    setattr(view, _SHARED, True)
    return view


def must_be_the_installations(caller: Caller) -> None:
    """Raise Problem unless the key is of the installation's own tenant."""
    if caller.tenant != DEFAULT:
        words = f"This belongs to all hospitals: it needs a key of the tenant {DEFAULT}, the installation's own."
        raise Problem(403, "not_the_installation", words)


def register(app: APIFlask) -> None:
    """Ask every request for its key. Raises AssertionError for a route that does not say what it needs."""
    app.before_request(_admit)
    for rule in app.url_map.iter_rules():
        _needed(app, rule.endpoint)


def _needed(app: APIFlask, endpoint: str) -> frozenset[Scope]:
    if endpoint in _OPEN:
        return frozenset()
    needed: frozenset[Scope] | None = getattr(app.view_functions[endpoint], _MARK, None)
    if needed is None:
        raise AssertionError(f"{endpoint} does not say which scope it needs: see api.access.needs")
    return needed


def _admit() -> Response | None:
    if request.endpoint is None:
        return None  # nothing is there: 404 or 405
    needed = _needed(current_app, request.endpoint)  # type: ignore[arg-type]
    if not needed:
        return None
    caller = _by_key() or _by_browser()
    if caller is None:
        if request.blueprint == "pages":
            return redirect(url_for("sign_in.form", to=request.full_path.rstrip("?")), 303)
        raise Problem(401, "key_missing", "Send a key: the header Authorization with Bearer cxr_…")
    if not needed & caller.scopes:
        wanted = " or ".join(sorted(needed))
        raise Problem(403, "scope_missing", f"This needs a key with the scope {wanted}.")
    if getattr(current_app.view_functions[request.endpoint], _SHARED, False):
        must_be_the_installations(caller)
    g.caller = caller
    return None


def _by_key() -> Caller | None:
    """Whom the request's own key speaks for, or None where it shows none."""
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer":
        return None
    return opened(key.strip())


def opened(key: str) -> Caller:
    """Return whom the key speaks for, and note that it is in use. Raises Problem."""
    system = parts().system
    try:
        with system.read() as session:
            caller = keys.caller(session, key)
    except keys.KeyRefused as error:
        raise _refused(error.code) from error
    if caller.unnoted:
        # A disk that is full, or a database that only reads, is no reason to refuse the caller.
        with contextlib.suppress(OperationalError), system.write() as session:
            keys.note_use(session, caller.key_id)
    return caller


def _refused(code: str) -> Problem:
    if code == "key_expired":
        return Problem(401, "key_expired", "The key has expired; ask an administrator for a new one.")
    if code == "key_revoked":
        return Problem(401, "key_revoked", "The key was revoked; ask an administrator for a new one.")
    return Problem(401, "key_invalid", "There is no such key; perhaps a part was lost in copying.")


def _by_browser() -> Caller | None:
    """Whom a signed-in browser speaks for; what it changes must come from our own page."""
    token = browsers.token(request)
    if not token:
        return None
    with parts().system.read() as session:
        caller = sign_ins.caller(session, token)
    if caller and not browsers.is_own_page(request, token):
        raise Problem(403, "csrf_token_missing", "Send this from the server's own page, or with a key.")
    return caller


def describe(spec: Any) -> Any:
    """The document says which scope each call needs."""
    scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "cxr_<id>_<secret>"}
    spec.setdefault("components", {})["securitySchemes"] = {"key": scheme}
    for rule in current_app.url_map.iter_rules():
        path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            call = spec["paths"].get(path, {}).get(method.lower())
            if call is not None:
                needed = _needed(current_app, rule.endpoint)  # type: ignore[arg-type]
                call["security"] = [{"key": [scope]} for scope in sorted(needed)]
                for status, words in ((401, "No key, or none that opens"), (403, "The key lacks the scope")):
                    if needed:
                        call["responses"].setdefault(str(status), {"description": words})
    return spec
