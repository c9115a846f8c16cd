"""Old names of options: accepted as flags for one version, and always in saved configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """New name of an option.

    Attributes:
        name: the new name.
        factor: the new value is the old one times this; 1 for the same unit.
    """

    name: str
    factor: int = 1

    def convert(self, value: str) -> str:
        """Returns the value of the new flag; text that is no whole number stays as it is."""
        return str(int(value) * self.factor) if self.factor != 1 and value.isdecimal() else value

    def note(self, old: str) -> str:
        """Returns the line shown to users of the old name."""
        unit = f" (times {self.factor})" if self.factor != 1 else ""
        return (
            f"--{old} is now --{self.name}{unit}; the old name will be removed in the next version"
        )


RENAMED_OPTIONS = {
    "keep": Renamed("checkpoint_selection"),
    "region_head_start": Renamed("mask_warmup_steps"),
    "mask_price": Renamed("mask_area_penalty"),
    "removal_off": Renamed("baseline_run"),
    "power_run": Renamed("overfit_reference_run"),
    "merge_rows": Renamed("max_batch_size"),
    "merge_ms": Renamed("batch_timeout_ms"),
    "largest_batch": Renamed("max_request_rows"),
    "largest_request": Renamed("max_request_bytes", factor=2**20),
    "largest_queue": Renamed("max_queued_requests"),
}


def with_new_names(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a saved configuration with the current names of its options.

    Args:
        sections: section name -> option name -> value, as in config.json or the `config` of a
            results.json. Sections that are not objects stay as they are. An old name beside its
            new one stays, too: no version wrote both.
    """
    return {
        section: {_new_name(name, values): value for name, value in values.items()}
        if isinstance(values, dict)
        else values
        for section, values in sections.items()
    }


def _new_name(name: str, values: Mapping[str, Any]) -> str:
    renamed = RENAMED_OPTIONS.get(name)
    return name if renamed is None or renamed.name in values else renamed.name
