"""Command-line flags -> configuration. The only place where flags are defined.

Every option of the configuration's dataclasses is a flag of the same name. Each parse has flags of
its own, so that those of TensorFlow and TFDS never mix in and commands can share a process.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tf_mtl_privacy.config import CONFIG_FILE, Config, DataConfig, expectation, section_types
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.exported_config import exported_config
from tf_mtl_privacy.files import read_json
from tf_mtl_privacy.flag_help import help_text
from tf_mtl_privacy.flagfiles import Argument, expand
from tf_mtl_privacy.verbs import VERBS, PrepareOptions, Verb

# What a data set of another name does not inherit from the run's own.
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

# Options that name a folder, or a word or a file.
_FOLDERS = ("data_dir", "cache_dir", "backbone")
_FILES = ("encoder_weights", "perceptual_weights")


class HelpRequested(Exception):  # noqa: N818 - not an error
    """`--help` or `--helpfull` was given; the text is the exception's only argument."""


@dataclasses.dataclass(frozen=True)
class Parsed:
    """What a command was asked for.

    Attributes:
        config: the effective configuration. For commands that read a run it is the run's own.
        options: the command's own options (see `verbs/`), as attributes.
        explicit: names of the flags that were given, in flagfiles or on the command line.
        other_data: the data to evaluate on where it is not that of `config`.
    """

    config: Config
    options: Any
    explicit: frozenset[str]
    other_data: DataConfig | None = None

    @property
    def data(self) -> DataConfig:
        """The data to work on."""
        return self.other_data or self.config.data


def parse(verb: str, argv: Sequence[str]) -> Parsed:
    """Reads a command's arguments (without the program's name).

    Args:
        verb: a key of `verbs.VERBS`.
        argv: the arguments; a later flag wins over an earlier one, flagfiles count in their place.

    Raises:
        HelpRequested: `--help` or `--helpfull` is among them.
        UsageError: one line that names the flag, its value and what was expected.
    """
    command = VERBS[verb]
    before_separator = list(argv)[: argv.index("--")] if "--" in argv else list(argv)
    for argument in before_separator:
        if argument in ("--helpfull", "-helpfull", "--help", "-help", "-h", "-?"):
            raise HelpRequested(help_text(verb, full=argument.endswith("full")))
    arguments = expand(argv)
    values = _define(command)
    positional = _read(verb, values, arguments)
    explicit = {name: values[name].value for name in values if values[name].present}
    explicit |= _absolute(explicit)
    options = _options(verb, command, explicit, positional)
    config, other_data = _configuration(verb, command, options, explicit)
    return Parsed(config, options, frozenset(explicit), other_data)


def _define(command: Verb) -> flags.FlagValues:
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
    """Reads an int or a float and says in our words what was expected."""

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


def _read(verb: str, values: flags.FlagValues, arguments: list[Argument]) -> list[str]:
    """Parses into `values`; returns the arguments without a flag."""
    for argument in arguments:
        if argument.text.lstrip("-").split("=")[0] == "undefok":
            raise _unknown(verb, "undefok", values, arguments)
    try:
        return values([verb, *(argument.text for argument in arguments)])[1:]
    except flags.UnrecognizedFlagError as error:
        raise _unknown(verb, error.flagname, values, arguments) from None
    except (flags.Error, ValueError) as error:
        text = str(error).removeprefix("flag ").removeprefix("Missing value for flag ")
        if "Missing value" in str(error):
            text += ": expected a value, --name=value"
        name = text.lstrip("-").split("=")[0].split(":")[0].split(" ")[0]
        raise UsageError(text + _place(name, arguments)) from None


def _unknown(
    verb: str, name: str, values: flags.FlagValues, arguments: list[Argument]
) -> UsageError:
    close = difflib.get_close_matches(name, list(values), n=1)
    hint = f"did you mean --{close[0]}?" if close else f"see {verb} --help"
    if any(name == field.name for s in section_types().values() for field in dataclasses.fields(s)):
        hint = f"it is a flag of train, not of {verb}"
    return UsageError(f"--{name}{_place(name, arguments)}: unknown flag; {hint}")


def _place(name: str, arguments: list[Argument]) -> str:
    for argument in reversed(arguments):
        if argument.text.lstrip("-").split("=")[0] == name and argument.origin:
            return f" (in {argument.origin})"
    return ""


def _absolute(explicit: dict[str, Any]) -> dict[str, Any]:
    """The given places as absolute paths: a saved configuration must work from any folder."""
    places = {name: explicit[name] for name in _FOLDERS if explicit.get(name)}
    for name in _FILES:
        value = explicit.get(name)
        if value and Path(value).expanduser().is_file():
            places[name] = value
    return {name: os.path.abspath(os.path.expanduser(value)) for name, value in places.items()}


def _options(verb: str, command: Verb, explicit: dict[str, Any], positional: list[str]) -> Any:
    names = {field.name: field.default for field in dataclasses.fields(command.options)}
    given = {name: value for name, value in explicit.items() if name in names}
    for name, default in names.items():
        if isinstance(default, tuple):
            given[name] = tuple(given.get(name) or ())
    if command.positional:
        given[command.positional] += tuple(positional)
        if not given[command.positional]:
            raise UsageError(
                f"{verb} needs at least one --{command.positional}=PATH, a picture's file or a "
                "folder of them"
            )
    elif positional:
        first = positional[0]
        hint = f"{verb} takes --name=value only"
        if first.endswith(".cfg"):
            hint = f"did you mean --flagfile={first}?"
        raise UsageError(f"{first!r}: unexpected argument; {hint}")
    return command.options(**given)


def _configuration(
    verb: str, command: Verb, options: Any, explicit: dict[str, Any]
) -> tuple[Config, DataConfig | None]:
    """The configuration to use, and the data to evaluate on where it is another."""
    # Predictions of a server need no run.
    asks_server = bool(getattr(options, "server", None))
    if not command.reads_run or asks_server:
        if not command.sections:
            return Config(), None
        base = _load("config", options.config) if options.config else Config()
        if isinstance(options, PrepareOptions):
            # Data is prepared for any model, also such as lfw that has no private label.
            explicit = explicit | {"model": "stl"}
        return _override(base, explicit), None
    exported = getattr(options, "saved_model", "")
    if not exported:
        _check_run_dir(verb, options, "run_dir" in explicit)
    config = exported_config(exported, explicit) if exported else _load("run_dir", options.run_dir)
    names = {field.name for field in dataclasses.fields(DataConfig)} & set(explicit)
    if not names:
        return config, None
    changes = {name: explicit[name] for name in names}
    if changes.get("dataset", config.data.dataset) != config.data.dataset:
        fresh = {field.name: field.default for field in dataclasses.fields(DataConfig)}
        changes = {name: fresh[name] for name in _TIED_TO_DATASET} | changes
    return config, dataclasses.replace(config.data, **changes)


def _check_run_dir(verb: str, options: Any, is_given: bool) -> None:
    """Refuses a run folder that is none, by what was given and what else could be."""
    folder = Path(options.run_dir)
    others = {
        "server": ", or --server=http://HOST:PORT of a served model",
        "saved_model": ", or --saved_model=FOLDER of an exported model",
    }
    other = "".join(text for name, text in others.items() if hasattr(options, name))
    if not is_given and not folder.is_dir():
        raise UsageError(
            f"{verb} needs a trained run: give --run_dir=RUN_DIR{other} ({folder}, where train "
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
    """`base` with the given flags in it, checked as a whole."""
    sections = base.to_dict()
    for values in sections.values():
        values.update({name: explicit[name] for name in values if name in explicit})
    return Config.from_dict(sections)
