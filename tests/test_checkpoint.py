"""A checkpoint: a run that is cut short goes on after its last epoch, or begins anew."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from training import fit
from training.augmentation import steps
from training.best_epoch import MEASURE
from training.checkpoint import Checkpoint
from training.config import Config
from training.data import Radiographs


class Killed(Exception):
    """What a test raises in place of a kill."""


@pytest.mark.long
def test_a_run_that_is_cut_short_goes_on_after_its_last_epoch(radiographs: Radiographs, tmp_path: Path) -> None:
    config = Config(epochs=2, batch_size=16, exposures=1)
    checkpoint = Checkpoint(tmp_path / "run" / "checkpoint.npz")

    def die(epoch: int, _of: int, _logs: dict[str, float]) -> None:
        if epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        fit.fit(radiographs, config, die, checkpoint)
    seen: list[int] = []
    fitted = fit.fit(radiographs, config, lambda epoch, _of, _logs: seen.append(epoch), checkpoint)
    assert seen == [2]
    assert len(fitted.history["val_loss"]) == 2
    assert fitted.best_epoch == int(np.argmin(fitted.history[MEASURE])) + 1
    other, rests = replace(config, epochs=1), list[None]()
    fit.fit(
        radiographs,
        other,
        lambda epoch, _of, _logs: seen.append(epoch),
        checkpoint,
        on_step=lambda: rests.append(None),
    )
    assert seen == [2, 1], "a checkpoint of another configuration counts as none"
    assert len(rests) == steps(len(radiographs.folds(*config.training_folds).entries), config.batch_size)


def test_what_is_restored_is_what_was_saved_and_damage_counts_as_nothing(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    _, model = fit.compiled(1e-3)
    model.optimizer.build(model.trainable_variables)
    for variable in model.optimizer.variables:
        variable.assign(np.full(variable.shape, 3, variable.dtype))
    best = [np.ones(3)]
    Checkpoint(path).save(model, best, {"seed": 1}, {"epoch": 2})
    _, other = fit.compiled(1e-3)
    restored = Checkpoint(path).restore(other, {"seed": 1})
    assert restored
    assert (restored[0][0].tolist(), restored[1]) == ([1.0, 1.0, 1.0], {"epoch": 2})
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(mine, theirs)
    assert all((np.asarray(variable) == 3).all() for variable in other.optimizer.variables)
    assert Checkpoint(path).restore(other, {"seed": 2}) is None
    path.write_bytes(path.read_bytes()[:-100])
    assert Checkpoint(path).restore(other, {"seed": 1}) is None


def test_a_checkpoint_of_another_optimizer_leaves_nothing_behind(tmp_path: Path) -> None:
    _, model = fit.compiled(1e-3)
    model.optimizer = keras.optimizers.SGD()
    Checkpoint(tmp_path / "checkpoint.npz").save(model, [], {}, {})
    _, other = fit.compiled(1e-3)
    before = other.get_weights()
    assert Checkpoint(tmp_path / "checkpoint.npz").restore(other, {}) is None
    assert all(np.array_equal(mine, first) for mine, first in zip(other.get_weights(), before, strict=True))
