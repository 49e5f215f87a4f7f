"""Several devices of one machine train together, without another command."""

from typing import Any

import tensorflow as tf


def strategy(kind: str = "GPU") -> Any:
    """Return how a model is spread over the devices of this kind: mirrored on each, or, on one or none, not at all."""
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()
