"""An auditor on a machine of their own: a server's address and a key are enough to verify everything there."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

import operator_key
from api.audit_commands import _row
from cxr_client import AuditEvent, Client
from db import proof
from terminal import Exit
from tests.service import Service, until
from tests.test_cli import cxr
from training import phantoms
from worker.tickets import Tickets, celery_app

Run = Callable[..., CompletedProcess[str]]


def _url(service: Service) -> str:
    return f"http://{service.settings.host}:{service.settings.port}"


@pytest.fixture(scope="module")
def result(service: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    files = {path.name: path.read_bytes() for path in phantoms.write(tmp_path_factory.mktemp("x"), count=2, seed=3)}
    return str(service.wait(service.submit(files))[0].result_id)


@pytest.fixture
def auditor(service: Service, tmp_path: Path) -> Run:
    """Runs commands in a home that knows nothing."""
    there = {"CXR_URL": _url(service), "CXR_KEY": str(operator_key.known(service.settings))}
    return lambda *words: cxr(*words, home=tmp_path / "nothing", **there)


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(_url(service), operator_key.known(service.settings)) as there:
        yield there


def test_a_result_is_computed_again_by_a_worker_and_stands_in_the_audit(
    auditor: Run, client: Client, result: str
) -> None:
    answer = auditor("verify", result)
    assert (answer.returncode, answer.stdout.splitlines()[-1]) == (0, "confirmed"), answer.stderr
    (asked,) = client.audit(action="result.verification_asked", subject=result)
    (found,) = client.audit(action="result.verified", subject=result)
    assert (found.detail["confirmed"], found.detail["asked"]) == (True, asked.seq)
    assert (asked.actor.partition(":")[0], asked.origin) == ("key", "127.0.0.1")


def test_a_ticket_that_nobody_asked_for_makes_no_row(client: Client, service: Service, result: str) -> None:
    """Whoever can write to the broker can do no more than that."""
    tickets = Tickets(celery_app(service.settings), batch_size=1)
    end = client.audit_end()
    for seq in (1, end.seq, end.seq + 100):
        tickets.verify(result, seq)
    log = service.settings.home / "logs" / "worker-1.log"
    until(lambda: log.read_text().count(f"nobody asked for {result}") >= 3, "the worker saw them")
    assert [row for row in client.audit(action="result.verified", subject=result) if row.seq > end.seq] == []


def test_a_result_that_cannot_be_computed_any_more_says_why(auditor: Run, service: Service, tmp_path: Path) -> None:
    (picture,) = phantoms.write(tmp_path, count=1, seed=7_505)  # in no other batch, which would keep its bytes
    batch_id = service.submit({"one.png": picture.read_bytes()})
    (line,) = service.wait(batch_id)
    assert auditor("purge", batch_id, "--yes").returncode == 0
    answer = auditor("verify", str(line.result_id))
    assert (answer.returncode, "purged" in answer.stderr) == (Exit.GONE, True)


def test_a_result_of_nobody_is_refused(auditor: Run) -> None:
    assert auditor("verify", "result_0").returncode == Exit.REFUSED


@pytest.mark.sqlite
def test_every_hash_is_computed_here_and_compared_with_a_signed_head(
    auditor: Run, service: Service, result: str, tmp_path: Path
) -> None:
    del result  # there are rows
    heads = [json.loads(line) for line in cxr("audit", "head", home=service.settings.home).stdout.splitlines()]
    own = next(head for head in heads if head["tenant"] == "default")
    kept = tmp_path / "kept.json"

    def verify(*heads: dict[str, Any]) -> CompletedProcess[str]:
        kept.write_text("".join(json.dumps(head) + "\n" for head in heads))
        return auditor("audit", "verify", "--head", kept, "--key", own["key"])

    assert "1 signed heads agree" in verify(own).stdout
    assert "1 signed heads agree" in verify(*heads).stdout, "another chain's head is not compared here"
    assert "not signed by the key" in verify(own | {"hash": "0" * 64}).stderr
    assert "none of these heads is of default" in verify(next(h for h in heads if h["tenant"] == "*")).stderr
    assert "give it with --key" in auditor("audit", "verify", "--head", kept).stderr
    assert "the audit holds" in auditor("audit", "verify").stdout


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (lambda rows: rows, None),
        (lambda rows: [*rows[:2], rows[2].model_copy(update={"detail": {"label": "negative"}}), *rows[3:]], "row 3 was changed"),
        (lambda rows: rows[:1] + rows[2:], "row 2 is missing"),
        (lambda rows: rows[:-1], "the chain ends at"),
    ],
)  # fmt: skip
def test_what_a_server_tells_of_a_chain_that_was_changed_does_not_hold(
    client: Client, result: str, tamper: Callable[[list[AuditEvent]], list[AuditEvent]], words: str | None
) -> None:
    del result
    end = client.audit_end()
    rows = [row for row in client.audit() if row.seq <= end.seq]
    verdict = proof.verify_chain(end, map(_row, tamper(rows)), {})
    assert words in verdict.problem if words and verdict.problem else verdict.problem is words, verdict


@pytest.mark.sqlite
def test_an_export_over_http_is_that_of_the_servers_own_machine(
    auditor: Run, service: Service, result: str, tmp_path: Path
) -> None:
    for form in ("ndjson", "fhir"):
        here, there = tmp_path / "here", tmp_path / "there"
        assert auditor("audit", "export", "--form", form, "-o", here).returncode == 0
        assert cxr("audit", "export", "--form", form, "--tenant", "default", "-o", there,
                   home=service.settings.home).returncode == 0  # fmt: skip
        lines = here.read_text().splitlines()
        assert any(result in line for line in lines)
        assert there.read_text().splitlines()[: len(lines)] == lines
    assert auditor("audit", "export", "--tenant", "default").returncode == Exit.USAGE


@pytest.mark.sqlite
def test_what_belongs_to_no_hospital_is_read_verified_and_exported_too(
    auditor: Run, service: Service, tmp_path: Path
) -> None:
    """Who registered and promoted which model stands there."""
    told = json.loads(auditor("audit", "list", "--installation", "--action", "model.registered", "--json").stdout)
    assert {row["tenant"] for row in told["data"]} == {"*"}
    (model,) = service.http.get("/v1/models").json()["data"]
    assert [row["subject"] for row in told["data"]] == [model["version"]]
    head = tmp_path / "heads"
    head.write_text(cxr("audit", "head", home=service.settings.home).stdout)
    key = json.loads(head.read_text().splitlines()[0])["key"]
    verified = auditor("audit", "verify", "--installation", "--head", head, "--key", key)
    assert "1 signed heads agree" in verified.stdout, verified.stderr
    assert auditor("audit", "export", "--installation", "-o", tmp_path / "there").returncode == 0
    assert {json.loads(line)["tenant"] for line in (tmp_path / "there").read_text().splitlines()} == {"*"}
