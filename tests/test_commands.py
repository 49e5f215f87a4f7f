"""How the commands speak: one JSON shape, one list of exit statuses, tables that fit."""

import csv
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import operator_key
from cxr import main
from terminal import Exit
from tests.clients import alone, saying
from tests.project import ROOT
from tests.service import Service, until
from tests.test_cli import CXR, Run, cxr
from tests.test_docs import LEAVES
from training import phantoms

__all__ = ["alone"]  # a fixture
LINES = {"cxr audit export", "cxr audit head"}  # what they print is a file of lines of JSON already
SILENT = {"cxr", "cxr up", "cxr api", "cxr worker", "cxr beat", "cxr trainer", "cxr completion"} | LINES


@pytest.fixture
def run(service: Service) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A command in this process, which takes a tenth of the time of one in its own; test_cli starts those."""

    def invoke(*words: object) -> subprocess.CompletedProcess[str]:
        given = [str(word) for word in words]
        told = CliRunner().invoke(main, given, env={"CXR_HOME": str(service.settings.home), "COLUMNS": "160"})
        if told.exception and not isinstance(told.exception, SystemExit):
            raise told.exception
        return subprocess.CompletedProcess(given, told.exit_code, told.stdout, told.stderr)

    return invoke


@pytest.fixture(scope="module")
def batch(service: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three phantoms, and one file that is no image under a name that is long and would be markup."""
    files = {path.name: path.read_bytes() for path in phantoms.write(tmp_path_factory.mktemp("x"), count=3, seed=1)}
    name = "[red]ward-3[/red]/" + "a-rather-long-directory/" * 4 + "not-an-image.png"
    batch_id = service.submit(files | {name: b"nothing"})
    service.wait(batch_id)
    return batch_id


def spoken(answer: subprocess.CompletedProcess[str]) -> Any:
    told = json.loads(answer.stdout)
    assert set(told) == {"data", "problem"}
    assert (told["problem"] is None) or (told["data"] is None)
    return told["data"] if told["problem"] is None else told["problem"]


# JSON


@pytest.mark.parametrize("command", sorted(set(LEAVES) - SILENT))
def test_every_command_that_answers_has_json(command: str) -> None:
    names = {name for parameter in LEAVES[command].params for name in parameter.opts}
    assert "--json" in names, f"{command}: put @terminal.json_option on it and answer through terminal.answer"


@pytest.mark.sqlite
def test_json_is_one_object_with_the_answer_in_full(run: Run, batch: str) -> None:
    assert spoken(run("status", batch, "--json"))["counts"]["classified"] == 3
    assert batch in {one["id"] for one in spoken(run("status", "--json"))}
    images = spoken(run("images", batch, "--json"))
    assert [image["state"] for image in images] == ["classified"] * 3 + ["rejected"]
    assert spoken(run("images", batch, "--state", "rejected", "--json")) == images[3:]
    assert spoken(run("results", batch, "--json"))["data"] == images
    result = spoken(run("result", images[0]["result_id"], "--json"))
    assert result["probability"] == images[0]["probability"]
    searched = spoken(run("results", "--model", result["model_version"], "--label", result["label"], "--json"))
    assert result in searched
    assert spoken(run("results", "--accession", "none", "--json")) == []
    assert spoken(run("limits", "--json"))["images_per_batch"] == 5000
    assert spoken(run("audit", "verify", "--json"))["rows"] > 0
    assert [model["champion"] for model in spoken(run("models", "--json"))] == [True]


def test_json_of_a_submission_holds_its_images(run: Run, service: Service, tmp_path: Path) -> None:
    (picture,) = phantoms.write(tmp_path, count=1, seed=9)
    assert spoken(run("submit", picture, "--json"))["total"] == 1
    waited = run("submit", picture, "--synthetic", "--wait", "--json")
    assert waited.returncode == Exit.DONE
    told = spoken(waited)
    assert (told["outcome"], told["synthetic"], len(told["images"])) == ("all_classified", True, 1)
    alone = cxr("classify", picture, "--json", home=service.settings.home)  # TensorFlow writes past Python
    assert spoken(alone)["probability"] == pytest.approx(told["images"][0]["probability"], abs=1e-3)


def test_json_of_a_failure_is_the_problem(run: Run, tmp_path: Path) -> None:
    unknown = run("status", "batch_0", "--json")
    assert spoken(unknown) | {"detail": ""} == {"code": "batch_unknown", "detail": "", "retryable": False}
    assert spoken(cxr("status", "--json", home=tmp_path))["code"] == "not_running"


@pytest.mark.sqlite
def test_a_search_is_csv_that_no_spreadsheet_runs(run: Run, service: Service, batch: str) -> None:
    (model,) = spoken(run("models", "--json"))
    assert batch in run("results", "--model", model["version"]).stdout
    picture = service.http.get(f"/v1/batches/{batch}/images?limit=1").json()["data"][0]["custom_id"]
    rows = list(csv.DictReader(run("results", "--from", "2020-01-01").stdout.splitlines()))
    assert picture in {row["custom_id"] for row in rows}
    assert list(csv.DictReader(run("results", "--to", "2020-01-01").stdout.splitlines())) == []


def test_a_draft_is_opened_filled_twice_and_submitted(run: Run, tmp_path: Path) -> None:
    first, second = phantoms.write(tmp_path, count=2, seed=4)
    opened = run("draft", "open", "--total", 2, "--synthetic").stdout.strip()
    assert len(spoken(run("draft", "put", opened, first, "--json"))) == 1
    assert run("draft", "submit", opened).returncode == Exit.AWAY  # it is not complete yet
    assert "2 images are in" in run("draft", "put", opened, first, second).stdout
    assert run("draft", "submit", opened).stdout.strip() == opened
    assert spoken(run("status", opened, "--json"))["total"] == 2


def test_a_result_tells_its_life_and_its_labels(run: Run, batch: str, tmp_path: Path) -> None:
    image = spoken(run("images", batch, "--json"))[0]
    picture = tmp_path / "heat.png"
    assert run("result", image["result_id"], "--heatmap", picture).returncode == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    told = spoken(run("history", image["result_id"], "--json"))
    assert [step["action"] for step in told["steps"]][:3] == ["batch.submitted", "image.claimed", "image.classified"]
    assert "image.classified" in run("history", image["result_id"]).stdout
    assert (
        run("label", "positive", "--image", image["sha256"], "--source", "rt-pcr", "--by", "laboratory").returncode == 0
    )
    (label,) = spoken(run("labels", "--image", image["sha256"], "--json"))
    assert (label["label"], label["given_by"]) == ("positive", "laboratory")
    assert image["sha256"][:16] in run("labels").stdout


def test_a_webhook_is_added_listed_and_removed(run: Run) -> None:
    refused = run("webhook", "add", "http://192.168.0.1/hook")
    assert (refused.returncode, "webhook_address" in refused.stderr) == (Exit.REFUSED, True)
    made = spoken(run("webhook", "add", "https://93.184.216.34/hook", "--event", "batch.completed", "--json"))
    assert made["secret"]
    listed = run("webhook", "list").stdout
    assert (made["id"] in listed, made["secret"] in listed) == (True, False)
    assert spoken(run("webhook", "deliveries", made["id"], "--json")) == []
    assert run("webhook", "remove", made["id"]).returncode == Exit.DONE
    assert made["id"] not in run("webhook", "list").stdout


def test_an_import_where_there_is_no_root_says_so(run: Run) -> None:
    refused = run("import", "night/ward-3", "--json")
    assert (refused.returncode, spoken(refused)["code"]) == (Exit.NOT_ALLOWED, "import_off")


# Exit statuses


def test_every_exit_status_is_documented_and_none_that_is_gone() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    documented = [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert documented == [status.value for status in Exit]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("limits",), Exit.DONE),
        (("classify", "pyproject.toml"), Exit.PROBLEM),
        (("status", "--nonsense"), Exit.USAGE),
        (("results", "batch_0", "--model", "m"), Exit.USAGE),
        (("status", "batch_0"), Exit.REFUSED),
        (("result", "result_0"), Exit.REFUSED),
    ],
)
def test_a_command_ends_with_what_happened(run: Run, words: tuple[str, ...], status: Exit) -> None:
    assert run(*words).returncode == status


def test_a_server_that_does_not_know_the_key_ends_with_its_own_status(tmp_path: Path) -> None:
    told = b'{"code": "key_unknown", "detail": "No such key.", "retryable": false}'
    with saying((401, {}, told)) as (url, _):
        answer = cxr("status", home=tmp_path, CXR_URL=url)
    assert answer.returncode == Exit.NOT_ALLOWED
    assert answer.stderr == "cxr: No such key. (key_unknown)\n"


def test_ctrl_c_while_following_ends_with_130_and_the_batch_goes_on(alone: Any, tmp_path: Path) -> None:
    (picture,) = phantoms.write(tmp_path, count=1, seed=9)
    there = {"CXR_URL": f"http://{alone.host}:{alone.port}", "CXR_KEY": str(operator_key.known(alone))}
    environment = os.environ | {"CXR_HOME": str(tmp_path)} | there

    def listed() -> Any:
        answer = cxr("status", "--json", home=tmp_path, **there)
        assert answer.returncode == Exit.DONE, answer.stderr
        return spoken(answer)

    following = subprocess.Popen([CXR, "submit", picture, "--wait"], env=environment, stderr=subprocess.PIPE)
    until(listed, "there is a batch")
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=60)
    assert following.returncode == Exit.INTERRUPTED
    (one,) = listed()
    assert one["state"] == "processing"


# Tables


def printed(*words: object, home: Path, columns: int, stream: str = "stdout") -> list[str]:
    """What a person sees of one stream in a terminal that wide."""
    near, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {"CXR_HOME": str(home), "TERM": "xterm"}
    out, err = (far if name == stream else subprocess.DEVNULL for name in ("stdout", "stderr"))
    with subprocess.Popen([CXR, *map(str, words)], env=environment, stdout=out, stderr=err) as command:
        os.close(far)
        seen = b"".join(_until_closed(near))
    os.close(near)
    assert command.returncode == Exit.DONE
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode()).splitlines()


def _until_closed(terminal: int) -> Iterator[bytes]:
    try:
        while piece := os.read(terminal, 4096):
            yield piece
    except OSError:  # Linux says the end of a terminal so
        return


@pytest.mark.sqlite
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    "words", [("status",), ("images", "BATCH"), ("limits",), ("models",)], ids=lambda words: words[0]
)
def test_a_table_fits_its_terminal_and_hides_nothing(
    service: Service, batch: str, words: tuple[str, ...], columns: int
) -> None:
    named = [batch if word == "BATCH" else word for word in words]
    lines = printed(*named, home=service.settings.home, columns=columns)
    assert max(len(line) for line in lines) <= columns
    assert not any("…" in line for line in lines)
    if words == ("status",):
        assert any(batch in line for line in lines)
    if words[0] == "images":
        assert "not-an-image.png" in "".join(line.split("  ")[0].strip() for line in lines)


def test_long_work_shows_how_far_it_is(service: Service, tmp_path: Path) -> None:
    phantoms.write(tmp_path, count=3, seed=5)
    home = service.settings.home
    seen = printed("submit", tmp_path, "--wait", "--synthetic", home=home, columns=100, stream="stderr")
    sending = [line for line in seen if "sending" in line]
    assert re.search(r"\d/\d[\d.]* \wB", sending[-1]), sending
    assert any("classifying" in line and "3/3" in line for line in seen), seen
