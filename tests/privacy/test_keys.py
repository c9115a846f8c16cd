"""Keys differ between processes, and are neither copied nor written."""

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
from tf_mtl_privacy.privacy.keys import SecretKey, key_for_tests, secret_key
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
def test_key_holder_is_neither_copied_nor_pickled(holder, way):
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
def test_get_config_and_from_config_are_refused(kind):
    with pytest.raises(UsageError, match="holds a secret key"):
        optimizer(kind).get_config()
    with pytest.raises(UsageError, match=r"make it with DP\w+\(model"):
        kind.from_config({"learning_rate": 0.1})


def key_bytes(noise):
    """Returns the secret words as a file would contain them."""
    parts = [noise._key.numpy().tobytes(), noise._state.numpy()[1:2].tobytes()]
    assert all(len(part) >= 8 for part in parts)
    return parts


def contents(folder):
    return b"".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())


def test_checkpoint_of_key_holder_has_no_key(tmp_path):
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


def test_checkpoint_of_the_optimizer_is_refused_with_the_alternative():
    with pytest.raises(ValueError, match=r"optimizer\.variables"):
        tf.train.Checkpoint(optimizer=optimizer())


def test_saved_function_does_not_write_the_key(tmp_path):
    private = optimizer()
    owner = tf.Module()
    owner.model, owner.state = private._model, list(private.variables)
    owner.step = tf.function(
        lambda x: private.minimize(x, lambda logits: tf.reduce_sum(logits, 1)),
        input_signature=[tf.TensorSpec([4, 3])],
    )
    # It refers to untracked variables, the key among them.
    with pytest.raises(AssertionError, match="untracked"):
        tf.saved_model.save(owner, str(tmp_path / "model"))
    assert not any(part in contents(tmp_path) for part in key_bytes(private._noise))


def test_minimize_in_another_process_is_refused(monkeypatch):
    """A forked process has its parent's key and counter, so both would draw the same noise."""
    private, parent = optimizer(), os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(UsageError, match="another process"):
        private.minimize(rows(4, (3,))[0], cross_entropy(rows(4, (3,))[1]))


def test_secret_keys_differ_and_print_nothing():
    one, other = secret_key(), secret_key()
    assert not one.is_test and not one.derive("x").is_test and key_for_tests(0).derive("x").is_test
    assert (one.words(4) != other.words(4)).any()
    assert repr(one) == "SecretKey(is_test=False)"
    with pytest.raises(ValueError, match="32 bytes"):
        SecretKey(b"short", is_test=False)


def test_streams_of_a_key_differ():
    key = key_for_tests(2)
    streams = [
        key.generator(0),
        key.generator(1),
        key.generator(0, 1),
        key.derive("a").generator(0),
    ]
    words = [stream.integers(0, 2**63) for stream in streams]
    assert len(set(words)) == 4
    assert key.generator(5, 6).random() == key_for_tests(2).generator(5, 6).random()


def test_same_as_is_equality_of_draws():
    key = key_for_tests(4)
    assert key.same_as(key_for_tests(4)) and key.derive("a").same_as(key.derive("a"))
    others = [key.derive("a"), key_for_tests(5), secret_key()]
    assert not any(key.same_as(other) for other in others)
    system = secret_key()
    assert system.same_as(system) and not system.same_as(secret_key())
    for other in [key_for_tests(4), *others]:
        assert key.same_as(other) == bool((key.words(4, 7) == other.words(4, 7)).all())
