"""The headline of a run: tiles and sentences of the report, and the screen that ends a command.

`results_summary` is at most `SCREEN` lines at 100 columns; `results_text` is everything in
results.json for `--verbose`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tf_mtl_privacy.config import AUDIT_FILE
from tf_mtl_privacy.evaluation.schema import Audit, Results
from tf_mtl_privacy.reporting.audit_findings import (
    attack_name,
    auc_text,
    caught,
    sample_difference_note,
    unshown,
    worst_attack,
)
from tf_mtl_privacy.reporting.document import Block, Fields, Paragraph, Row, Section, Table, Tile
from tf_mtl_privacy.reporting.formats import (
    at_most,
    count,
    decibel,
    duration,
    interval,
    percent,
    reworded,
)
from tf_mtl_privacy.reporting.privacy_card import epsilon, epsilon_statement, private_name
from tf_mtl_privacy.reporting.reconcile_probes import TARGETS, entry, leakage
from tf_mtl_privacy.reporting.render_text import WIDTH, cut, render_text, terminal_width, whole
from tf_mtl_privacy.reporting.runs import (
    BLIND,
    MODELS,
    NO_MASK,
    REPORT_FILE,
    ReportRun,
    command,
)
from tf_mtl_privacy.reporting.sections.attackers import attacker_blocks, leakage_line, unchecked
from tf_mtl_privacy.reporting.sections.privacy import dp_blocks
from tf_mtl_privacy.reporting.sections.training import stop_rule_text, training_tables, unmet
from tf_mtl_privacy.reporting.sections.utility import (
    region_block,
    restoration_text,
    task_blocks,
)

SCREEN = 30
_UNMEASURED = "not measured"
# With fewer test images, intervals are wider than about 8 points.
_FEW_IMAGES = 500


def results_summary(
    results: Results, files: Mapping[str, str] | None = None, width: int = WIDTH
) -> list[Block]:
    """Builds the screen that ends `train` and `evaluate`, at most `SCREEN` lines.

    Args:
        results: content of results.json.
        files: path -> description of the files in the run folder (`runs.run_files`), the result
            file first.
        width: columns that it will be rendered at.
    """
    for num_tasks, num_lines in ((8, 4), (8, 3), (8, 2), (5, 2), (5, 1), (3, 1)):
        blocks = _screen(results, files or {}, width, num_tasks, num_lines)
        if render_text(blocks, width).count("\n") < SCREEN:
            break
    return blocks


def results_text(
    results: Results, files: Mapping[str, str] | None = None, width: int = WIDTH
) -> str:
    """Everything in results.json for the terminal.

    Args:
        results: content of results.json.
        files: path -> description, listed at the end.
        width: columns; only commands and paths may be longer.
    """
    found = leakage(results)
    run_dir = _run_dir(files or {})
    sections = [
        Section("tasks", _title(results), tuple(task_blocks(results))),
        Section(
            "attackers",
            "Leakage to fresh attackers",
            tuple(attacker_blocks(results, found, run_dir, chart=False)),
        ),
        Section("regions", "Sensitive regions", (region_block(results),)),
        Section("training", "Training", tuple(training_tables(results))),
        Section("privacy", "Privacy", tuple(dp_blocks(results["dp"]))),
    ]
    if files:
        sections.append(Section("files", "Files", (files_block(files),)))
    return render_text(sections, width)


def results_screen(results: Results, files: Mapping[str, str], *, verbose: bool) -> str:
    """Text that ends `train` and `evaluate`, as wide as the terminal.

    Args:
        results: content of results.json.
        files: path -> description, the result file first.
        verbose: everything instead of the summary.
    """
    width = terminal_width()
    if verbose:
        return results_text(results, files, width)
    return render_text(results_summary(results, files, width), width)


def files_block(files: Mapping[str, str]) -> Block:
    """Paths with their descriptions."""
    return Fields(tuple((path, (what,)) for path, what in files.items()))


def files_lines(files: Mapping[str, str]) -> list[str]:
    """Lines of `files_block`."""
    return render_text([files_block(files)]).splitlines()


def tiles(run: ReportRun, card: Mapping[str, Any], found: Mapping[str, Any] | None) -> list[Tile]:
    """Builds tiles of the leakage, the first task, restored images, epsilon and membership.

    Args:
        run: the run.
        card: its privacy card.
        found: its leakage (`reconcile_probes.leakage`), or None.
    """
    return [
        _leak(run, found),
        *_task(run.results),
        _restored(run.results["restoration"]),
        _epsilon(card),
        _membership(run.audit),
    ]


def summary(run: ReportRun, card: Mapping[str, Any]) -> Iterator[str]:
    """Yields sentences for a first reading."""
    results = run.results
    training: Mapping[str, Any] = results.get("training") or {}
    counts: Mapping[str, Any] = results.get("counts") or {}
    seconds = f" in {duration(training['seconds'])}" if training.get("seconds") else ""
    rows = (counts.get("rows") or {}).get("train")
    yield (
        f"{run.title} was trained on {count(rows)} images of {run.dataset}{seconds} and tested on "
        f"{count(counts.get('evaluated'))} images not used in training."
    )
    told = [
        f"{task} {percent(figures['accuracy'])}"
        for task, figures in results["utility"].items()
        if figures.get("accuracy") is not None
    ]
    if told:
        yield f"Test accuracy: {', '.join(told)}."
    if results["privacy"].get("classes", 1):
        yield f"The private label is {private_name(results)}."
    yield card["summary"]
    if run.figures.mask != NO_MASK:
        yield (
            "A learned mask hides the image regions that reveal it before the encoder sees them; "
            "the privacy card lists what it lets through."
        )
    if run.figures.mask == BLIND:
        yield (
            "The in-loop discriminator is at chance before and after adversarial training, so the "
            "mask, not the game, explains the low leakage."
        )


def _title(results: Results) -> str:
    on = results["evaluated_on"]
    evaluated = count((results.get("counts") or {}).get("evaluated"))
    split = on.get("split") or "test"
    model = MODELS.get(str(results["model"]), results["model"])
    seed = f", seed {results['seed']}" if results.get("seed") is not None else ""
    return f"{model} on {on.get('dataset')}{seed}: {evaluated} {split} images"


def _notes(results: Results) -> list[str]:
    on = results["evaluated_on"]
    return [note for note in (on.get("label_note"), *(on.get("notes") or ())) if note]


def _screen(
    results: Results,
    files: Mapping[str, str],
    width: int,
    num_tasks: int,
    num_lines: int,
) -> list[Block]:
    found = leakage(results)
    fields = [
        ("Restored images", (restoration_text(results["restoration"]),)),
        *_leakage_fields(results, found),
        (
            "Epsilon",
            tuple(cut(text, width, num_lines) for text in epsilon_statement(results["dp"])),
        ),
        *(("Note", (cut(text, width, num_lines),)) for text in _notes(results)),
        *(("Warning", (cut(text, width, num_lines),)) for text in _warnings(results, found)),
        *_file_fields(results, files, found),
    ]
    return [Paragraph(_title(results)), _tasks(results, num_tasks), Fields(tuple(fields))]


def _tasks(results: Results, num_tasks: int) -> Table:
    rows = [
        Row(
            (
                task,
                percent(figures["accuracy"]),
                interval(figures.get("ci95")),
                percent(figures.get("majority")),
                count(figures.get("n")),
            )
        )
        for task, figures in results["utility"].items()
    ]
    more = len(rows) - num_tasks
    notes = (f"and {more} more tasks (--verbose)",) if more > 0 else ()
    header = ("task", "accuracy", "95 % interval", "majority baseline", "images")
    return Table("", header, tuple(rows[:num_tasks]), notes)


def _leakage_fields(
    results: Results, found: Mapping[str, Any] | None
) -> list[tuple[str, tuple[str, ...]]]:
    privacy = results["privacy"]
    if not privacy.get("classes", 1):
        return [("Leakage", ("this data has no private label",))]
    if not found or not found["worst"]:
        return [("Leakage", (f"{private_name(results)}: {_UNMEASURED}",))]
    majority = f", majority {percent(privacy['majority'])}" if privacy.get("majority") else ""
    text = (
        f"accuracy of freshly trained attackers on {private_name(results)}: "
        f"{leakage_line(results, found)}{majority}"
    )
    off, before = entry(found, "removal_off")["accuracy"], found["before_game"]
    baselines = [
        f"without removal {percent(off)}"
        if off is not None
        else "without removal not measured (--baseline_run)",
        *(
            [f"before adversarial training {percent(before)} (balanced, validation)"]
            if before is not None
            else []
        ),
    ]
    return [("Leakage", (text,)), ("Leakage baselines", ("; ".join(baselines),))]


def _warnings(results: Results, found: Mapping[str, Any] | None) -> Iterator[str]:
    """Yields goals that were missed and checks that were not run, the gravest first."""
    dp, privacy = results["dp"], results["privacy"]
    for budget in dp.get("budgets") or ():
        if budget.get("exceeded"):
            yield f"target epsilon {budget['target_epsilon']:g} exceeded: {budget['exceeded']}"
    if privacy.get("classes", 1):
        if not found or not found["worst"]:
            yield "leakage not measured, so no privacy claim is made about the private label"
        elif not found["claim"]:
            weak = "underpowered attackers: " if found["underpowered"] else ""
            reasons = reworded("; ".join(found["refused"]))
            yield f"no bound on the leakage is claimed: {weak}{reasons}"
        if found and found["worst"] and found["not_checked"]:
            text = unchecked(found)[0].rstrip(".")
            yield text[0].lower() + text[1:]
    even = [
        f"{task} ({percent(figures['accuracy'])}, majority {percent(figures['majority'])})"
        for task, figures in results["utility"].items()
        if (ends := figures.get("ci95")) and ends[0] <= (figures.get("majority") or 0.0)
    ]
    if even:
        yield f"not significantly better than the majority baseline: {', '.join(even)}"
    if missed := unmet(results):
        yield f"not met: {'; '.join(missed)}"
    state = stop_rule_text(results)
    if state.startswith("cannot") or "not evaluated" in state:
        yield f"stop rule {state}"
    evaluated = (results.get("counts") or {}).get("evaluated") or _FEW_IMAGES
    if evaluated < _FEW_IMAGES:
        yield f"only {evaluated} test images, so the intervals are wide"


def _file_fields(
    results: Results, files: Mapping[str, str], found: Mapping[str, Any] | None
) -> list[tuple[str, tuple[str, ...]]]:
    """The result file, the report and the next command."""
    run_dir, names = _run_dir(files), {Path(path).name: path for path in files}
    write = whole(command("report", run_dir))
    fields = [("Results", tuple(files)[:1])]
    if REPORT_FILE in names:
        fields.append(("Report", (f"{names[REPORT_FILE]} (update it: {write})",)))
    else:
        fields.append(("Report", (f"write it: {write}",)))
    if results["privacy"].get("classes", 1) and not (found and found["setting"]):
        fields.append(("Next", (whole(command("evaluate", run_dir, "--probe=fast")),)))
    elif AUDIT_FILE not in names:
        fields.append(("Next", (whole(command("audit", run_dir, "--setting=fast")),)))
    else:
        fields.append(("Next", (write,)))
    return fields


def _run_dir(files: Mapping[str, str]) -> str:
    """The run folder, quoted for a shell: that of the first file."""
    return shlex.quote(str(Path(next(iter(files))).parent)) if files else "RUN_DIR"


def _leak(run: ReportRun, found: Mapping[str, Any] | None) -> Tile:
    title = f"Accuracy of a fresh attacker on {private_name(run.results)}"
    worst = (found or {}).get("worst")
    if not found or not worst:
        return Tile(title, _UNMEASURED, "no fresh attacker was trained")
    pixels = entry(found, "pixels")["accuracy"]
    accuracy, chance = percent(worst["accuracy"]), percent(run.results["privacy"].get("chance"))
    target, upper = TARGETS[worst["target"]], TARGETS[worst["upper_target"]]
    also = f" (from {upper})" if upper != target else ""
    claim = "" if found["claim"] else " No bound is claimed; see the privacy card."
    return Tile(
        title,
        f"{percent(pixels)} → {accuracy}" if pixels is not None else accuracy,
        f"{'from pixels → ' if pixels is not None else ''}from {target}, by the strongest "
        f"attacker; upper bound {at_most(worst['upper'])}{also}; chance {chance}."
        f"{_features(found, worst)}{_before_game(found)}{claim}",
    )


def _features(found: Mapping[str, Any], worst: Mapping[str, Any]) -> str:
    features = entry(found, "features")
    if worst["target"] == "features" or features["accuracy"] is None:
        return ""
    return (
        f" From features {percent(features['accuracy'])}, upper bound {at_most(features['upper'])}."
    )


def _before_game(found: Mapping[str, Any]) -> str:
    """Compares balanced accuracies on the features before adversarial training and after it."""
    before, now = found["before_game"], entry(found, "features").get("balanced_accuracy")
    if before is None or now is None:
        return ""
    return (
        f" Features, balanced: {percent(before)} before adversarial training (validation images), "
        f"{percent(now)} now."
    )


def _task(results: Results) -> Iterator[Tile]:
    for task, figures in list(results["utility"].items()):
        if task == "gender" or "gender" not in results["utility"]:
            yield Tile(
                f"{task.capitalize()} accuracy",
                percent(figures["accuracy"]),
                f"95 % interval {interval(figures.get('ci95'))}; majority baseline "
                f"{percent(figures.get('majority'))}",
            )
            return


def _restored(restoration: Mapping[str, Any]) -> Tile:
    if restoration["psnr_db"] is None:
        return Tile("Restored images", "none", restoration.get("reason") or "")
    return Tile(
        "Restored images, PSNR",
        decibel(restoration["psnr_db"]),
        f"mean training image: {decibel(restoration.get('mean_image_psnr_db'))}",
    )


def _epsilon(card: Mapping[str, Any]) -> Tile:
    title = "Epsilon of released weights"
    released = [value for value in card["released"].values() if value is not None]
    if released:
        return Tile(
            title,
            epsilon(max(released)),
            f"all of them together, at delta {card['delta']:g}, for one image; does not cover the "
            "features of a training image",
        )
    if card["void"]:
        return Tile(title, "void", card["void"])
    conditional = card["conditional"]
    alone = (
        f"; the discriminator's updates alone have a conditional epsilon of "
        f"{epsilon(conditional)} at delta {card['delta']:g}, given the encoder's weights at every "
        "step, which by itself protects nobody in the training set"
        if conditional is not None
        else ""
    )
    return Tile(title, "none", f"no released weights have one{alone}")


def _membership(audit: Audit | None) -> Tile:
    title = "Membership inference"
    if not audit or not (audit.get("membership") or {}).get("strongest"):
        return Tile(title, _UNMEASURED, "the audit command measures it")
    worst = worst_attack(audit)
    if not worst:
        return Tile(title, _UNMEASURED, sample_difference_note(audit))
    figures, left = worst.figures, unshown(audit)
    weak = f"; {left}" if left else ""
    by = f"by {attack_name(figures)}, the strongest of {worst.num_attacks} attacks"
    rates = list(caught(figures))
    if not rates:
        return Tile(title, f"AUC {auc_text(figures)}", f"{by}; chance 0.5{weak}")
    false, true, ends = rates[-1]
    return Tile(
        title,
        true,
        f"of training images detected at {false} false positives ({ends}); AUC "
        f"{auc_text(figures)}, chance 0.5; {by}{weak}",
    )
