"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.reporting.sections.privacy import card_text as privacy_card_text

__all__ = ["privacy_card_text"]
