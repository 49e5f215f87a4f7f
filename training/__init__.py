"""What makes a model: the data, the CNN's training, calibration, evaluation, the model that is shipped."""
