"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.sections.summary import files_lines as file_lines
from tf_mtl_privacy.reporting.sections.summary import results_text as results_table

__all__ = ["file_lines", "results_table"]
