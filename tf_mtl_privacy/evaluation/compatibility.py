"""Whether a model's outputs and a data set's labels mean the same."""

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
        Notes for whoever reads the result: tasks whose classes have other names there.

    Raises:
        UsageError: a task is missing, has another number of classes, or the same ones in another
            order (class numbers would silently mean something else).
    """
    notes = []
    for task, trained in model_classes.items():
        if task not in data_classes:
            raise UsageError(
                f"--tasks: the run was trained on {task}, which the data has not; name its "
                f"attribute as --tasks={task}=ATTRIBUTE"
            )
        found = data_classes[task]
        if len(found) != len(trained):
            raise UsageError(
                f"--tasks: {task} has {len(found)} classes in the data ({_shown(found)}), the run "
                f"was trained on {len(trained)} ({_shown(trained)}); name another attribute in "
                f"--tasks={task}=ATTRIBUTE"
            )
        if tuple(found) == tuple(trained):
            continue
        if set(found) == set(trained):
            raise UsageError(
                f"--tasks: {task} has its classes in another order in the data ({_shown(found)}) "
                f"than in the run ({_shown(trained)})"
            )
        notes.append(f"{task}: the data's {_shown(found)} is taken for {_shown(trained)}")
    return notes


def _shown(classes: Sequence[str]) -> str:
    names = ", ".join(classes[:4])
    return names + (", ..." if len(classes) > 4 else "")
