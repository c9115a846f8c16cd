"""Compares JSON values with the TypedDicts of evaluation/schema.py."""

import types
import typing


def mismatches(value, kind, path="") -> list[str]:
    """Returns every place where `value` does not have the type `kind`: unknown or missing keys too.

    A float may be written as a whole number; a bool is not a number.
    """
    if kind is typing.Any:
        return []
    if typing.is_typeddict(kind):
        if not isinstance(value, dict):
            return [f"{path}: {value!r} is not a {kind.__name__}"]
        return [*_keys(value, kind, path), *_items(value, kind, path)]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.NotRequired:
        return mismatches(value, arguments[0], path)
    if origin in (typing.Union, types.UnionType):
        parts = [mismatches(value, part, path) for part in arguments]
        if [] in parts:
            return []
        # None is the part that says least.
        return max(parts, key=lambda found: "NoneType" not in found[0])
    if origin is dict and isinstance(value, dict):
        parts = [mismatches(part, arguments[1], f"{path}.{key}") for key, part in value.items()]
        return [found for part in parts for found in part]
    if origin is list and isinstance(value, list):
        parts = [mismatches(part, arguments[0], f"{path}[{k}]") for k, part in enumerate(value)]
        return [found for part in parts for found in part]
    wanted = (int, float) if kind is float else kind
    if isinstance(wanted, (type, tuple)) and isinstance(value, wanted):
        return [f"{path}: {value!r} is not {kind}"] if type(value) is bool is not kind else []
    return [f"{path}: {value!r} is not {kind}"]


def _keys(value, kind, path):
    hints = typing.get_type_hints(kind, include_extras=True)
    # As annotations are strings, `__required_keys__` knows of `total=False` only.
    optional = {
        name for name, hint in hints.items() if typing.get_origin(hint) is typing.NotRequired
    }
    return [
        *(f"{path}.{key}: unknown key" for key in sorted(set(value) - set(hints))),
        *(
            f"{path}.{key}: missing"
            for key in sorted(kind.__required_keys__ - optional - set(value))
        ),
    ]


def _items(value, kind, path):
    hints = typing.get_type_hints(kind, include_extras=True)
    return [
        found
        for key, part in value.items()
        if key in hints
        for found in mismatches(part, hints[key], f"{path}.{key}")
    ]
