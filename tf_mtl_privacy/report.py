"""Command `report`: `python -m tf_mtl_privacy.report --help`."""

from tf_mtl_privacy.cli.main import run

if __name__ == "__main__":
    run("report")
