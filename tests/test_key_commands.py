"""The operator's commands: keys and tenants on the database itself, and the key that the first start makes."""

import json
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cxr
import operator_key
import up
from db import keys
from db.database import Database
from db.keys import Scope
from settings import Settings
from tests.service import Service
from tests.test_cli import CXR
from tests.uploading import Api, Radiograph

Run = Callable[..., Result]


@pytest.fixture
def run(api: Api, settings: Settings) -> Run:
    """Commands on the database of the application under test."""
    assert api.parts.settings.home == settings.home
    environment = {"CXR_HOME": str(settings.home), "CXR_KEY": "", "CXR_URL": ""}
    return lambda *words: CliRunner().invoke(cxr.main, [str(word) for word in words], env=environment)


def with_key(api: Api, key: str) -> Any:
    client = api.client.application.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key.strip()}"
    return client


@pytest.mark.sqlite
def test_a_key_is_printed_once_opens_what_it_may_and_is_revoked(api: Api, run: Run) -> None:
    made = run("key", "create", "pacs", "--scope", "submit", "--scope", "read", "--days", "7")
    assert made.exit_code == 0, made.output
    client = with_key(api, made.stdout)
    assert client.get("/v1/batches").status_code == 200
    assert client.get("/v1/audit").status_code == 403
    key_id, secret = made.stdout.strip().split("_")[1:]
    listed = run("key", "list")
    assert key_id in listed.stdout
    assert "pacs" in listed.stdout
    assert secret not in listed.stdout
    assert run("key", "revoke", key_id).exit_code == 0
    assert client.get("/v1/batches").json["code"] == "key_revoked"
    (row,) = [one for one in json.loads(run("key", "list", "--json").stdout)["data"] if one["id"] == key_id]
    assert (row["state"], row["scopes"], row["tenant"]) == ("revoked", "read submit", "default")


@pytest.mark.sqlite
def test_a_second_hospital_gets_its_own_key(api: Api, run: Run, radiograph: Radiograph) -> None:
    assert api.submit({"a.png": radiograph(1)}).status_code == 202
    refused = run("key", "create", "theirs", "--scope", "read", "--tenant", "st-mary")
    assert (refused.exit_code, "cxr tenant create st-mary" in refused.stderr) == (1, True)
    assert run("tenant", "create", "st-mary").exit_code == 0
    assert run("tenant", "list").stdout.split() == ["default", "st-mary"]
    client = with_key(api, run("key", "create", "theirs", "--scope", "read", "--tenant", "st-mary").stdout)
    assert client.get("/v1/batches").json["data"] == []
    assert run("tenant", "create", "St. Mary").exit_code == 1


@pytest.mark.sqlite
def test_what_is_not_there_is_said(run: Run) -> None:
    assert "no key 0123" in run("key", "revoke", "0123").stderr
    assert run("key", "create", "x", "--scope", "everything").exit_code == 2
    assert run("key", "create", "x").exit_code == 2
    assert "nothing runs" in run("sign-in").stderr


@pytest.mark.sqlite
def test_a_kept_key_is_its_owners_alone_and_goes_to_no_other_server(run: Run, settings: Settings) -> None:
    made = run("key", "create", "operator", "--scope", "read", "--keep").stdout.strip()
    assert stat.S_IMODE((settings.home / "key").stat().st_mode) == 0o600
    assert operator_key.known(settings) == made
    assert operator_key.known(replace(settings, key="other")) == "other"
    assert operator_key.known(replace(settings, url="https://elsewhere.example")) is None


def test_the_first_start_makes_one_key_and_no_second(tmp_path: Path) -> None:
    settings = Settings.from_environment({"CXR_HOME": str(tmp_path)})
    up.bring_up_to_date(settings)
    first = operator_key.make_first(settings)
    assert first
    assert operator_key.make_first(settings) is None
    assert (tmp_path / "key").read_text() == f"{first}\n"
    database = Database(settings.database_url)
    with database.read() as session:
        assert keys.caller(session, first).scopes == frozenset(Scope)
    database.close()


def test_the_command_line_finds_the_key_of_its_machine(service: Service) -> None:
    environment = {"CXR_HOME": str(service.settings.home), "PATH": "/usr/bin"}

    def status(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CXR, "status"], env=environment | more, capture_output=True, text=True, check=False, timeout=120
        )

    assert status().returncode == 0
    assert status(CXR_KEY="cxr_0123456789ab_" + "0" * 40).returncode == 5
    elsewhere = status(CXR_URL=service.instance.url)
    assert (elsewhere.returncode, "key_missing" in elsewhere.stderr) == (5, True), "the kept key is not sent there"
