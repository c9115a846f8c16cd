"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.build import write_report

__all__ = ["write_report"]
