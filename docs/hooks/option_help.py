"""For the reference pages: an option shows its default, and its help and range describe it."""

from __future__ import annotations

import dataclasses
from typing import Any

import griffe

from tf_mtl_privacy.config import expectation, section_types

_FIELDS = {
    (kind.__name__, field.name): field
    for kind in section_types().values()
    for field in dataclasses.fields(kind)
}


class OptionHelp(griffe.Extension):
    """Describes `name: kind = option(default, help, ...)` as `--helpfull` does."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Replaces the call of `option` by its default, and documents the attribute."""
        field = _FIELDS.get((attr.parent.name if attr.parent else "", attr.name))
        if field is None:
            return
        attr.value = repr(field.default)
        limits = expectation(field)
        attr.docstring = griffe.Docstring(
            field.metadata["help"] + (f" Expected: `{limits}`." if limits else "")
        )
