"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.runs import read_run

__all__ = ["read_run"]
