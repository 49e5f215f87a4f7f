"""The rooms and the arrows between them: api -> worker -> db, training -> worker -> db, never back."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from api import retrieval
from db.tables import ImageState, Label

ROOT = Path(__file__).parents[1]
ROOMS = {"api", "cxr_client", "worker", "db", "training"}
ALLOWED = {
    "api": {"cxr_client", "worker", "db"},
    "training": {"worker", "db"},
    "worker": {"db"},
    "db": set[str](),
    "cxr_client": set[str](),
}
LONGEST_FILE = 260
SEES_EVERY_HOSPITAL = {
    "access.py": "a key says whose it is",
    "sign_in.py": "a browser's sign-in too",
    "provider.py": "and an address",
    "rates.py": "the disk and the queue are one",
    "acceptance.py": "the queue is one",
    "batches.py": "others' images wait before it",
    "models.py": "the models are everybody's",
    "reclassification.py": "so are the runs",
    "retraining.py": "so are the runs",
    "runs.py": "so are the runs",
    "trail.py": "the installation's own chain",
    "wiring.py": "hands it out",
}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_no_arrow_goes_back(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        wrong = set(imported(path)) & ROOMS - ALLOWED[room] - {room}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_web_application_does_not_load_tensorflow() -> None:
    program = "import api, api.app, api.server, sys; assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_a_trainer_that_waits_does_not_load_tensorflow() -> None:
    program = "import training.trainer, sys; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_cnn_is_computed_with_onednn_whatever_the_processor() -> None:
    """In a process that the tests' own environment does not help."""
    program = """
from worker import device
device.quiet()
from tensorflow.python.util import _pywrap_util_port
assert _pywrap_util_port.IsMklEnabled()
"""
    there = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, env=there)


def test_every_file_says_what_it_is_and_is_one_idea() -> None:
    for room in [*ROOMS, "benchmarks", "doctor", "supply"]:
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            assert ast.get_docstring(ast.parse(text)) or not text, f"{path} has no first line"
            assert len(text.splitlines()) <= LONGEST_FILE, f"{path} is too long"


def test_who_polls_a_server_waits_for_no_database_and_no_tensorflow() -> None:
    words = "import sys, cxr, api.commands, api.retrieval; print(*({'sqlalchemy', 'tensorflow', 'numpy', 'flask'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == []
    assert (tuple(Label), tuple(ImageState)) == (retrieval.LABELS, retrieval.STATES)


def test_whoever_in_the_api_sees_every_hospital_is_named_here_and_writes_no_sql() -> None:
    """All else goes through db.tenancy, which filters; SQL as text would go round that."""
    files = {path.name: path.read_text() for path in (ROOT / "api").glob("*.py")}
    assert {name for name, code in files.items() if re.search(r"\.system\b|\bsystem:", code)} == set(
        SEES_EVERY_HOSPITAL
    )
    assert [name for name, code in files.items() if re.search(r"sqlalchemy import .*\btext\b", code)] == []


def test_commands_reach_a_server_by_the_client_alone() -> None:
    rooms = [path for room in ("api", "training", "worker") for path in (ROOT / room).glob("*.py")]
    assert [path.name for path in rooms if "httpx" in imported(path)] == []
