"""Names shared by exported models, servers and clients. Imports no TensorFlow."""

from __future__ import annotations

# The signature that servers use if a request names none; its input is picture files.
DEFAULT_SIGNATURE = "serving_default"
CLASSIFY, ENCODE, RESTORE, REGIONS = "classify", "encode", "restore", "sensitive_regions"
# Inputs: files as strings [B], or uint8 pixels [B, H, W, 3].
IMAGE_BYTES, IMAGES = "image_bytes", "images"
# Outputs of the last three signatures; those of the first two are named after the tasks.
FEATURES, RESTORED, MAP = "features", "restored", "map"

EXTRA_FOLDER = "assets.extra"
CARD_FILE, CONFIG_FILE = "privacy_card.json", "config.json"
LABELS_FILE, CHECKSUMS_FILE = "labels.json", "checksums.json"
WARMUP_FILE = "tf_serving_warmup_requests"

# Pictures in one request; more are refused, so that one request cannot take all memory.
MAX_REQUEST_ROWS = 256


def probabilities_key(task: str) -> str:
    """Returns the name of the output with a task's probabilities, float32 `[B, classes]`."""
    return f"{task}_probabilities"


def label_key(task: str) -> str:
    """Returns the name of the output with a task's most probable class, string `[B]`."""
    return f"{task}_label"


def classes_key(task: str) -> str:
    """Returns the name of the output with a task's class names, in the order of probabilities.

    The output is string `[B, classes]`, the same in each row: clients have no other way to learn
    the class names from a server.
    """
    return f"{task}_classes"


def features_key(task: str | None = None) -> str:
    """Returns the name of the output with the features; single-task runs have one per task."""
    return FEATURES if task is None else f"{task}_{FEATURES}"


# Outputs of one task.
OUTPUTS_OF_TASK = (probabilities_key, label_key, classes_key)
