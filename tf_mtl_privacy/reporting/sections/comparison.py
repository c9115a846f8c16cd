"""Sections that put runs side by side: a comparison, the paper's tables, the table of models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from tf_mtl_privacy.data.fingerprints import OTHER_KEYS, same_data
from tf_mtl_privacy.evaluation.membership.verdict import INVALID, NO_POWER
from tf_mtl_privacy.evaluation.schema import Results
from tf_mtl_privacy.reporting.audit_findings import highest_rate
from tf_mtl_privacy.reporting.document import Block, Code, Items, Missing, Paragraph, Row, Table
from tf_mtl_privacy.reporting.formats import MISSING, at_most, count, percent, reworded
from tf_mtl_privacy.reporting.model_table import COLUMNS, MEASURES, PAPER, PAPER_CHANCE
from tf_mtl_privacy.reporting.privacy_card import epsilon
from tf_mtl_privacy.reporting.render_markdown import render_markdown
from tf_mtl_privacy.reporting.render_text import render_text
from tf_mtl_privacy.reporting.runs import (
    DECIBEL,
    EPSILON,
    EVERYTHING,
    MODELS,
    NOT_MEASURED,
    RATE,
    SOURCES,
    Figure,
    ReportRun,
    command,
    figure_text,
    mask_line,
    run_figures,
)

# Table 2 of the paper, on LFW: rates in [0, 1].
PAPER_LFW = {
    "stl": {"gender": 0.935, "age": 0.762},
    "mtl_adv_dp": {"gender": 0.961, "age": 0.823},
}
PAPER_DATA = "CelebA"
# Of CelebA's official partition (list_eval_partition.txt).
CELEBA_TEST_ROWS = 19_962
_POWER = "power not shown"
_NOT_ALIKE = "members and non-members differ without any model"
LEGEND = (
    "paper: its Tables 1 and 3, on CelebA; the other rows: test images of synthetic faces, not the "
    "same task.",
    "leakage and attackers: the highest accuracy of all fresh attackers on the frozen networks, "
    "and the largest upper bound; worst target: over everything that the run releases. The "
    "accuracy of the in-loop discriminator is not the leakage.",
    "membership inference: true positive rate at 5 % false positives of the strongest attack of "
    "the audit; without an audit, the figure of the stop rule.",
    "!: no bound is claimed for some seed; void: no epsilon holds; see the notes.",
    "epsilon, conditional: of the discriminator's updates, given the encoder's weights at every "
    "step; it holds for no released weights. released: of all released weights together.",
    "label access: access to private labels of training rows outside the accounting; empty is "
    "best. Labels of validation rows and of public faces are never accounted for.",
    "risk reduction: (off - on) / off; advantage over chance: (off - on) / (off - chance). Chance "
    "in the paper is taken as 12.5 %, and as 5 % for membership inference, which it calls a random "
    "guess. Fresh attackers are compared with fresh attackers, the in-loop discriminator with the "
    "in-loop discriminator (STL has none).",
)
_KINDS = {"relative": "", "above_chance": "advantage over chance"}


def comparison_table(runs: Sequence[ReportRun]) -> Table:
    """A column per run; the first run is the one reported."""
    first = runs[0]
    rows = [
        Row(("model", *(run.title for run in runs))),
        Row(("seed", *(str(run.results.get("seed", MISSING)) for run in runs))),
        Row(("data", *(run.dataset for run in runs))),
        *(
            Row((source.title, *(_cell(run, first, name) for run in runs)))
            for name, source in SOURCES.items()
        ),
        Row(("label access", *(_access(run) for run in runs))),
    ]
    return Table(
        "This run and others",
        ("", *names(runs)),
        tuple(rows),
        tuple(_notes(runs)),
    )


def names(runs: Sequence[ReportRun]) -> list[str]:
    """Names of their folders; whole paths if two have the same name."""
    short = [run.name for run in runs]
    return [
        name if short.count(name) == 1 else str(run.folder)
        for name, run in zip(short, runs, strict=True)
    ]


def _cell(run: ReportRun, first: ReportRun, name: str) -> str:
    figure, unit = run.figures.figures[name], SOURCES[name].unit
    if figure.value is None:
        return figure.absent
    weak = name.startswith(("probe_", "leakage")) and (
        run.figures.refused or run.figures.underpowered
    )
    unshown = name == "membership" and run.figures.membership == NO_POWER
    shown = figure_text(unit, figure.value) + (" !" if weak or unshown else "")
    return shown if run is first else shown + _difference(unit, figure, first.figures.figures[name])


def _difference(unit: str, figure: Figure, other: Figure) -> str:
    """The difference from the first run, in percentage points or dB."""
    if figure.value is None or other.value is None or unit not in (RATE, DECIBEL):
        return ""
    scale, word = (100, "") if unit == RATE else (1, " dB")
    return f" ({scale * (figure.value - other.value):+z.1f}{word})"


def _access(run: ReportRun) -> str:
    access = run.figures.label_access
    return access_text({"label_access": None if access is None else list(access)})


def _notes(runs: Sequence[ReportRun]) -> list[str]:
    pairs = list(zip(names(runs), runs, strict=True))
    notes = [f"In brackets: difference from {names(runs)[0]}, for rates in percentage points."]
    same = same_data(run.figures.fingerprint for run in runs)
    if same is None:
        notes.append(f"Unknown if these runs use the same data: {OTHER_KEYS}.")
    elif not same:
        notes.append("THE RUNS DO NOT USE THE SAME DATA (evaluated_on.data_fingerprint differs).")
    notes += filter(None, (mask_line(name, [run.figures.mask]) for name, run in pairs))
    notes += [
        f"! No bound on the attackers of {name} is claimed: "
        f"{reworded('; '.join(dict.fromkeys([*run.figures.refused, *run.figures.underpowered])))}."
        for name, run in pairs
        if run.figures.refused or run.figures.underpowered
    ]
    notes += [
        f"No epsilon of {name} holds: {run.figures.void}."
        for name, run in pairs
        if run.figures.void
    ]
    unshown = [name for name, run in pairs if run.figures.membership == NO_POWER]
    if unshown:
        notes.append(
            "! Membership inference without power check (nothing shows that the attacks could have "
            f"found more): {', '.join(unshown)}."
        )
    invalid = [name for name, run in pairs if run.figures.membership == INVALID]
    if invalid:
        notes.append(
            "Membership inference not valid, because members and non-members differ without any "
            f"model: {', '.join(invalid)}."
        )
    return notes


def table_1(runs: Sequence[ReportRun]) -> Table:
    """Table 1: recognition and restoration."""
    names = ("gender", "age", "expression_f1", "psnr_db")
    return Table(
        "Table 1 of the paper: recognition on test images, and restored images",
        ("model", "source", "test images", *(SOURCES[name].title for name in names)),
        _rows(
            runs,
            lambda model: [PAPER_DATA, *(_paper(PAPER, model, name) for name in names)],
            lambda run: [_pictures(run), *(_ours(run, name) for name in names)],
        ),
        tuple(_not_the_same(runs[0])),
    )


def table_2(runs: Sequence[ReportRun]) -> tuple[Table, tuple[Missing, ...]]:
    """Table 2: recognition on LFW, and the runs without it."""
    names = ("gender", "age")
    table = Table(
        "Table 2 of the paper: recognition on LFW, without training on it",
        ("model", "source", *(SOURCES[name].title for name in names)),
        _rows(
            [run for run in runs if run.lfw],
            lambda model: [_paper(PAPER_LFW, model, name) for name in names],
            lambda run: [_lfw(run, name) for name in names],
            models=PAPER_LFW,
        ),
    )
    flags = ("--dataset=lfw", "--data_dir=LFW_FOLDER")
    why = "a run on synthetic faces was not trained on photographs" if runs[0].is_synthetic else ""
    absent = [run for run in runs if not run.lfw]
    if not absent:
        return table, ()
    names_of = ", ".join(run.name for run in absent)
    return table, (
        Missing(f"{names_of} on LFW", command("evaluate", absent[0].quoted, *flags), why),
    )


def table_3(runs: Sequence[ReportRun]) -> Table:
    """Table 3: privacy."""
    first = runs[0].results["privacy"]
    chance = percent(first.get("chance"))
    weak = any(run.figures.refused or run.figures.underpowered for run in runs)
    return Table(
        "Table 3 of the paper: privacy",
        (
            "model",
            "source",
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
                _membership_cell(run),
                _epsilon(run),
            ],
        ),
        (
            "The paper reports the in-loop discriminator. That is not the leakage, which is the "
            "accuracy of a freshly trained attacker; the paper did not measure it.",
            f"The paper gives no number of classes; {percent(PAPER_CHANCE['discriminator'])} would "
            f"be chance for 8. Here chance is {chance} ({count(first.get('classes'))} classes).",
            "The paper does not define its membership inference success rate and calls 5 % a "
            "random guess, so it is read as the true positive rate at 5 % false positives. Ours is "
            "the highest of the audit's attacks.",
            *(
                ["! No bound on these attackers is claimed; the privacy card gives the reasons."]
                if weak
                else []
            ),
            *_membership_notes(runs),
            *(
                f"{run.name}: no epsilon holds: {run.figures.void}."
                for run in runs
                if run.figures.void
            ),
            "The paper states neither the delta of its epsilon nor the weights it covers; the "
            "privacy card states both for ours.",
        ),
    )


def _rows(
    runs: Sequence[ReportRun],
    paper: Callable[[str], list[str]],
    ours: Callable[[ReportRun], list[str]],
    models: object = PAPER,
) -> tuple[Row, ...]:
    """For each model the row of the paper, then the rows of the runs."""

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
    bound = f", upper bound {at_most(high)}" if high is not None else ""
    mark = " !" if run.figures.refused or run.figures.underpowered else ""
    return _ours(run, name) + bound + mark


def _membership_cell(run: ReportRun) -> str:
    """The audit's figure, marked if its power is not shown; none if it is not valid."""
    verdict, value = run.figures.membership, run.figures.figures["membership"].value
    if verdict == INVALID:
        return f"{NOT_MEASURED}: {_NOT_ALIKE}"
    if run.audit is None or not verdict or value is None:
        return NOT_MEASURED
    rate = highest_rate(run.audit)
    bound = f", upper bound {at_most(rate[1])}" if rate else ""
    mark = f"; {_POWER}" if verdict == NO_POWER else ""
    return f"{percent(value)}{bound}{mark}"


def _membership_notes(runs: Sequence[ReportRun]) -> Iterator[str]:
    if any(run.figures.membership == NO_POWER for run in runs):
        yield f"{_POWER.capitalize()}: nothing shows that these attacks could have found more."
    if any(run.figures.membership == INVALID for run in runs):
        yield f"If {_NOT_ALIKE}, the membership inference figures are not valid."


def _epsilon(run: ReportRun) -> str:
    if run.figures.void:
        return "void"
    released = run.figures.figures["epsilon_released"].value
    conditional = run.figures.figures["epsilon_conditional"].value
    if released is not None:
        return f"{epsilon(released)}, all released weights"
    if conditional is not None:
        return f"none released; conditional {epsilon(conditional)}, discriminator updates only"
    return "none"


def _lfw(run: ReportRun, name: str) -> str:
    return _ours(run._replace(figures=run_figures(run.lfw or cast(Results, {}))), name)


def _pictures(run: ReportRun) -> str:
    evaluated = (run.results.get("counts") or {}).get("evaluated")
    return f"{run.dataset}, {count(evaluated)}"


def _not_the_same(run: ReportRun) -> Iterator[str]:
    """Notes on differences from the paper's test data."""
    if run.is_synthetic:
        yield (
            "The paper's test images are photographs (CelebA), those of this run are synthetic: "
            "not the same task, so its figures neither confirm nor refute the paper's."
        )
    elif "celeb" not in run.dataset.lower():
        yield f"The paper's test images are from CelebA, those of this run from {run.dataset}."
    elif (rows := (run.results.get("counts") or {}).get("evaluated")) != CELEBA_TEST_ROWS:
        yield (
            f"CelebA's own test split has {count(CELEBA_TEST_ROWS)} images, this run was tested on "
            f"{count(rows)}: not the same images."
        )
    age = run.results["utility"].get("age")
    if age and age.get("chance"):
        groups = round(1 / age["chance"])
        if groups != 2:
            yield f"Age is one of {groups} groups here; CelebA's attribute Young has 2 classes."


def model_table_blocks(table: Mapping[str, Any]) -> Iterator[Block]:
    """Builds the blocks of `model_table.model_table`."""
    titles = tuple(part["title"] for part in table["models"].values())
    yield Table("", ("", *titles), tuple(figure_rows(table)))
    claim = percent(table["reductions"]["claim"])
    for name in table["reductions"]["ours"]:
        title = f"Risk reduction against {table['models'][name]['title']}"
        title += f' (the paper claims "{claim}")' if name == "stl" else " (no removal)"
        yield Table("", (title, *titles), tuple(reduction_rows(table, name)))
    yield Items("", (*LEGEND, *mask_lines(table), *access_lines(table), *table["notes"]))
    if table["missing"]:
        yield Paragraph("Missing runs; `make table` trains them one after the other:")
        yield Code("\n".join(run["command"] for run in table["missing"]))


def model_table_text(table: Mapping[str, Any], width: int = 100) -> str:
    """`model_table.model_table` for the terminal."""
    return render_text(model_table_blocks(table), width)


def model_table_markdown(table: Mapping[str, Any]) -> str:
    """`model_table.model_table` as Markdown, for a page."""
    return render_markdown(model_table_blocks(table)).rstrip()


def figure_rows(table: Mapping[str, Any]) -> list[Row]:
    """Rows of seeds, of each figure with its spread and the paper's, and of label access.

    Args:
        table: as `model_table.model_table` makes it.
    """
    models = list(table["models"].values())
    rows = [
        Row(("seeds", *(", ".join(map(str, part["seeds"])) or "not trained" for part in models)))
    ]
    for name in COLUMNS:
        source = SOURCES[name]
        found: Iterable[Row] = _spread_rows(
            source.title, source.unit, [part["figures"][name] for part in models]
        )
        if name.startswith(("probe_", "leakage")):
            found = [_marked(row, models, ("underpowered", "refused")) for row in found]
        elif name == "membership":
            found = [_marked(row, models, (name,)) for row in found]
        rows += found
        if any(name in part["paper"] for part in models):
            paper = [_paper_text(source.unit, part["paper"].get(name)) for part in models]
            rows.append(Row(("  paper", *paper)))
    return [*rows, Row(("label access", *(access_text(part) for part in models)))]


def _marked(row: Row, models: Sequence[Mapping[str, Any]], why: Sequence[str]) -> Row:
    """Marks figures on which no bound is claimed.

    Args:
        row: a row of figures.
        models: in the order of its cells.
        why: keys of a model, of which one then is not empty.
    """
    label, *cells = row.cells
    marked = (
        f"{cell} !" if "%" in cell and any(part[key] for key in why) else cell
        for cell, part in zip(cells, models, strict=True)
    )
    return Row((label, *marked))


def reduction_rows(table: Mapping[str, Any], baseline: str) -> list[Row]:
    """Rows of the risk reduction against a baseline, with the paper's own for STL.

    Args:
        table: as `model_table.model_table` makes it.
        baseline: a key of `reductions.ours`.
    """
    models, reductions = list(table["models"]), table["reductions"]
    rows = []
    if baseline == "stl":
        for name, title in (
            ("discriminator", "paper: privacy label"),
            ("membership", "paper: membership"),
        ):
            for kind, word in _KINDS.items():
                found = [reductions["paper"].get(m, {}).get(name, {}).get(kind) for m in models]
                label = f"  {word}" if word else title
                rows.append(Row((label, *(percent(value) for value in found))))
    ours = reductions["ours"][baseline]
    for name in next(iter(ours.values()), {}):
        for kind, word in _KINDS.items():
            found = [ours[model][name][kind] if model in ours else None for model in models]
            label = f"  {word}" if word else MEASURES[name].title
            rows += _spread_rows(label, RATE, found)
    return rows


def access_lines(table: Mapping[str, Any]) -> list[str]:
    """For each model, the access to private labels outside the accounting."""
    return [
        f"{part['title']}, label access outside the accounting: "
        f"{reworded('; '.join(part['label_access']))}"
        for part in table["models"].values()
        if part["label_access"]
    ]


def mask_lines(table: Mapping[str, Any]) -> list[str]:
    """For each model with a mask, the evidence for mask or game."""
    lines = (
        mask_line(part["title"], list(part["mask"].values())) for part in table["models"].values()
    )
    return [line for line in lines if line]


def access_text(model: Mapping[str, Any]) -> str:
    """The number of accesses to private labels outside the accounting."""
    if model["label_access"] is None:
        return NOT_MEASURED
    return f"outside: {len(model['label_access'])}" if model["label_access"] else "empty"


def _spread_rows(label: str, unit: str, found: list[Mapping[str, Any] | None]) -> Iterator[Row]:
    yield Row((label, *(_mean(unit, figures) for figures in found)))
    known = [figures for figures in found if figures and figures["n"] > 1]
    # An epsilon comes from the plan: it is the same for every seed, unless a phase ended early.
    if known and (unit != EPSILON or any(f["min"] != f["max"] for f in known)):
        yield Row(("  range over seeds", *(_range(unit, figures) for figures in found)))
        yield Row(("  standard deviation", *(_deviation(unit, figures) for figures in found)))


def _mean(unit: str, figures: Mapping[str, Any] | None) -> str:
    """The mean, or the reason for none; with the number of seeds if some lack it."""
    if figures is None:
        return MISSING
    if figures["mean"] is None:
        return str(figures["absent"])
    seeds = len(figures["values"])
    part = f" ({figures['n']}/{seeds})" if figures["n"] < seeds else ""
    return figure_text(unit, figures["mean"]) + part


def _range(unit: str, figures: Mapping[str, Any] | None) -> str:
    if figures is None or figures["n"] < 2:
        return MISSING
    low, high = (figure_text(unit, figures[end]) for end in ("min", "max"))
    return f"{low.split(' ')[0]}–{high}"


def _deviation(unit: str, figures: Mapping[str, Any] | None) -> str:
    """The standard deviation in the unit of the figure; for a rate in percentage points."""
    if figures is None or figures["std"] is None:
        return MISSING
    scale, word = {RATE: (100, " points"), DECIBEL: (1, " dB")}.get(unit, (1, ""))
    return f"{scale * figures['std']:.2f}{word}"


def _paper_text(unit: str, value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:g}" if unit == EPSILON else figure_text(unit, value)
