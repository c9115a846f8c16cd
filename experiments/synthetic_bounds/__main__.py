"""Checks that the synthetic faces are neither too easy nor too hard as a benchmark.

    python -m experiments.synthetic_bounds [--train_rows=14000] [--test_rows=3000] [--epochs=10]

Lower bounds require that a convolutional probe reads every label from pixels. Upper bounds require
that simple readers do not, that only the iris reveals the private label, and that an average or a
thumbnail does not restore an image. The exit code is 1 if a bound fails.
"""

import argparse
import sys
import time
from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.data import synthetic_faces
from tf_mtl_privacy.data.synthetic_faces import ATTRIBUTES, Faces
from tf_mtl_privacy.data.synthetic_faces.rendering import Style, render_labelled

SIZE = 64
LOGISTIC_ROWS = 10_000
LOGISTIC_STRENGTHS = (1e-4, 1e-3)
CHANCE = 1.0 / len(ATTRIBUTES["iris"])


class Bound(NamedTuple):
    """One measured number and the range [low, high] that it must be in."""

    name: str
    value: float
    low: float
    high: float
    unit: str

    @property
    def passed(self) -> bool:
        """True if the value is in its range."""
        return self.low <= self.value <= self.high


def say(text: str) -> None:
    """Prints progress to stderr, so that stdout has the table only."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def psnr(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns [N] PSNR in dB between [N, S, S, 3] images on [0, 1]."""
    error = np.mean((first - second) ** 2, axis=(1, 2, 3), dtype=np.float64)
    return -10.0 * np.log10(np.maximum(error, 1e-10))


def covered(faces: Faces) -> np.ndarray:
    """Returns the images with the iris mask filled with grey."""
    return np.where(faces.iris_mask[..., None], np.uint8(128), faces.image)


def targets(faces: Faces) -> dict[str, np.ndarray]:
    """Returns the labels by name."""
    return {name: getattr(faces, name) for name in ATTRIBUTES}


def conv_probe(
    train_images, train_labels, test_images, test_labels, epochs: int
) -> dict[str, float]:
    """Trains one convolutional net with a head for each label; returns test accuracies by name."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(0)
    steps = -(-len(train_images) // 64)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1.0 / 64.0, offset=-2.0)(inputs)
    for width, kernel, stride in ((24, 5, 2), (48, 3, 1), (96, 3, 2), (128, 3, 2)):
        x = layers.Conv2D(width, kernel, strides=stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    # Maxima say that a pattern is somewhere, which place and size of the face cannot disturb.
    placed = layers.Dense(160, activation="relu")(layers.Dropout(0.2)(layers.Flatten()(x)))
    x = layers.Concatenate()([placed, layers.GlobalMaxPooling2D()(x)])
    x = layers.Dropout(0.2)(x)
    heads = {name: layers.Dense(len(ATTRIBUTES[name]), name=name)(x) for name in train_labels}
    model = keras.Model(inputs, heads)
    rate = keras.optimizers.schedules.CosineDecay(
        3e-4, epochs * steps, warmup_target=2e-3, warmup_steps=steps
    )
    loss = {n: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for n in heads}
    model.compile(keras.optimizers.Adam(rate), loss, metrics={n: ["accuracy"] for n in heads})

    def report(epoch: int, logs: dict) -> None:
        shares = [
            f"{n} {logs[f'{n}_accuracy' if len(heads) > 1 else 'accuracy']:.3f}" for n in heads
        ]
        say(f"  epoch {epoch + 1}/{epochs}: train accuracy " + ", ".join(shares))

    # Rows mirrored left to right would change iris classes 0 to 5: no flips here.
    data = tf.data.Dataset.from_tensor_slices((train_images, train_labels))
    data = data.shuffle(len(train_images), seed=0).batch(64, drop_remainder=True).prefetch(2)
    data = data.map(lambda image, label: (tf.cast(image, tf.float32), label))
    callback = keras.callbacks.LambdaCallback(on_epoch_end=report)
    model.fit(data, epochs=epochs, verbose=0, callbacks=[callback])
    logits = model.predict(test_images.astype(np.float32), batch_size=256, verbose=0)
    return {n: float(np.mean(np.argmax(logits[n], -1) == test_labels[n])) for n in heads}


def logistic_probe(train_images, train_labels, test_images, test_labels) -> float:
    """Returns the best test accuracy of logistic regression over two strengths of L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    # All pixels, not their leading principal components, which would leave the small iris out.
    train = train_images.reshape(len(train_images), -1).astype(np.float32)
    mean, deviation = train.mean(axis=0), train.std(axis=0) + np.float32(1.0)
    train -= mean
    train /= deviation
    test = (test_images.reshape(len(test_images), -1) - mean) / deviation
    best = 0.0
    for strength in LOGISTIC_STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=60, tol=1e-3).fit(train, train_labels)
        score = float(model.score(test, test_labels))
        say(f"  C={strength:g}: {score:.3f}")
        best = max(best, score)
    return best


def thumbnail_psnr(images: np.ndarray) -> float:
    """Returns the mean PSNR of copies made 8 times smaller and larger again, bicubic."""
    from PIL import Image

    small = (SIZE // 8, SIZE // 8)
    copies = np.empty_like(images)
    for row, image in enumerate(images):
        little = Image.fromarray(image).resize(small, Image.Resampling.BICUBIC)
        copies[row] = np.asarray(little.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    return float(np.mean(psnr(images / 255.0, copies / 255.0)))


def pattern_free(stream: str, count: int) -> np.ndarray:
    """Returns the same faces as `render` gives, with irises of their own colour and no pattern."""
    rows = np.arange(count)
    labels = synthetic_faces.labels(0, stream, rows)
    return render_labelled(0, stream, rows, labels, Style(SIZE, "none", pattern_gain=0.0)).image


def restoration_bounds(train: Faces, test: Faces) -> list[Bound]:
    """Returns the bounds on PSNR."""
    real = test.image / np.float32(255.0)
    mean = train.image.mean(axis=0, dtype=np.float64).astype(np.float32)[None] / 255.0
    plain = pattern_free("test", len(real)) / np.float32(255.0)
    top = float("inf")
    return [
        Bound("mean image PSNR", float(np.mean(psnr(real, mean))), 0.0, 18.0, "dB"),
        Bound("8x thumbnail PSNR", thumbnail_psnr(test.image), 0.0, 26.0, "dB"),
        Bound("PSNR without iris pattern", float(np.mean(psnr(real, plain))), 38.0, top, "dB"),
        Bound("iris mask, share of picture", 100 * test.iris_mask.mean(), 1.5, 4.0, "%"),
    ]


def lower_bounds(scores: dict[str, float]) -> list[Bound]:
    """Returns the bounds on what the convolutional probe reads from pixels."""
    floors = {"iris": 90.0, "gender": 97.0, "age": 85.0, "expression": 95.0}
    return [
        Bound(f"conv probe, {name}", 100 * scores[name], floor, 100.0, "%")
        for name, floor in floors.items()
    ]


def measure(options: argparse.Namespace) -> list[Bound]:
    """Renders the rows and returns every bound."""
    say(f"rendering {options.train_rows} + {options.test_rows} faces")
    start = time.perf_counter()
    train = synthetic_faces.render(0, "train", np.arange(options.train_rows), size=SIZE)
    test = synthetic_faces.render(0, "test", np.arange(options.test_rows), size=SIZE)
    rate = (options.train_rows + options.test_rows) / (time.perf_counter() - start)
    say(f"{rate:.0f} faces/s")
    train_labels, test_labels = targets(train), targets(test)

    say("restoration bounds")
    bounds = restoration_bounds(train, test)
    for name, ceiling in (("iris", 40.0), ("gender", 90.0)):
        say(f"logistic regression, {name}")
        rows = slice(LOGISTIC_ROWS)
        score = logistic_probe(
            train.image[rows], train_labels[name][rows], test.image, test_labels[name]
        )
        bounds.append(Bound(f"logistic regression, {name}", 100 * score, 0.0, ceiling, "%"))

    say("convolutional probe on all labels")
    scores = conv_probe(train.image, train_labels, test.image, test_labels, options.epochs)
    bounds = lower_bounds(scores) + bounds
    say("convolutional probe with the irises covered")
    hidden = conv_probe(covered(train), train_labels, covered(test), test_labels, options.epochs)
    chance = 100 * CHANCE
    bounds.append(
        Bound("conv probe, iris covered", 100 * hidden["iris"], chance - 2.0, chance + 2.0, "%")
    )
    return bounds


def print_table(bounds: list[Bound]) -> None:
    """Prints one line for each bound."""
    for bound in bounds:
        high = "" if bound.high == float("inf") else f" {bound.high:g}"
        allowed = f"[{bound.low:g},{high}]" if high else f">= {bound.low:g}"
        mark = "pass" if bound.passed else "FAIL"
        print(f"{bound.name:30s} {bound.value:8.2f} {bound.unit:3s} {allowed:14s} {mark}")


def main(arguments: list[str] | None = None) -> int:
    """Parses the arguments, measures, prints; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.synthetic_bounds", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--train_rows", type=int, default=14_000, help="faces to train probes on")
    parser.add_argument("--test_rows", type=int, default=3_000, help="faces to test probes on")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of each conv probe")
    options = parser.parse_args(arguments)
    if options.train_rows < 10_000:
        say("fewer than 10000 train rows: the upper bounds mean less than they should")
    bounds = measure(options)
    print(f"synthetic faces version {synthetic_faces.VERSION}")
    print_table(bounds)
    return 0 if all(bound.passed for bound in bounds) else 1


if __name__ == "__main__":
    sys.exit(main())
