"""Fixtures: steps that run untraced, which saves minutes, and runs that tests share."""

import pytest
import tensorflow as tf

from tests.training.tiny_private import backbone_config
from tf_mtl_privacy.training.fit import fit


@pytest.fixture(scope="module")
def untraced():
    """Runs steps operation by operation, for runs whose records are tested, not their graphs."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A folder for prepared data that all tests of a process share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def public(cache, tmp_path_factory):
    """A finished run on synthetic faces that serves as a public backbone."""
    eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        return fit(backbone_config(cache), run_dir=tmp_path_factory.mktemp("runs") / "backbone")
    finally:
        tf.config.run_functions_eagerly(eager)
