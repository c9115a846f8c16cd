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
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["copies"] == 2 and result["alike"]
    assert result["size"] > 0.01 and result["gap"] < 1e-6
    # One draw of standard deviation 0.5 * 2 over six rows; two draws would have twice the variance.
    noise = np.array(result["noise"])
    variance = (0.5 * 2.0 / 6) ** 2
    assert abs((noise**2).mean() / variance - 1) < 6 * np.sqrt(2 / noise.size)


COUNTER_SCRIPT = """
import json, os, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np
from tests.privacy.networks import cross_entropy, dense_network, flat, rows, values
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import DPAdam, DPSGD

two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x, labels = rows(6, (3,))
x[0] = np.nan  # its gradient is not finite

def made(kind=DPAdam, **options):
    with two.scope():
        model = dense_network()
        options = {"l2_norm_clip": 1.0, "noise_multiplier": 1.0} | options
        return model, kind(model, **options)

def spread(sizes):
    cuts = np.cumsum([0, *sizes])
    parts = [(tf.constant(x[a:b]), tf.constant(labels[a:b])) for a, b in zip(cuts, cuts[1:])]
    return two.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group])

def step_of(optimizer, traced=True):
    def run(inputs):
        return two.run(
            lambda pair: optimizer.minimize(pair[0], cross_entropy(pair[1])), args=(inputs,))
    return tf.function(run) if traced else run

def refusal(call):
    try:
        call()
    except (UsageError, tf.errors.InvalidArgumentError) as error:
        return [type(error).__name__, str(error)]
    return None

result = {}
for traced in (True, False):
    model, optimizer = made()
    step = step_of(optimizer, traced)
    counts = [(optimizer.iterations, optimizer.skipped_rows)]
    for sizes in ((3, 3), (2, 4), (5, 1)):
        step(spread(sizes))
        counts.append((optimizer.iterations, optimizer.skipped_rows))
    result[f"counts {traced}"] = counts
with two.scope():
    result["in scope"] = [optimizer.iterations, optimizer.skipped_rows]
inside = two.run(tf.function(lambda: (optimizer.iterations, optimizer.skipped_rows)))
result["in run"] = [[int(v) for v in two.experimental_local_results(part)] for part in inside]
eager = two.run(lambda: optimizer.iterations)
result["in eager run"] = [int(v) for v in two.experimental_local_results(eager)]
result["rate"] = optimizer.learning_rate
optimizer.learning_rate = 0.25
result["new rate"] = optimizer.learning_rate

saved = tf.train.Checkpoint(model=[v.value for v in model.variables], dp=list(optimizer.variables))
path = saved.write(os.path.join(sys.argv[1], "checkpoint"))
model_2, optimizer_2 = made()
tf.train.Checkpoint(
    model=[v.value for v in model_2.variables], dp=list(optimizer_2.variables)
).read(path).assert_consumed()
result["restored"] = optimizer_2.iterations
single = dense_network()
optimizer_1 = DPAdam(single, l2_norm_clip=1.0, noise_multiplier=1.0)
tf.train.Checkpoint(
    model=[v.value for v in single.variables], dp=list(optimizer_1.variables)
).read(path).assert_consumed()
result["restored without strategy"] = optimizer_1.iterations
optimizer_2.restart()
step_of(optimizer_2)(spread((3, 3)))
result["after a restart"] = optimizer_2.iterations

# Shards of different and of no size: the update is that of the whole batch.
x[0] = 1.0
def moved(sizes, expected, clipping):
    quiet = {"noise_multiplier": 0.0, "allow_zero_noise": True, "learning_rate": 1.0}
    quiet |= {"expected_batch_size": expected, "clipping": clipping, "l2_norm_clip": 0.5}
    if sizes is None:
        model = dense_network()
        optimizer = DPSGD(model, **quiet)
        before = flat(values(model))
        optimizer.minimize(x, cross_entropy(labels))
        return before - flat(values(model))
    model, optimizer = made(DPSGD, **quiet)
    before = flat(values(model))
    step_of(optimizer)(spread(sizes))
    for variable in model.trainable_variables:
        one, other = (v.numpy() for v in variable.value.values)
        assert (one == other).all(), "replicas differ"
    return before - flat(values(model))

gaps = {}
for clipping in ("ghost", "vectorized", "per_example"):
    for expected in (None, 4.0):
        whole = moved(None, expected, clipping)
        assert abs(whole).max() > 0.01
        for sizes in ((3, 3), (4, 2), (6, 0), (0, 6)):
            gap = float(abs(moved(sizes, expected, clipping) - whole).max())
            gaps[f"{clipping} {expected} {sizes}"] = gap
result["gaps"] = gaps

model, optimizer = made()
before = flat(values(model))
x, labels = x[:0], labels[:0]
result["no rows"] = refusal(lambda: step_of(optimizer)(spread((0, 0))))
x, labels = rows(6, (3,))
result["outside run"] = refusal(lambda: optimizer.minimize(x, cross_entropy(labels)))
with two.scope():
    result["scope only"] = refusal(lambda: optimizer.minimize(x, cross_entropy(labels)))
outside = DPSGD(dense_network(), l2_norm_clip=1.0, noise_multiplier=1.0)
result["made outside"] = refusal(lambda: step_of(outside)(spread((3, 3))))
model.trainable = False
result["changed"] = refusal(lambda: step_of(optimizer)(spread((3, 3))))
result["unmoved"] = bool((flat([v.numpy() for v in model.variables]) == before).all())
schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
_, optimizer = made(DPSGD, learning_rate=schedule)
for _ in range(2):
    step_of(optimizer)(spread((3, 3)))
result["scheduled"] = optimizer.learning_rate
print(json.dumps(result))
"""


@pytest.mark.slow
def test_counters_checkpoints_and_uneven_shards_under_two_replicas(session_python, tmp_path):
    done = session_python(
        "-c", COUNTER_SCRIPT, str(tmp_path), env={"PYTHONPATH": os.environ["PYTHONPATH"]}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    for traced in (True, False):
        assert result[f"counts {traced}"] == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert result["in scope"] == [3, 3] and result["in run"] == [[3, 3], [3, 3]]
    # Equal Python numbers of replicas are handed back as one.
    assert set(result["in eager run"]) == {3}
    assert abs(result["rate"] - 1e-3) < 1e-9 and result["new rate"] == 0.25
    assert result["restored"] == result["restored without strategy"] == 3
    assert result["after a restart"] == 4
    assert len(result["gaps"]) == 24 and max(result["gaps"].values()) < 1e-6, result["gaps"]
    assert "0 rows and no expected_batch_size" in result["no rows"][1]
    assert result["outside run"][0] == "UsageError" and "strategy.run" in result["outside run"][1]
    assert result["scope only"][0] == "UsageError" and "strategy.run" in result["scope only"][1]
    assert result["made outside"][0] == "UsageError" and "scope()" in result["made outside"][1]
    assert result["changed"][0] == "UsageError" and "make a new optimizer" in result["changed"][1]
    assert result["unmoved"] and result["scheduled"] == 0.25
