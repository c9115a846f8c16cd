"""Command `audit`: `python -m tf_mtl_privacy.audit --help`."""

from tf_mtl_privacy.cli.main import run

if __name__ == "__main__":
    run("audit")
