"""Curves out of metrics.jsonl, by hand."""

from tests.reporting.report.runs import GENDER, metrics
from tf_mtl_privacy.reporting.charts import Curve, Goal, Span, curves_chart
from tf_mtl_privacy.reporting.sections.training import (
    beta_text,
    ends_text,
    gate_text,
    joint_curves,
    panels,
    spans,
)

GATES = {
    "business": {"threshold": {"gender_accuracy": 0.9}, "status": "met"},
    "discriminator": {"threshold": {"privacy_balanced_accuracy": 0.8}, "status": "not_met"},
    "restorer": {"threshold": {"psnr_db": 30.0}, "status": "not_evaluated"},
}


def test_spans_of_metrics_are_ranges_of_epochs():
    assert spans(metrics()) == [
        Span("business", 1, 1),
        Span("discriminator", 2, 3),
        Span("restorer", 4, 4),
        Span("adversarial", 5, 7),
    ]


def test_panels_have_curves_of_one_unit_and_their_gates():
    rates, psnr, beta = panels(metrics(), GATES)
    assert rates.curves[0] == Curve("gender", [1, 5, 6, 7], [0.91, *GENDER])
    assert rates.curves[1] == Curve("in-loop discriminator, balanced", [2, 3], [0.1, 0.2])
    assert rates.curves[2] == Curve("fresh attacker, balanced", [7], [0.14])
    assert rates.goals == [
        Goal(Span("business", 1, 1), "gender", 0.9),
        Goal(Span("discriminator", 2, 3), "in-loop discriminator, balanced", 0.8),
    ]
    assert psnr.curves == [Curve("PSNR", [4, 5, 6, 7], [30.5, 32.0, 33.0, 34.0])]
    assert [goal.value for goal in psnr.goals] == [30.0]
    assert beta.curves == [Curve("beta", [5, 6, 7], [0.1, 0.1, 0.3])]
    assert {goal.name for goal in rates.goals} <= {curve.name for curve in rates.curves}


def test_chart_descriptions_have_the_figures():
    assert (
        beta_text(metrics())
        == "0.1 from epoch 1 of phase adversarial, 0.3 from epoch 3 of phase adversarial"
    )
    assert ends_text(joint_curves(metrics())) == (
        "gender 50.0 % to 95.0 %; in-loop discriminator 12.5 % to 12.5 %; fresh attacker, balanced "
        "14.0 %"
    )
    _, psnr, beta = panels(metrics(), {})
    assert ends_text(psnr.curves) == "PSNR 30.5 dB to 34.0 dB"
    # Beta weighs a loss: it is no rate.
    assert ends_text(beta.curves) == "beta 0.1 to 0.3"
    assert gate_text(GATES) == (
        "business: gender accuracy ≥ 90.0 %, met; discriminator: in-loop discriminator, balanced ≥ "
        "80.0 %, not met; restorer: PSNR ≥ 30.0 dB, not evaluated"
    )


def test_panels_of_single_task_runs_have_a_phase_per_task():
    lines = [
        {"phase": f"{task}/business", "epoch": 1, f"validation_{task}_accuracy": 0.9}
        for task in ("gender", "age")
    ]
    assert [span.name for span in spans(lines)] == ["gender/business", "age/business"]
    (panel,) = panels(lines, {})
    assert [curve.name for curve in panel.curves] == ["gender", "age"]
    assert joint_curves(lines) == []
    assert curves_chart([panel], spans(lines)).startswith(b"\x89PNG")
