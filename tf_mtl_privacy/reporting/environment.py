"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.results import commit, environment, hardware, versions

__all__ = ["commit", "environment", "hardware", "versions"]
