"""Signing in with an account of the hospital's own provider: OpenID Connect, where the settings name one."""

import hashlib
import hmac
from typing import Any, Final

from apiflask import APIBlueprint, APIFlask
from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from flask import Response, current_app, make_response, render_template, request, url_for
from joserfc.errors import JoseError
from requests import RequestException

from api import browsers
from api.access import open_to_all
from api.problems import Problem
from api.schemas import NOTICE
from api.wiring import parts
from db import keys, sign_ins
from settings import Settings

blueprint = APIBlueprint("provider", __name__, enable_openapi=False, url_prefix="/sign-in/provider")

_NAME: Final = "provider"
_DISCOVERY: Final = "/.well-known/openid-configuration"
_PATIENCE_SECONDS: Final = 10


def connect(app: APIFlask, settings: Settings) -> None:
    """Let people sign in with the provider that the settings name, if they name one."""
    app.context_processor(lambda: {"provider": bool(settings.oidc_issuer)})
    if not settings.oidc_issuer:
        return
    # What the browser keeps between going and coming back is signed; every server that knows the client's secret can.
    app.secret_key = hmac.digest(settings.oidc_client_secret.encode(), b"sign-in", hashlib.sha256)
    app.config.update(SESSION_COOKIE_NAME="cxr-provider", SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True)
    app.extensions[_NAME] = OAuth(app)
    app.extensions[_NAME].register(
        _NAME,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        server_metadata_url=settings.oidc_issuer.rstrip("/") + _DISCOVERY,
        client_kwargs={"scope": "openid email", "code_challenge_method": "S256", "timeout": _PATIENCE_SECONDS},
    )
    app.register_blueprint(blueprint)


@blueprint.get("")
@open_to_all
def go() -> Response:
    """Send the browser to the provider."""
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    back = url_for("provider.come_back", _external=True, _scheme=scheme)
    try:
        return make_response(_client().authorize_redirect(back))
    except (OAuthError, RequestException) as error:
        raise _away(error) from error


@blueprint.get("/back")
@open_to_all
def come_back() -> Response:
    """Take what the provider says of who signed in; a key that names this person opens the pages."""
    try:
        claims = _claims(_client().authorize_access_token())
    except RequestException as error:
        raise _away(error) from error
    except (OAuthError, JoseError) as error:  # JoseError: another's signature, nonce or issuer, or a token that is over
        current_app.logger.warning("the provider's answer was refused: %s", error.error)
        raise Problem(400, "sign_in_failed", "The provider's answer cannot be used; sign in again.") from error
    with parts().system.write() as session:
        person = _person(claims, parts().settings.oidc_claim)
        key = keys.of_person(session, person) if person else None
        if key is None:
            return make_response(render_template("sign_in.html", problem=_STRANGER, to="/", notice=NOTICE), 403)
        token = sign_ins.begin(session, key.id)
    # Not a redirect: the browser comes from another site, and would not show a strict cookie on the way.
    return browsers.remember(make_response(render_template("signed_in.html", notice=NOTICE)), token)


_STRANGER = "The provider knows you, but no key here names you; ask an administrator."


def _claims(token: dict[str, Any]) -> dict[str, Any]:
    """What the provider says of the person, to us and not to another. Raises OAuthError."""
    claims = dict(token.get("userinfo") or {})  # none without an ID token
    audience = claims.get("aud")
    if _client().client_id not in (audience if isinstance(audience, list) else [audience]):
        raise OAuthError("not_for_us")
    return claims


def _person(claims: dict[str, Any], claim: str) -> str | None:
    """How the keys name who signed in; an address that the provider did not verify names nobody."""
    if claim == "email" and claims.get("email_verified") is not True:
        return None
    said = claims.get(claim)
    return said if isinstance(said, str) and said.isprintable() else None


def _client() -> Any:
    return current_app.extensions[_NAME].create_client(_NAME)


def _away(error: Exception) -> Problem:
    current_app.logger.warning("the provider does not answer: %s", type(error).__name__)
    return Problem(503, "provider_away", "The sign-in provider does not answer; sign in with a key.", retryable=True)
