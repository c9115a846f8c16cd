"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.sections.privacy import epsilon_text

__all__ = ["epsilon_text"]
