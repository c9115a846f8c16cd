"""Two replicas on two logical CPUs make the update that one makes of the whole batch."""

import json
import os

import numpy as np
import pytest

SCRIPT = """
import json
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np
from tests.privacy.networks import cross_entropy, dense_network, flat, rows, values
from tf_mtl_privacy.privacy import DPSGD

x, labels = rows(6, (40,), 30)
OPTIONS = {"l2_norm_clip": 0.5, "learning_rate": 1.0, "allow_zero_noise": True}

def change(strategy, noise, split):
    with strategy.scope():
        model = dense_network((40, 30))
        optimizer = DPSGD(model, noise_multiplier=noise, **OPTIONS)
    before = flat(values(model))

    if split < 6:
        x_, l_ = tf.constant(x), tf.constant(labels)
        dataset = [(x_[:3], l_[:3]), (x_[3:], l_[3:])]
        inputs = strategy.experimental_distribute_values_from_function(
            lambda context: dataset[context.replica_id_in_sync_group])
        tf.function(lambda inputs: strategy.run(
            lambda pair: optimizer.minimize(pair[0], cross_entropy(pair[1])), args=(inputs,)
        ))(inputs)
    else:
        optimizer.minimize(tf.constant(x), cross_entropy(tf.constant(labels)))
    copies = [[v.numpy() for v in getattr(variable.value, "values", [variable.value])]
              for variable in model.trainable_variables]
    alike = all((a == b).all() for c in copies for a, b in zip(c, c[1:]))
    return (before - flat(values(model))), alike, min(len(c) for c in copies)

two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
single, _, _ = change(tf.distribute.get_strategy(), 0.0, 6)
mirrored, alike, copies = change(two, 0.0, 3)
noisy, noisy_alike, _ = change(two, 2.0, 3)
print(json.dumps({
    "gap": float(abs(single - mirrored).max()), "size": float(abs(single).max()),
    "alike": alike and noisy_alike, "copies": copies,
    "noise": (noisy - mirrored).astype(float).tolist(),
}))
"""


@pytest.mark.slow
def test_two_replicas_sum_their_clipped_gradients_and_add_one_draw(session_python):
    done = session_python("-c", SCRIPT, env={"PYTHONPATH": os.environ["PYTHONPATH"]})
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["copies"] == 2 and found["alike"]
    assert found["size"] > 0.01 and found["gap"] < 1e-6
    # One draw of standard deviation 0.5 * 2 over six rows; two draws would have twice the variance.
    noise = np.array(found["noise"])
    variance = (0.5 * 2.0 / 6) ** 2
    assert abs((noise**2).mean() / variance - 1) < 6 * np.sqrt(2 / noise.size)
