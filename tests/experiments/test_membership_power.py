"""experiments/probe_studies/membership_power.py: its training and the printed line."""

from experiments.probe_studies.membership_power import MEMORISING, line
from tf_mtl_privacy.cli.flags import parse


def test_overfitted_run_has_the_networks_of_the_full_setting_without_privacy():
    config, full = (
        parse("train", list(flags)).config for flags in (MEMORISING, ("--flagfile=synthetic.cfg",))
    )
    assert config.model == full.model and config.removal.mask == full.removal.mask
    assert (config.train.model, config.data.train_rows) == ("mtl_adv", 1_000)
    assert (config.loss.beta, config.loss.beta_late, config.loss.beta_step) == (0, 0, 0)


def test_line_has_the_figure_and_its_interval():
    at = {"value": 0.25, "ci95": [0.2, 0.3]}
    best = {"attack": "loss", "target": "business", "auc": 0.7, "tpr_at_fpr": {"0.05": at}}
    data = {"members": 1_000, "non_members": 2_000}
    right = {"members_right": {"gender": 1.0, "age": 0.995}}
    shown = line("memorising", {"strongest": best, "data": data, "seconds": 12.3, **right})
    assert "accuracy on members at least 99.5% in each task" in shown
    assert "TPR 25.0% at 5 % FPR (20.0% to 30.0%)" in shown and "2,000 non-members" in shown
