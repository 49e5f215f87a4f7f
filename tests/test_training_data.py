"""What training reads: refused where it cannot be used, patients kept apart, masks used."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from training import data, fit, index, probes
from training.fit import Config
from training.index import DataUnusable
from worker.radiograph import decode

DATA = Path(__file__).parents[2] / "shared" / "data" / "covid-cxr"
GOLDEN = {1: 0.574601, 2: 0.724159, 3: 0.672659, 4: 0.858503}  # seed of the phantom: probability
QUICK = Config(epochs=2, batch_size=16, seed=3)

needs_radiographs = pytest.mark.skipif(not DATA.is_dir(), reason=f"the radiographs are not at {DATA}")


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
    entries = index.index(DATA)
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


def test_training_sees_each_radiograph_as_it_is_and_with_its_lungs_alone(radiographs: data.Radiographs) -> None:
    views = fit.both_views(radiographs)[..., 0]
    whole, lungs = np.split(views, 2)
    assert np.array_equal(whole, radiographs.greys)
    for grey, view, mask in zip(radiographs.greys, lungs, radiographs.masks, strict=True):
        assert np.array_equal(view[mask], grey[mask])
        assert set(view[~mask].tolist()) == {round(float(grey.mean()))}


def test_the_probes_leave_what_they_say(radiographs: data.Radiographs) -> None:
    greys, masks = radiographs.greys, radiographs.masks
    blanked = probes.lungs_blanked(greys, masks)
    assert np.array_equal(blanked[~masks], greys[~masks])
    assert all(np.ptp(grey[mask]) == 0 for grey, mask in zip(blanked, masks, strict=True))
    border = probes.border_only(greys)
    assert np.array_equal(border[:, : probes.BORDER], greys[:, : probes.BORDER])
    assert all(np.ptp(grey[probes.BORDER : -probes.BORDER, probes.BORDER : -probes.BORDER]) == 0 for grey in border)


def test_both_classes_weigh_alike() -> None:
    positive = np.array([True] * 3 + [False] * 9)
    weights = fit.class_weights(positive)
    assert weights[positive].sum() == pytest.approx(weights[~positive].sum())
    assert weights.mean() == pytest.approx(1)
