"""One checkpoint that holds everything a killed run needs to go on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_mtl_privacy.errors import RunError


class Checkpoints:
    """Saves and restores named lists of variables together with a JSON record, atomically.

    The variables are handed over as flat lists of `tf.Variable`. Given a Keras 3 model instead,
    `tf.train.Checkpoint` would not find the slots that a tf-keras optimizer keeps for its
    variables: they would silently start from zero after a restore.

    The record (schedule, counters, history) is a string variable of the same checkpoint, so that
    weights and counters can never be of different moments.

    Args:
        folder: where the checkpoints live; made if missing.
        groups: name -> the variables of one model or optimizer, in a fixed order.
    """

    def __init__(self, folder: Path, groups: Mapping[str, Sequence[Any]]) -> None:
        self._record = tf.Variable("{}", dtype=tf.string, trainable=False)
        raw = {name: [_raw(variable) for variable in group] for name, group in groups.items()}
        self._shapes = json.dumps({n: [str(v.shape) for v in group] for n, group in raw.items()})
        self._layout = tf.Variable(self._shapes, dtype=tf.string, trainable=False)
        self._checkpoint = tf.train.Checkpoint(record=self._record, layout=self._layout, **raw)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=2)

    def save(self, record: Mapping[str, Any]) -> None:
        """Writes a new checkpoint and then forgets the oldest one.

        Raises:
            RunError: it cannot be written; the earlier checkpoint stays.
        """
        self._record.assign(json.dumps(record))
        try:
            self._manager.save()
        except (tf.errors.OpError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"cannot write a checkpoint to {self._manager.directory}: {reason}"
            ) from error

    def restore(self) -> dict[str, Any] | None:
        """Puts back the newest checkpoint and returns its record, or None where there is none.

        Raises:
            RunError: the newest checkpoint is damaged or belongs to other networks.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return None
        try:
            self._checkpoint.restore(path).assert_consumed()
        except (tf.errors.OpError, AssertionError, ValueError, IndexError, OSError) as error:
            raise RunError(
                f"checkpoint {path} does not fit this run or is damaged; move its run folder away "
                "to start anew"
            ) from error
        if self._layout.numpy().decode() != self._shapes:
            raise RunError(f"checkpoint {path} belongs to networks of other shapes")
        record: dict[str, Any] = json.loads(self._record.numpy().decode())
        return record


def _raw(variable: Any) -> tf.Variable:
    """The `tf.Variable` behind a Keras 3 variable, or the variable itself."""
    return variable if isinstance(variable, tf.Variable) else variable.value
