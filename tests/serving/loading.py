"""Loads an exported model without this package and writes its outputs to an .npz file.

`python loading.py MODEL INPUTS.npz OUTPUTS.npz`; inputs are named `<case>|<signature>|<input>`,
outputs `<case>|<signature>|<output>`. The file imports nothing from the package.
"""

import sys

import numpy as np


def main(model: str, inputs: str, outputs: str) -> None:
    # Makes any import of the package fail.
    sys.modules["tf_mtl_privacy"] = None
    import tensorflow as tf

    loaded = tf.saved_model.load(model)
    results = {}
    with np.load(inputs, allow_pickle=False) as given:
        for name in given.files:
            case, signature, key = name.split("|")
            answer = loaded.signatures[signature](**{key: tensor(tf, given[name])})
            for output, value in answer.items():
                value = value.numpy()
                value = value.astype("S") if value.dtype == object else value
                results[f"{case}|{signature}|{output}"] = value
    np.savez(outputs, **results)


def tensor(tf, values):
    """Unpacks files: rows of bytes that start with the length, as `.npz` strips trailing zeros."""
    if values.ndim != 2:
        return tf.constant(values)
    lengths = values[:, :8].copy().view(np.int64)[:, 0]
    return tf.constant([row[8 : 8 + n].tobytes() for row, n in zip(values, lengths, strict=True)])


def packed(files: list[bytes]) -> np.ndarray:
    """Packs files for `tensor`."""
    rows = np.zeros((len(files), 8 + max(map(len, files))), np.uint8)
    for row, file in zip(rows, files, strict=True):
        row[:8] = np.array([len(file)], np.int64).view(np.uint8)
        row[8 : 8 + len(file)] = np.frombuffer(file, np.uint8)
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
