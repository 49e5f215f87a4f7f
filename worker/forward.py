"""A network as one compiled function, asked in batches of a few fixed shapes."""

from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

_SMALL: Final = 8


class Forward:
    """Traced once, for any number of inputs, and warmed up; `model.predict` costs 40 ms a call and leaks.

    A GPU looks for its fastest kernels anew for each shape: so what is asked is filled up to 1, 8 or `batch_size`.
    """

    def __init__(self, model: keras.Model, dtype: type[np.generic], *, batch_size: int) -> None:
        self._shapes = sorted({1, min(_SMALL, batch_size), batch_size})
        self._one: tuple[int, ...] = model.input_shape[1:]
        self._dtype = dtype
        self._function = tf.function(
            lambda batch: model(batch, training=False), input_signature=[tf.TensorSpec((None, *self._one), dtype)]
        )
        for shape in self._shapes:
            self._function(tf.zeros((shape, *self._one), dtype))

    def chunks(self, count: int) -> list[slice]:
        """Part so many inputs into what is asked about at once; what prepares them takes memory for one part then."""
        return [slice(start, start + self._shapes[-1]) for start in range(0, count, self._shapes[-1])]

    def __call__(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return what the network says of any number of inputs, but not of none, in order."""
        return np.concatenate([self._filled_up(inputs[chunk]) for chunk in self.chunks(len(inputs))])

    def _filled_up(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        shape = next(shape for shape in self._shapes if shape >= len(inputs))
        batch = np.zeros((shape, *self._one), self._dtype)
        batch[: len(inputs)] = inputs
        return np.asarray(self._function(tf.constant(batch)))[: len(inputs)]
