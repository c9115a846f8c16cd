"""Texts of `--help` and `--helpfull`."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from tf_mtl_privacy.cli.commands import COMMANDS
from tf_mtl_privacy.config import expectation, section_types

_WIDTH = 96
_INDENT = 30


def commands_text() -> str:
    """Returns the list of commands, for `tf-mtl-privacy --help`."""
    lines = [f"  {name:<12}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tf-mtl-privacy COMMAND [--flagfile=FILE] [--name=value ...]",
            "",
            "Commands:",
            *lines,
            "",
            "tf-mtl-privacy COMMAND --help shows the flags of a command.",
            "",
        ]
    )


def help_text(name: str, full: bool = False) -> str:
    """Returns the help of a command; `full` adds each option's whole text, range and default."""
    command = COMMANDS[name]
    positional = f" [{command.positional.upper()} ...]" if command.positional else ""
    parts = [
        f"usage: python -m tf_mtl_privacy.{name} [--flagfile=FILE] [--name=value ...]{positional}",
        "",
        command.summary,
        "",
        f"Flags of {name}:",
        _entry("flagfile", "File with one flag per line, your own or a shipped one.", ""),
        *[_describe(field, full) for field in dataclasses.fields(command.options)],
    ]
    for section_name in command.sections:
        section = section_types()[section_name]
        title = (section.__doc__ or section_name).splitlines()[0].rstrip(".")
        parts += ["", f"{title}:"]
        parts += [_describe(field, full) for field in dataclasses.fields(section)]
    if not full:
        parts += ["", "--helpfull shows every flag with its range and default."]
    return "\n".join(parts) + "\n"


def _describe(field: dataclasses.Field[Any], full: bool) -> str:
    text = field.metadata["help"]
    if not full:
        choices = field.metadata.get("choices")
        details = f"({', '.join(choices)})" if choices else ""
        return _entry(field.name, text.split(". ")[0].split("; ")[0].rstrip("."), details)
    allowed = expectation(field) or {bool: "true or false", str: "text"}.get(type(field.default))
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    details = f"({allowed}; default {default!r})" if allowed else f"(default {default!r})"
    return _entry(field.name, text, details)


def _entry(name: str, text: str, details: str) -> str:
    label = f"  --{name}"
    separator = " " * (_INDENT - len(label)) if len(label) < _INDENT - 1 else "\n" + " " * _INDENT
    lines = textwrap.wrap(f"{text} {details}".strip(), _WIDTH - _INDENT) or [""]
    return label + separator + ("\n" + " " * _INDENT).join(lines)
