"""The data options of an exported model, which is all that is needed to ask it from outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.config import Config, DataConfig
from tf_mtl_privacy.config.data import as_recorded
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import newest_version, read_json

_FILE = "assets.extra/config.json"
_PLACES = ("data_dir", "cache_dir")


def exported_config(folder: str, given: Mapping[str, Any]) -> Config:
    """A configuration whose data is what the exported model was made from; the rest is usual.

    Args:
        folder: of the SavedModel, or of its numbered versions: the highest counts.
        given: options that were given; places come from here alone, as they are not exported.

    Raises:
        UsageError: a place is missing, or the exported configuration is of another kind.
    """
    newest = newest_version(folder, _FILE)
    if newest is None:
        return Config()
    saved = read_json(newest / _FILE)
    known = {field.name for field in dataclasses.fields(DataConfig)}
    try:
        data = as_recorded({k: value for k, value in saved["data"].items() if k in known})
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--saved_model={folder}: {_FILE} names no data") from error
    if given.get("dataset", data.get("dataset")) != data.get("dataset"):
        # Other data: nothing of it is the model's but the size, and the flags say the rest.
        return Config(data=DataConfig(image_size=data.get("image_size", DataConfig().image_size)))
    places = {name: given[name] for name in _PLACES if name in given}
    return Config(data=DataConfig(**{**data, **places}))
