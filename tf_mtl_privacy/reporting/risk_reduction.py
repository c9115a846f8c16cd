"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.model_table import PAPER

__all__ = ["PAPER"]
