"""A process that ends after any step of the way from upload to result loses nothing and does nothing twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples import both_in_ci
from tests.project import ROOT


@pytest.mark.timeout(600)
@both_in_ci("database_url")
def test_a_death_after_any_commit_or_call_changes_nothing(database_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.stops", str(tmp_path), database_url, "memory://"],
        check=True, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["lost"], told["duplicated"], told["problems"]) == (0, 0, [])
    assert told["steps"] > 20, "each of them was the last one once"
    assert told["images"] == 3 * (told["steps"] + 1), "and the first went all the way"
