"""Where the CNN looked: Grad-CAM, laid back onto the radiograph."""

import io
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from worker import cnn, lungs, unfolding
from worker.preparation import preparation
from worker.radiograph import PREPROCESSING, SIZE, Grey

LAYER: Final = "conv_16_b"
"""The last convolution: its 28 x 28 places are the finest that still know the whole picture's parts."""

_SCALE: Final = 4  # the PNG's edge is so many times the radiograph's
_OPACITY: Final = 0.6

Heat = NDArray[np.float32]


def heatmap(weights: bytes, grey: Grey, *, preprocessing: str) -> Heat:
    """Return (SIZE, SIZE) from 0 to 1: how much each place of a radiograph speaks for COVID-19, by Grad-CAM.

    All 0 where nothing speaks for it. Raises ValueError for weights of another network, and PreparationUnknown.
    """
    model = cnn.build()
    cnn.load_weights(model, weights)
    prepared = preparation(preprocessing, batch_size=1)([grey])
    heat = _enlarged(gradcam(model, prepared)[0])
    if preprocessing == PREPROCESSING:
        return heat
    corners, _ = unfolding.outlines(lungs.Segmenter(lungs.weights(), batch_size=1).segment([grey]))
    return unfolding.folded_back(heat, corners[0])


def gradcam(model: keras.Model, prepared: Grey) -> Heat:
    """Return the maps of (n, SIZE, SIZE, 1), as large as the layer's output, each from 0 to 1. Selvaraju 2017.

    Of the output's logit, since the probability of a sure answer hardly changes with anything.
    """
    names = [layer.name for layer in model.layers]
    place = names.index(LAYER) + 1
    with tf.GradientTape() as tape:
        features = _through(model.layers[:place], tf.constant(prepared, tf.float32))
        tape.watch(features)
        last = model.layers[-1]
        logits = _through(model.layers[place:-1], features) @ last.kernel + last.bias
    weights = tf.reduce_mean(tape.gradient(logits, features), axis=(1, 2), keepdims=True)
    maps = np.asarray(tf.nn.relu(tf.reduce_sum(weights * features, axis=-1)))
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.asarray(maps / np.where(highest > 0, highest, 1), np.float32)


def png(grey: Grey, heat: Heat) -> bytes:
    """Return the radiograph with the heat on it, as PNG: the redder, the more that place spoke for COVID-19."""
    edge = (_SCALE * SIZE, _SCALE * SIZE)
    below = Image.fromarray(grey).resize(edge, Image.Resampling.BICUBIC).convert("RGB")
    hot = Image.merge("RGB", [Image.new("L", edge, level) for level in (255, 40, 0)])
    shown = np.asarray(Image.fromarray(heat).resize(edge, Image.Resampling.BILINEAR)) * _OPACITY * 255
    buffer = io.BytesIO()
    Image.composite(hot, below, Image.fromarray(shown.clip(0, 255).astype(np.uint8))).save(buffer, "PNG")
    return buffer.getvalue()


def _through(layers: list[Any], picture: Any) -> Any:
    for layer in layers:
        picture = layer(picture)
    return picture


def _enlarged(heat: Heat) -> Heat:
    return np.asarray(Image.fromarray(heat).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
