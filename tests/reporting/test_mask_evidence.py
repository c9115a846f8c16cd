"""Evidence for mask or game, by hand, from each run's own figures."""

import copy
import json

import numpy as np
import pytest

from tests.reporting.table_runs import results, write_table
from tf_mtl_privacy.reporting.model_table import model_table
from tf_mtl_privacy.reporting.runs import BLIND, NO_MASK, READS, UNKNOWN, mask_evidence, mask_line
from tf_mtl_privacy.reporting.sections.comparison import model_table_markdown, model_table_text

MASKED = {
    "removal": {"mask": "learned"},
    "gates": {"discriminator": {"value": {"privacy_balanced_accuracy": 0.13}}},
    "training": {"seconds": 100.0, "in_loop": {"most_balanced_accuracy": 0.14, "epochs": 6}},
    "counts": {"rows": {"validation": 2000}},
    "privacy": {"chance": 0.125, "discriminator": {"ci95": [0.11, 0.14]}},
}


def changed(path, value):
    found = copy.deepcopy(MASKED)
    *above, last = path.split(".")
    place = found
    for key in above:
        place = place[key]
    place[last] = value
    return found


def test_mask_evidence_of_a_discriminator_at_chance_is_blind():
    assert mask_evidence(MASKED) == BLIND


@pytest.mark.parametrize(
    ("path", "value", "evidence"),
    [
        ("removal.mask", "none", NO_MASK),
        # 0.15 of 8 times 250: the interval is 0.134 to 0.166, above chance.
        ("gates.discriminator.value.privacy_balanced_accuracy", 0.15, READS),
        # Of fewer rows less is known.
        ("counts.rows.validation", 100, BLIND),
        ("privacy.discriminator.ci95", [0.13, 0.16], READS),
        ("gates.discriminator", None, UNKNOWN),
        ("privacy.discriminator", None, UNKNOWN),
        ("training.in_loop", None, UNKNOWN),
        ("training.in_loop", {"most_balanced_accuracy": None, "epochs": 0}, UNKNOWN),
        # It learned half-way and was fooled before the end.
        ("training.in_loop.most_balanced_accuracy", 0.3, READS),
    ],
)
def test_mask_evidence_depends_on_each_figure(path, value, evidence):
    assert mask_evidence(changed(path, value)) == evidence


def test_mask_evidence_corrects_the_maximum_over_epochs():
    """Of a discriminator that guesses, the epoch in which it was luckiest."""
    rng = np.random.default_rng(0)
    for epochs in (1, 20):
        # The best of 20 by itself lies above chance's 95 % interval more often than not.
        most = rng.binomial(2000, 0.125, (2000, epochs)).max(axis=1) / 2000
        found = [
            mask_evidence(
                changed("training.in_loop", {"most_balanced_accuracy": m, "epochs": epochs})
            )
            for m in most
        ]
        assert found.count(READS) < 0.06 * len(found)
    once = [
        mask_evidence(changed("training.in_loop", {"most_balanced_accuracy": m, "epochs": 1}))
        for m in most
    ]
    assert once.count(READS) > 0.3 * len(once)


def test_mask_line_follows_from_the_runs():
    assert mask_line("A", []) == mask_line("A", [NO_MASK]) == ""
    assert "the mask, not the adversarial game" in mask_line("A", [BLIND, BLIND])
    for evidence in ([BLIND, READS], [UNKNOWN], [READS]):
        assert "not separated here" in mask_line("A", evidence)
    assert "in some of its runs" in mask_line("A", [BLIND, NO_MASK])


def test_model_table_has_mask_lines_for_masked_models_only(tmp_path):
    masked = {key: MASKED[key] for key in ("removal", "gates", "counts", "training")}
    adversarial = results(**masked, privacy__discriminator=MASKED["privacy"]["discriminator"])
    write_table(tmp_path, results("stl"), results("mtl_dp"), adversarial)
    table = model_table(tmp_path)
    line = mask_line("MTL-Adv-DP", [BLIND])
    assert table["models"]["mtl_adv_dp"]["mask"] == {"0": BLIND}
    assert line in model_table_markdown(table)
    text = " ".join(model_table_text(table).split())
    assert line in text and "MTL-DP has a mask" not in text


def test_mask_evidence_of_stored_results(repo_root):
    # An older one does not have the course of its discriminator.
    kept = (("demo", BLIND), ("synthetic_seed0_4000", UNKNOWN), ("synthetic_removal_off", NO_MASK))
    for name, evidence in kept:
        path = repo_root / "docs" / "results" / f"{name}.json"
        assert mask_evidence(json.loads(path.read_text(encoding="utf-8"))) == evidence
