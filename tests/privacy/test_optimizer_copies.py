"""The noise key is neither copied nor written."""

import copy
import os
import pickle
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import tensorflow as tf

from tests.privacy.networks import cross_entropy, dense_network, rows
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPSGD, DPAdam
from tf_mtl_privacy.privacy.batch_selection import PoissonBatches
from tf_mtl_privacy.privacy.keys import key_for_tests, secret_key
from tf_mtl_privacy.privacy.noise import SecretNoise

WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "in a container": lambda thing: copy.deepcopy({"a": [thing]}),
    **{f"pickle {n}": (lambda thing, n=n: pickle.dumps(thing, n)) for n in range(6)},
    "cloudpickle": cloudpickle.dumps,
}


def optimizer(kind=DPAdam, **options):
    return kind(dense_network(), l2_norm_clip=1.0, noise_multiplier=1.0, **options)


HOLDERS = {
    "DPAdam": optimizer,
    "DPSGD": lambda: optimizer(DPSGD),
    "a test's optimizer": lambda: optimizer(noise_key=1),
    "SecretNoise": SecretNoise,
    "secret key": secret_key,
    "test key": lambda: key_for_tests(1),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("holder", HOLDERS)
def test_a_holder_of_a_key_is_neither_copied_nor_pickled(holder, way):
    with pytest.raises(TypeError, match="never written and never copied; make a new one"):
        WAYS[way](HOLDERS[holder]())


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"copy"}))
def test_batches_of_a_secret_key_are_neither_copied_nor_pickled(way):
    with pytest.raises(TypeError, match="never written and never copied; make a new one"):
        WAYS[way](PoissonBatches(np.arange(9), 0.5, key=secret_key()))


def test_two_optimizers_of_equal_models_draw_different_noise():
    one, other = (optimizer(DPSGD)._noise.draw([tf.TensorShape([8])], 1.0)[0] for _ in range(2))
    assert (one.numpy() != other.numpy()).all()


@pytest.mark.parametrize("kind", [DPAdam, DPSGD])
def test_a_configuration_is_refused(kind):
    with pytest.raises(UsageError, match="holds a secret key"):
        optimizer(kind).get_config()
    with pytest.raises(UsageError, match=r"make it with DP\w+\(model"):
        kind.from_config({"learning_rate": 0.1})


def key_bytes(noise):
    """The secret words, as they would lie in a file."""
    parts = [noise._key.numpy().tobytes(), noise._state.numpy()[1:2].tobytes()]
    assert all(len(part) >= 8 for part in parts)
    return parts


def contents(folder):
    return b"".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())


def test_no_checkpoint_of_an_optimizer_s_owner_holds_the_key(tmp_path):
    private = optimizer()
    private.minimize(rows(4, (3,))[0], cross_entropy(rows(4, (3,))[1]))
    owner = tf.Module()
    owner.optimizer, owner.model = private, private._model
    owner.state = list(private.variables)
    tf.train.Checkpoint(owner=owner).write(str(tmp_path / "checkpoint"))
    written = contents(tmp_path)
    moment = private.variables[1].numpy().tobytes()
    assert moment in written
    assert not any(part in written for part in key_bytes(private._noise))


def test_a_checkpoint_of_the_optimizer_itself_is_refused_with_what_to_save():
    with pytest.raises(ValueError, match=r"optimizer\.variables"):
        tf.train.Checkpoint(optimizer=optimizer())


def test_a_saved_function_does_not_write_the_key(tmp_path):
    private = optimizer()
    owner = tf.Module()
    owner.model, owner.state = private._model, list(private.variables)
    owner.step = tf.function(
        lambda x: private.minimize(x, lambda logits: tf.reduce_sum(logits, 1)),
        input_signature=[tf.TensorSpec([4, 3])],
    )
    # It refers to variables that nobody tracks, the key among them.
    with pytest.raises(AssertionError, match="untracked"):
        tf.saved_model.save(owner, str(tmp_path / "model"))
    assert not any(part in contents(tmp_path) for part in key_bytes(private._noise))


def test_a_process_that_did_not_make_the_optimizer_is_refused(monkeypatch):
    """A fork has the parent's key and counter: both would draw the same noise."""
    private, parent = optimizer(), os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(UsageError, match="another process"):
        private.minimize(rows(4, (3,))[0], cross_entropy(rows(4, (3,))[1]))
