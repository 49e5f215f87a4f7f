"""What training reads: refused where it cannot be used, patients kept apart, masks used."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.project import COVID_CXR, needs_radiographs
from training import augmentation, data, exposures, fit, index, probes
from training.augmentation import Drawn
from training.config import Config, Strength
from training.index import DataUnusable
from worker.radiograph import SIZE, decode

QUICK = Config(epochs=2, batch_size=16, seed=3, exposures=1)


def test_an_empty_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match=r"no images.*CLASS/images"):
        index.index(tmp_path)


def test_a_folder_without_positives_is_refused(small: Path) -> None:
    (small / "COVID").rename(small / "Pneumonia")
    with pytest.raises(DataUnusable, match="no positive class"):
        index.index(small)


def test_a_folder_with_only_positives_is_refused(small: Path) -> None:
    shutil.rmtree(small / "Normal")
    with pytest.raises(DataUnusable, match="holds only COVID"):
        index.index(small)


def test_an_image_without_its_mask_is_refused_by_name(small: Path) -> None:
    (small / "COVID/masks/COVID-1.png").unlink()
    with pytest.raises(DataUnusable, match=r"COVID/images/COVID-1\.png has no lung mask"):
        index.index(small)


def test_an_image_that_metadata_names_and_nobody_has_is_refused(small: Path) -> None:
    files = [entry.file for entry in index.index(small)]
    (small / "metadata.csv").write_text("\n".join(["file", *files, "Normal/images/gone.png"]))
    with pytest.raises(DataUnusable, match=r"missing, Normal/images/gone\.png"):
        index.index(small)


def test_metadata_that_names_no_file_is_refused(small: Path) -> None:
    (small / "metadata.csv").write_text("foo,bar\n")
    with pytest.raises(DataUnusable, match="no column `file`"):
        index.index(small)


def test_a_patient_in_two_folds_is_refused(small: Path) -> None:
    rows = [f"{entry.file},one-patient,{place}" for place, entry in enumerate(index.index(small))]
    (small / "metadata.csv").write_text("\n".join(["file,patient_id,fold", *rows]))
    with pytest.raises(DataUnusable, match="patient one-patient is in two folds"):
        index.index(small)


def test_a_damaged_image_is_named(small: Path) -> None:
    (small / "COVID/images/COVID-1.png").write_bytes(b"not an image")
    with pytest.raises(DataUnusable, match=r"COVID-1\.png cannot be decoded"):
        data.load(small, index.index(small))


def test_too_few_patients_to_train_on_are_refused(small: Path) -> None:
    with pytest.raises(DataUnusable, match="folds need positives and negatives"):
        fit.fit(data.load(small, index.index(small)), QUICK)


@needs_radiographs
def test_no_patient_stands_on_both_sides_of_a_split() -> None:
    entries = index.index(COVID_CXR)
    folds: dict[str, set[int]] = {}
    for entry in entries:
        folds.setdefault(entry.patient, set()).add(entry.fold)
    assert all(len(found) == 1 for found in folds.values())
    assert len(entries) == 1_260
    assert not set(Config().training_folds) & {Config().validation_fold, Config().test_fold}


def test_without_metadata_a_patient_keeps_the_fold_whatever_else_is_there(folder: Path, small: Path) -> None:
    larger = {entry.patient: entry.fold for entry in index.index(folder)}
    assert all(larger[entry.patient] == entry.fold for entry in index.index(small))


def test_radiographs_are_decoded_as_serving_decodes_them(folder: Path, radiographs: data.Radiographs) -> None:
    for entry, grey in zip(radiographs.entries[:3], radiographs.greys, strict=False):
        assert np.array_equal(grey, decode((folder / entry.file).read_bytes()))


def test_the_fingerprint_changes_when_one_byte_of_a_mask_changes(small: Path) -> None:
    entries = index.index(small)
    before = data.load(small, entries).fingerprint
    assert data.load(small, entries[::-1]).fingerprint == before
    mask = small / entries[0].mask
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert data.load(small, entries).fingerprint != before


def test_a_subset_holds_every_class_and_fold(folder: Path) -> None:
    entries = index.index(folder)
    chosen = index.subset(entries, 12)
    assert {(entry.fold, entry.positive) for entry in chosen} == {(entry.fold, entry.positive) for entry in entries}
    assert chosen == index.subset(reversed(entries), 12)


def test_training_sees_each_radiograph_as_it_is_and_as_others_would_have_taken_it(
    radiographs: data.Radiographs,
) -> None:
    greys = radiographs.greys[:6]
    seen = exposures.exposures(greys, 3, seed=1)
    assert seen.shape == (4, *greys.shape)
    assert np.array_equal(seen[0], greys)
    assert all(np.abs(one.astype(int) - grey).mean() > 1 for one, grey in zip(seen[1], greys, strict=True))
    assert np.array_equal(seen, exposures.exposures(greys, 3, seed=1))
    assert not np.array_equal(seen[1], exposures.exposures(greys, 3, seed=2)[1])


def test_the_probes_leave_what_they_say(radiographs: data.Radiographs) -> None:
    greys, masks = radiographs.greys, radiographs.masks
    blanked = probes.lungs_blanked(greys, masks)
    assert np.array_equal(blanked[~masks], greys[~masks])
    assert all(np.ptp(grey[mask]) == 0 for grey, mask in zip(blanked, masks, strict=True))
    border = probes.border_only(greys)
    assert np.array_equal(border[:, : probes.BORDER], greys[:, : probes.BORDER])
    assert all(np.ptp(grey[probes.BORDER : -probes.BORDER, probes.BORDER : -probes.BORDER]) == 0 for grey in border)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("aaaabbbb", {"positive": 0.5, "theirs": 0.25, "others": 0.25}),
        ("aaaaaaaa", {"positive": 0.5, "theirs": 0.5, "others": 0.0}),
        ("aabbbbbb", {"positive": 0.5, "theirs": 0.0, "others": 0.5}),
    ],
)
def test_classes_and_sources_are_drawn_alike(sources: str, expected: dict[str, float]) -> None:
    labels = ["COVID"] * 2 + ["Normal"] * 6
    entries = [
        index.Entry(f"{place}", "", label, f"{place}", 0, source, "")
        for place, (label, source) in enumerate(zip(labels, sources, strict=True))
    ]
    empty = np.zeros((len(entries), SIZE, SIZE), np.uint8)
    drawn = fit.shares(data.Radiographs(tuple(entries), empty, empty > 0, ""))
    theirs = np.array([source == "a" for source in sources])
    positive = np.array([entry.positive for entry in entries])
    assert drawn[positive].sum() == pytest.approx(expected["positive"])
    assert drawn[~positive & theirs].sum() == pytest.approx(expected["theirs"])
    assert drawn[~positive & ~theirs].sum() == pytest.approx(expected["others"])


def test_an_epoch_draws_by_the_shares_and_never_what_has_none() -> None:
    pictures = np.zeros((4, 2, SIZE, SIZE, 1), np.uint8)
    for place in range(4):
        pictures[place] = 60 * place
    drawn = Drawn(pictures, np.array([[0], [1], [0], [1]], np.float32), np.array([0.5, 0.5, 0, 0]))
    still = Strength(shift=0, turn=0, zoom=0, contrast=0, noise=0, mirror=False)
    for batch, truth in augmentation.dataset(drawn, batch_size=4, seed=1, strength=still):
        assert set(np.asarray(batch).ravel()) <= {0, 60}
        assert ((np.asarray(batch)[:, 0, 0] == 60) == (np.asarray(truth) == 1)).all()


def test_changes_keep_the_middle_and_the_mirror_changes_the_sides() -> None:
    picture = np.full((64, SIZE, SIZE, 1), 127, np.uint8)
    picture[:, :, : SIZE // 2] = 40
    mirrored = Strength(shift=0, turn=0, zoom=0, contrast=0, noise=0)
    seen = np.asarray(augmentation.changed(picture, np.array([1, 2], np.int64), mirrored))
    left = seen[:, 64, 10, 0]
    assert set(left) == {40.0, 127.0}
    assert (seen[:, 64, -10, 0] == 167 - left).all()
