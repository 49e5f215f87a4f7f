"""Ways to train the given CNN, each cross-validated by patient: `python -m benchmarks.tries DATA OUT [WAY ...]`.

Three parts: trained on four folds, tested on the other two. What was scored is kept in OUT and read again; the table of
all that is there is printed at the end. The last epoch is kept, so nothing is chosen by what is tested on.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.sights import Greys, Maps
from benchmarks.ways import WAYS, Way, train
from training import calibration, data, figures, probes
from training.data import Radiographs
from training.index import FOLDS, index
from worker import lungs

_PARTS: Final = ((0, 1), (2, 3), (4, 5))
"""The folds that are tested together; the others train."""

_SEEDS: Final = (1, 2)
_SEED: Final = 20_200_101  # of the bootstrap only


def scored(way: Way, radiographs: Radiographs, maps: Callable[[Greys], Maps], seed: int) -> dict[str, NDArray[Any]]:
    """Return the logit of each radiograph and of its probes, by the network that knew nothing of its patient."""
    pictures = _probed(radiographs, maps)
    found = {name: np.empty(len(radiographs.greys)) for name in pictures}
    folds = np.array([entry.fold for entry in radiographs.entries])
    for tested in _PARTS:
        part = radiographs.folds(*(fold for fold in range(FOLDS) if fold not in tested))
        model = train(way, part, maps, seed)
        chosen = np.flatnonzero(np.isin(folds, tested))
        for name, (greys, own) in pictures.items():
            seen = way.sight(greys[chosen], own[chosen])[..., None]
            raw = np.clip(model.predict(seen, batch_size=64, verbose=0)[:, 0].astype(float), 1e-7, 1 - 1e-7)
            logits = np.log(raw / (1 - raw))
            found[name][chosen] = logits
    return found


def _probed(radiographs: Radiographs, maps: Callable[[Greys], Maps]) -> dict[str, tuple[Greys, Maps]]:
    greys, masks = radiographs.greys, probes.masks_of(radiographs)
    blanked, border, given = probes.lungs_blanked(greys, masks), probes.border_only(greys), probes.halved(masks)
    return {
        "score": (greys, maps(greys)),
        "blanked": (blanked, maps(blanked)),
        "blanked_given": (blanked, given),
        "border": (border, maps(border)),
        "border_given": (border, given),
    }


def row(runs: list[dict[str, NDArray[Any]]], radiographs: Radiographs) -> dict[str, Any]:
    """Return the figures of a way: means over its seeds; intervals by patient, of that mean."""
    truth, sources = radiographs.positive, radiographs.sources
    folds = np.array([entry.fold for entry in radiographs.entries])
    parts = [np.isin(folds, tested) for tested in _PARTS]

    def mean(name: str, of: NDArray[np.bool_], chosen: NDArray[np.int_], theirs: NDArray[np.bool_]) -> float | None:
        told = []
        for run in runs:
            logits = run[name].copy()
            for part in parts:
                logits[part] -= logits[part].mean()
            told.append(figures.auroc(logits[chosen][of[chosen]], theirs[of[chosen]]))
        return None if None in told else float(np.mean([each for each in told if each is not None]))

    everything = np.ones(len(truth), np.bool_)
    own, last = np.isin(sources, sources[truth]), folds == max(folds)
    places = np.arange(len(truth))
    within = figures.interval(
        lambda drawn, theirs: mean("score", own, drawn.astype(int), theirs), places.astype(float), truth, patients=radiographs.patients, seed=_SEED
    )  # fmt: skip
    errors = []
    for run in runs:
        for part in parts:
            one = np.where(np.cumsum(part)[part] % 2 == 0)[0]  # half calibrates, half is asked
            other = np.setdiff1d(np.arange(part.sum()), one)
            logits, told = run["score"][part], truth[part]
            slope, intercept = calibration.platt(logits[one], told[one])
            errors.append(
                figures.calibration_error(1 / (1 + np.exp(-(slope * logits[other] + intercept))), told[other])
            )
    return {
        "home": mean("score", everything, places, truth),
        "home_5": mean("score", last, places, truth),
        "within": mean("score", own, places, truth),
        "within_interval": within,
        "within_5": mean("score", own & last, places, truth),
        "source": mean("score", ~truth, places, own),
        **{name: mean(name, everything, places, truth) for name in list(runs[0])[1:]},
        "ece": float(np.mean(errors)),
        "seeds": len(runs),
    }


def main() -> None:
    """Score what is not there, then print every row that is."""
    folder, out, wanted = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(WAYS)
    radiographs = data.load(folder, index(folder))
    maps = lungs.Segmenter(lungs.weights(), batch_size=64).segment
    out.mkdir(parents=True, exist_ok=True)
    for seed in _SEEDS:
        for name in wanted:
            file = out / f"{name}-{seed}.npz"
            if not file.exists():
                np.savez(file, **scored(WAYS[name], radiographs, maps, seed))  # type: ignore[arg-type] # its stub takes names for options
                print(file.name, "is there", flush=True)
    for name, way in WAYS.items():
        runs = [
            dict(np.load(file))
            for file in sorted(out.glob(f"{name}-[0-9]*.npz"))
            if file.stem.rsplit("-", 1)[0] == name
        ]
        if runs:
            print(json.dumps({"way": name, "words": way.words} | row(runs, radiographs)), flush=True)


if __name__ == "__main__":
    main()
