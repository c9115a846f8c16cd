"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.render_markdown import markdown_table
from tf_mtl_privacy.reporting.sections.comparison import model_table_markdown, model_table_text

__all__ = ["markdown_table", "model_table_markdown", "model_table_text"]
