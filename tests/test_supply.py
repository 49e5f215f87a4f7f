"""What the project is made of: advisories that are asked for, licences that are explained, an SBOM that is whole."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from supply import advisories, licences
from supply.advisories import Ignored, Verdict
from tests.project import ROOT
from tests.service import free_port

TODAY = date(2026, 11, 23)
KNOWN = {"id": "GHSA-1", "aliases": ["CVE-1"], "summary": "x", "details": "x", "modified": "2026-01-01T00:00:00Z"}
AFFECTED = {
    "package": {"name": "pydicom", "ecosystem": "PyPI"},
    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}],
    "versions": ["3.0.2"],
}


@contextmanager
def advising(*vulnerabilities: dict[str, Any]) -> Iterator[list[str]]:
    """An advisory service that speaks OSV's protocol; yields the options that lead to it."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"vulns": vulnerabilities} if vulnerabilities else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield options(server.server_port)
        server.shutdown()


def options(port: int) -> list[str]:
    return ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{port}/v1/query"]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "one.lock"
    path.write_text(f"pydicom==3.0.2 \\\n    --hash=sha256:{'0' * 64}\n")
    return path


def verdict(lock: Path, given: list[str], *lived_with: Ignored) -> Verdict:
    return advisories.judged(advisories.asked(lock, given), lived_with, today=TODAY)


def test_a_known_vulnerability_is_red_and_says_what_mends_it(lock: Path) -> None:
    with advising(KNOWN | {"affected": [AFFECTED]}) as given:
        found = verdict(lock, given)
    assert (found.red, "pydicom 3.0.2: CVE-1, mended in 9.9" in found.words) == (True, True), found.words


@pytest.mark.parametrize(
    ("name", "until", "red"), [("CVE-1", date(2026, 12, 1), False), ("GHSA-1", date(2026, 11, 1), True)]
)
def test_what_is_lived_with_is_not_red_until_its_day_is_over(lock: Path, name: str, until: date, red: bool) -> None:
    with advising(KNOWN | {"affected": [AFFECTED]}) as given:
        found = verdict(lock, given, Ignored(name, "never called", until))
    assert found.red is red, found.words
    assert ("look again" in found.words) is red


def test_nothing_found_says_how_many_were_looked_up(lock: Path) -> None:
    with advising() as given:
        assert verdict(lock, given) == Verdict(red=False, words="none in 1 packages (0 ignored)")


def test_a_service_that_cannot_be_reached_is_said_and_is_not_red(lock: Path) -> None:
    found = verdict(lock, options(free_port()))
    assert (found.red, "NOT CHECKED" in found.words) == (False, True), found.words


def test_a_mirror_that_knows_no_advisories_does_not_pass_for_all_clear() -> None:
    told = {"dependencies": [{"name": "pydicom", "skip_reason": "Dependency not found on PyPI"}]}
    answer = subprocess.CompletedProcess([], 0, json.dumps(told), "No known vulnerabilities found")
    found = advisories.judged(answer, [], today=TODAY)
    assert (found.red, "NOT CHECKED" in found.words) == (False, True)


def test_a_lock_file_that_cannot_be_read_is_red(lock: Path) -> None:
    lock.write_text("no requirement at all ==")
    assert verdict(lock, options(free_port())).red


def test_an_entry_of_the_list_needs_reason_and_day(tmp_path: Path) -> None:
    assert [one.id for one in advisories.ignored(ROOT / "supply" / "ignored.toml") if not one.reason] == []
    (tmp_path / "ignored.toml").write_text('[[ignored]]\nid = "GHSA-1"\n')
    with pytest.raises(TypeError, match="reason"):
        advisories.ignored(tmp_path / "ignored.toml")


# Licences


@pytest.mark.parametrize(
    ("text", "permissive"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND Apache-2.0", True),
        ("MPL-2.0 AND MIT", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("none named", False),
        ("LicenseRef-NVIDIA-Proprietary", False),
        (None, False),
    ],
)
def test_only_a_licence_that_asks_for_nothing_passes_unexplained(text: str | None, permissive: bool) -> None:
    assert licences.Licence("x", "1", text, serves=True).permissive is permissive


def test_every_other_licence_has_a_reason_and_no_reason_is_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert licences.unexplained() == []
    pinned = {one.package for one in licences.licences()}
    assert set(licences.named()) <= pinned
    monkeypatch.setattr(licences, "named", dict)
    assert "pylibjpeg-libjpeg" in {one.package for one in licences.unexplained()}


def test_the_document_names_every_copyleft_package_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    serving = [one for one in licences.licences() if one.serves and one.package in licences.named()]
    assert [one.package for one in serving if f"`{one.package}`" not in text and one.package != "namex"] == []


# The SBOM


def sbom(path: Path) -> bytes:
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "requirements-cpu.lock"]
    more = [
        "--pyproject",
        "pyproject.toml",
        "--output-reproducible",
        "--output-format",
        "JSON",
        "--output-file",
        str(path),
    ]
    assert f"{' '.join(command[2:6])} $(or" in (ROOT / "Makefile").read_text(encoding="utf-8")
    subprocess.run([*command, *more], cwd=ROOT, check=True, capture_output=True)
    return path.read_bytes()


@pytest.mark.long
def test_the_sbom_names_every_pinned_package_with_its_hashes_and_comes_out_the_same(tmp_path: Path) -> None:
    first = sbom(tmp_path / "1.json")
    assert first == sbom(tmp_path / "2.json")
    told = json.loads(first)
    assert (told["bomFormat"], told["metadata"]["component"]["name"]) == ("CycloneDX", "cxr-batch")
    listed = {(one["name"], one["version"]) for one in told["components"]}
    pinned = licences._PINNED.findall((ROOT / "requirements-cpu.lock").read_text(encoding="utf-8"))
    assert listed == set(pinned)
    assert all(one["externalReferences"][0]["hashes"] for one in told["components"])
