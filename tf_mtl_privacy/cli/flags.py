"""Parses command-line flags into a configuration. No other module defines flags.

Each option of the configuration's dataclasses is a flag of the same name. Each parse uses its own
flag registry, so the flags of TensorFlow and TFDS never mix in and commands can share a process.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tf_mtl_privacy.cli.commands import COMMANDS, Command
from tf_mtl_privacy.cli.flagfiles import Argument, expand
from tf_mtl_privacy.cli.help import help_text
from tf_mtl_privacy.cli.options import Parsed
from tf_mtl_privacy.cli.prepare import PrepareOptions
from tf_mtl_privacy.config import CONFIG_FILE, Config, DataConfig, expectation, section_types
from tf_mtl_privacy.config.data import as_recorded
from tf_mtl_privacy.config.renamed import RENAMED_OPTIONS
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import newest_version, read_json

# Options that a data set of another name does not inherit from the run's own.
_TIED_TO_DATASET = (
    "data_dir",
    "tasks",
    "private_label",
    "train_rows",
    "validation_rows",
    "test_rows",
    "split_version",
    "bins",
    "class_order",
)

_EXPORTED_FILE = "assets.extra/config.json"
# Options that name a folder; options that are a word or name a file.
_FOLDERS = ("data_dir", "cache_dir", "backbone")
_FILES = ("encoder_weights", "perceptual_weights")


class HelpRequested(Exception):  # noqa: N818 - not an error
    """`--help` or `--helpfull` was given; the text is the exception's only argument."""


def parse(name: str, argv: Sequence[str]) -> Parsed:
    """Parses a command's arguments (without the program's name).

    Old names of flags are accepted, with a note on standard error.

    Args:
        name: a key of `COMMANDS`.
        argv: the arguments; a later flag wins over an earlier one, and the flags of a flagfile
            count where the flagfile is named.

    Raises:
        HelpRequested: `--help` or `--helpfull` is among them.
        UsageError: one line that names the flag, its value and what was expected.
    """
    command = COMMANDS[name]
    before_separator = list(argv)[: argv.index("--")] if "--" in argv else list(argv)
    for argument in before_separator:
        if argument in ("--helpfull", "-helpfull", "--help", "-help", "-h", "-?"):
            raise HelpRequested(help_text(name, full=argument.endswith("full")))
    values = _define(command)
    arguments = _with_new_names(expand(argv), values)
    positional = _read(name, values, arguments)
    explicit = {flag: values[flag].value for flag in values if values[flag].present}
    explicit |= _absolute(explicit)
    options = _options(name, command, explicit, positional)
    config, other_data = _configuration(name, command, options, explicit)
    return Parsed(config, options, frozenset(explicit), other_data)


def _with_new_names(arguments: list[Argument], values: flags.FlagValues) -> list[Argument]:
    """Replaces old names of the command's flags, and notes each of them once.

    Raises:
        UsageError: a flag is given under its old and its new name.
    """
    flag_names = [_flag_name(argument) for argument in arguments]
    end = next(
        (k for k, argument in enumerate(arguments) if argument.text == "--"), len(flag_names)
    )
    given = set(flag_names[:end])
    result = list(arguments)
    noted: set[str] = set()
    for place, old in enumerate(flag_names[:end]):
        renamed = RENAMED_OPTIONS.get(old)
        if renamed is None or old in values or renamed.name not in values:
            continue
        if renamed.name in given:
            raise UsageError(
                f"--{old}{_place(old, arguments)}: is the old name of --{renamed.name}, which is "
                "given, too; leave out one of them"
            )
        text, origin = arguments[place]
        _, equals, value = text.partition("=")
        if equals:
            result[place] = Argument(f"--{renamed.name}={renamed.convert(value)}", origin)
        else:
            result[place] = Argument(f"--{renamed.name}", origin)
            if place + 1 < end:
                value, origin = arguments[place + 1]
                result[place + 1] = Argument(renamed.convert(value), origin)
        if old not in noted:
            noted.add(old)
            print(f"note: {renamed.note(old)}", file=sys.stderr, flush=True)
    return result


def _flag_name(argument: Argument) -> str:
    text = argument.text
    return text.lstrip("-").partition("=")[0] if text.startswith("-") else ""


def _define(command: Command) -> flags.FlagValues:
    values = flags.FlagValues()
    sections = [section_types()[name] for name in command.sections]
    for owner in (command.options, *sections):
        for field in dataclasses.fields(owner):
            shared = {"flag_values": values}
            name, default, text = field.name, field.default, field.metadata["help"]
            if isinstance(default, bool):
                flags.DEFINE_boolean(name, default, text, **shared)
                values[name].parser = _BooleanParser()
            elif isinstance(default, tuple):
                flags.DEFINE_multi_string(name, list(default), text, **shared)
            elif isinstance(default, (int, float)):
                parser = _NumberParser(type(default), expectation(field))
                flags.DEFINE(parser, name, default, text, **shared)
            else:
                flags.DEFINE_string(name, default, text, **shared)
    values.set_gnu_getopt(True)
    return values


class _BooleanParser(flags.BooleanParser):
    def parse(self, argument: Any) -> Any:
        try:
            return super().parse(argument)
        except (TypeError, ValueError):
            raise ValueError("expected true or false") from None


class _NumberParser(flags.ArgumentParser):
    """Reads an int or a float; its error states the allowed range."""

    def __init__(self, kind: type, allowed: str) -> None:
        super().__init__()
        self._kind = kind
        noun = "an integer" if kind is int else "a number"
        self._expected = f"expected {noun} {allowed}".rstrip()

    def parse(self, argument: Any) -> Any:
        try:
            return self._kind(argument)
        except (TypeError, ValueError):
            raise ValueError(self._expected) from None


def _read(command: str, values: flags.FlagValues, arguments: list[Argument]) -> list[str]:
    """Parses into `values` and returns the arguments without a flag."""
    for argument in arguments:
        if _flag_name(argument) == "undefok":
            raise _unknown(command, "undefok", values, arguments)
    try:
        return values([command, *(argument.text for argument in arguments)])[1:]
    except flags.UnrecognizedFlagError as error:
        raise _unknown(command, error.flagname, values, arguments) from None
    except (flags.Error, ValueError) as error:
        text = str(error).removeprefix("flag ").removeprefix("Missing value for flag ")
        if "Missing value" in str(error):
            text += ": expected a value, --name=value"
        name = text.lstrip("-").split("=")[0].split(":")[0].split(" ")[0]
        raise UsageError(text + _place(name, arguments)) from None


def _unknown(
    command: str, name: str, values: flags.FlagValues, arguments: list[Argument]
) -> UsageError:
    close = difflib.get_close_matches(name, list(values), n=1)
    hint = f"did you mean --{close[0]}?" if close else f"see {command} --help"
    if any(name == field.name for s in section_types().values() for field in dataclasses.fields(s)):
        hint = f"it is a flag of train, not of {command}"
    return UsageError(f"--{name}{_place(name, arguments)}: unknown flag; {hint}")


def _place(name: str, arguments: list[Argument]) -> str:
    for argument in reversed(arguments):
        if _flag_name(argument) == name and argument.origin:
            return f" (in {argument.origin})"
    return ""


def _absolute(explicit: dict[str, Any]) -> dict[str, Any]:
    """Returns the given paths as absolute ones: a saved configuration must work anywhere."""
    places = {name: explicit[name] for name in _FOLDERS if explicit.get(name)}
    for name in _FILES:
        value = explicit.get(name)
        if value and Path(value).expanduser().is_file():
            places[name] = value
    return {name: os.path.abspath(os.path.expanduser(value)) for name, value in places.items()}


def _options(
    command_name: str, command: Command, explicit: dict[str, Any], positional: list[str]
) -> Any:
    names = {field.name: field.default for field in dataclasses.fields(command.options)}
    given = {name: value for name, value in explicit.items() if name in names}
    for name, default in names.items():
        if isinstance(default, tuple):
            given[name] = tuple(given.get(name) or ())
    if command.positional:
        given[command.positional] += tuple(positional)
        if not given[command.positional]:
            raise UsageError(
                f"{command_name} needs at least one --{command.positional}=PATH, an image file or "
                "a folder of them"
            )
    elif positional:
        first = positional[0]
        hint = f"{command_name} takes --name=value only"
        if first.endswith(".cfg"):
            hint = f"did you mean --flagfile={first}?"
        raise UsageError(f"{first!r}: unexpected argument; {hint}")
    return command.options(**given)


def _configuration(
    command_name: str, command: Command, options: Any, explicit: dict[str, Any]
) -> tuple[Config, DataConfig | None]:
    """Returns the configuration, and the data to evaluate on if it is another."""
    # Predictions by a server need no run.
    asks_server = bool(getattr(options, "server", None))
    if not command.reads_run or asks_server:
        if not command.sections:
            return Config(), None
        base = _load("config", options.config) if options.config else Config()
        if isinstance(options, PrepareOptions):
            # Data is prepared for any model; data without a private label (lfw) is, too.
            explicit = explicit | {"model": "stl"}
        return _override(base, explicit), None
    exported = getattr(options, "saved_model", "")
    if not exported:
        _check_run_dir(command_name, options, "run_dir" in explicit)
    config = exported_config(exported, explicit) if exported else _load("run_dir", options.run_dir)
    names = {field.name for field in dataclasses.fields(DataConfig)} & set(explicit)
    if not names:
        return config, None
    changes = {name: explicit[name] for name in names}
    if changes.get("dataset", config.data.dataset) != config.data.dataset:
        fresh = {field.name: field.default for field in dataclasses.fields(DataConfig)}
        changes = {name: fresh[name] for name in _TIED_TO_DATASET} | changes
    return config, dataclasses.replace(config.data, **changes)


def _check_run_dir(command: str, options: Any, is_given: bool) -> None:
    """Raises UsageError if the folder is not a run folder; the message names the alternatives."""
    folder = Path(options.run_dir)
    others = {
        "server": ", or --server=http://HOST:PORT of a served model",
        "saved_model": ", or --saved_model=FOLDER of an exported model",
    }
    other = "".join(text for name, text in others.items() if hasattr(options, name))
    if not is_given and not folder.is_dir():
        raise UsageError(
            f"{command} needs a trained run: give --run_dir=RUN_DIR{other} ({folder}, where train "
            "writes without --run_dir, does not exist)"
        )
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "no such folder"
        raise UsageError(f"--run_dir={folder}: {problem}; give the folder of a trained run{other}")
    if not (folder / CONFIG_FILE).is_file():
        raise UsageError(
            f"--run_dir={folder}: is not a run folder (no {CONFIG_FILE}); give the --run_dir that "
            f"train wrote to{other}"
        )


def _load(flag: str, given: str) -> Config:
    path = Path(given) / CONFIG_FILE if Path(given).is_dir() else Path(given)
    try:
        return Config.from_dict(read_json(path))
    except (RunError, UsageError) as error:
        raise UsageError(f"--{flag}={given}: {error}") from error


def _override(base: Config, explicit: dict[str, Any]) -> Config:
    """Returns `base` with the given flags applied, validated as a whole."""
    sections = base.to_dict()
    for values in sections.values():
        values.update({name: explicit[name] for name in values if name in explicit})
    return Config.from_dict(sections)


def exported_config(folder: str, given: Mapping[str, Any]) -> Config:
    """Returns a configuration with the data options of an exported model, and defaults otherwise.

    Args:
        folder: of the SavedModel, or of its numbered versions (the highest counts).
        given: options that were given. `data_dir` and `cache_dir` come from here only, because
            they are not exported.

    Raises:
        UsageError: a folder is missing, or the exported configuration names no data.
    """
    newest = newest_version(folder, _EXPORTED_FILE)
    if newest is None:
        return Config()
    saved = read_json(newest / _EXPORTED_FILE)
    known = {field.name for field in dataclasses.fields(DataConfig)}
    try:
        data = as_recorded({k: value for k, value in saved["data"].items() if k in known})
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--saved_model={folder}: {_EXPORTED_FILE} names no data") from error
    if given.get("dataset", data.get("dataset")) != data.get("dataset"):
        # Other data shares only the image size with the model; the flags say the rest.
        return Config(data=DataConfig(image_size=data.get("image_size", DataConfig().image_size)))
    places = {name: given[name] for name in ("data_dir", "cache_dir") if name in given}
    return Config(data=DataConfig(**{**data, **places}))
