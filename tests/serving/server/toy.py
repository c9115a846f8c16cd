"""A model with answers that can be computed by hand: it uses a picture's mean colours."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from tf_mtl_privacy.files import write_json

SIZE = 16
CLASSES = {"gender": ["female", "male"], "age": ["young", "middle", "old"]}
CARD = {"summary": "No claim is made for a toy.", "not_protected": ["Everything."]}


class Toy(tf.Module):
    """Gender from red; age from red, green and blue; the map is green."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = tf.Variable(shift)

    def _predictions(self, images):
        means = tf.reduce_mean(tf.cast(images, tf.float32), (1, 2)) / 255.0 + self.shift
        male = means[:, :1]
        probabilities = {"gender": tf.concat([1.0 - male, male], 1), "age": tf.nn.softmax(means)}
        outputs = {}
        for task, values in probabilities.items():
            names = tf.constant(CLASSES[task])
            outputs[f"{task}_probabilities"] = values
            outputs[f"{task}_label"] = tf.gather(names, tf.argmax(values, axis=-1))
            outputs[f"{task}_classes"] = tf.broadcast_to(names, tf.shape(values))
        return outputs

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def serving_default(self, image_bytes):
        def decode(content):
            picture = tf.io.decode_image(content, 3, expand_animations=False)
            resized = tf.image.resize(tf.ensure_shape(picture, (None, None, 3)), (SIZE, SIZE))
            return tf.cast(tf.round(resized), tf.uint8)

        spec = tf.TensorSpec((SIZE, SIZE, 3), tf.uint8)
        return self._predictions(tf.map_fn(decode, image_bytes, fn_output_signature=spec))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def classify(self, images):
        return self._predictions(images)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def restore(self, images):
        return {"restored": tf.image.resize(images, (SIZE, SIZE)) / 255.0}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
    def sensitive_regions(self, images):
        return {"map": tf.image.resize(images, (SIZE, SIZE))[..., 1] / 255.0}


def save_toy(folder, version=1, shift=0.0, warmup=True):
    """Writes a version of the toy model; returns its folder."""
    toy, target = Toy(shift), folder / str(version)
    names = ("serving_default", "classify", "restore", "sensitive_regions")
    tf.saved_model.save(toy, str(target), signatures={name: getattr(toy, name) for name in names})
    extra = target / "assets.extra"
    extra.mkdir()
    tasks = [{"task": task, "classes": classes} for task, classes in CLASSES.items()]
    labels = {"name": "toy", "image_size": SIZE, "crop": "none", "tasks": tasks}
    write_json(extra / "labels.json", labels)
    write_json(extra / "privacy_card.json", CARD)
    if warmup:
        from tf_mtl_privacy.export.extra_files import write_warmup

        write_warmup(extra / "tf_serving_warmup_requests", "toy", names, SIZE)
    return folder


def expected(images, shift=0.0):
    """Computes the probabilities for `[N, H, W, 3]` uint8 with NumPy."""
    means = images.astype(np.float64).mean((1, 2)) / 255.0 + shift
    powers = np.exp(means)
    return {
        "gender": np.stack([1.0 - means[:, 0], means[:, 0]], 1),
        "age": powers / powers.sum(1, keepdims=True),
    }


def pixels(count=2, seed=0):
    """Draws `[count, SIZE, SIZE, 3]` uint8: one colour for each picture, with a little noise."""
    rng = np.random.default_rng(seed)
    even = rng.integers(20, 230, (count, 1, 1, 3))
    return (even + rng.integers(-9, 10, (count, SIZE, SIZE, 3))).astype(np.uint8)


def png(image):
    """Encodes a picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
