"""Signatures of an exported model, with the preparation of pictures inside the graph."""

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
    MAP,
    MAX_REQUEST_ROWS,
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

# Pictures decoded in parallel: one of 50 megapixels takes 150 MB and more.
_PARALLEL_DECODING = 2
Prepare = Callable[[tf.Tensor], tf.Tensor]
Outputs = dict[str, tf.Tensor]
Function = Callable[[tf.Tensor], Outputs]


def build_signatures(
    run: SavedRun, *, with_discriminator: bool = False
) -> tuple[tf.Module, dict[str, tf.types.experimental.ConcreteFunction]]:
    """Builds a module with the weights, and its signatures by name, for `tf.saved_model.save`.

    All signatures take pictures of any size and prepare them as training does. Those that the run's
    networks cannot compute are left out, see `missing_signatures`. The saved model loads without
    Keras and without this package.

    Args:
        run: a finished run.
        with_discriminator: exports the discriminator if the map of sensitive regions needs it,
            which is so for a run without a mask.
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
        heads[REGIONS] = _regions(run.bundle)
        reads_discriminator = region_source(run.bundle) == "discriminator"
    signatures = {
        name: _concrete(head, prepare_images(size, crop), IMAGES, (None, None, None, 3), tf.uint8)
        for name, head in heads.items()
    }
    decode = prepare_files(size, crop)
    signatures[DEFAULT_SIGNATURE] = _concrete(classify, decode, IMAGE_BYTES, (None,), tf.string)
    module = tf.Module(name="tf_mtl_privacy")
    module.networks = _variables(bundles, reads_discriminator)
    return module, signatures


def missing_signatures(run: SavedRun, *, with_discriminator: bool = False) -> dict[str, str]:
    """Returns the signatures that an export lacks, each with a short reason."""
    missing, model = {}, run.config.train.model
    if run.bundle.restorer is None:
        missing[RESTORE] = f"the run's model ({model}) has no restorer"
    source = None if run.single_task else region_source(run.bundle)
    if source is None:
        missing[REGIONS] = f"the run's model ({model}) has neither mask nor discriminator"
    elif source == "discriminator" and not with_discriminator:
        missing[REGIONS] = (
            "without a mask the map needs the discriminator; add --include_discriminator to export "
            "it"
        )
    return missing


def networks_of(run: SavedRun) -> dict[str | None, Bundle]:
    """Returns the run's networks: by task for a single-task run, otherwise under None."""
    return dict(run.single_task.items()) or {None: run.bundle}


def _variables(bundles: Mapping[str | None, Bundle], discriminator: bool) -> list[tf.Variable]:
    """Returns the weights of all released networks as plain variables, without duplicates."""
    models: list[keras.Model] = []
    for bundle in bundles.values():
        models += [bundle.encoder, bundle.business]
        models += [bundle.restorer] if bundle.restorer is not None else []
        models += [bundle.discriminator] if discriminator and bundle.discriminator else []
    weights = {id(weight): weight.value for model in models for weight in model.variables}
    return list(weights.values())


def _concrete(
    head: Function, prepare: Prepare, key: str, shape: tuple[int | None, ...], dtype: Any
) -> tf.types.experimental.ConcreteFunction:
    """Traces `prepare` followed by `head` for a batch of any length."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(shape, dtype, name=key)])
    def serve(pictures: tf.Tensor) -> Outputs:
        return head(prepare(pictures))

    return serve.get_concrete_function()


def _classifier(
    bundles: Mapping[str | None, Bundle], classes: Mapping[str, tuple[str, ...]]
) -> Function:
    def classify(images: tf.Tensor) -> Outputs:
        outputs: Outputs = {}
        for bundle in bundles.values():
            features = bundle.encoder(to_float(images), training=False)
            for task, logits in bundle.business(features, training=False).items():
                names = tf.constant(list(classes[task]))
                outputs[probabilities_key(task)] = tf.nn.softmax(logits)
                outputs[label_key(task)] = tf.gather(names, tf.argmax(logits, axis=-1))
                outputs[classes_key(task)] = tf.broadcast_to(names, tf.shape(logits))
        return outputs

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


def _regions(bundle: Bundle) -> Function:
    read, is_probability = map_reader(bundle), region_source(bundle) == "mask"

    def sensitive_regions(images: tf.Tensor) -> Outputs:
        heat, _ = read(images)
        if not is_probability:
            # Evidence has no upper bound, so each map is divided by its own maximum.
            maximum = tf.reduce_max(heat, axis=(1, 2), keepdims=True)
            heat = tf.math.divide_no_nan(heat, maximum)
        return {MAP: heat}

    return sensitive_regions


def prepare_images(size: int, crop: str) -> Prepare:
    """Returns a function that prepares pixels as training prepares losslessly encoded files.

    It maps `[B, H, W, 3]` uint8 to `[B, size, size, 3]` uint8. When the graph runs, it raises
    `tf.errors.InvalidArgumentError` for no pictures or more than `MAX_REQUEST_ROWS`, and for sizes
    that `prepare_content` refuses.

    Args:
        size: height and width of the result, in pixels.
        crop: as for `prepare_content`. `inner` also crops pictures of the right size, because the
            answer must not depend on how a picture was sent.
    """

    def prepare(images: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(images, tf.int64)
        checks = [*_batch_check(shape[0]), *size_checks(shape[1], shape[2])]
        with tf.control_dependencies(checks):
            images = tf.identity(images)
        if crop == "inner":
            prepared = prepare_pixels(images, size, crop)
        else:
            # Preparing a picture of the right size would only take time and not change it.
            has_size = tf.reduce_all(shape[1:3] == size)
            prepared = tf.cond(has_size, lambda: images, lambda: prepare_pixels(images, size, crop))
        return tf.ensure_shape(prepared, (None, size, size, 3))

    return prepare


def prepare_files(size: int, crop: str) -> Prepare:
    """Returns a function that maps picture files `[B]` to `[B, size, size, 3]` uint8.

    The files may differ in size. Arguments and errors are those of `prepare_images`.
    """

    def prepare(contents: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(_batch_check(tf.size(contents, tf.int64))):
            contents = tf.identity(contents)
        return tf.map_fn(
            lambda content: prepare_content(content, size, crop),
            contents,
            parallel_iterations=_PARALLEL_DECODING,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )

    return prepare


def _batch_check(count: tf.Tensor) -> list[tf.Operation]:
    message = f"expected 1 to {MAX_REQUEST_ROWS} pictures in a request, not"
    return requiring((count >= 1) & (count <= MAX_REQUEST_ROWS), [message, count])
