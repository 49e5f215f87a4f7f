"""Signing in with an account: a real OpenID Connect provider in a process of its own."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import update

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


@pytest.fixture
def api(settings: Settings, issuer: str) -> Iterator[Api]:
    given: dict[str, Any] = {
        "oidc_issuer": issuer,
        "oidc_client_id": "cxr",
        "oidc_client_secret": "s3cret",
        "oidc_claim": "sub",
    }
    api = Api(replace(settings, **given))
    del api.client.environ_base["HTTP_AUTHORIZATION"]
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
