"""Runs of a few steps, without the minutes that tracing them takes."""

import pytest
import tensorflow as tf


@pytest.fixture(scope="module")
def untraced():
    """Steps run operation by operation: for runs whose books are looked at, not their graphs."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
