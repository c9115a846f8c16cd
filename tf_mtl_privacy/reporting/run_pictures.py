"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.pictures import write_pictures

__all__ = ["write_pictures"]
