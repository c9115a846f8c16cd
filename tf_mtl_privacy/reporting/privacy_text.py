"""`privacy.txt` of a run: what is claimed, and tensorflow-privacy's own statement beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS
from tf_mtl_privacy.reporting.formats import WIDTH, wrapped
from tf_mtl_privacy.reporting.privacy_lines import dp_lines, epsilon

STATEMENT_FILE = "privacy.txt"
NOT_COVERED = (
    "Not covered by any epsilon: choices by validation rows (when to stop, which settings) and "
    "what their pictures put into a discriminator (--discriminator_whitening), the "
    "choice of rows and people before training and their number, other runs on the same pictures "
    "(the epsilons of all that are released add up), a run folder that was copied or rolled back "
    "(nothing notices; two continuations of it are two releases), what training shows beside the "
    "weights (losses of training batches as they are, in logs and checkpoints and on the terminal; "
    "that a loss which is not finite ended it; after a kill, features/ until the next start), and "
    "attacks on floating-point noise."
)


def privacy_text(dp: Mapping[str, Any]) -> str:
    """The whole text.

    Args:
        dp: the `dp` part of results.json.
    """
    parts = [_paragraph(*dp_lines(dp)), _paragraph(NOT_COVERED)]
    # The library knows nothing of what voids a guarantee: its figures would stand there as true.
    named = {} if dp["void"] else dp["phases"]
    for name, phase in named.items():
        if phase.get("statement"):
            head = _paragraph(_about(name, phase, dp["scope"]))
            parts.append(f"{'─' * WIDTH}\n{head}\n\n{phase['statement'].rstrip()}")
    return "\n\n".join(parts) + "\n"


def _about(name: str, phase: Mapping[str, Any], scope: str) -> str:
    """What has to be known before the library's statement is read."""
    text = (
        f"tensorflow-privacy on the updates '{name}' (its compute_dp_sgd_privacy gives "
        f"{epsilon(phase['library_epsilon'])}; by Renyi accounting, Poisson sampling assumed, for "
        "these updates alone)"
    )
    if phase["sampling"] == SHUFFLED_EPOCHS:
        text += ". THESE BATCHES WERE SHUFFLED, so what assumes Poisson sampling does not hold"
    if scope == "discriminator":
        text += (
            ". Its 'model checkpoints' are the discriminator's alone, conditional on the encoder's "
            "whole trajectory, of which it does not know"
        )
    return text + ":"


def _paragraph(*lines: str) -> str:
    return "\n".join(wrapped(lines, 0))
