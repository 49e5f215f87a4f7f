"""The API's manners: every error is problem+json, the document describes what is served."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import up
from api.app import create_app
from cxr_client.version import VERSION
from settings import Settings
from tests.access import show_key


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """The application without a broker: what it answers must not depend on one."""
    settings = Settings.from_environment({"CXR_HOME": str(tmp_path_factory.mktemp("home"))})
    up.bring_up_to_date(settings)
    app = create_app(settings)
    yield show_key(app.test_client())
    app.extensions["cxr"].database.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("PUT", "/v1/batches", 405, "method_not_allowed"),
        ("GET", "/v1/batches/none", 404, "batch_unknown"),
        ("GET", "/v1/batches/none/results.csv", 404, "batch_unknown"),
        ("GET", "/v1/batches?limit=many", 400, "invalid_query"),
        ("POST", "/v1/batches?lane=fast", 400, "invalid_query"),
        ("POST", "/v1/batches", 415, "unsupported_media_type"),
        ("GET", "/batches/none", 404, "batch_unknown"),
    ],
)
def test_every_error_is_a_problem_with_a_code(
    client: FlaskClient, method: str, path: str, status: int, code: str
) -> None:
    answer = client.open(path, method=method)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    told = answer.get_json()
    assert (told["status"], told["code"]) == (status, code)
    assert told["detail"]
    assert told["retryable"] is False
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "path",
    ["/v1/batches?after=nope", "/v1/batches/x/images?after=" + "9" * 30, "/v1/batches/x/results?partly=true"],
)
def test_a_query_that_means_nothing_is_refused(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_query")


def test_a_misspelt_lane_does_not_make_a_routine_batch(client: FlaskClient) -> None:
    assert client.post("/v1/batches?urgent=1").status_code == 400


@pytest.mark.parametrize("path", ["/v1/batches/%00", "/batches/%00", "/batches/x?after=" + "9" * 30])
def test_nonsense_in_the_path_is_not_found(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_another_sites_page_cannot_submit(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/batches", headers=headers).get_json()["code"] == "cross_site"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_our_own_page_can_submit_also_behind_tls(client: FlaskClient, scheme: str) -> None:
    answer = client.post("/v1/batches", headers={"Origin": f"{scheme}://localhost", "Sec-Fetch-Site": "same-origin"})
    assert answer.get_json()["code"] == "unsupported_media_type"


def test_a_wrong_query_is_named(client: FlaskClient) -> None:
    assert "limit" in client.get("/v1/batches?limit=0").get_json()["detail"]


def test_it_is_ready_without_a_worker_and_says_so(client: FlaskClient) -> None:
    told = {"ready": True, "problems": [], "workers": 0, "version": VERSION}
    assert client.get("/readyz").get_json() == told
    assert client.get("/livez").status_code == 200


def test_it_is_not_ready_with_other_tables(tmp_path: Path) -> None:
    settings = Settings.from_environment({"CXR_HOME": str(tmp_path)})
    app = create_app(settings)
    answer = app.test_client().get("/readyz")
    app.extensions["cxr"].database.close()
    assert answer.status_code == 503
    assert "cxr migrate" in answer.get_json()["problems"][0]


def test_limits_are_published(client: FlaskClient) -> None:
    limits = client.get("/v1/limits").get_json()
    assert limits == {
        "images_per_batch": 5_000,
        "bytes_per_image": 50_000_000,
        "bytes_per_request": 5 << 30,
        "bytes_per_json": 10_000_000,
        "bytes_per_form": 100_000,
        "pixels_per_image": 100_000_000,
        "bytes_per_custom_id": 1024,
        "characters_per_idempotency_key": 255,
        "paths_per_import": 0,
        "labels_per_request": 10_000,
        "webhooks": 20,
        "attempts_per_message": 9,
        "seconds_to_wait": 30,
        "hours_until_expiry": 168,
        "growth_in_zip": 200,
        "seconds_to_decode": 20,
        "bytes_to_decode": 2 << 30,
        "requests_per_minute": 6_000,
        "images_per_day": None,
        "bytes_per_day": None,
        "images_waiting": 500_000,
        "formats": ["image/png", "image/jpeg", "application/dicom", "application/zip"],
    }


def test_findings_are_kept_out_of_caches(client: FlaskClient) -> None:
    assert client.get("/v1/batches").headers["Cache-Control"] == "no-store"


def test_the_document_names_every_route(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    rules = [str(rule) for rule in client.application.url_map.iter_rules() if str(rule).startswith("/v1/")]
    served = {re.sub(r"<[^:<>]+:", "<", rule) for rule in rules}
    assert {path.replace("{", "<").replace("}", ">") for path in document["paths"] if path.startswith("/v1/")} == served
    assert set(document["paths"]["/v1/batches"]["post"]["requestBody"]["content"]) == {
        "multipart/form-data",
        "application/zip",
        "application/json",
    }


def test_pages_of_batches_follow_a_cursor(client: FlaskClient) -> None:
    for number in range(3):
        png = b"\x89PNG\r\n\x1a\n" + bytes([number])
        sent = client.post("/v1/batches", data={"images": (io.BytesIO(png), "a.png")})
        assert sent.status_code == 202
    first = client.get("/v1/batches?limit=2").get_json()
    second = client.get(f"/v1/batches?limit=2&after={first['after']}").get_json()
    assert (len(first["data"]), first["has_more"]) == (2, True)
    assert (len(second["data"]), second["has_more"]) == (1, False)
    ids = [batch["id"] for batch in first["data"] + second["data"]]
    assert ids == sorted(ids, reverse=True)
