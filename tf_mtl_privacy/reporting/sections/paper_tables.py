"""The paper's Tables 1 to 3, and what runs have of the same, in rows beside one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tf_mtl_privacy.evaluation.membership.verdict import INVALID, NO_POWER
from tf_mtl_privacy.reporting.document import Missing, Row, Table
from tf_mtl_privacy.reporting.formats import MISSING, at_most, count, percent
from tf_mtl_privacy.reporting.membership_words import highest_rate
from tf_mtl_privacy.reporting.model_table import EVERYTHING, MODELS
from tf_mtl_privacy.reporting.privacy_lines import epsilon
from tf_mtl_privacy.reporting.risk_reduction import PAPER, PAPER_CHANCE
from tf_mtl_privacy.reporting.run_figures import (
    DECIBEL,
    NOT_MEASURED,
    RATE,
    SOURCES,
    figure_text,
    run_figures,
)
from tf_mtl_privacy.reporting.run_folder import ReportRun, command

# Table 2 of the paper, on LFW: rates in [0, 1].
PAPER_LFW = {
    "stl": {"gender": 0.935, "age": 0.762},
    "mtl_adv_dp": {"gender": 0.961, "age": 0.823},
}
PAPER_DATA = "CelebA"
# Of CelebA's official partition (list_eval_partition.txt).
CELEBA_TEST_ROWS = 19_962
_POWER = "power not shown"
_NOT_ALIKE = "members and others differ without any model"


def table_1(runs: Sequence[ReportRun]) -> Table:
    """Recognition and restoration."""
    names = ("gender", "age", "expression_f1", "psnr_db")
    return Table(
        "Table 1 of the paper: recognition on test pictures, and restored images",
        ("model", "of", "test pictures", *(SOURCES[name].title for name in names)),
        _rows(
            runs,
            lambda model: [PAPER_DATA, *(_paper(PAPER, model, name) for name in names)],
            lambda run: [_pictures(run), *(_ours(run, name) for name in names)],
        ),
        tuple(_not_the_same(runs[0])),
    )


def table_2(runs: Sequence[ReportRun]) -> tuple[Table, tuple[Missing, ...]]:
    """Recognition on LFW, and what is missing of it."""
    names = ("gender", "age")
    table = Table(
        "Table 2 of the paper: recognition on LFW, trained elsewhere",
        ("model", "of", *(SOURCES[name].title for name in names)),
        _rows(
            [run for run in runs if run.lfw],
            lambda model: [_paper(PAPER_LFW, model, name) for name in names],
            lambda run: [_lfw(run, name) for name in names],
            models=PAPER_LFW,
        ),
    )
    flags = ("--dataset=lfw", "--data_dir=LFW_FOLDER")
    why = "a run on drawn faces has seen no photograph" if runs[0].of_nobody else ""
    absent = [run for run in runs if not run.lfw]
    if not absent:
        return table, ()
    names_of = ", ".join(run.name for run in absent)
    return table, (Missing(f"{names_of} on LFW", command("evaluate", absent[0], *flags), why),)


def table_3(runs: Sequence[ReportRun]) -> Table:
    """Privacy."""
    first = runs[0].results["privacy"]
    chance = percent(first.get("chance"))
    weak = any(run.figures.refused or run.figures.underpowered for run in runs)
    return Table(
        "Table 3 of the paper: privacy",
        (
            "model",
            "of",
            "in-loop discriminator",
            "fresh attacker, worst target",
            "fresh attacker on features",
            "membership inference, 5 % false positives",
            "epsilon",
        ),
        _rows(
            runs,
            lambda model: [
                _paper(PAPER, model, "discriminator"),
                NOT_MEASURED,
                NOT_MEASURED,
                _paper(PAPER, model, "membership"),
                _paper_epsilon(model),
            ],
            lambda run: [
                _ours(run, "discriminator"),
                _attacker(run, "leakage"),
                _attacker(run, "probe_features"),
                _membership(run),
                _epsilon(run),
            ],
        ),
        (
            "The in-loop discriminator is what the paper reports. It is not the leakage: that is "
            "what an attacker finds who is trained anew, which the paper did not measure.",
            f"The paper names no number of classes; {percent(PAPER_CHANCE['discriminator'])} would "
            f"be chance among 8. Here chance is {chance} "
            f"({count(first.get('classes'))} classes).",
            "The paper does not define its success rate and calls 5 % a random guess, so it is "
            "read as the share of training pictures found at 5 % false positives. Ours is the "
            "highest of the audit's attacks.",
            *(
                ["! No bound is claimed on what these attackers read; the privacy card says why."]
                if weak
                else []
            ),
            *_membership_notes(runs),
            *(
                f"{run.name}: no epsilon holds: {run.figures.void}."
                for run in runs
                if run.figures.void
            ),
            "The paper gives its epsilon no delta and does not say whose it is; the privacy card "
            "says it of ours.",
        ),
    )


def _rows(
    runs: Sequence[ReportRun],
    paper: Callable[[str], list[str]],
    ours: Callable[[ReportRun], list[str]],
    models: object = PAPER,
) -> tuple[Row, ...]:
    """Per model the paper's row, then those of runs."""

    def by_model() -> Iterator[Row]:
        for model in (*PAPER, EVERYTHING):
            if isinstance(models, dict) and model in models:
                yield Row((MODELS[model], "the paper", *paper(model)))
            for run in runs:
                if run.model == model:
                    yield Row((MODELS[model], run.name, *ours(run)), own=True)

    return tuple(by_model())


def _paper(table: dict[str, dict[str, float]], model: str, name: str) -> str:
    value = table[model].get(name)
    unit = DECIBEL if name == "psnr_db" else RATE
    return MISSING if value is None else figure_text(unit, value)


def _paper_epsilon(model: str) -> str:
    value = PAPER[model].get("epsilon_conditional")
    return MISSING if value is None else f"{value:g}"


def _ours(run: ReportRun, name: str) -> str:
    figure = run.figures.figures[name]
    if figure.value is None:
        return figure.absent
    return figure_text(SOURCES[name].unit, figure.value)


def _attacker(run: ReportRun, name: str) -> str:
    high = run.figures.figures[f"{name}_high"].value
    bound = f", upper end {at_most(high)}" if high is not None else ""
    mark = " !" if run.figures.refused or run.figures.underpowered else ""
    return _ours(run, name) + bound + mark


def _membership(run: ReportRun) -> str:
    """The audit's figure, marked without shown power; none where it is not of membership."""
    verdict, value = run.figures.membership, run.figures.figures["membership"].value
    if verdict == INVALID:
        return f"{NOT_MEASURED}: {_NOT_ALIKE}"
    if run.audit is None or not verdict or value is None:
        return NOT_MEASURED
    rate = highest_rate(run.audit)
    bound = f", upper end {at_most(rate[1])}" if rate else ""
    mark = f"; {_POWER}" if verdict == NO_POWER else ""
    return f"{percent(value)}{bound}{mark}"


def _membership_notes(runs: Sequence[ReportRun]) -> Iterator[str]:
    if any(run.figures.membership == NO_POWER for run in runs):
        yield f"{_POWER.capitalize()}: nothing shows that these attacks could have found more."
    if any(run.figures.membership == INVALID for run in runs):
        yield f"Where {_NOT_ALIKE}, figures of membership inference say nothing."


def _epsilon(run: ReportRun) -> str:
    if run.figures.void:
        return "void"
    released = run.figures.figures["epsilon_released"].value
    conditional = run.figures.figures["epsilon_conditional"].value
    if released is not None:
        return f"{epsilon(released)}, all released weights"
    if conditional is not None:
        return f"none released; conditional {epsilon(conditional)}, of D's updates only"
    return "none"


def _lfw(run: ReportRun, name: str) -> str:
    return _ours(run._replace(figures=run_figures(run.lfw or {})), name)


def _pictures(run: ReportRun) -> str:
    evaluated = (run.results.get("counts") or {}).get("evaluated")
    return f"{run.dataset}, {count(evaluated)}"


def _not_the_same(run: ReportRun) -> Iterator[str]:
    """Why the run's figures cannot be held against the paper's."""
    if run.of_nobody:
        yield (
            "The paper's test pictures are photographs of CelebA, those of this run are drawn "
            "faces: not the same task, so its figures do not confirm or refute the paper's."
        )
    elif "celeb" not in run.dataset.lower():
        yield f"The paper's test pictures are of CelebA, those of this run of {run.dataset}."
    elif (rows := (run.results.get("counts") or {}).get("evaluated")) != CELEBA_TEST_ROWS:
        yield (
            f"CelebA's own test split has {count(CELEBA_TEST_ROWS)} pictures, this run was tested "
            f"on {count(rows)}: not the same pictures."
        )
    age = run.results["utility"].get("age") or {}
    if age.get("chance"):
        groups = round(1 / age["chance"])
        if groups != 2:
            yield f"Age is one of {groups} groups here; CelebA's attribute Young has 2 classes."
