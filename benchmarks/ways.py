"""The ways to train the given CNN that `benchmarks.tries` compares, and how each is trained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks import sights
from benchmarks.sights import Greys, Maps, Sight
from training import augmentation, probes
from training.augmentation import Drawn
from training.config import Strength
from training.data import Radiographs
from training.exposures import exposures
from training.fit import shares
from training.lessons import HINTS, Machine, lessons
from training.textures import textures
from worker import cnn

_BATCH, _RATE = 32, 8e-4


@dataclass(frozen=True)
class Way:
    """What is seen, and how it is learned."""

    words: str
    sight: Sight
    sources: bool = True
    """Whether sources are balanced, not the classes alone."""
    epochs: int = 20
    mixed: float = 0.0
    """Of the beta distribution of mix-up, with a picture of another source where there is one."""
    adversary: float = 0.0
    """Weight of the reversed gradient of who tells the source among negatives."""
    auxiliary: float = 0.0
    """Weight of the lung mask that the last pooling must tell."""
    masks_too: bool = False
    """The masks as more images, under their radiograph's label: the literal reading."""
    taught_by: int = 0
    """How many seeds of the same way teach it (0.7 their mean, 0.3 the label)."""
    nudged: bool = False
    averaged: float = 0.0
    """Momentum of the moving average of the weights."""
    lessons: float = 0.0
    """Share of a machine on textures in the target; the label has the rest."""
    hints: float = 0.0
    """Weight of the textures that are told beside the class."""
    copies: int = 4
    """Changed exposures of each radiograph."""
    machine: bool = False
    """No CNN: the machine on textures alone."""


WAYS: Final = {
    "plain": Way("whole picture, grey levels as they are; classes balanced", sights.plain, sources=False),
    "masks": Way("the same, masks as more images", sights.plain, sources=False, masks_too=True),
    "plain-sources": Way("whole picture; sources balanced", sights.plain),
    "standardised": Way("whole picture, standardised", sights.standardised),
    "matched": Way("whole picture, histograms matched", sights.matched),
    "cropped": Way("cropped to the lungs, standardised inside", sights.cropped),
    "auxiliary": Way("the same, lung masks as an auxiliary task", sights.cropped, auxiliary=0.5),
    "masked": Way("cropped and masked to the lungs, ranks", sights.masked),
    "unfolded": Way("unfolded, ranks", sights.unfolded),
    "adversary": Way("unfolded; an adversary tells the source", sights.unfolded, adversary=0.5),
    "mixed": Way("unfolded; mix-up 0.4 across sources", sights.unfolded, mixed=0.4),
    "coarse": Way("unfolded, without its finest detail", sights.coarse),
    "fine": Way("unfolded, its finer texture alone", sights.fine),
    "nudged": Way("unfolded, outlines moved", sights.unfolded, nudged=True),
    "averaged": Way("unfolded, weights averaged", sights.unfolded, averaged=0.99),
    "taught": Way("unfolded; three seeds distilled into one", sights.unfolded, taught_by=3),
    "machine": Way("no CNN: a kernel machine on the textures of the unfolded lungs", sights.unfolded, machine=True),
    "hints": Way("unfolded; textures told beside the class", sights.unfolded, hints=1.0, epochs=30, copies=8),
    "lessons": Way("unfolded; taught by the machine", sights.unfolded, lessons=0.7, epochs=30, copies=8),
    "both": Way("unfolded; both: the shipped recipe", sights.unfolded, lessons=0.7, hints=1.0, epochs=30, copies=8),
    "long": Way("unfolded, 40 epochs", sights.unfolded, epochs=40),
    "long-nudged": Way("unfolded, outlines moved, 40 epochs", sights.unfolded, epochs=40, nudged=True),
}  # fmt: skip


@keras.saving.register_keras_serializable("cxr")
class Reversed(keras.layers.Layer):  # type: ignore[misc] # keras is untyped
    """Passes features on and turns their gradient round (Ganin 2016)."""

    def call(self, features: Any) -> Any:
        return 2 * tf.stop_gradient(features) - features


class TellsLungs(keras.layers.Layer):  # type: ignore[misc]
    """Adds the loss of telling the lung mask from the last feature maps."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self._weight = weight
        self._told = keras.layers.Conv2D(1, 1, activation="sigmoid")

    def call(self, features: Any, masks: Any) -> Any:
        told = self._told(features)
        wanted = tf.image.resize(tf.cast(masks > 127, tf.float32), tf.shape(told)[1:3], "area")
        self.add_loss(self._weight * tf.reduce_mean(keras.losses.binary_crossentropy(wanted, told)))
        return features


def network(way: Way, steps: int) -> tuple[keras.Model, keras.Model]:
    """Return the given CNN, and what trains it: (n, SIZE, SIZE, channels) to (n, 2 + HINTS), COVID, source, textures."""
    given = cnn.build()
    inputs = keras.Input((*given.input_shape[1:3], 2 if way.auxiliary else 1))
    seen = inputs[..., :1]
    for layer in given.layers:
        seen = layer(seen)
        if layer.name == "pool_3" and way.auxiliary:
            seen = TellsLungs(way.auxiliary)(seen, inputs[..., 1:])
        if layer.name == "dense_256":
            source = keras.layers.Dense(64, activation="relu")(Reversed()(seen))
            told = keras.layers.Dense(HINTS)(seen)
    source = keras.layers.Dense(1, activation="sigmoid")(source)
    trained = keras.Model(inputs, keras.layers.Concatenate()([seen, source, told]))
    falling = keras.optimizers.schedules.CosineDecay(_RATE, way.epochs * steps, alpha=0.02)
    optimizer = keras.optimizers.Adam(falling, use_ema=way.averaged > 0, ema_momentum=way.averaged or None)
    trained.compile(optimizer, loss=_loss(way))
    return given, trained


def _loss(way: Way) -> Callable[[Any, Any], Any]:
    def loss(truth: Any, told: Any) -> Any:
        classes = tf.clip_by_value(told[:, :2], 1e-6, 1 - 1e-6)
        each = -(truth[:, :2] * tf.math.log(classes) + (1 - truth[:, :2]) * tf.math.log(1 - classes))
        negative = tf.cast(truth[:, 0] <= 0, tf.float32)
        missed = tf.reduce_mean(tf.square(truth[:, 2:] - told[:, 2:]), axis=1)
        return each[:, 0] + way.adversary * negative * each[:, 1] + way.hints * missed

    return loss


class _Alone:
    """The machine, asked as a network is."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def predict(self, seen: Greys, **_: Any) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-self._machine(textures(seen))))[:, np.newaxis])


def train(way: Way, part: Radiographs, maps: Callable[[Greys], Maps], seed: int) -> keras.Model:
    """Return the given CNN after the last epoch."""
    teachers = [train(replace(way, taught_by=0), part, maps, 100 * seed + each) for each in range(way.taught_by)]
    keras.utils.set_random_seed(seed)
    pictures, truth, drawn = _shown(way, part, maps, seed)
    if way.machine:
        return _Alone(Machine(textures(pictures[:, 0]), part.positive, drawn))
    steps = augmentation.steps(len(part.greys), _BATCH)
    given, trained = network(way, steps)
    batches = augmentation.dataset(Drawn(pictures, truth, drawn), batch_size=_BATCH, seed=seed, strength=Strength())
    if way.mixed:
        batches = batches.map(lambda seen, told: _mixed(seen, told, way.mixed))
    if teachers:
        batches = batches.map(lambda seen, told: (seen, _taught(teachers, seen, told)))
    trained.fit(batches, epochs=way.epochs, verbose=0, shuffle=False)
    return given


def _shown(way: Way, part: Radiographs, maps: Callable[[Greys], Maps], seed: int) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    seen: list[Greys] = []
    for greys in exposures(part.greys, 2 * way.copies if way.nudged else way.copies, seed=seed):
        own = maps(greys)
        picture = sights.nudged(greys, own, random) if way.nudged and seen else way.sight(greys, own)
        channels = [picture]
        if way.auxiliary:
            channels.append(way.sight((255 * probes.enlarged(own)).astype(np.uint8), own))
        seen.append(np.stack(channels, axis=-1))
    pictures = np.stack(seen, axis=1)
    theirs = np.isin(part.sources, part.sources[part.positive])
    drawn = (
        shares(part)
        if way.sources
        else np.where(part.positive, 0.5 / part.positive.sum(), 0.5 / (~part.positive).sum())
    )
    taught = lessons(pictures[:, 0, ..., :1], part.positive, part.patients, drawn, seed=seed)
    target = way.lessons * taught.probability + (1 - way.lessons) * part.positive
    truth = np.column_stack([target, theirs, taught.hints]).astype(np.float32)
    if way.masks_too:
        masks = np.repeat((255 * part.masks[:, None, ..., None]).astype(np.uint8), pictures.shape[1], axis=1)
        return np.concatenate([pictures, masks]), np.concatenate([truth, truth]), np.concatenate([drawn, drawn]) / 2
    return pictures, truth, drawn


def _mixed(seen: Any, told: Any, strength: float) -> tuple[Any, Any]:
    other = tf.random.shuffle(tf.range(tf.shape(seen)[0]))
    across = tf.cast(told[:, 1:2] != tf.gather(told, other)[:, 1:2], tf.float32)
    one, two = (
        tf.random.gamma((2, tf.shape(seen)[0], 1), strength)[0],
        tf.random.gamma((tf.shape(seen)[0], 1), strength),
    )
    kept = 1 - across * (1 - one / (one + two + 1e-9))
    share = kept[..., None, None]
    return share * seen + (1 - share) * tf.gather(seen, other), kept * told + (1 - kept) * tf.gather(told, other)


def _taught(teachers: list[keras.Model], seen: Any, told: Any) -> Any:
    mean = tf.add_n([teacher(seen[..., :1], training=False) for teacher in teachers]) / len(teachers)
    return tf.concat([0.7 * mean + 0.3 * told[:, :1], told[:, 1:]], axis=1)
