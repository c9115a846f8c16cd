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
    return tf.constant([value[:-1] for value in values] if values.dtype.kind == "S" else values)


def packed(files: list[bytes]) -> np.ndarray:
    """Files as fixed-width strings, with an end mark, because `.npz` strips trailing zeros."""
    return np.array([file + b"." for file in files])


if __name__ == "__main__":
    main(*sys.argv[1:])
