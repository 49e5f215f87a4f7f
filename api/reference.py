"""/docs: this API for people to read and try, from files that this server has itself."""

from importlib.util import find_spec
from pathlib import Path

from apiflask import APIBlueprint
from flask import Response, make_response, render_template, send_from_directory

from api.access import open_to_all

blueprint = APIBlueprint("reference", __name__, url_prefix="/docs", enable_openapi=False)

# Swagger UI brings its icons as data.
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


@blueprint.get("")
@open_to_all
def page() -> Response:
    response = make_response(render_template("docs.html"))
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@blueprint.get("/<any('swagger-ui.css', 'swagger-ui-bundle.js'):name>")
@open_to_all
def asset(name: str) -> Response:
    return send_from_directory(_swagger_ui(), name)


def _swagger_ui() -> Path:
    """Where the wheel keeps Swagger UI; its own code is not run."""
    spec = find_spec("flask_swagger_ui")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("flask-swagger-ui is not installed")
    return Path(spec.origin).with_name("dist")
