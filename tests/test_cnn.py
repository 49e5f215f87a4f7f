"""The network is the given one: every layer, its parameters, how it is compiled."""

import keras
import numpy as np
import pytest

from training import fit
from training.lessons import HINTS
from worker import cnn
from worker.cnn import PARAMETERS
from worker.radiograph import SIZE


def test_every_layer_is_the_given_one() -> None:
    layers = [(layer.name, layer.output.shape[1:], layer.count_params()) for layer in cnn.build().layers]
    assert layers == [
        ("scale", (128, 128, 1), 0),
        ("conv_32", (126, 126, 32), 320),
        ("pool_1", (63, 63, 32), 0),
        ("conv_16_a", (61, 61, 16), 4_624),
        ("pool_2", (30, 30, 16), 0),
        ("conv_16_b", (28, 28, 16), 2_320),
        ("pool_3", (14, 14, 16), 0),
        ("flatten", (3_136,), 0),
        ("dense_512", (512,), 1_606_144),
        ("dense_256", (256,), 131_328),
        ("covid", (1,), 257),
    ]
    assert cnn.build().count_params() == PARAMETERS == 1_744_993


def test_convolutions_are_3_by_3_with_relu_and_the_end_is_a_sigmoid() -> None:
    model = cnn.build()
    for name in ("conv_32", "conv_16_a", "conv_16_b"):
        layer = model.get_layer(name)
        assert (layer.kernel_size, layer.strides, layer.padding) == ((3, 3), (1, 1), "valid")
        assert layer.activation is keras.activations.relu
    assert all(model.get_layer(f"pool_{place}").pool_size == (2, 2) for place in (1, 2, 3))
    assert all(model.get_layer(name).activation is keras.activations.relu for name in ("dense_512", "dense_256"))
    assert model.get_layer("covid").activation is keras.activations.sigmoid


def test_it_is_trained_with_adam_binary_cross_entropy_and_accuracy() -> None:
    given, learner = fit.compiled(5e-4)
    assert type(learner.optimizer) is keras.optimizers.Adam
    assert float(learner.optimizer.learning_rate.numpy()) == pytest.approx(5e-4)
    assert learner.loss["covid"] == "binary_crossentropy"
    truth = {"covid": np.full((2, 1), 0.9), "hints": np.zeros((2, HINTS))}
    told = learner.evaluate(np.zeros((2, SIZE, SIZE, 1), np.uint8), truth, return_dict=True, verbose=0)
    assert {"loss", "covid_loss", "covid_accuracy"} <= told.keys()
    assert given.count_params() == PARAMETERS, "what is told beside the class does not stay in the network"


def test_a_probability_as_truth_counts_as_the_likelier_class() -> None:
    told = fit.accuracy(np.array([[0.9], [0.2]]), np.array([[0.7], [0.6]]))
    assert np.ravel(told).tolist() == [1.0, 0.0]
