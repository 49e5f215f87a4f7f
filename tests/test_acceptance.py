"""The gate: each rule refuses what it is there for, and says which number."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from db.verdicts import Finding
from training import acceptance, figures, floors, stability
from training.acceptance import Score
from training.bounds import Bounds
from training.data import Radiographs
from training.index import index
from worker.decision import Decision
from worker.radiograph import SIZE

Greys = NDArray[np.uint8]
COUNT = 60
LUNGS = np.zeros((SIZE, SIZE), np.bool_)
LUNGS[30:100, 20:55] = LUNGS[30:100, 73:108] = True
BANDED = Decision(0.5, 1.0, 0.0, band=(0.3, 0.7))


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
    found = judged(fold, candidate, champion, golden)
    return {rule: finding for rule, finding in found.items() if not finding.passed}


def judged(
    fold: Radiographs,
    candidate: Score,
    champion: Score = honest,
    golden: float = 0.0,
    decision: Decision = BANDED,
) -> dict[str, Finding]:
    findings = acceptance.judge(
        fold, candidate, champion, decision=decision, champion_decision=BANDED, golden_difference=golden
    )
    assert all(isinstance(finding.passed, bool) for finding in findings)
    return {finding.rule: finding for finding in findings}


def test_an_honest_candidate_passes_against_itself(fold: Radiographs) -> None:
    assert failed(fold, honest) == {}


def test_every_rule_of_the_gate_is_asked(fold: Radiographs) -> None:
    assert set(judged(fold, honest)) == {
        "frozen_fold",
        "within_source_auroc",
        "within_source_auroc_kept",
        "calibration",
        "calibration_kept",
        "probe_lungs_blanked",
        "probe_lungs_blanked_given",
        "probe_border_only",
        "probe_border_only_given",
        *(f"stable_{name}" for name in stability.CHANGES),
        "floor_source_a",
        "floor_source_b",
        "floor_class_Normal",
        "inconclusive",
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


def test_a_fold_of_a_few_images_proves_nothing(fold: Radiographs) -> None:
    few = replace(fold, entries=fold.entries[:19], greys=fold.greys[:19], masks=fold.masks[:19])
    found = failed(few, honest)
    assert {rule: (one.measured, one.bound) for rule, one in found.items()} == {"frozen_fold": (9, 10)}


def test_what_says_nothing_of_most_images_is_refused_though_it_keeps_every_floor(fold: Radiographs) -> None:
    silent = replace(BANDED, band=(0.0, 1.0))
    found = judged(fold, honest, decision=silent)
    assert [(rule, one.measured) for rule, one in found.items() if not one.passed] == [("inconclusive", 1)]
    allowed = [acceptance.as_outspoken(share, 0.5, {}, Bounds()).passed for share in (0.6, 0.61)]
    assert allowed == [True, False]
    assert not acceptance.as_outspoken(0.55, 0.5, {"inconclusive": [0.7, 0.54]}, Bounds()).passed


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

    found = judged(seen, fails_at_bedside)
    assert not found["floor_view_AP"].passed
    assert found["floor_view_PA"].passed
    assert found["floor_view_PA"].measured == 1
    assert found["floor_view_lying"].passed
    assert found["floor_view_lying"].words.startswith("not judged in view lying (1 positives, 0 negatives)")


def test_a_group_with_one_class_is_judged_by_the_labels_that_its_images_get(fold: Radiographs) -> None:
    """What calls all negatives of a source positive, or all positives of a view negative, may rank well elsewhere."""
    places = np.arange(COUNT) % 4
    named = zip(fold.entries, places, strict=True)
    entries = [
        replace(one, source="healthy" if place == 1 else "a", view="AP" if place == 0 else "") for one, place in named
    ]
    seen = replace(fold, entries=tuple(entries))

    def refused(healthy: float, bedside: float) -> dict[str, Finding]:
        scores = np.where(places == 1, healthy, np.where(places == 0, bedside, honest(fold.greys)))
        found = floors.floors(seen, scores, BANDED, Bounds())
        return {finding.rule: finding for finding in found if not finding.passed}

    assert refused(0.1, 0.9) == refused(0.5, 0.6) == {}, "what is left open is called neither"
    found = refused(0.75, 0.25)
    assert {rule: (one.measured, one.bound) for rule, one in found.items()} == {
        "floor_source_healthy": (0, 0.7),
        "floor_view_AP": (0, 0.8),
    }
    assert (
        "not called positive in source healthy (0 positives, 15 negatives): 0.000"
        in found["floor_source_healthy"].words
    )


# Both on the same patients


@dataclass(frozen=True)
class Case:
    """A fold of one source without pictures, and what two models say of it."""

    fold: Radiographs
    candidate: NDArray[np.float64]
    champion: NDArray[np.float64]

    def found(self, before: acceptance.Before) -> list[Finding]:
        given = (self.fold, self.candidate, self.champion, before, Bounds())
        return [*acceptance.not_worse_within_source(*given), *acceptance.not_worse_calibrated(*given)]

    def failed(self, before: acceptance.Before | None = None) -> set[str]:
        return {finding.rule for finding in self.found(before or {}) if not finding.passed}


APART = [str(place) for place in range(400)]
HERS = ["she" if place < 40 else name for place, name in enumerate(APART)]


def case(fold: Radiographs, candidate: NDArray[np.float64], champion: NDArray[np.float64], patients: list[str]) -> Case:
    one = fold.entries[0]
    entries = [
        replace(one, source="a", patient=patient, label=("COVID", "Normal")[place % 2])
        for place, patient in enumerate(patients)
    ]
    return Case(replace(fold, entries=tuple(entries)), candidate, champion)


def test_a_small_loss_that_every_patient_shows_is_refused(fold: Radiographs) -> None:
    """Smaller than the bound, and far within the interval of the candidate alone: only the pairing finds it."""
    random, ill = np.random.default_rng(1), np.arange(400) % 2 == 0
    champion = random.normal(np.where(ill, 0.7, 0.5), 0.1).clip(0, 1)
    candidate = (champion - np.where(ill, 0.01, 0)).clip(0, 1)
    tried = case(fold, candidate, champion, APART)
    assert tried.failed() == {"within_source_auroc"}
    loss = (figures.auroc(champion, ill) or 0) - (figures.auroc(candidate, ill) or 0)
    low, high = figures.interval(figures.auroc, candidate, ill, patients=np.array(APART), seed=1) or (0, 0)
    assert 0 < loss < min(Bounds().auroc_loss, (high - low) / 4)
    surer = case(fold, np.full(400, 0.66), np.full(400, 0.65), APART)
    assert surer.failed() == {"calibration"}


def raised(images: int) -> NDArray[np.float64]:
    """Good scores, but for so many negatives: each costs an AUROC of 0.0019."""
    scores = np.where(np.arange(400) % 2 == 0, np.linspace(0.5, 0.9, 400), 0.1)
    scores[1 : 2 * images : 2] = 0.65
    return scores


def test_a_loss_that_one_patient_alone_shows_may_be_chance(fold: Radiographs) -> None:
    """Drawn by image, ten pictures of one person would be proof."""
    assert "within_source_auroc" in case(fold, raised(10), raised(0), APART).failed()
    assert case(fold, raised(10), raised(0), HERS).failed() == set()


def test_small_losses_do_not_add_up(fold: Radiographs) -> None:
    """What earlier verdicts on this fold asked for is asked for still, whoever is champion now."""
    first = case(fold, raised(10), raised(0), HERS).found({})
    assert all(finding.passed for finding in first)
    before = {finding.rule: [finding.bound or 0.0, 0.0 if "auroc" in finding.rule else 1.0] for finding in first}
    before["calibration_kept"].append(0.001)
    second = case(fold, raised(20), raised(10), HERS)
    assert second.failed(before) == {"within_source_auroc_kept", "calibration_kept"}, "the strictest bound holds"
