"""A model and a data set must mean the same by a class number."""

import pytest

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.compatibility import check_tasks

TRAINED = {"gender": ("female", "male"), "age": ("young", "old")}


def test_equal_classes_need_no_note_and_further_tasks_do_not_matter():
    assert check_tasks(TRAINED, {**TRAINED, "expression": ("a", "b")}) == []


def test_other_names_are_noted():
    (note,) = check_tasks(TRAINED, {**TRAINED, "gender": ("0", "1")})
    assert note == "gender: the data's classes 0, 1 are read as female, male"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"gender": ("female", "male")}, "trained on age, which the data lacks"),
        (
            {**TRAINED, "age": ("a", "b", "c")},
            r"3 classes in the data.*name another attribute in --tasks=age=",
        ),
        ({**TRAINED, "gender": ("male", "female")}, "another order"),
    ],
)
def test_what_would_silently_be_wrong_is_refused(found, message):
    with pytest.raises(UsageError, match=message):
        check_tasks(TRAINED, found)
