import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.privacy.optimizer import DPAdam
from tf_mtl_privacy.training.checkpoints import Checkpoints


def network(units=3):
    inputs = keras.Input((2,))
    return keras.Model(inputs, keras.layers.Dense(units)(inputs))


def step(model, optimizer):
    x = tf.constant([[1.0, 2.0], [3.0, -1.0]])
    if isinstance(optimizer, DPAdam):
        optimizer.minimize(x, lambda outputs: tf.reduce_sum(outputs**2, axis=1))
        return
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x) ** 2)
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)


def plain_adam(model):
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build(model.trainable_variables)
    return optimizer


def private_adam(model):
    return DPAdam(
        model,
        learning_rate=0.1,
        l2_norm_clip=1.0,
        noise_multiplier=0.0,
        allow_zero_noise=True,
    )


def numbers(variables):
    return [np.array(v) if isinstance(v, tf.Variable) else np.array(v.value) for v in variables]


@pytest.mark.parametrize("make", [plain_adam, private_adam])
def test_checkpoint_restores_weights_moments_and_record(tmp_path, make):
    model = network()
    optimizer = make(model)
    step(model, optimizer)
    step(model, optimizer)
    groups = {"model": model.variables, "optimizer": optimizer.variables}
    Checkpoints(tmp_path, groups).save({"step": 2, "beta": 0.1})
    saved = numbers(optimizer.variables)
    assert any(np.abs(value).sum() > 0 for value in saved[1:]), "moments must be worth restoring"

    again = network()
    optimizer_again = make(again)
    groups = {"model": again.variables, "optimizer": optimizer_again.variables}
    assert Checkpoints(tmp_path, groups).restore() == {"step": 2, "beta": 0.1}
    for ours, theirs in zip(numbers(optimizer_again.variables), saved, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    step(model, optimizer)
    step(again, optimizer_again)
    for ours, theirs in zip(numbers(again.variables), numbers(model.variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_restore_without_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path / "new", {"model": network().variables}).restore() is None


def test_restore_into_other_shape_is_refused(tmp_path):
    Checkpoints(tmp_path, {"model": network(3).variables}).save({})
    with pytest.raises(RunError, match=r"does not fit|other shapes"):
        Checkpoints(tmp_path, {"model": network(4).variables}).restore()


def test_restore_of_damaged_checkpoint_raises_run_error(tmp_path):
    model = network()
    Checkpoints(tmp_path, {"model": model.variables}).save({})
    data = next(tmp_path.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(RunError, match="damaged"):
        Checkpoints(tmp_path, {"model": model.variables}).restore()


def test_save_keeps_two_checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"model": network().variables})
    for number in range(4):
        checkpoints.save({"step": number})
    assert len(list(tmp_path.glob("*.index"))) == 2


def two_checkpoints(tmp_path):
    model = network()
    checkpoints = Checkpoints(tmp_path, {"model": model.variables})
    checkpoints.save({"step": 1})
    first = numbers(model.variables)
    model.variables[0].assign(np.full((2, 3), 7.0))
    checkpoints.save({"step": 2})
    return model, first


def test_restore_falls_back_to_older_checkpoint(tmp_path):
    model, first = two_checkpoints(tmp_path)
    newest = max(tmp_path.glob("*.data-*"), key=lambda path: path.name)
    newest.write_bytes(newest.read_bytes()[:20])
    assert Checkpoints(tmp_path, {"model": model.variables}).restore() == {"step": 1}
    for ours, theirs in zip(numbers(model.variables), first, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("content", [b"", b"model_checkpoint_path: \x00"])
def test_restore_survives_truncated_index(tmp_path, content):
    model, _ = two_checkpoints(tmp_path)
    (tmp_path / "checkpoint").write_bytes(content)
    again = Checkpoints(tmp_path, {"model": model.variables})
    assert again.restore() == {"step": 2}
    again.save({"step": 3})
    assert Checkpoints(tmp_path, {"model": model.variables}).restore() == {"step": 3}


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_save_of_unusable_weights_is_refused(tmp_path, value):
    model, _ = two_checkpoints(tmp_path)
    checkpoints = Checkpoints(tmp_path, {"model": model.variables})
    model.variables[0].assign(np.full((2, 3), value))
    with pytest.raises(RunError, match=r"no longer finite.*the last good checkpoint is kept"):
        checkpoints.save({"step": 3})
    with pytest.raises(RunError, match=r"no longer finite.*no checkpoint was written yet"):
        Checkpoints(tmp_path / "new", {"model": model.variables}).save({"step": 1})
    assert checkpoints.restore() == {"step": 2}
    np.testing.assert_array_equal(numbers(model.variables)[0], np.full((2, 3), 7.0))
