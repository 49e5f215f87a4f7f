"""The OpenAPI document: valid, and true of the server that it describes."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

import up
from db import tenancy
from db.database import Database
from settings import Settings
from tests.access import key
from tests.examples import TIMES, both_in_ci
from tests.project import ROOT
from tests.queueing import finish, taken
from tests.service import CARD, free_port, until
from tests.uploading import Api, Radiograph

# What is right in form may still be no radiograph, no known image or no public address: 422, or 400 for a digest.
CONFIG = """
[parameters]
"path.batch_id" = "{batch_id}"
"path.result_id" = "{result_id}"
"path.custom_id" = "0.png"
"path.version" = "{version}"
"path.key_id" = "{key_id}"
"path.run_id" = "{run_id}"

[checks]
positive_data_acceptance.expected-statuses = ["2xx", "304", "404", "406", "409", "410"]

[[operations]]
include-method = ["POST", "PUT"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409", "410", "413", "422"]
"""
EXAMPLES = min(2 * TIMES, 5)  # of more, some are longer than a line that gunicorn reads, and it answers these itself


@pytest.fixture
def document(api: Api) -> Any:
    return api.client.get("/openapi.json").get_json()


def test_the_document_is_valid(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    validate(document)


def _operations(document: Any) -> Iterator[Any]:
    return (one for path in document["paths"].values() for name, one in path.items() if name != "parameters")


def test_every_call_can_be_refused_and_says_how(document: Any) -> None:
    operations = list(_operations(document))
    assert all(one["responses"]["default"]["$ref"].endswith("/Problem") for one in operations)
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    posts = [path["post"] for path in document["paths"].values() if "post" in path]
    assert all("Idempotency-Key" in [one["name"] for one in post["parameters"]] for post in posts)


def test_a_nul_in_a_parameter_is_no_failure(settings: Settings, migrated_url: str) -> None:
    """PostgreSQL refuses it in any text."""
    api = Api(replace(settings, database_url=migrated_url))
    paths = api.client.get("/openapi.json").get_json()["paths"]
    asked = 0
    for path, methods in paths.items():
        for method, call in methods.items():
            for parameter in call["parameters"]:
                if parameter["in"] == "header":
                    continue
                query = {parameter["name"]: "a\0b"} if parameter["in"] == "query" else {}
                filled = re.sub(r"\{\w+\}", "x" if query else "a%00b", path)
                answer = api.client.open(filled, method=method.upper(), query_string=query, json=BODIES.get(path))
                assert answer.status_code < 500, (method, path, parameter["name"], answer.text)
                asked += 1
    assert asked > 30
    api.parts.system.close()


BODIES: dict[str, Any] = {
    "/v1/batches": {"import": ["a.png"], "lane": "routine"},
    "/v1/keys": {"name": "a", "scopes": ["read"]},
    "/v1/labels": {
        "labels": [{"accession": "a", "label": "positive", "source": "rt_pcr", "given_by": "b", "patient": "c"}]
    },
    "/v1/models/{version}/promote": {"who": "a", "reason": "b"},
    "/v1/models/{version}/rollback": {"who": "a", "reason": "b"},
    "/v1/reclassifications": {"model": "a", "with": "b", "dry_run": True},
    "/v1/webhooks": {"url": "https://93.184.216.34/hook", "events": ["batch.completed"]},
}


def test_a_nul_in_a_body_is_no_failure(settings: Settings, migrated_url: str) -> None:
    api = Api(replace(settings, database_url=migrated_url, import_root=str(ROOT)))
    paths = api.client.get("/openapi.json").get_json()["paths"]
    assert set(BODIES) == {path for path, calls in paths.items() if "requestBody" in calls.get("post", {})}
    asked = 0
    for path, body in BODIES.items():
        for broken in _with_a_nul(body):
            answer = api.client.post(path.format(version=CARD.version), json=broken)
            assert answer.status_code in range(400, 500), (path, broken, answer.text)
            asked += 1
    assert asked == 17
    api.parts.system.close()


def _with_a_nul(value: Any) -> Iterator[Any]:
    """The value once for each text in it, which then holds a NUL."""
    if isinstance(value, str):
        yield value[:1] + "\0" + value[1:]
    for at, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        for broken in _with_a_nul(inner):
            if isinstance(value, dict):
                yield value | {at: broken}
            else:
                yield [*value[:at], broken, *value[at + 1 :]]


@pytest.mark.parametrize(
    "page", ["/?after=%00", "/batches/%00", "/batches/a?after=%00", "/sign-in?code=%00", "/sign-in?to=/%00"]
)
def test_a_nul_in_the_address_of_a_page_is_no_failure(settings: Settings, migrated_url: str, page: str) -> None:
    api = Api(replace(settings, database_url=migrated_url))
    assert api.client.get(page).status_code < 500
    assert api.client.post("/sign-in?to=/%00", data={"key": "a\0b", "to": "/\0"}).status_code < 500
    api.parts.system.close()


@pytest.mark.scaled
@both_in_ci("migrated_url")
@pytest.mark.timeout(600)
def test_the_server_does_what_the_document_says(migrated_url: str, tmp_path: Path, radiograph: Radiograph) -> None:
    """schemathesis, every check there is, every call of the document, against a real API process."""
    given = {"CXR_HOME": str(tmp_path), "CXR_PORT": str(free_port()), "REDIS_URL": "memory://"}
    given["DATABASE_URL"] = migrated_url
    given["CXR_IMPORT_ROOT"] = str(tmp_path / "share")  # without one, what is right in form may not import
    (tmp_path / "share" / tenancy.DEFAULT).mkdir(parents=True)
    environment = os.environ | given
    up.bring_up_to_date(Settings.from_environment(given))
    with _serving(environment, tmp_path / "api.log") as url:
        config = tmp_path / "schemathesis.toml"
        database = Database(migrated_url)
        header = f"Authorization: Bearer {key(database)}"
        config.write_text(CONFIG.format(**_known(url, header, database, radiograph)))
        total = len(list(_operations(httpx.get(f"{url}/openapi.json").json())))
        options = [
            "run",
            f"{url}/openapi.json",
            f"--header={header}",
            "--checks=all",
            f"--max-examples={EXAMPLES}",
            "--seed=1",
            "--request-timeout=60",  # a heatmap is waited for
            "--no-color",
        ]
        command = [sys.executable, "-m", "schemathesis.cli", f"--config-file={config}", *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    operations = re.search(r"Tested: (\d+)", done.stdout)
    cases = re.search(r"(\d+) generated", done.stdout)
    assert operations
    assert cases
    assert int(operations[1]) == total
    assert int(cases[1]) > 20 * int(operations[1])
    assert "Traceback" not in (tmp_path / "api.log").read_text()


@contextmanager
def _serving(environment: dict[str, str], log: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{environment['CXR_PORT']}"
    command = [sys.executable, "-m", "cxr", "api"]
    with log.open("w") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=ROOT) as server:
        try:
            until(lambda: _answers(url), "the API answers")
            yield url
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", timeout=1).is_success
    except httpx.TransportError:
        return False


def _known(url: str, header: str, database: Database, radiograph: Radiograph) -> dict[str, str]:
    """A batch with results: what most calls are about."""
    files = [("images", (f"{number}.png", radiograph(number))) for number in range(2)]
    headers = dict([header.split(": ")])
    batch_id = httpx.post(f"{url}/v1/batches", files=files, headers=headers).json()["id"]
    finish(database, taken(database))
    result_id = httpx.get(f"{url}/v1/batches/{batch_id}/results.json", headers=headers).json()["data"][0]["result_id"]
    version = httpx.get(f"{url}/v1/models", headers=headers).json()["data"][0]["version"]
    key_id = httpx.post(f"{url}/v1/keys", json={"name": "x", "scopes": ["read"]}, headers=headers).json()["id"]
    run_id = httpx.post(f"{url}/v1/retraining-runs", headers=headers).json()["id"]
    database.close()
    return {"batch_id": batch_id, "result_id": result_id, "version": version, "key_id": key_id, "run_id": run_id}
