"""Figures as text: rates, intervals, decibels, counts, durations. A missing figure is a dash."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TextIO

from tf_mtl_privacy.rounding import epsilon_up, percent_up

MISSING = "–"


def percent(rate: float | None, digits: int = 1) -> str:
    """A rate in [0, 1], or a difference of two, as `97.3 %`; a rounded zero has no sign."""
    return MISSING if rate is None else f"{100 * rate:z.{digits}f} %"


def at_most(rate: float | None) -> str:
    """An upper bound of a rate as `22.4 %`, rounded up (`rounding.percent_up`)."""
    return MISSING if rate is None else percent_up(rate)


def interval(ci95: Sequence[float] | None) -> str:
    """A 95 % interval of a rate as `96.7–97.8 %`."""
    return MISSING if ci95 is None else f"{100 * ci95[0]:z.1f}–{100 * ci95[1]:z.1f} %"


def decibel(value: float | None) -> str:
    """A PSNR as `26.4 dB`."""
    return MISSING if value is None else f"{value:z.1f} dB"


def count(value: int | None) -> str:
    """A count as `4,000`."""
    return MISSING if value is None else f"{value:,}"


def duration(seconds: float | None) -> str:
    """A time as `48 s`, `4 min 5 s` or `2 h 3 min`."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def metric(name: str, value: float | None) -> str:
    """A figure in the unit of its name: decibels for `psnr_db`, otherwise a rate."""
    return decibel(value) if name.endswith("_db") else percent(value)


def metric_name(name: str) -> str:
    """`gender_accuracy` -> `gender accuracy`, `psnr_db` -> `PSNR`; drops a part before `/`."""
    words = {
        "psnr_db": "PSNR",
        "privacy": "fresh attacker's accuracy, upper bound",
        "privacy_balanced_accuracy": "in-loop discriminator, balanced accuracy",
        "fresh_probe_balanced_accuracy": "fresh attacker, balanced accuracy",
        "membership": "membership inference, TPR",
    }
    name = name.rpartition("/")[2]
    return words.get(name, name.replace("_", " "))


def number(epsilon: float) -> str:
    """An epsilon with four significant digits, rounded up (`rounding.epsilon_up`)."""
    return epsilon_up(epsilon)


def sentence(text: str) -> str:
    """`text` with a capital first letter and a final stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


# Wording of stored reasons -> its plain form; result files keep the former.
_REWORDED = (
    (
        r"\breads? ([\d.]+ %) from (.+?), where ([\d.]+ %) is asked for",
        r"reaches \1 on \2 (required: \3)",
    ),
    (
        r"\blearned from ([\d,]+) rows, where ([\d,]+) are asked for",
        r"were trained on \1 rows (required: \2)",
    ),
    (
        r"\battackers with more (\w+) would read more",
        r"attackers with more \1 would be more accurate",
    ),
    (r"\bread nearly everything without more updates", "are nearly perfect without more updates"),
    (r"\bdrawn faces of nobody", "synthetic faces of no real person"),
    (r"\bwhich are drawn and of nobody", "which show no real person"),
    (
        r"\bgates and the schedule of beta read the labels of validation rows",
        "gates and the beta schedule use the labels of validation rows",
    ),
    (r"\btoo little was found in (.+) either", r"the attacks also found too little in \1"),
    (r"\bonly its upper end is known", "only its upper bound is known"),
    (r"\bkept readings of", "cached results of"),
    (
        r"\bevaluate --probe=fast makes them, or --setting=thorough here",
        "run evaluate --probe=fast, or audit --setting=thorough",
    ),
    (r"--shadows=N trains N of them all the same", "use --shadows=N to train N of them anyway"),
    (
        r"\bthe claim is of one picture and people have several training pictures: that others of "
        r"the same person are members is no evidence against it",
        "the claim is for one picture, but people have several training pictures, so detecting a "
        "person by the other pictures does not contradict it",
    ),
    (
        r"\bno overfitted run was attacked to show what attacks can find",
        "no overfitted reference run was attacked",
    ),
    (
        r"\bone update, ([\d,]+) times with a canary and without, shows",
        r"one update, repeated \1 times with and without a canary, shows",
    ),
    (r"\bthat the claim allows it\b", "that the claim allows for it"),
    (
        r"so that half the noise would not have been noticed by them, nor, in most cases, by one "
        r"update that is repeated",
        "so they would miss noise that is half as large, and so would one repeated update in most "
        "cases",
    ),
    (r"\bevaluate --probe=fast runs new ones", "run evaluate --probe=fast"),
    (r"\bare told apart without any model", "can be distinguished without any model"),
)


def reworded(text: str) -> str:
    """Replaces stilted wording of reasons that result files store."""
    for pattern, plain in _REWORDED:
        text = re.sub(pattern, plain, text)
    return text


_ASCII = str.maketrans({"─": "-", "–": "-", "≥": ">=", "≤": "<=", "·": "-", "→": "->"})


def show(text: str, stream: TextIO | None = None) -> None:
    """Prints `text`, with ASCII substitutes where the terminal's encoding lacks characters."""
    out = stream or sys.stdout
    encoding = out.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    print(text, file=out, flush=True)
