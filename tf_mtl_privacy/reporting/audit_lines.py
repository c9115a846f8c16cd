"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.sections.audit import audit_text as audit_table

__all__ = ["audit_table"]
