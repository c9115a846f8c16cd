"""Configuration of a run as frozen, validated dataclasses.

Each option is one field, and its name is also the name of its command-line flag. The package
imports neither TensorFlow nor absl.
"""

from tf_mtl_privacy.config.data import DataConfig
from tf_mtl_privacy.config.model import ModelConfig
from tf_mtl_privacy.config.options import expectation
from tf_mtl_privacy.config.privacy import PrivacyConfig
from tf_mtl_privacy.config.removal import RemovalConfig
from tf_mtl_privacy.config.run import (
    AUDIT_FILE,
    AUDIT_FOLDER,
    CONFIG_FILE,
    LABELS_FILE,
    METRICS_FILE,
    RESULTS_FILE,
    Config,
    section_types,
)
from tf_mtl_privacy.config.train import GameConfig, LossConfig, TrainConfig

__all__ = [
    "AUDIT_FILE",
    "AUDIT_FOLDER",
    "CONFIG_FILE",
    "LABELS_FILE",
    "METRICS_FILE",
    "RESULTS_FILE",
    "Config",
    "DataConfig",
    "GameConfig",
    "LossConfig",
    "ModelConfig",
    "PrivacyConfig",
    "RemovalConfig",
    "TrainConfig",
    "expectation",
    "section_types",
]
