"""The ways that the table of tries compares: each trains, scores every radiograph once and gives its figures."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import darkcovidnet, sights, tries
from benchmarks.ways import WAYS, Way, network, train
from training import data
from worker import lungs

EVERYTHING = Way(
    "all at once",
    sights.cropped,
    epochs=1,
    mixed=0.4,
    adversary=0.5,
    auxiliary=0.5,
    taught_by=1,
    lessons=0.5,
    hints=1.0,
    copies=1,
)


def test_what_is_trained_beside_the_given_network_does_not_stay_in_it() -> None:
    given, trained = network(EVERYTHING, 1)
    assert given.count_params() == 1_744_993
    assert trained.count_params() > given.count_params()


@pytest.mark.long
@pytest.mark.parametrize("way", [EVERYTHING, replace(WAYS["masks"], epochs=1, copies=1)], ids=["everything", "masks"])
def test_a_way_scores_every_radiograph_and_its_probes(
    radiographs: data.Radiographs, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "_PARTS", ((0, 1, 2), (3, 4, 5)))  # the fewest that know nothing of whom they score
    maps = lungs.Segmenter(lungs.weights(), batch_size=8).segment
    found = tries.scored(way, radiographs, maps, seed=1)
    assert all(np.isfinite(logits).all() and len(logits) == len(radiographs.greys) for logits in found.values())
    told = tries.row([found, found], radiographs)
    assert told["seeds"] == 2
    assert 0 <= told["home"] <= 1


@pytest.mark.long
def test_the_reversed_gradient_unlearns_what_the_adversary_learns(radiographs: data.Radiographs) -> None:
    maps = lungs.Segmenter(lungs.weights(), batch_size=8).segment
    part = radiographs.folds(0, 1, 2, 3)
    without, against = (
        train(replace(WAYS["unfolded"], epochs=1, copies=1, adversary=weight), part, maps, seed=1).get_weights()[0]
        for weight in (0.0, 0.5)
    )
    assert not np.allclose(without, against)


def test_an_owner_of_images_stands_on_one_side_of_the_split_and_both_classes_on_each() -> None:
    owners = np.array([f"patient-{number // 3}" for number in range(90)])
    positive = np.arange(90) // 3 % 3 == 0
    fold = darkcovidnet.parts(owners, positive)
    assert all(len(set(fold[owners == owner])) == 1 for owner in owners)
    assert all({True, False} == set(positive[fold == each].tolist()) for each in range(5))
