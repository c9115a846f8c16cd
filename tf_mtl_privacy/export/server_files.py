"""Files that run TensorFlow Serving on an exported model: its configuration, and for Docker.

Sources: TensorFlow Serving, "Configuration" (model_server_config.proto,
session_bundle_config.proto, monitoring_config.proto) and "TensorFlow Serving with Docker". The
image's entry point adds `--model_name`, `--port=8500` and `--rest_api_port=8501`.
"""

from __future__ import annotations

from pathlib import Path

from tf_mtl_privacy.files import write_atomic

GRPC_PORT, REST_PORT = 8500, 8501
METRICS_PATH = "/monitoring/prometheus/metrics"
# Batching parameters.
_MAX_BATCH_SIZE = 32

MODELS_FILE, BATCHING_FILE = "models.config", "batching_parameters.txt"
MONITORING_FILE, DOCKERFILE = "monitoring.config", "Dockerfile"
COMPOSE_FILE, IGNORE_FILE = "compose.yaml", ".dockerignore"


def server_files(name: str, serving_version: str) -> dict[str, str]:
    """Returns file name -> content.

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
    """Writes missing files; existing ones are never overwritten.

    Returns:
        Names of existing files with different content.
    """
    changed = []
    for file, content in server_files(name, serving_version).items():
        path = folder / file
        if not path.exists():
            write_atomic(path, content)
        elif path.read_bytes() != content.encode():
            changed.append(file)
    return changed


def health_check(name: str) -> str:
    """Returns a line of bash that exits with 0 if a version of the model is available.

    The image has neither curl nor Python, so bash opens the connection itself.
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
    """Batching is off by default; docs/export.md describes when it is safe to enable."""
    sizes = [2**power for power in range(_MAX_BATCH_SIZE.bit_length())]
    allowed = "".join(f"allowed_batch_sizes: {size}\n" for size in sizes)
    return f"""max_batch_size {{ value: {_MAX_BATCH_SIZE} }}
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
# Exported files are readable by their owner only.
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
