"""The command line, as a person or a script uses it."""

import csv
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from terminal import Exit
from tests.pictures import chunk
from tests.service import Service, free_port
from training import phantoms

CXR = Path(sys.executable).with_name("cxr")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six phantoms in all formats, and a file that is no image."""
    directory = tmp_path_factory.mktemp("phantoms")
    phantoms.write(directory, count=6, seed=3)
    (directory / "notes.txt").write_text("no image")
    return directory


def cxr(*words: object, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CXR_HOME": str(home), "COLUMNS": "160"} | more
    return subprocess.run(
        [CXR, *map(str, words)], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def run(service: Service) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *words: cxr(*words, home=service.settings.home)


Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_folder_goes_in_and_a_table_comes_out(run: Run, folder: Path, tmp_path: Path) -> None:
    submitted = run("submit", folder, "--wait", "--synthetic")
    assert submitted.returncode == 0, submitted.stderr
    assert "not a medical device" in submitted.stdout
    assert "SYNTHETIC" in submitted.stdout
    assert "1 file is left out" in submitted.stderr
    fetched = run("results", "-o", tmp_path / "out.csv")
    assert fetched.returncode == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["custom_id"] for row in rows] == sorted(str(path) for path in folder.iterdir() if path.suffix != ".txt")
    assert {row["state"] for row in rows} == {"classified"}


def test_a_batch_with_a_rejected_image_ends_with_1(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    submitted = run("submit", next(folder.glob("*.png")), tmp_path / "bad.png", "--wait")
    assert submitted.returncode == 1
    assert "truncated" in submitted.stdout


def test_without_wait_the_id_is_all_that_is_printed(run: Run, folder: Path) -> None:
    batch_id = run("submit", folder).stdout.strip()
    assert batch_id.startswith("batch_")
    assert batch_id in run("status", batch_id).stdout
    assert batch_id in run("status").stdout


def test_one_image_is_classified_by_its_path_without_a_server(folder: Path, tmp_path: Path) -> None:
    heat = tmp_path / "heat.png"
    answer = cxr("classify", next(folder.glob("*.dcm")), "--heatmap", heat, home=tmp_path / "home")
    assert answer.returncode == 0, answer.stderr
    told = dict(line.split(": ", 1) for line in answer.stdout.splitlines())
    reason = ["reason"] if told["label"] == "inconclusive" else []  # within the band of the shipped model
    assert list(told) == ["label", "probability", *reason, "model", "gate"]
    with Image.open(heat) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
    assert list(tmp_path.iterdir()) == [heat]  # asking leaves nothing else behind


def test_one_image_and_the_service_give_the_same_number(run: Run, folder: Path) -> None:
    image = next(folder.glob("*.png"))
    alone = run("classify", image).stdout.split("probability: ")[1].split()[0]
    run("submit", image, "--wait")
    served = next(csv.DictReader(run("results").stdout.splitlines()))["probability"]
    assert float(alone) == pytest.approx(float(served), abs=1e-5)


def test_an_unreadable_image_is_named_with_its_code(folder: Path, tmp_path: Path) -> None:
    answer = cxr("classify", folder / "notes.txt", home=tmp_path)
    assert answer.returncode == 1
    assert "unsupported_type" in answer.stderr


def test_one_image_is_decoded_under_the_limits_of_a_worker(tmp_path: Path) -> None:
    """300 MB of black, in 300 kB."""
    width, height = 10_000, 9_999
    large = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer, row = zlib.compressobj(1), bytes(1 + 3 * width)
    black = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = [(b"IHDR", large), (b"IDAT", black), (b"IEND", b"")]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks))
    answer = cxr("classify", tmp_path / "bomb.png", home=tmp_path / "home", CXR_DECODE_BYTES=str(1 << 28))
    assert (answer.returncode, "decode_memory" in answer.stderr) == (Exit.PROBLEM, True), answer.stderr


@pytest.mark.sqlite
def test_the_audit_is_verified(run: Run) -> None:
    answer = run("audit", "verify")
    assert (answer.returncode, "the audit holds" in answer.stdout) == (0, True)


@pytest.mark.sqlite
def test_the_champion_is_listed(run: Run) -> None:
    assert "champion" in run("models").stdout


def test_without_a_server_the_error_says_what_to_do(tmp_path: Path) -> None:
    answer = cxr("status", home=tmp_path, CXR_PORT=str(free_port()))
    assert answer.returncode == Exit.AWAY
    assert "cxr up" in answer.stderr


def test_a_home_where_nothing_runs_never_reaches_another_homes_server(service: Service, tmp_path: Path) -> None:
    answer = cxr("status", home=tmp_path, CXR_PORT=str(service.settings.port))
    assert answer.returncode == Exit.AWAY
    assert str(tmp_path) in answer.stderr


def test_scanners_names_are_sent_and_hidden_files_are_not(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "1.2.826.0.1.4711").write_bytes(next(folder.glob("*.dcm")).read_bytes())
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert run("submit", tmp_path, "--wait").returncode == 0
    assert [row["custom_id"] for row in csv.DictReader(run("results").stdout.splitlines())] == [
        str(tmp_path / "1.2.826.0.1.4711")
    ]


def test_what_failed_is_shown_before_what_did_not(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "z.png").write_bytes(b"x")
    shown = run("submit", next(folder.glob("*.png")), tmp_path / "z.png", "--wait").stdout
    assert shown.index("unsupported_type") < shown.index("classified")
    assert "1 classified, 1 not" in shown


@pytest.mark.parametrize("words", [("audit", "verify"), ("classify", "/")])
def test_what_a_person_can_mend_is_said_in_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    answer = cxr(*words, home=tmp_path)
    assert answer.returncode in {1, 2}
    assert "Traceback" not in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_results_that_cannot_be_written_are_said_in_one_line(run: Run, tmp_path: Path) -> None:
    answer = run("results", "-o", tmp_path / "nowhere" / "out.csv")
    assert answer.returncode == 1
    assert len(answer.stderr.splitlines()) == 1, answer.stderr


def test_an_unknown_batch_is_an_error(run: Run) -> None:
    answer = run("results", "batch_unknown")
    assert answer.returncode == Exit.REFUSED
    assert "batch_unknown" in answer.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CXR_BATCH_SIZE", "many"),
        ("CXR_PORT", "99999"),
        ("REDIS_URL", "amqp://user:secret@host"),
        ("DATABASE_URL", "mysql://user:secret@host"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, name: str, value: str) -> None:
    answer = cxr("status", home=tmp_path, **{name: value})
    assert answer.returncode == Exit.USAGE
    assert name in answer.stderr
    assert "secret" not in answer.stderr


def test_labels_are_given_one_by_one_and_as_a_table(run: Run, folder: Path, tmp_path: Path) -> None:
    assert run("submit", next(folder.glob("*.png")), "--wait").returncode == 0
    sha256 = next(csv.DictReader(run("results").stdout.splitlines()))["sha256"]
    one = run("label", "positive", "--image", sha256, "--source", "rt-pcr", "--by", "laboratory")
    assert (one.returncode, "1 labels kept" in one.stdout) == (0, True), one.stderr
    (tmp_path / "labels.csv").write_text(
        f"label,source,given_by,image_sha256\nnegative,radiologist,B,{sha256}\nmaybe,radiologist,B,{sha256}\n"
    )
    many = run("label", "--csv", tmp_path / "labels.csv")
    assert (many.returncode, "1 labels kept" in many.stdout, "row 2" in many.stderr) == (1, True, True)
    assert run("label", "positive", "--image", sha256).returncode == Exit.USAGE
