"""What lies beside the graph in `assets.extra/`: privacy card, configuration, labels, checksums.

Files that run TensorFlow Serving on an exported model: its configuration, and for Docker.

Sources: TensorFlow Serving, "Configuration" (its model_server_config.proto, session_bundle_config
.proto and monitoring_config.proto) and "TensorFlow Serving with Docker". The image's entry point
adds `--model_name`, `--port=8500` and `--rest_api_port=8501`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.sources.base import content_hash
from tf_mtl_privacy.files import write_atomic, write_json
from tf_mtl_privacy.removal.noise import has_noise
from tf_mtl_privacy.serving_signature import (
    CARD_FILE,
    CHECKSUMS_FILE,
    CONFIG_FILE,
    EXTRA_FOLDER,
    LABELS_FILE,
    LARGEST_BATCH,
    REGIONS,
)
from tf_mtl_privacy.training.region_maps import region_source
from tf_mtl_privacy.training.saved_run import SavedRun

Signatures = Mapping[str, tf.types.experimental.ConcreteFunction]


def write_extra(
    folder: Path, run: SavedRun, labels: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
    """Writes all but the warm-up requests and the checksums.

    Args:
        folder: `assets.extra`.
        run: what is exported.
        labels: see `describe`.
        card: the privacy card.
    """
    write_json(folder / CARD_FILE, dict(card))
    write_json(folder / CONFIG_FILE, without_places(run.config).to_dict())
    write_json(folder / LABELS_FILE, dict(labels))


def describe(
    run: SavedRun, signatures: Signatures, missing: Mapping[str, str], name: str, version: int
) -> dict[str, Any]:
    """What a client has to know of a model, JSON-ready; the classes that are private are not in it.

    Args:
        run: what is exported.
        signatures: by name.
        missing: signatures that it does not have -> why.
        name: the model's name.
        version: its number.

    Returns:
        `schema_version`, `name`, `version`, `tasks` (a list in order: `task` and its `classes`, in
        the order of their probabilities), `image_size`,
        `crop` (how pictures are prepared), `largest_batch`, `stochastic` (whether answers differ
        from call to call, by the noise on the features), `region_source` (what the map is made of;
        null without one), `signatures` (name -> inputs and outputs, each with dtype and shape, null
        for any length) and `missing_signatures`.
    """
    return {
        "schema_version": 1,
        "name": name,
        "version": version,
        "tasks": [
            {"task": task, "classes": list(classes)} for task, classes in run.task_classes.items()
        ],
        "image_size": run.config.data.image_size,
        "crop": run.config.data.effective_crop,
        "largest_batch": LARGEST_BATCH,
        "stochastic": has_noise(run.bundle.encoder),
        "region_source": region_source(run.bundle) if REGIONS in signatures else None,
        "signatures": {key: _interface(function) for key, function in signatures.items()},
        "missing_signatures": dict(missing),
    }


def without_places(config: Config) -> Config:
    """The configuration without the folders of the machine that trained it: their names only."""
    data = dataclasses.replace(config.data, cache_dir="", data_dir=Path(config.data.data_dir).name)
    weights = Path(config.model.encoder_weights).name
    model = dataclasses.replace(
        config.model, backbone=Path(config.model.backbone).name, encoder_weights=weights
    )
    perceptual = Path(config.loss.perceptual_weights).name
    loss = dataclasses.replace(config.loss, perceptual_weights=perceptual)
    return dataclasses.replace(config, data=data, model=model, loss=loss)


def write_checksums(folder: Path) -> None:
    """Writes the SHA-256 (hex) of every file of a version, by its path in it, but for its own."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): content_hash(path) for path in files}
    write_json(folder / EXTRA_FOLDER / CHECKSUMS_FILE, sums)


def _interface(function: tf.types.experimental.ConcreteFunction) -> dict[str, Any]:
    inputs = {
        spec.name: spec for spec in function.structured_input_signature[0]
    } | function.structured_input_signature[1]
    outputs = function.structured_outputs
    return {"inputs": _tensors(inputs), "outputs": _tensors(outputs)}


def _tensors(named: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list()}
        for name, tensor in sorted(named.items())
    }


GRPC_PORT, REST_PORT = 8500, 8501
METRICS_PATH = "/monitoring/prometheus/metrics"
_BATCH = 32

MODELS_FILE, BATCHING_FILE = "models.config", "batching_parameters.txt"
MONITORING_FILE, DOCKERFILE = "monitoring.config", "Dockerfile"
COMPOSE_FILE, IGNORE_FILE = "compose.yaml", ".dockerignore"


def server_files(name: str, serving_version: str) -> dict[str, str]:
    """File name -> content.

    Args:
        name: the model's name; letters, digits, `_` and `-` only.
        serving_version: tag of the image tensorflow/serving.
    """
    return {
        MODELS_FILE: _models(name),
        BATCHING_FILE: _batching(),
        MONITORING_FILE: f'prometheus_config {{\n  enable: true\n  path: "{METRICS_PATH}"\n}}\n',
        DOCKERFILE: _dockerfile(name, serving_version),
        COMPOSE_FILE: _compose(name, serving_version),
        IGNORE_FILE: f".*\n{DOCKERFILE}\n{COMPOSE_FILE}\ndevice\n",
    }


def write_server_files(folder: Path, name: str, serving_version: str) -> list[str]:
    """Writes those that are not there; returns the names of those that are there and differ."""
    kept = []
    for file, content in server_files(name, serving_version).items():
        path = folder / file
        if not path.exists():
            write_atomic(path, content)
        elif path.read_bytes() != content.encode():
            kept.append(file)
    return kept


def health_check(name: str) -> str:
    """A line of bash that ends with 0 where a version of the model answers.

    The image has neither curl nor Python; bash opens the connection itself.
    """
    return (
        f"exec 3<>/dev/tcp/127.0.0.1/{REST_PORT} && "
        f"printf 'GET /v1/models/{name} HTTP/1.0\\r\\n\\r\\n' >&3 && grep -qw AVAILABLE <&3"
    )


def _models(name: str) -> str:
    return f"""model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{
      latest {{
        num_versions: 1
      }}
    }}
  }}
}}
"""


def _batching() -> str:
    """Not switched on by the other files: docs/export.md says when it may be."""
    sizes = [2**power for power in range(_BATCH.bit_length())]
    allowed = "".join(f"allowed_batch_sizes: {size}\n" for size in sizes)
    return f"""max_batch_size {{ value: {_BATCH} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 64 }}
num_batch_threads {{ value: 2 }}
{allowed}"""


def _arguments(name: str) -> list[str]:
    return [
        f"--model_config_file=/models/{name}/{MODELS_FILE}",
        f"--monitoring_config_file=/models/{name}/{MONITORING_FILE}",
    ]


def _dockerfile(name: str, version: str) -> str:
    arguments = ", ".join(f'"{argument}"' for argument in _arguments(name))
    check = health_check(name).replace("\\", "\\\\")
    publish = f"127.0.0.1:{REST_PORT}:{REST_PORT}"
    return f"""# docker build --tag={name} . && docker run --publish={publish} {name}
ARG SERVING_VERSION={version}
FROM tensorflow/serving:${{SERVING_VERSION}}
ENV MODEL_NAME={name}
# Only the owner may read the exported files.
COPY --chown=65534:65534 . /models/{name}
USER 65534:65534
EXPOSE {GRPC_PORT} {REST_PORT}
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \\
  CMD ["bash", "-c", "{check}"]
CMD [{arguments}]
"""


def _compose(name: str, version: str) -> str:
    arguments = "".join(f"      - {argument}\n" for argument in _arguments(name))
    check = health_check(name)
    return f"""# docker compose up: serves the versions in this folder, and new ones as they appear.
services:
  {name}:
    image: tensorflow/serving:${{SERVING_VERSION:-{version}}}
    environment:
      MODEL_NAME: {name}
    command:
{arguments}    ports:
      - 127.0.0.1:{GRPC_PORT}:{GRPC_PORT}
      - 127.0.0.1:{REST_PORT}:{REST_PORT}
    volumes:
      - ./:/models/{name}:ro
    read_only: true
    security_opt:
      - no-new-privileges:true
    restart: unless-stopped
    healthcheck:
      test:
        - CMD
        - bash
        - -c
        - {check}
      interval: 10s
      timeout: 5s
      start_period: 60s
      retries: 3
"""
