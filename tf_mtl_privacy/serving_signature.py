"""Names that an exported model, its servers and its clients agree on; no TensorFlow in here."""

from __future__ import annotations

# The signature that servers use where a request names none, fed with whole picture files.
DEFAULT_SIGNATURE = "serving_default"
CLASSIFY, ENCODE, RESTORE, REGIONS = "classify", "encode", "restore", "sensitive_regions"
SIGNATURES = (DEFAULT_SIGNATURE, CLASSIFY, ENCODE, RESTORE, REGIONS)
# Inputs: files as strings [B], or uint8 pixels [B, H, W, 3].
IMAGE_BYTES, IMAGES = "image_bytes", "images"
# Outputs of the last three; of the first two they are named after the tasks.
FEATURES, RESTORED, MAP = "features", "restored", "map"

EXTRA_FOLDER = "assets.extra"
CARD_FILE, CONFIG_FILE = "privacy_card.json", "config.json"
LABELS_FILE, CHECKSUMS_FILE = "labels.json", "checksums.json"
WARMUP_FILE = "tf_serving_warmup_requests"

# Pictures in one request; more are refused, so that one request cannot take all memory.
MAX_REQUEST_ROWS = 256


def probabilities_key(task: str) -> str:
    """Output with a task's probabilities, float32 `[B, classes]`."""
    return f"{task}_probabilities"


def label_key(task: str) -> str:
    """Output with the name of a task's most probable class, string `[B]`."""
    return f"{task}_label"


def classes_key(task: str) -> str:
    """Output with the names of all of a task's classes, in the order of their probabilities.

    String `[B, classes]`, the same in each row: a server gives away nothing else from which a
    client could learn them.
    """
    return f"{task}_classes"


def features_key(task: str | None = None) -> str:
    """Output with the features; a single-task run has an encoder, and features, for each task."""
    return FEATURES if task is None else f"{task}_{FEATURES}"


# All that is said of one task.
OUTPUTS_OF_TASK = (probabilities_key, label_key, classes_key)
