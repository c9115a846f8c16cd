"""Checks that a model's outputs and a data set's labels have the same meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tf_mtl_privacy.errors import UsageError


def check_tasks(
    model_classes: Mapping[str, Sequence[str]], data_classes: Mapping[str, Sequence[str]]
) -> list[str]:
    """Checks that a model trained on some tasks can be evaluated on a data set's labels.

    Args:
        model_classes: task -> class names, as trained.
        data_classes: task -> class names of the data set.

    Returns:
        Notes on tasks with other class names in the data.

    Raises:
        UsageError: a task is missing, has another number of classes, or has the same classes in
            another order, which would silently change the meaning of class numbers.
    """
    notes = []
    for task, trained in model_classes.items():
        if task not in data_classes:
            raise UsageError(
                f"--tasks: the run was trained on {task}, which the data lacks; give its "
                f"attribute as --tasks={task}=ATTRIBUTE"
            )
        given = data_classes[task]
        if len(given) != len(trained):
            raise UsageError(
                f"--tasks: {task} has {len(given)} classes in the data ({_shown(given)}), the run "
                f"was trained on {len(trained)} ({_shown(trained)}); give another attribute in "
                f"--tasks={task}=ATTRIBUTE"
            )
        if tuple(given) == tuple(trained):
            continue
        if set(given) == set(trained):
            raise UsageError(
                f"--tasks: {task} has its classes in another order in the data ({_shown(given)}) "
                f"than in the run ({_shown(trained)})"
            )
        notes.append(f"{task}: the data's classes {_shown(given)} are read as {_shown(trained)}")
    return notes


def _shown(classes: Sequence[str]) -> str:
    names = ", ".join(classes[:4])
    return names + (", ..." if len(classes) > 4 else "")
