"""The device that predicts: one GPU with memory growth, or the CPU with one thread, since decoding has the rest."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def prepare() -> str:
    """Set TensorFlow up before its first use, log the device, and return its name."""
    tf = _tensorflow("2")
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    # Products of 10 bits would move a lung's outline, and with it the score, from one device to another.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if not gpus:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
    log.info("device %s, TensorFlow %s", name, tf.__version__)
    return str(name)


def quiet() -> None:
    """Load TensorFlow without the lines that its C++ part writes to stderr whatever the log level."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it finds several models in one process too many
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            _tensorflow("3").constant(0)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _tensorflow(log_level: str) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", log_level)
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # Where the processor has AVX2 and no VNNI it is off: then the CNN takes four times as long, and its training twice.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with _alone():
        import tensorflow as tf  # noqa: PLC0415 - 600 MB that only who predicts or trains needs
    return tf


@contextmanager
def _alone() -> Iterator[None]:
    """Keras, loaded with TensorFlow, loads these wherever they are installed, for what nothing here uses: 1.5 s of each process."""
    kept_out = {"sklearn", "matplotlib"} - sys.modules.keys()
    sys.modules |= dict.fromkeys(kept_out)  # type: ignore[arg-type] # to import what is None raises ImportError
    try:
        yield
    finally:
        for name in kept_out:
            del sys.modules[name]
