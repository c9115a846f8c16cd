"""Command `evaluate`: `python -m tf_mtl_privacy.evaluate --help`."""

from tf_mtl_privacy.cli.main import run

if __name__ == "__main__":
    run("evaluate")
