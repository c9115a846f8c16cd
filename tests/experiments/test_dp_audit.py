"""experiments/dp_audit: the printed line, and a small audit."""

from experiments.dp_audit import __main__ as experiment
from tf_mtl_privacy.evaluation.dp_audit.canaries import shipped_optimizer


def test_main_with_a_missed_fault_fails(monkeypatch, capsys):
    monkeypatch.setattr(experiment, "CLAIMS", experiment.CLAIMS[:1])
    # The shipped code under the name of a fault has to be reported as missed.
    monkeypatch.setattr(experiment, "FAULTS", {"noise halved": shipped_optimizer})
    assert experiment.main(["--repeats=1", "--canaries=2500"]) == 1
    shown = capsys.readouterr().out
    assert "contradicted 0 of 1" in shown and "2,500 canaries" in shown


def test_line_matches_values_worked_by_hand():
    single = {"mu_claimed": 0.5, "mu_lower": 0.7}
    one = {"epsilon_lower": 2.5, "claimed": 2.0, "max_detectable": 3.6, "single_step": single}
    shown = experiment.line(
        "noise halved", [one | {"verdict": v} for v in ("contradicted", "holds")]
    )
    assert "found 2.50 2.50" in shown and "contradicted 1 of 2" in shown
    assert "mu claimed 0.50, found 0.70 0.70" in shown
