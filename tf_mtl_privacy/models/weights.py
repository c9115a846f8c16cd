"""Reads, checks and writes weight files by layer name. HDF5 only: nothing is unpickled or run."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np

from tf_mtl_privacy.errors import RunError

LayerWeights = dict[str, list[np.ndarray]]


def read_weights(path: str | os.PathLike[str]) -> LayerWeights:
    """Layer name -> its arrays, in the order of `layer.weights`; layers without any are left out.

    Reads `.weights.h5` (Keras 3), `.h5` (Keras 2, as `keras.applications` distributes) and
    `.keras` archives, of which only the weights are looked at.

    Raises:
        ValueError: not such a file; the message says so in a few words.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = archive.read("model.weights.h5")
            with h5py.File(io.BytesIO(content), "r") as file:
                return _read(file)
        with h5py.File(path, "r") as file:
            return _read(file)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError("not a readable Keras weights file") from error


def misfit(
    model: keras.Model,
    found: LayerWeights,
    *,
    optional: tuple[str, ...] = (),
    allow_extra: bool = False,
) -> str:
    """What keeps `found` from being all of `model`'s weights, in words; empty if nothing does."""
    wanted = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in model.layers}
    wanted = {name: shapes for name, shapes in wanted.items() if shapes}
    for name, shapes in wanted.items():
        if name not in found:
            if name in optional:
                continue
            return f"it has no layer {name}"
        present = [array.shape for array in found[name]]
        if present != shapes:
            return f"layer {name} has shapes {_text(present)}, expected {_text(shapes)}"
        if not all(np.isfinite(array).all() for array in found[name]):
            return f"layer {name} has values that are not finite"
    extra = [name for name in found if name not in wanted]
    return f"it has a layer {extra[0]} too many" if extra and not allow_extra else ""


def assign_weights(model: keras.Model, found: LayerWeights) -> None:
    """Sets every layer of `model` that `found` names; check with `misfit` first."""
    for layer in model.layers:
        if layer.weights and layer.name in found:
            layer.set_weights(found[layer.name])


def save_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes `model`'s weights as `.weights.h5`, under a temporary name first.

    Raises:
        RunError: the file cannot be written; what stood there stays.
    """
    target = Path(path)
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        model.save_weights(temporary, overwrite=True)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _read(file: h5py.File) -> LayerWeights:
    top = file.get("model_weights", file)
    found = _read_keras2(top) if "layer_names" in top.attrs else _read_keras3(file)
    if not found:
        raise KeyError("no weights")
    return found


def _read_keras2(top: h5py.Group) -> LayerWeights:
    found: LayerWeights = {}
    for name in map(_decoded, top.attrs["layer_names"]):
        arrays = [top[name][_decoded(w)][()] for w in top[name].attrs["weight_names"]]
        if arrays:
            found[name] = arrays
    return found


def _read_keras3(file: h5py.File) -> LayerWeights:
    found: LayerWeights = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        # Keras numbers the groups by class; the layer's own name is an attribute.
        if path.rpartition("/")[2] != "vars" or not isinstance(item, h5py.Group):
            return
        name, numbers = _decoded(item.attrs.get("name", "")), sorted(item, key=int)
        if name and numbers:
            found[name] = [item[number][()] for number in numbers]

    file.visititems(visit)
    return found


def _decoded(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def _text(shapes: list[tuple[int, ...]]) -> str:
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
