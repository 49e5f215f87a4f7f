"""What keeps a browser honest: the cookie of a signed-in one, tokens against forgery, what a page may load."""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from apiflask import APIFlask
from flask import Request, Response, g, request

from api import bodies
from api.problems import Problem
from db import sign_ins

CSRF_HEADER = "X-CSRF-Token"
_SAFE = {"GET", "HEAD", "OPTIONS"}
_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def register(app: APIFlask) -> None:
    app.before_request(_refuse_other_sites)
    app.after_request(_protect)
    app.context_processor(
        lambda: {"nonce": nonce, "csrf": lambda: csrf(token(request) or ""), "signed_in": lambda: bool(token(request))}
    )


def _refuse_other_sites() -> None:
    """A page that someone opens elsewhere must not submit to the server on this machine; browsers say so."""
    if request.method in _SAFE:
        return
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.host  # a proxy may speak https for us
    if foreign or request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        raise Problem(403, "cross_site", "Submit from this server's own page, or without a browser.")


def token(request: Request) -> str | None:
    """The token of the signed-in browser that asks, if it is one."""
    return request.cookies.get(_cookie(request))


def remember(response: Response, token: str) -> Response:
    """Have the browser show the token from now on, to this server's own pages alone."""
    secure = request.is_secure or request.headers.get("X-Forwarded-Proto") == "https"
    response.set_cookie(
        _cookie(request), token, max_age=sign_ins.SECONDS, httponly=True, samesite="Strict", secure=secure
    )
    return response


def forget(response: Response) -> Response:
    response.delete_cookie(_cookie(request), httponly=True, samesite="Strict")
    return response


def _cookie(request: Request) -> str:
    # A browser does not keep the cookies of two ports apart, and two instances may run on one machine.
    return f"cxr-{request.host.rpartition(':')[2] if ':' in request.host else 'web'}"


def is_own_page(request: Request, token: str) -> bool:
    """Whether what the browser sends came from a page that we gave to it; what only reads need not."""
    if request.method in _SAFE:
        return True
    shown = request.headers.get(CSRF_HEADER)
    if shown is None and request.mimetype == "application/x-www-form-urlencoded":
        bodies.whole()
        shown = request.form.get("csrf")
    return shown is not None and hmac.compare_digest(shown.encode(), csrf(token).encode())


def csrf(token: str) -> str:
    """What only a page of ours can know besides the browser's own token; another site can read neither."""
    return hmac.digest(token.encode(), b"csrf", hashlib.sha256).hex()


def nonce() -> str:
    """What this answer's own script and style are known by."""
    if "nonce" not in g:
        g.nonce = secrets.token_urlsafe(16)
    return str(g.nonce)


def _protect(response: Response) -> Response:
    """Answers name findings: no cache keeps them, no browser guesses their type, no page runs what is not ours."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.endpoint not in {"static", "reference.asset"}:  # the pages' styles and scripts, the same for everybody
        response.headers["Cache-Control"] = "no-store"
    if response.mimetype == "text/html" and "Content-Security-Policy" not in response.headers:
        response.headers["Content-Security-Policy"] = _POLICY.format(nonce=nonce())
        response.headers["Referrer-Policy"] = "same-origin"  # with no-referrer a form of our own comes from `null`
    return response
