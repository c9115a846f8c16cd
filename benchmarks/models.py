"""Forward and backward time and parameters of each network, as one table.

    python benchmarks/models.py [--size=64] [--batch=128] [--encoder=compact] [--repeats=20]

It prints the minimum time of all repeats, which other processes disturb least. The last row is a
joint step of the encoder E, the business heads B and the restorer R from a single tape.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from tf_mtl_privacy.config import Config, DataConfig, ModelConfig
from tf_mtl_privacy.models.bundle import Bundle, build_bundle, parameter_counts

TASKS = {"gender": 2, "age": 4, "expression": 2}
PRIVATE_CLASSES = 8


def min_ms(step: Callable[[], object], repeats: int) -> float:
    """Returns the minimum time of `repeats` calls in ms, after one call that compiles."""
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def mean_square(outputs) -> tf.Tensor:
    """A loss that depends on every output."""
    return tf.add_n([tf.reduce_mean(tf.square(x)) for x in tf.nest.flatten(outputs)])


def forward(model) -> Callable:
    """Compiles a forward pass."""
    return tf.function(lambda x: model(x, training=True))


def forward_backward(model, to_input: bool) -> Callable:
    """Compiles a forward and backward pass; `to_input` adds the input's gradient."""
    variables = [v.value for v in model.trainable_variables]

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = mean_square(model(x, training=True))
        return tape.gradient(loss, variables + ([x] if to_input else []))

    return step


def joint(bundle: Bundle) -> Callable:
    """Compiles a step of E, B and R, as in the adversarial phase without the discriminator."""
    models = (bundle.encoder, bundle.business, bundle.restorer)
    variables = [v.value for model in models for v in model.trainable_variables]

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            features = bundle.encoder(x, training=True)
            heads = (bundle.business(features), bundle.restorer(features))
            loss = mean_square(heads)
        return tape.gradient(loss, variables)

    return step


def measure(bundle: Bundle, size: int, batch: int, repeats: int) -> list[tuple[str, int, str, str]]:
    """Returns rows of the table: name, parameters, forward ms, forward + backward ms."""
    images = tf.random.uniform((batch, size, size, 3))
    features = tf.random.normal((batch, *bundle.encoder.output_shape[1:]))
    counts, rows = parameter_counts(bundle), []
    for name, model in bundle.items():
        x = images if name == "encoder" else features
        run, train = forward(model), forward_backward(model, to_input=name != "encoder")
        times = [min_ms(lambda f=f, x=x: f(x), repeats) for f in (run, train)]
        rows.append((name, counts[name], *(f"{ms:.1f}" for ms in times)))
    step, total = joint(bundle), sum(counts[n] for n in ("encoder", "business", "restorer"))
    rows.append(("E+B+R step", total, "", f"{min_ms(lambda: step(images), repeats):.1f}"))
    return rows


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--encoder", default="compact")
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    config = Config(data=DataConfig(image_size=args.size), model=ModelConfig(encoder=args.encoder))
    bundle = build_bundle(config, TASKS, PRIVATE_CLASSES)
    print(f"{args.encoder}, {args.size}x{args.size}, batch {args.batch}, {os.cpu_count()} cores")
    print(f"{'network':<14}{'parameters':>12}{'forward ms':>12}{'forward+backward ms':>21}")
    for name, count, run, train in measure(bundle, args.size, args.batch, args.repeats):
        print(f"{name:<14}{count:>12,}{run:>12}{train:>21}")


if __name__ == "__main__":
    main()
