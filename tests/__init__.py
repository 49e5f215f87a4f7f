"""The tests, and the processes that they start, compute on one thread each: threads that wait for work spin.

On two cores that three files at once share, the matrices of one training took more than twice the processor time.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read where NumPy is imported, which is later than this
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # as worker.device sets it, whoever imports TensorFlow first
