"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.runs import run_files

__all__ = ["run_files"]
