"""Signing a browser in with a key or a link, and out again."""

from apiflask import APIBlueprint
from flask import Response, make_response, redirect, render_template, request, url_for

from api import access, browsers
from api.access import open_to_all
from api.problems import Problem
from api.schemas import NOTICE
from api.wiring import parts
from db import sign_ins

blueprint = APIBlueprint("sign_in", __name__, enable_openapi=False)

_LINK_OVER = "This link was used before, or is older than an hour. Sign in with a key, or make a link: cxr sign-in"


@blueprint.get("/sign-in")
@open_to_all
def form() -> Response:
    """Show the form, or, by a link's code, sign in at once."""
    code = request.args.get("code")
    if code is None:
        return _shown("")
    with parts().system.write() as session:
        token = sign_ins.follow(session, code)
    return _shown(_LINK_OVER) if token is None else _signed_in(token)


@blueprint.post("/sign-in")
@open_to_all
def enter() -> Response:
    try:
        caller = access.opened(request.form.get("key", "").strip())
    except Problem as problem:
        return _shown(problem.detail, problem.status)
    with parts().system.write() as session:
        token = sign_ins.begin(session, caller.key_id)
    return _signed_in(token)


@blueprint.post("/sign-out")
@open_to_all
def leave() -> Response:
    token = browsers.token(request)
    if token and browsers.is_own_page(request, token):
        with parts().system.write() as session:
            sign_ins.end(session, token)
    return browsers.forget(make_response(redirect(url_for("sign_in.form"), 303)))


def _shown(problem: str, status: int = 200) -> Response:
    return make_response(render_template("sign_in.html", problem=problem, to=_destination(), notice=NOTICE), status)


def _signed_in(token: str) -> Response:
    return browsers.remember(make_response(redirect(_destination(), 303)), token)


def _destination() -> str:
    """Where the browser wanted to go, as long as that is one of our own pages."""
    to = request.values.get("to", "")
    own = to.startswith("/") and not to.startswith("//") and "\\" not in to and to.isprintable()
    return to if own else url_for("pages.start")
