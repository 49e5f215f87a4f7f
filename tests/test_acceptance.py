"""The gate: each rule refuses what it is there for, and says which number."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from db.promotions import Finding
from training import acceptance, stability
from training.acceptance import Score
from training.data import Radiographs
from training.index import index
from worker.radiograph import SIZE

Greys = NDArray[np.uint8]
COUNT = 60
LUNGS = np.zeros((SIZE, SIZE), np.bool_)
LUNGS[30:100, 20:55] = LUNGS[30:100, 73:108] = True


@pytest.fixture(scope="module")
def fold(folder: Path) -> Radiographs:
    """Lungs that are rough where they are ill, and a border that is brighter in half of the sources."""
    random, any_entry = np.random.default_rng(5), index(folder)[0]
    greys = np.full((COUNT, SIZE, SIZE), 100.0)
    entries = []
    for place in range(COUNT):
        ill, source = place % 2 == 0, ("a", "b")[place // 2 % 2]
        rough = random.choice([-1.0, 1.0], (SIZE, SIZE)) * (40 if ill else 10)
        greys[place] += np.where(LUNGS, rough, 0) + (30 if ill else 0) * ~LUNGS
        label = "COVID" if ill else "Normal"
        name = f"{label}/images/{place}.png"
        named = {"file": name, "mask": name, "label": label, "source": source}
        entries.append(replace(any_entry, patient=f"p{place // 2}{label}", fold=5, **named))
    masks = np.broadcast_to(LUNGS, (COUNT, SIZE, SIZE))
    return Radiographs(tuple(entries), greys.astype(np.uint8), masks, "fold")


def honest(greys: Greys, **_: object) -> NDArray[np.float64]:
    """Judges by the roughness of the lungs alone."""
    return np.asarray(1 / (1 + np.exp(-(greys[:, LUNGS].astype(float).std(axis=1) - 25) / 2)))


def by_the_border(greys: Greys, **_: object) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-(greys[:, :10].astype(float).mean(axis=(1, 2)) - 115) / 3)))


def backwards(greys: Greys, **_: object) -> NDArray[np.float64]:
    return np.asarray(1 - honest(greys))


def too_sure(greys: Greys, **_: object) -> NDArray[np.float64]:
    return np.asarray(honest(greys) ** 0.05)


def failed(fold: Radiographs, candidate: Score, champion: Score = honest, golden: float = 0.0) -> dict[str, Finding]:
    findings = acceptance.judge(fold, candidate, champion, golden_difference=golden)
    assert all(isinstance(finding.passed, bool) for finding in findings)
    return {finding.rule: finding for finding in findings if not finding.passed}


def test_an_honest_candidate_passes_against_itself(fold: Radiographs) -> None:
    assert failed(fold, honest) == {}


def test_every_rule_of_the_gate_is_asked(fold: Radiographs) -> None:
    rules = {finding.rule for finding in acceptance.judge(fold, honest, honest, golden_difference=0.0)}
    assert rules == {
        "within_source_auroc",
        "calibration",
        "probe_lungs_blanked",
        "probe_lungs_blanked_given",
        "probe_border_only",
        "probe_border_only_given",
        *(f"stable_{name}" for name in stability.CHANGES),
        "floor_source_a",
        "floor_source_b",
        "floor_class_Normal",
        "golden",
        "speed",
    }


def test_what_knows_the_answer_without_the_lungs_is_refused_with_the_number(fold: Radiographs) -> None:
    found = failed(fold, by_the_border)
    assert found["probe_lungs_blanked"].measured == found["probe_border_only"].measured == 1.0
    assert "at most 0.65 is allowed" in found["probe_border_only"].words


def test_what_is_worse_within_the_sources_is_refused(fold: Radiographs) -> None:
    found = failed(fold, backwards)
    assert found["within_source_auroc"].measured == -1
    assert {"floor_source_a", "floor_source_b", "floor_class_Normal"} <= set(found)


def test_what_is_worse_calibrated_is_refused(fold: Radiographs) -> None:
    assert "calibration" in failed(fold, too_sure)


def test_home_auroc_does_not_help(fold: Radiographs) -> None:
    """A candidate that ranks the sources perfectly, and nothing within them, is refused."""
    home = np.array([entry.source == "a" for entry in fold.entries]).astype(float)

    def by_source(greys: Greys, **_: object) -> NDArray[np.float64]:
        return home if len(greys) == COUNT else home[: len(greys)]

    assert "within_source_auroc" in failed(fold, by_source)


@pytest.mark.parametrize("name", stability.CHANGES)
def test_what_moves_under_a_change_that_says_nothing_is_refused(fold: Radiographs, name: str) -> None:
    change = stability.CHANGES[name]
    plain = {grey.tobytes() for grey in fold.greys}
    assert not np.array_equal(change(fold.greys), fold.greys)

    def fragile(greys: Greys, **_: object) -> NDArray[np.float64]:
        return np.where([grey.tobytes() in plain for grey in greys], honest(greys), 0.5)

    assert f"stable_{name}" in failed(fold, fragile)


def test_golden_pictures_that_come_out_otherwise_are_refused(fold: Radiographs) -> None:
    assert failed(fold, honest, golden=0.02)["golden"].measured == 0.02
    assert "golden" in failed(fold, honest, golden=float("nan"))


def test_what_takes_longer_is_refused(fold: Radiographs) -> None:
    def slow(greys: Greys, **_: object) -> NDArray[np.float64]:
        end = time.process_time() + 0.004 * len(greys)
        while time.process_time() < end:
            pass
        return honest(greys)

    assert set(failed(fold, slow)) == {"speed"}


def test_without_sources_nothing_can_be_said_and_the_candidate_is_refused(fold: Radiographs) -> None:
    unstated = replace(fold, entries=tuple(replace(entry, source="") for entry in fold.entries))
    assert "metadata.csv" in failed(unstated, honest)["within_source_auroc"].words


def test_what_knows_the_answer_once_it_is_told_where_the_lungs_were_is_refused(fold: Radiographs) -> None:
    """A network that only scores what lies within lungs is blind while none are found: that is not enough."""

    def within_masks(greys: Greys, *, masks: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        return honest(greys) if masks is None else by_the_border(greys)

    assert set(failed(fold, within_masks)) == {"probe_lungs_blanked_given", "probe_border_only_given"}


def test_a_view_under_the_floor_is_refused_and_one_that_is_too_small_says_so(fold: Radiographs) -> None:
    views = ["AP" if place % 4 < 2 else "lying" if place == 2 else "PA" for place in range(COUNT)]
    seen = replace(fold, entries=tuple(replace(one, view=view) for one, view in zip(fold.entries, views, strict=True)))
    wrong = {fold.greys[place].tobytes() for place in range(COUNT) if views[place] == "AP"}

    def fails_at_bedside(greys: Greys, **_: object) -> NDArray[np.float64]:
        return np.where([grey.tobytes() in wrong for grey in greys], 1 - honest(greys), honest(greys))

    found = {each.rule: each for each in acceptance.judge(seen, fails_at_bedside, honest, golden_difference=0.0)}
    assert not found["floor_view_AP"].passed
    assert found["floor_view_PA"].passed
    assert found["floor_view_PA"].measured == 1
    assert found["floor_view_lying"].passed
    assert found["floor_view_lying"].words.startswith("not judged in view lying (1 positives, 0 negatives)")
