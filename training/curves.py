"""Learning curves as TensorBoard reads them, written while a model trains; TensorBoard itself need not be installed."""

from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.core.framework import summary_pb2

# What tf.summary.scalar would write; that function is part of TensorBoard.
_PLUGIN = summary_pb2.SummaryMetadata.PluginData(plugin_name="scalars")
_SCALAR = summary_pb2.SummaryMetadata(plugin_data=_PLUGIN, data_class=summary_pb2.DATA_CLASS_SCALAR)


class Curves(keras.callbacks.Callback):  # type: ignore[misc] # keras is untyped
    """Writes what each epoch reports into a directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(directory))

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        with self._writer.as_default():
            for name, value in logs.items():
                tf.summary.write(name, tf.constant(float(value)), step=epoch + 1, metadata=_SCALAR)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 - as keras calls it
        self._writer.close()
