"""Class numbers of a model and of a data set must have the same meaning."""

import pytest

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.compatibility import check_tasks

TRAINED = {"gender": ("female", "male"), "age": ("young", "old")}


def test_check_tasks_with_equal_classes_has_no_notes():
    assert check_tasks(TRAINED, {**TRAINED, "expression": ("a", "b")}) == []


def test_check_tasks_with_other_names_notes_them():
    (note,) = check_tasks(TRAINED, {**TRAINED, "gender": ("0", "1")})
    assert note == "gender: the data's classes 0, 1 are read as female, male"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"gender": ("female", "male")}, "trained on age, which the data lacks"),
        (
            {**TRAINED, "age": ("a", "b", "c")},
            r"3 classes in the data.*give another attribute in --tasks=age=",
        ),
        ({**TRAINED, "gender": ("male", "female")}, "another order"),
    ],
)
def test_check_tasks_with_other_tasks_or_orders_is_refused(found, message):
    with pytest.raises(UsageError, match=message):
        check_tasks(TRAINED, found)
