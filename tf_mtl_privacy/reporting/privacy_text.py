"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.runs import STATEMENT_FILE
from tf_mtl_privacy.reporting.sections.privacy import privacy_text

__all__ = ["STATEMENT_FILE", "privacy_text"]
