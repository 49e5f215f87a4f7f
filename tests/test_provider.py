"""Signing in with an account: a real OpenID Connect provider in a process of its own."""

import importlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from flask import Response, g, request
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import update
from werkzeug.serving import make_server

from db import keys, tenancy
from db.clock import now
from db.keys import ApiKey, Scope
from settings import SettingInvalid, Settings
from tests.service import free_port, until
from tests.uploading import Api

PERSON = "alice@hospital.example"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true"]
    ) as process:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(url), "the provider answers")
        yield url
        process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/.well-known/openid-configuration").is_success
    except httpx.TransportError:
        return False


def with_provider(settings: Settings, issuer: str, *, claim: str) -> Api:
    given: dict[str, Any] = {
        "oidc_issuer": issuer,
        "oidc_client_id": "cxr",
        "oidc_client_secret": "s3cret",
        "oidc_claim": claim,
    }
    api = Api(replace(settings, **given))
    del api.client.environ_base["HTTP_AUTHORIZATION"]
    return api


@pytest.fixture
def api(settings: Settings, issuer: str) -> Iterator[Api]:
    api = with_provider(settings, issuer, claim="sub")
    yield api
    api.parts.system.close()


def admit(api: Api, person: str) -> None:
    with api.parts.system.write() as session:
        keys.create(session, tenancy.DEFAULT, {Scope.READ}, name="a doctor", actor="test", person=person)


def signed_in(api: Api, person: str) -> Any:
    """Go to the provider, say who one is, and come back with what it gave."""
    gone = api.client.get("/sign-in/provider")
    assert gone.status_code == 302
    assert "code_challenge" in gone.headers["Location"]
    back = httpx.post(gone.headers["Location"], data={"sub": person}, follow_redirects=False)
    assert back.status_code == 302, back.text
    there = urlsplit(back.headers["Location"])
    assert there.path == "/sign-in/provider/back"
    return api.client.get(f"{there.path}?{there.query}")


def test_who_has_a_key_by_name_is_signed_in(api: Api) -> None:
    assert api.client.get("/").status_code == 303
    admit(api, PERSON)
    answer = signed_in(api, PERSON)
    assert answer.status_code == 200
    assert "SameSite=Strict" in answer.headers["Set-Cookie"]
    assert api.client.get("/").status_code == 200
    assert api.client.delete("/v1/batches/batch_0").status_code == 403, "the key's scopes hold"
    with api.parts.system.write() as session:
        session.execute(update(ApiKey).where(ApiKey.person == PERSON).values(revoked_at=now()))
    assert api.client.get("/").status_code == 303


def test_whom_no_key_names_is_not_signed_in(api: Api) -> None:
    admit(api, PERSON)
    answer = signed_in(api, "mallory@elsewhere.example")
    assert answer.status_code == 403
    assert "no key here names you" in answer.text
    assert api.client.get("/").status_code == 303


@pytest.mark.parametrize("query", ["", "code=1&state=2", "error=access_denied"])
def test_an_answer_that_nobody_asked_for_is_refused(api: Api, query: str) -> None:
    told: Any = api.client.get(f"/sign-in/provider/back?{query}").json
    assert (told["status"], told["code"]) == (400, "sign_in_failed")


def test_an_answer_is_good_for_the_browser_that_asked_alone(api: Api) -> None:
    admit(api, PERSON)
    gone = api.client.get("/sign-in/provider")
    back = urlsplit(httpx.post(gone.headers["Location"], data={"sub": PERSON}).headers["Location"])
    other = api.client.application.test_client()
    assert other.get(f"{back.path}?{back.query}").status_code == 400


@pytest.mark.parametrize("verified", [None, False, "false", "true", 1])
def test_an_address_that_the_provider_did_not_verify_names_nobody(
    settings: Settings, issuer: str, verified: object
) -> None:
    api = with_provider(settings, issuer, claim="email")
    admit(api, PERSON)
    claims = {"email": PERSON} | ({} if verified is None else {"email_verified": verified})
    httpx.put(f"{issuer}/users/one", json=claims).raise_for_status()
    answer = signed_in(api, "one")
    assert answer.status_code == 403
    assert "no key here names you" in answer.text
    httpx.put(f"{issuer}/users/one", json=claims | {"email_verified": True}).raise_for_status()
    assert signed_in(api, "one").status_code == 200
    api.parts.system.close()


@pytest.mark.parametrize("person", ["a\0b", "a\nb"])
def test_a_name_that_no_key_can_hold_names_nobody(settings: Settings, issuer: str, person: str) -> None:
    api = with_provider(settings, issuer, claim="email")
    httpx.put(f"{issuer}/users/one", json={"email": person, "email_verified": True}).raise_for_status()
    assert signed_in(api, "one").status_code == 403
    api.parts.system.close()


_TOKENS: dict[str, dict[str, Any] | None] = {
    "as it was": {},
    "of another's key": {},
    "that is over": {"exp": 1},
    "of another sign-in": {"nonce": "another"},
    "for another": {"aud": ["another"]},
    "for another, lent to us": {"aud": ["another"], "azp": "cxr"},
    "of another provider": {"iss": "https://elsewhere.example"},
    "that is none": None,
    "that is not there": None,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", _TOKENS)
def test_a_token_that_is_not_the_providers_own_for_us_is_refused(settings: Settings, kind: str) -> None:
    """The provider, in this process, with its tokens written anew."""
    provider: Any = importlib.import_module("oidc_provider_mock").app(require_nonce=True)
    mine = RSAKey.generate_key(2048)

    def rewrite(answer: Response) -> Response:
        if request.path == "/oauth2/token":
            told: Any = answer.get_json()
            own: Any = RSAKey.import_key(g.oidc_provider_mock_storage.jwk.as_dict(is_private=True))
            held = jwt.decode(told["id_token"], own)
            key = mine if kind == "of another's key" else own
            changes = _TOKENS[kind]
            told["id_token"] = "a.b.c" if changes is None else jwt.encode(held.header, held.claims | changes, key)
            if kind == "that is not there":
                del told["id_token"]
            answer.set_data(json.dumps(told))
        return answer

    provider.after_request(rewrite)
    server = make_server("127.0.0.1", 0, provider, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    api = with_provider(settings, f"http://127.0.0.1:{server.server_port}", claim="sub")
    admit(api, PERSON)
    try:
        answer = signed_in(api, PERSON)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        api.parts.system.close()
    if kind == "as it was":
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json["code"]) == (400, "sign_in_failed"), answer.text


def test_the_page_offers_the_provider_only_where_there_is_one(api: Api, settings: Settings) -> None:
    assert re.search("/sign-in/provider", api.client.get("/sign-in").text)
    without = Api(settings)
    assert "/sign-in/provider" not in without.client.get("/sign-in").text
    assert without.client.get("/sign-in/provider").status_code == 404
    without.parts.system.close()


def test_a_provider_that_is_away_is_said(settings: Settings) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    given: dict[str, Any] = {"oidc_issuer": away, "oidc_client_id": "cxr", "oidc_client_secret": "s3cret"}
    api = Api(replace(settings, **given))
    told: Any = api.client.get("/sign-in/provider").json
    assert (told["status"], told["code"]) == (503, "provider_away")
    api.parts.system.close()


@pytest.mark.parametrize("missing", ["CXR_OIDC_CLIENT_ID", "CXR_OIDC_CLIENT_SECRET"])
def test_a_provider_without_a_secret_stops_the_start(missing: str) -> None:
    given = {"CXR_OIDC_ISSUER": "https://id", "CXR_OIDC_CLIENT_ID": "cxr", "CXR_OIDC_CLIENT_SECRET": "s"}
    with pytest.raises(SettingInvalid, match=missing):
        Settings.from_environment({name: value for name, value in given.items() if name != missing})
