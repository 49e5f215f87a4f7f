"""`cxr judge`: the verdict is computed on the frozen fold, said rule by rule, and kept with the version."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest
from click.testing import CliRunner, Result

import cxr
import up
from db import promotions, registry
from db.blobs import Blobs
from db.database import Database
from db.verdicts import newest
from settings import Settings
from tests import teaching
from training import acceptance, shipped, verdicts
from worker import cnn

pytestmark = pytest.mark.timeout(900)


def command(*words: object, **environment: str) -> Result:
    """In this process, so that no time-out depends on the machine."""
    return CliRunner().invoke(cxr.main, [*map(str, words)], env=environment)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teaching.write(tmp_path_factory.mktemp("data"))


def test_a_network_that_learned_nothing_is_refused_by_rule_and_number(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment({"CXR_HOME": str(tmp_path)})
    up.bring_up_to_date(settings)
    keras.utils.set_random_seed(1)
    weights = cnn.weights_to_bytes(cnn.build())
    card = verdicts.with_golden(replace(shipped.load()[0], version="untrained"), weights)
    database = Database(settings.database_url)
    with database.write() as session:
        champion = registry.champion(session).version
        registry.register(session, Blobs(settings.blobs), card, weights, actor="test")
    compare = acceptance.judge

    def overtaken(*given: Any, **more: Any) -> Any:
        """Another becomes champion while the verdict is computed."""
        with database.write() as session:
            registry.appoint(session, registry.CHAMPION, "untrained", actor="test")
        return compare(*given, **more)

    monkeypatch.setattr(acceptance, "judge", overtaken)
    judged = command("judge", "untrained", "--json", CXR_HOME=str(tmp_path), CXR_TRAINING_DATA=str(data))
    assert judged.exit_code == 1, judged.stderr
    said = json.loads(judged.stdout)["data"]
    assert (said["version"], said["passed"]) == ("untrained", False)
    failed = {finding["rule"]: finding for finding in said["findings"] if not finding["passed"]}
    assert "within_source_auroc" in failed
    assert failed["within_source_auroc"]["measured"] < failed["within_source_auroc"]["bound"]
    assert {"golden", "probe_border_only", "stable_jpeg_75"} <= {finding["rule"] for finding in said["findings"]}
    with database.write() as session:
        kept = newest(session, "untrained")
        assert kept
        assert kept.champion == said["champion"] == champion, "it was compared with no other"
        assert kept.findings == said["findings"]
        assert kept.reference == {}, "the card has it"
        registry.appoint(session, registry.CHAMPION, champion, actor="test")
    with pytest.raises(promotions.GateRefused), database.write() as session:
        promotions.ask(session, "untrained", who="Dr B", reason="test", actor="test")
    database.close()


def test_what_cannot_be_judged_is_said_in_one_line(tmp_path: Path) -> None:
    assert command("migrate", CXR_HOME=str(tmp_path)).exit_code == 0
    for words, told in (
        (("judge", "unknown"), "CXR_TRAINING_DATA"),
        (("judge", "unknown", "--data", tmp_path), "unknown"),
    ):
        judged = command(*words, CXR_HOME=str(tmp_path))
        assert judged.exit_code == 1
        assert told in judged.stderr
        assert "Traceback" not in judged.stderr
