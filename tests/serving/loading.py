"""Loads an exported model without this package and writes what it answers into an .npz file.

`python loading.py MODEL INPUTS.npz OUTPUTS.npz`; inputs are named `<case>|<signature>|<input>`,
outputs `<case>|<signature>|<output>`. The file imports nothing of the package.
"""

import sys

import numpy as np


def main(model: str, inputs: str, outputs: str) -> None:
    # Any import of the package would fail.
    sys.modules["tf_mtl_privacy"] = None
    import tensorflow as tf

    loaded = tf.saved_model.load(model)
    found = {}
    with np.load(inputs, allow_pickle=False) as given:
        for name in given.files:
            case, signature, key = name.split("|")
            answer = loaded.signatures[signature](**{key: tensor(tf, given[name])})
            for output, value in answer.items():
                value = value.numpy()
                value = value.astype("S") if value.dtype == object else value
                found[f"{case}|{signature}|{output}"] = value
    np.savez(outputs, **found)


def tensor(tf, values):
    """Files are kept as rows of bytes with their lengths in front, as `.npz` cuts zeros off."""
    if values.ndim != 2:
        return tf.constant(values)
    lengths = values[:, :8].copy().view(np.int64)[:, 0]
    return tf.constant([row[8 : 8 + n].tobytes() for row, n in zip(values, lengths, strict=True)])


def packed(files: list[bytes]) -> np.ndarray:
    """The inverse of `tensor` for files."""
    rows = np.zeros((len(files), 8 + max(map(len, files))), np.uint8)
    for row, file in zip(rows, files, strict=True):
        row[:8] = np.array([len(file)], np.int64).view(np.uint8)
        row[8 : 8 + len(file)] = np.frombuffer(file, np.uint8)
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
