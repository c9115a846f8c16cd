"""experiments/dp_audit: its line, and one audit of it in small."""

import sys

from experiments.dp_audit import __main__ as bench
from tf_mtl_privacy.evaluation.dp_audit.updates import shipped_optimizer


def test_a_missed_fault_is_a_failure(monkeypatch, capsys):
    monkeypatch.setattr(bench, "CLAIMS", bench.CLAIMS[:1])
    # No fault under the name of one: it has to be reported as missed.
    monkeypatch.setattr(bench, "FAULTS", {"noise halved": shipped_optimizer})
    monkeypatch.setattr(sys, "argv", ["dp_audit.py", "--repeats=1", "--canaries=2500"])
    assert bench.main() == 1
    shown = capsys.readouterr().out
    assert "contradicted 0 of 1" in shown and "2,500 canaries" in shown


def test_the_line_by_hand():
    single = {"mu_claimed": 0.5, "mu_lower": 0.7}
    one = {"epsilon_lower": 2.5, "claimed": 2.0, "max_detectable": 3.6, "single_step": single}
    shown = bench.line("noise halved", [one | {"verdict": v} for v in ("contradicted", "holds")])
    assert "found 2.50 2.50" in shown and "contradicted 1 of 2" in shown
    assert "mu claimed 0.50, found 0.70 0.70" in shown
