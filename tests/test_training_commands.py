"""The commands of who trains: a run from a folder to a registered version, its evaluation, and what is said of no score."""

import json
from pathlib import Path

from db import registry
from db.database import Database
from settings import Settings
from terminal import Exit
from tests.test_heatmap import noise
from tests.test_training import QUICK
from tests.trained import Trained, command
from training import kept
from worker import golden


def test_training_shows_its_progress_writes_the_run_and_registers_the_version(trained: Trained) -> None:
    told, card = json.loads(trained.answer.stdout), trained.run.card
    assert (told["model"], told["auroc"], told["evaluated"]) == (
        card.version,
        card.metrics["auroc"],
        "the held-out fold",
    )
    assert "epochs" in trained.answer.stderr
    written, weights = kept.read(trained.out)
    assert weights == trained.run.weights
    assert len(written.config["golden"]) == len(golden.pictures())
    database = Database(Settings.from_environment({"CXR_HOME": str(trained.home)}).database_url)
    with database.read() as session:
        assert registry.card_of(registry.find(session, card.version)) == written
        assert registry.champion(session).version != card.version
    database.close()
    assert list((trained.home / "runs" / "tensorboard").glob(f"*-seed-{QUICK.seed}/events.*"))


def test_a_registered_version_is_evaluated_with_a_page_and_for_a_prevalence(trained: Trained, small: Path) -> None:
    version, page = trained.run.card.version, trained.home / "page.html"
    wanted = ("--model", version, "--prevalence", "0.05", "--report", page, "--json")
    answer = command(trained.home, "evaluate", "--data", small, *wanted)
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert (told["model"], told["positives"], told["prevalence"]) == (version, 2, 0.05)
    assert version in page.read_text(encoding="utf-8")
    unknown = command(trained.home, "evaluate", "--data", small, "--model", "cnn-0")
    assert (unknown.exit_code, "cnn-0 is not registered" in unknown.stderr) == (Exit.PROBLEM, True)


def test_an_image_that_no_model_looked_at_gets_no_heatmap_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "noise.png").write_bytes(noise())
    answer = command(tmp_path / "home", "classify", tmp_path / "noise.png", "--heatmap", tmp_path / "heat.png")
    assert answer.exit_code == 0, answer.output
    assert "is not written: the image is inconclusive" in " ".join(answer.stderr.split())
    assert not (tmp_path / "heat.png").exists()
