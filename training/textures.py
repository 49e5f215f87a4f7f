"""Texture in numbers: how much edge and ridge there is in each direction, by size and by region of each lung."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.radiograph import SIZE

Numbers = NDArray[np.float32]

SIZES: Final = (0.8, 1.3, 2.0, 3.2, 5.0)
"""Of what is measured, in pixels of the laid-out lungs: standard deviation of the Gaussians."""

_HIGH, _WIDE = SIZE, SIZE // 2  # one lung of the laid-out picture
_ROWS, _COLUMNS = 4, 2  # regions of a lung
_EDGES, _RIDGES = 8, 4  # directions; of a ridge its dark and its bright kind
_LEAST: Final = 1e-6  # energy, of grey levels 0 to 1: keeps the logarithm of a flat region finite
_TOGETHER: Final = 32
_REACH: Final = 4.0  # standard deviations


def textures(pictures: NDArray[np.uint8]) -> Numbers:
    """Return (n, any) numbers of laid-out lungs, (n, SIZE, SIZE, 1): the same for a picture and its mirror image.

    Logarithms of the mean energy of the positive responses of Gaussian derivatives turned in steps (Freeman 1991): of all
    directions together, and of each beside the others, of both lungs added up and of their difference.
    """
    parts = [_numbers(pictures[start : start + _TOGETHER]) for start in range(0, len(pictures), _TOGETHER)]
    return np.concatenate(parts)


def _numbers(pictures: NDArray[np.uint8]) -> Numbers:
    grey = pictures.reshape(-1, SIZE, SIZE).astype(np.float32) * np.float32(1 / 255)
    lungs = np.stack([grey[:, :, :_WIDE], grey[:, :, : _WIDE - 1 : -1]], axis=1)  # both with the outer edge first
    stacked = np.ascontiguousarray(lungs.transpose(2, 0, 1, 3))
    energy = np.log(np.stack([_energies(stacked, *pair) for pair in _SLOPES], axis=2) + _LEAST)
    parts = []
    for kind in (energy[..., :_EDGES], energy[..., _EDGES:]):
        mean = kind.mean(axis=-1, keepdims=True)
        parts += [kind - mean, mean]
    told = np.concatenate(parts, axis=-1)
    one, other = (told[:, side].reshape(len(grey), -1) for side in (0, 1))
    return np.concatenate([one + other, np.abs(one - other)], axis=1)


def _energies(lungs: Numbers, down: Numbers, across: Numbers) -> Numbers:
    """Return (n, 2, regions, directions) mean squares of what is positive, of one size of Gaussians.

    `lungs` has its rows first, (_HIGH, n, 2, _WIDE): few large products of matrices take a tenth of many small ones.
    """
    rows = [(lungs.reshape(-1, _WIDE) @ each.T).reshape(_HIGH, -1) for each in across]
    derivatives = np.stack(
        [down[0] @ rows[1], down[1] @ rows[0], down[0] @ rows[2], down[2] @ rows[0], down[1] @ rows[1]]
    )
    energy = np.square(np.maximum(_STEERED.T @ derivatives.reshape(5, -1), 0))
    count = lungs.shape[1]
    regions = energy.reshape(-1, _ROWS, _HIGH // _ROWS, count, 2, _COLUMNS, _WIDE // _COLUMNS).mean(axis=(2, 6))
    return np.asarray(regions.transpose(2, 3, 1, 4, 0).reshape(count, 2, _ROWS * _COLUMNS, -1))


def _steered() -> Numbers:
    """(5, directions): from derivatives by x, y, xx, yy and xy to those along each direction, and against it."""
    angle = np.arange(_EDGES) * 2 * np.pi / _EDGES
    edges = np.zeros((5, _EDGES))
    edges[:2] = np.cos(angle), np.sin(angle)
    angle = np.arange(_RIDGES) * np.pi / _RIDGES
    ridges = np.zeros((5, _RIDGES))
    ridges[2:] = np.cos(angle) ** 2, np.sin(angle) ** 2, 2 * np.cos(angle) * np.sin(angle)
    return np.concatenate([edges, ridges, -ridges], axis=1).astype(np.float32)


def _derivatives(length: int, size: float) -> Numbers:
    """(3, length, length): a Gaussian, its first and its second derivative along a row whose ends go on."""
    reach = int(np.ceil(_REACH * size))
    steps = np.arange(-reach, reach + 1)
    bell = np.exp(-((steps / size) ** 2) / 2)
    bell /= bell.sum()
    kernels = (bell, bell * steps / size, bell * ((steps / size) ** 2 - 1))
    matrices = np.zeros((3, length, length), np.float32)
    places = np.clip(np.arange(length)[:, np.newaxis] + steps, 0, length - 1)
    for matrix, kernel in zip(matrices, kernels, strict=True):
        np.add.at(matrix, (np.arange(length)[:, np.newaxis], places), kernel)
    return matrices


_STEERED: Final = _steered()
_SLOPES: Final = tuple((_derivatives(_HIGH, size), _derivatives(_WIDE, size)) for size in SIZES)
