"""Reads the small lists that options carry as text."""

from __future__ import annotations

from tf_mtl_privacy.errors import UsageError


def parse_tasks(text: str) -> dict[str, str]:
    """`'gender=Male,age=Young'` -> `{'gender': 'Male', 'age': 'Young'}`.

    Raises:
        UsageError: not of that form, or a name that stands twice.
    """
    tasks: dict[str, str] = {}
    for part in text.split(","):
        name, equals, attribute = (piece.strip() for piece in part.partition("="))
        if not name.isidentifier() or not equals or not attribute or name in tasks:
            raise UsageError(
                f"--tasks={text}: expected name=attribute[,name=attribute], each name once"
            )
        tasks[name] = attribute
    return tasks


def parse_thresholds(flag: str, text: str) -> dict[str, float]:
    """`'gender=0.95,age=0.80'` -> `{'gender': 0.95, 'age': 0.8}`; empty text -> `{}`.

    Raises:
        UsageError: not of that form, or a value outside [0, 1].
    """
    thresholds: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not name.strip().isidentifier() or not 0 <= value <= 1:
            raise UsageError(f"--{flag}={text}: expected task=accuracy with accuracy in [0, 1]")
        thresholds[name.strip()] = value
    return thresholds
