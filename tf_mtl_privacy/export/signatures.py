"""The functions that an exported model offers, with the preparation of pictures inside.

Prepares the pictures of a request inside an exported graph, as training prepares its own.

Both functions refuse, with `tf.errors.InvalidArgumentError` when the graph runs, a request without
pictures or with more than `LARGEST_BATCH`, and pictures that `prepare_content` refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import (
    prepare_content,
    prepare_pixels,
    requiring,
    size_checks,
    to_float,
)
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.serving_signature import (
    CLASSIFY,
    DEFAULT_SIGNATURE,
    ENCODE,
    IMAGE_BYTES,
    IMAGES,
    LARGEST_BATCH,
    MAP,
    REGIONS,
    RESTORE,
    RESTORED,
    classes_key,
    features_key,
    label_key,
    probabilities_key,
)
from tf_mtl_privacy.training.region_maps import map_reader, region_source
from tf_mtl_privacy.training.saved_run import SavedRun

# Decoded at the same time: a picture of 50 megapixels takes 150 MB and more.
_DECODED_AT_ONCE = 2
Prepare = Callable[[tf.Tensor], tf.Tensor]


def pixels_ready(size: int, crop: str) -> Prepare:
    """Pixels `[B, H, W, 3]` uint8 -> `[B, size, size, 3]` uint8, as from files without loss.

    Args:
        size: height and width of the result, in pixels.
        crop: as for `prepare_content`. Where it takes the inner part, it does so of pictures that
            have the right size, too: the answer must not depend on how a picture was sent.
    """

    def prepare(images: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(images, tf.int64)
        checks = [*_batch_check(shape[0]), *size_checks(shape[1], shape[2])]
        with tf.control_dependencies(checks):
            images = tf.identity(images)
        if crop == "inner":
            prepared = prepare_pixels(images, size, crop)
        else:
            # A picture of the right size would come out of it as it is, only later.
            is_ready = tf.reduce_all(shape[1:3] == size)
            prepared = tf.cond(is_ready, lambda: images, lambda: prepare_pixels(images, size, crop))
        return tf.ensure_shape(prepared, (None, size, size, 3))

    return prepare


def files_ready(size: int, crop: str) -> Prepare:
    """Whole picture files `[B]` -> `[B, size, size, 3]` uint8; they may differ in size.

    See `pixels_ready` for the arguments.
    """

    def prepare(contents: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(_batch_check(tf.size(contents, tf.int64))):
            contents = tf.identity(contents)
        return tf.map_fn(
            lambda content: prepare_content(content, size, crop),
            contents,
            parallel_iterations=_DECODED_AT_ONCE,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )

    return prepare


def _batch_check(count: tf.Tensor) -> list[tf.Operation]:
    message = f"expected 1 to {LARGEST_BATCH} pictures in a request, not"
    return requiring((count >= 1) & (count <= LARGEST_BATCH), [message, count])


Outputs = dict[str, tf.Tensor]
Function = Callable[[tf.Tensor], Outputs]


def build_signatures(
    run: SavedRun, *, with_discriminator: bool = False
) -> tuple[tf.Module, dict[str, tf.types.experimental.ConcreteFunction]]:
    """A module with the weights, and its signatures by name, ready for `tf.saved_model.save`.

    All take pictures of any size and prepare them as training does; a signature that the run's
    networks cannot answer is left out (see `missing_signatures`). Nothing of Keras or of this
    package is needed to load what is saved.

    Args:
        run: a finished run.
        with_discriminator: whether the discriminator may be in it: only a run without a mask has a
            use for it, the map of sensitive regions.
    """
    size, crop = run.config.data.image_size, run.config.data.effective_crop
    bundles = networks_of(run)
    classify = _classifier(bundles, run.task_classes)
    heads: dict[str, Function] = {CLASSIFY: classify, ENCODE: _encoder(bundles)}
    missing = missing_signatures(run, with_discriminator=with_discriminator)
    reads_discriminator = False
    if RESTORE not in missing:
        heads[RESTORE] = _restorer(run.bundle)
    if REGIONS not in missing:
        heads[REGIONS] = _map(run.bundle)
        reads_discriminator = region_source(run.bundle) == "discriminator"
    found = {
        name: _concrete(head, pixels_ready(size, crop), IMAGES, (None, None, None, 3), tf.uint8)
        for name, head in heads.items()
    }
    decode = files_ready(size, crop)
    found[DEFAULT_SIGNATURE] = _concrete(classify, decode, IMAGE_BYTES, (None,), tf.string)
    module = tf.Module(name="tf_mtl_privacy")
    module.networks = _variables(bundles, reads_discriminator)
    return module, found


def missing_signatures(run: SavedRun, *, with_discriminator: bool = False) -> dict[str, str]:
    """Signatures that an export does not have -> why, in a few words."""
    missing, model = {}, run.config.train.model
    if run.bundle.restorer is None:
        missing[RESTORE] = f"the run's model ({model}) has no restorer"
    source = None if run.single_task else region_source(run.bundle)
    if source is None:
        missing[REGIONS] = f"the run's model ({model}) has neither mask nor discriminator"
    elif source == "discriminator" and not with_discriminator:
        missing[REGIONS] = (
            "without a mask the map needs the discriminator, which only --include_discriminator "
            "exports"
        )
    return missing


def networks_of(run: SavedRun) -> dict[str | None, Bundle]:
    """The run's networks, by task for a single-task run."""
    return dict(run.single_task.items()) or {None: run.bundle}


def _variables(bundles: Mapping[str | None, Bundle], discriminator: bool) -> list[tf.Variable]:
    """The weights of everything that is released, as plain variables, each once."""
    models: list[keras.Model] = []
    for bundle in bundles.values():
        models += [bundle.encoder, bundle.business]
        models += [bundle.restorer] if bundle.restorer is not None else []
        models += [bundle.discriminator] if discriminator and bundle.discriminator else []
    found = {id(weight): weight.value for model in models for weight in model.variables}
    return list(found.values())


def _concrete(
    head: Function, prepare: Function | Any, key: str, shape: tuple[int | None, ...], kind: Any
) -> tf.types.experimental.ConcreteFunction:
    """`head` behind `prepare`, traced for a batch of any length."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, kind, name=key)])
    def serve(pictures: tf.Tensor) -> Outputs:
        return head(prepare(pictures))

    return serve.get_concrete_function()


def _classifier(
    bundles: Mapping[str | None, Bundle], classes: Mapping[str, tuple[str, ...]]
) -> Function:
    def classify(images: tf.Tensor) -> Outputs:
        found: Outputs = {}
        for bundle in bundles.values():
            features = bundle.encoder(to_float(images), training=False)
            for task, logits in bundle.business(features, training=False).items():
                names = tf.constant(list(classes[task]))
                found[probabilities_key(task)] = tf.nn.softmax(logits)
                found[label_key(task)] = tf.gather(names, tf.argmax(logits, axis=-1))
                found[classes_key(task)] = tf.broadcast_to(names, tf.shape(logits))
        return found

    return classify


def _encoder(bundles: Mapping[str | None, Bundle]) -> Function:
    def encode(images: tf.Tensor) -> Outputs:
        return {
            features_key(task): bundle.encoder(to_float(images), training=False)
            for task, bundle in bundles.items()
        }

    return encode


def _restorer(bundle: Bundle) -> Function:
    restorer = bundle.restorer
    assert restorer is not None

    def restore(images: tf.Tensor) -> Outputs:
        features = bundle.encoder(to_float(images), training=False)
        return {RESTORED: restorer(features, training=False)}

    return restore


def _map(bundle: Bundle) -> Function:
    read, is_probability = map_reader(bundle), region_source(bundle) == "mask"

    def mark(images: tf.Tensor) -> Outputs:
        heat, _ = read(images)
        if not is_probability:
            # Evidence has no upper bound: each map is given as shares of its own maximum.
            most = tf.reduce_max(heat, axis=(1, 2), keepdims=True)
            heat = tf.math.divide_no_nan(heat, most)
        return {MAP: heat}

    return mark
