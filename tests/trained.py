"""A model that `cxr train` made of the phantoms, in a home of its own; trained once, for all tests that need one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cxr
import up
from settings import Settings
from tests.test_training import QUICK
from training import runs
from training.runs import Run


@dataclass(frozen=True)
class Trained:
    """The home, what the command answered, and the run inside of it."""

    home: Path
    answer: Result
    run: Run

    @property
    def out(self) -> Path:
        return self.home / "out"


def command(home: Path, *words: object) -> Result:
    return CliRunner().invoke(cxr.main, [str(word) for word in words], env={"CXR_HOME": str(home)})


def by_command(folder: Path, home: Path) -> Trained:
    up.bring_up_to_date(Settings.from_environment({"CXR_HOME": str(home)}))
    made, run = list[Run](), runs.run

    def kept(*given: Any, **more: Any) -> Run:
        made.append(run(*given, **more))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "run", kept)
        wanted = ("--epochs", QUICK.epochs, "--exposures", QUICK.exposures, "--seed", QUICK.seed, "--out", home / "out")
        answer = command(home, "train", "--data", folder, *wanted, "--json")
    assert answer.exit_code == 0, answer.output
    return Trained(home, answer, made[0])
