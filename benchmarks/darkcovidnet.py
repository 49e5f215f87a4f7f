"""DarkCovidNet's binary task by file and by patient: `python -m benchmarks.darkcovidnet DATA`.

COVID against no finding (Ozturk, Computers in Biology and Medicine 2020), the given CNN on grey levels as they are, no
augmentation, five folds. A person on both sides of the split is what the first row has and the second has not.
"""

import csv
import sys
from pathlib import Path
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from training import data, figures
from training.data import Radiographs
from training.index import index
from worker import cnn

_FOLDS: Final = 5
_EPOCHS: Final = 20
_BATCH: Final = 32
_SEED: Final = 1


def task(folder: Path) -> Radiographs:
    """Return the images of the task that are in the folder: marked `darkcovidnet`, COVID or no finding."""
    with (folder / "metadata.csv").open(newline="") as file:
        marked = {row["file"] for row in csv.DictReader(file) if row["darkcovidnet"] == "1"}
    entries = [entry for entry in index(folder) if entry.file in marked and entry.label in {"COVID", "Normal"}]
    return data.load(folder, entries)


def parts(owners: NDArray[np.str_], positive: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Return the fold of each image: an owner has one, and both classes are spread evenly."""
    fold = np.empty(len(owners), int)
    random = np.random.default_rng(_SEED)
    for theirs in (positive, ~positive):
        known, place = np.unique(owners[theirs], return_inverse=True)
        fold[theirs] = (random.permutation(len(known)) % _FOLDS)[place]
    return fold


def scored(radiographs: Radiographs, fold: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the output for each image of the network that was trained on the other folds."""
    greys, truth = radiographs.greys[..., np.newaxis], radiographs.positive.astype(np.float32)
    scores = np.empty(len(truth))
    for tested in range(_FOLDS):
        keras.utils.set_random_seed(_SEED)
        model = cnn.build()
        model.compile(keras.optimizers.Adam(1e-3), loss="binary_crossentropy", metrics=["accuracy"])
        known, asked = fold != tested, fold == tested
        model.fit(greys[known], truth[known], epochs=_EPOCHS, batch_size=_BATCH, verbose=0)
        scores[asked] = model.predict(greys[asked], verbose=0)[:, 0]
    return scores


def main() -> None:
    """Print a row for each way to split."""
    radiographs = task(Path(sys.argv[1]))
    positive, patients = radiographs.positive, radiographs.patients
    files = np.array([entry.file for entry in radiographs.entries])
    print(f"{positive.sum()} COVID, {(~positive).sum()} no finding; always no finding: {1 - positive.mean():.3f}")
    for name, owners in (("by file", files), ("by patient", patients)):
        fold = parts(owners, positive)
        scores = scored(radiographs, fold)
        called = scores >= 0.5
        met = np.mean([np.isin(patients[at], patients[fold != fold[at]]) for at in range(len(fold))])
        print(
            f"{name}: accuracy {(called == positive).mean():.3f}, AUROC {figures.auroc(scores, positive):.3f}, "
            f"sensitivity {called[positive].mean():.2f}, specificity {(~called)[~positive].mean():.2f}, "
            f"{met:.0%} of the test images are of a patient who was trained on",
            flush=True,
        )


if __name__ == "__main__":
    main()
