"""A run's last epoch in one file, so that a trainer that died goes on from there."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

_META, _WEIGHT, _BEST, _OPTIMIZER = "meta", "weight", "best", "optimizer"

Arrays = list[NDArray[Any]]


class Checkpoint:
    """What stands in the file at `path`; one that is damaged or of another network counts as none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, model: keras.Model, best: Arrays, config: dict[str, Any], state: dict[str, Any]) -> None:
        """Write model, optimizer, the best weights, what was asked for and `state` whole or not at all."""
        arrays = {
            _META: np.frombuffer(json.dumps({"config": config, "state": state}).encode(), np.uint8),
            **_named(_WEIGHT, model.get_weights()),
            **_named(_BEST, best),
            **_named(_OPTIMIZER, [np.asarray(variable) for variable in model.optimizer.variables]),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type] # its stub takes the names for its own options
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)

    def restore(self, model: keras.Model, config: dict[str, Any]) -> tuple[Arrays, dict[str, Any]] | None:
        """Put model and optimizer back to where they were, and return the best weights and the state.

        None where nothing was kept, or under another `config`; model and optimizer are then as they were.
        """
        try:
            with np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False) as file:
                meta = json.loads(file[_META].tobytes())
                weights, best, inner = (_listed(name, file) for name in (_WEIGHT, _BEST, _OPTIMIZER))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        if meta["config"] != json.loads(json.dumps(config)):
            return None
        with model.distribute_strategy.scope():  # variables of several devices are made nowhere else
            model.optimizer.build(model.trainable_variables)
        there = [*model.weights, *model.optimizer.variables]
        if [variable.shape for variable in there] != [array.shape for array in (*weights, *inner)]:
            return None
        for variable, array in zip(there, (*weights, *inner), strict=True):
            variable.assign(array)
        state: dict[str, Any] = meta["state"]
        return best, state

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def _named(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {f"{name}_{place}": array for place, array in enumerate(arrays)}


def _listed(name: str, file: Any) -> Arrays:
    count = sum(key.startswith(f"{name}_") for key in file.files)
    return [file[f"{name}_{place}"] for place in range(count)]
