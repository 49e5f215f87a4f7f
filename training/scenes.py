"""What the lung segmenter learns from: changed radiographs, and pictures that show no frontal chest X-ray."""

from typing import Any, Final

import tensorflow as tf

from worker.radiograph import SIZE

_TURN: Final = 0.3  # radians
_STRETCH: Final = 0.1
_SHIFT: Final = 0.15
_ZOOM: Final = (0.75, 1.5)  # of the part that is seen: below 1 is nearer
_CLOSE: Final = (0.15, 0.3)
_GRAINS: Final = (4, 8, 16, 32, 64)
_DENSITIES: Final = 4  # soft bright or dark spots in each radiograph, as disease, text and devices make them


def changed(greys: Any, masks: Any, seed: Any) -> tuple[Any, Any]:
    """Return (n, SIZE, SIZE, 1) float32 grey levels 0-255 and masks 0-1, each moved and exposed anew."""
    seeds = tf.random.split(seed, 4)
    transforms = _transforms(tf.shape(greys)[0], seeds[0], zoom=_ZOOM)
    both = _moved(tf.concat([tf.cast(greys, tf.float32), tf.cast(masks, tf.float32) * 255], -1), transforms)
    picture = both[..., :1] / 255 + _spots(tf.shape(greys)[0], seeds[1])
    return _exposed(picture, seeds[2]), tf.cast(both[..., 1:] > 127, tf.float32)  # noqa: PLR2004 - half


def strangers(greys: Any, seed: Any) -> Any:
    """Return pictures made from (n, SIZE, SIZE, 1) radiographs in which no upright pair of lungs is left.

    In equal shares: inverted, turned by a quarter either way, upside down, much too near, cut up, invented.
    """
    seeds = tf.random.split(seed, 6)
    count = tf.shape(greys)[0]
    greys = tf.cast(greys, tf.float32)
    upright, _ = changed(greys, tf.zeros_like(greys), seeds[0])
    near = _exposed(_moved(greys, _transforms(count, seeds[1], zoom=_CLOSE)) / 255, seeds[2])
    kinds = [
        255 - upright,
        tf.image.rot90(upright, 1),
        tf.image.rot90(upright, 3),
        upright[:, ::-1],
        near,
        _cut_up(upright, seeds[3]),
        _exposed(_invented(count, seeds[4]), seeds[2]),
    ]
    kind = tf.random.stateless_uniform((count,), seeds[5], 0, len(kinds), tf.int32)
    return tf.gather(tf.stack(kinds, 1), kind, batch_dims=1)


def _exposed(picture: Any, seed: Any) -> Any:
    """Gamma, contrast, brightness, sharpness and noise; 0-1 in, 0-255 out."""
    seeds = tf.random.split(seed, 3)
    count = tf.shape(picture)[0]
    gamma, contrast, brightness, noise, soft = tf.unstack(
        tf.random.stateless_uniform((5, count, 1, 1, 1), seeds[0], -1.0, 1.0)
    )
    picture = tf.clip_by_value(picture, 1e-3, 1.0) ** tf.exp(0.6 * gamma)
    small = tf.image.resize(picture, (SIZE // 3, SIZE // 3), antialias=True)
    picture = tf.where(soft > 0.4, tf.image.resize(small, (SIZE, SIZE)), picture)  # noqa: PLR2004 - three in ten
    picture = (picture - 0.5) * (1 + 0.4 * contrast) + 0.5 + 0.15 * brightness
    grain = tf.random.stateless_normal(tf.shape(picture), seeds[1])
    return tf.clip_by_value((picture + grain * 0.06 * tf.nn.relu(noise)) * 255, 0.0, 255.0)


def _spots(count: Any, seed: Any) -> Any:
    seeds = tf.random.split(seed, 2)
    middle_y, middle_x, wide, high = (
        tf.reshape(draw, (count, 1, 1, _DENSITIES))
        for draw in tf.unstack(tf.random.stateless_uniform((4, count, _DENSITIES), seeds[0]))
    )
    strength = tf.random.stateless_uniform((count, 1, 1, _DENSITIES), seeds[1], -0.45, 0.45)
    strength = tf.where(tf.abs(strength) < 0.2, 0.0, strength)  # noqa: PLR2004 - as often none
    line = tf.linspace(0.0, 1.0, SIZE)
    y, x = tf.reshape(line, (1, SIZE, 1, 1)), tf.reshape(line, (1, 1, SIZE, 1))
    far = ((y - middle_y) / (0.04 + 0.2 * high)) ** 2 + ((x - middle_x) / (0.04 + 0.15 * wide)) ** 2
    return tf.reduce_sum(strength * tf.exp(-far), -1, keepdims=True)


def _invented(count: Any, seed: Any) -> Any:
    """Clouds of every grain, half of them with hard edges."""
    seeds = tf.random.split(seed, len(_GRAINS) + 2)
    weights = tf.random.stateless_uniform((len(_GRAINS), count, 1, 1, 1), seeds[-1]) ** 3
    layers = [
        weights[place]
        * tf.image.resize(tf.random.stateless_normal((count, grain, grain, 1), seeds[place]), (SIZE, SIZE))
        for place, grain in enumerate(_GRAINS)
    ]
    clouds = tf.add_n(layers) / (tf.reduce_sum(weights, 0) + 0.1)
    hard = tf.round(tf.sigmoid(clouds * 2) * 3) / 3
    draw = tf.random.stateless_uniform((count, 1, 1, 1), seeds[-2])
    return tf.where(draw < 0.5, hard, tf.sigmoid(clouds * 2))  # noqa: PLR2004 - half


def _cut_up(pictures: Any, seed: Any) -> Any:
    """Three by three tiles in another order."""
    count, tile = tf.shape(pictures)[0], SIZE // 3
    cut = pictures[:, : 3 * tile, : 3 * tile]
    tiles = tf.reshape(
        tf.transpose(tf.reshape(cut, (count, 3, tile, 3, tile)), (1, 3, 0, 2, 4)), (9, count, tile, tile)
    )
    shuffled = tf.reshape(tf.random.experimental.stateless_shuffle(tiles, seed), (3, 3, count, tile, tile))
    whole = tf.reshape(tf.transpose(shuffled, (2, 0, 3, 1, 4)), (count, 3 * tile, 3 * tile, 1))
    return tf.image.resize(whole, (SIZE, SIZE))


def _moved(pictures: Any, transforms: Any) -> Any:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pictures,
        transforms=transforms,
        output_shape=(SIZE, SIZE),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def _transforms(count: Any, seed: Any, *, zoom: tuple[float, float]) -> Any:
    """Return (count, 8) projective transforms: turned, stretched, zoomed about the centre, mirrored, shifted."""
    draws = tf.random.stateless_uniform((6, count), seed, -1.0, 1.0)
    angle = draws[0] * _TURN
    size = zoom[0] * (zoom[1] / zoom[0]) ** ((draws[1] + 1) / 2)
    wide = size * tf.exp(_STRETCH * draws[2]) * tf.sign(draws[3])
    high = size * tf.exp(-_STRETCH * draws[2])
    a, b = tf.cos(angle) * wide, -tf.sin(angle) * high
    c, d = tf.sin(angle) * wide, tf.cos(angle) * high
    centre = (SIZE - 1) / 2
    right = centre - (a + b) * centre + draws[4] * _SHIFT * SIZE
    down = centre - (c + d) * centre + draws[5] * _SHIFT * SIZE
    zero = tf.zeros_like(a)
    return tf.stack([a, b, right, c, d, down, zero, zero], axis=1)
