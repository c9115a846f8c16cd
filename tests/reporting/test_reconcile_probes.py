"""Of all readings of the same weights the highest counts, everywhere."""

import copy
import html
import json
import re

import pytest

from tests.reporting.audits import make_audit
from tests.reporting.conftest import make_results
from tests.reporting.probes import patient, reading, whole_probe
from tests.reporting.report.parts import table
from tests.reporting.report.runs import kept_results, write_run
from tf_mtl_privacy.evaluation.intervals import clopper_pearson, wilson_interval
from tf_mtl_privacy.evaluation.probes.summary import UNSEEN, target_summary
from tf_mtl_privacy.reporting.build import build_report
from tf_mtl_privacy.reporting.formats import at_most
from tf_mtl_privacy.reporting.model_table import model_table
from tf_mtl_privacy.reporting.privacy_card import privacy_card
from tf_mtl_privacy.reporting.reconcile_probes import (
    CHECK,
    audit_is_of,
    carried,
    headline_text,
    leakage,
)
from tf_mtl_privacy.reporting.render_html import report_html
from tf_mtl_privacy.reporting.render_markdown import report_markdown
from tf_mtl_privacy.reporting.render_text import render_text
from tf_mtl_privacy.reporting.runs import read_run, run_figures
from tf_mtl_privacy.reporting.sections.attackers import attacker_blocks
from tf_mtl_privacy.reporting.sections.audit import audit_text
from tf_mtl_privacy.reporting.sections.comparison import model_table_text
from tf_mtl_privacy.reporting.sections.privacy import card_text
from tf_mtl_privacy.reporting.sections.summary import results_summary, results_text
from tf_mtl_privacy.training.trainer import shown_figures

SOURCE = "thorough attackers"


def reads(probe, accuracy, high, target="features"):
    """A copy of a probe with another strongest reading of a target."""
    probe = copy.deepcopy(probe)
    ends = {"ci95": [accuracy - 0.02, high], "balanced_ci95": [accuracy - 0.02, high]}
    probe[target]["strongest"] |= {"accuracy": accuracy, "balanced_accuracy": accuracy, **ends}
    return probe


def checked(results, read, upper):
    """The results with a check of the released weights in them, on the same pictures."""
    results["evaluated_on"]["changed"] = {}
    results["training"]["final_check"] = {
        "epoch": 7,
        "fresh_probe_balanced_accuracy": read,
        "fresh_probe_upper": upper,
    }
    results["privacy"]["leakage"] = leakage(results)
    return results


def attacked(**readings):
    """A result whose targets were read like that: name -> (accuracy, upper end)."""
    probe = {"setting": "fast", "underpowered": False, "not_checked": []}
    for name, (accuracy, upper) in readings.items():
        figures = {"name": "x", "accuracy": accuracy, "balanced_accuracy": accuracy}
        strongest = {**figures, "ci95": [0.0, upper], "n": 1000}
        probe[name] = {"strongest": strongest, "by_rows": {}}
    return {"model": "mtl_dp", "privacy": {"classes": 8, "chance": 0.125, "probe": probe}}


def test_audit_is_of_a_run_with_its_configuration_and_weights(results):
    assert audit_is_of(results, make_audit(results))
    assert not audit_is_of(results, make_audit(results, attributes={"weights": "f" * 16}))
    # The same configuration, trained anew: an audit without fresh attackers names its weights, too.
    assert audit_is_of(results, make_audit(results, weights="0123456789abcdef"))
    assert not audit_is_of(results, make_audit(results, weights="f" * 16))
    # The result knows its weights without fresh attackers, too.
    results["privacy"]["probe"] = None
    assert not audit_is_of(results, make_audit(results, weights="f" * 16))
    results["privacy"]["leakage"] = None
    assert audit_is_of(results, make_audit(results, weights="f" * 16))
    assert not audit_is_of(results, make_audit(results, config={"train": {"seed": 5}}))


def test_audit_of_the_same_weights_counts_despite_a_new_option(results):
    """The result is of an earlier version of the package, whose configuration has less in it."""
    strong = reads(whole_probe(), 0.71, 0.74)
    config = {**results["config"], "data": {**results["config"]["data"], "new_option": 1}}
    audit = make_audit(results, config=config, weights="0123456789abcdef", attributes=strong)
    assert audit_is_of(results, audit)
    assert run_figures(results, audit).figures["leakage"].value == 0.71
    assert not audit_is_of(results, {**audit, "weights": "f" * 16})


@pytest.fixture
def planted(tmp_path):
    """A run folder: the check in training read 41.0 % (43.7), the attackers afterwards 15.6 %."""
    probe = reads(whole_probe(), 0.156, 0.223)
    for name in ("restored", "logits", "regions", "one_draw", "features_and_regions"):
        probe[name] = {"strongest": None, "reason": "not asked for"}
    probe["features"]["own"] = {"strongest": None, "reason": "not asked for"}
    results = checked(make_results(probe=patient(probe)), 0.41, 0.437)
    results["seed"] = 0
    return write_run(tmp_path / "mtl_adv_dp-seed0", results, audit=False)


def test_leakage_of_a_higher_check_is_the_headline_everywhere(planted):
    results = json.loads((planted / "results.json").read_text())
    found = results["privacy"]["leakage"]
    assert found["worst"]["accuracy"] == 0.41 and found["features"]["accuracy"] == 0.41
    assert found["features"]["source"] == found["worst"]["source"] == CHECK
    assert found["claim"] == {
        "upper": 0.437,
        "target": "features",
        "level": 0.95,
        "all_attackers": False,
    }
    run = read_run(planted)
    report = build_report(run)
    tile = next(tile for tile in report.tiles if "on the iris" in tile.title)
    assert tile.value.endswith("→ 41.0 %") and "upper bound 43.7 %" in tile.note
    card = privacy_card(results)
    texts = {
        "table": results_text(results),
        "html": report_html(report),
        "markdown": report_markdown(report, "report"),
        "card": card_text(card),
        "summary": card["summary"],
        "models": model_table_text(model_table(planted.parent)),
        "audit": audit_text(make_audit(results), results),
    }
    # The page keeps a number and its unit together.
    texts = {name: text.replace("\u00a0", " ") for name, text in texts.items()}
    for name, text in texts.items():
        assert "41.0 %" in text and "43.7 %" in text, name
    claim = " ".join(texts["table"].split())
    assert "at most 43.7 % (from features; highest measured accuracy 41.0 %)" in claim
    # Not by attackers who learned from those rows.
    assert "images, by" not in claim
    # The lower reading stands nowhere but beside the higher one, in the line that names both.
    both = (
        f"{SOURCE} 15.6 % (upper bound 22.3 %), {CHECK} 41.0 % (upper bound 43.7 %)); the highest"
    )
    for name in ("table", "html", "markdown", "card", "audit"):
        words = re.sub(r"\s+", " ", html.unescape(texts[name]).replace("\\", ""))
        assert both in words, name
        assert words.count("15.6 %") == words.count(both), name
        assert "22.3 %" not in words.replace(both, ""), name
    assert "15.6 %" not in texts["models"] + texts["summary"]
    figures = run_figures(results).figures
    assert (figures["probe_features"].value, figures["probe_features_high"].value) == (0.41, 0.437)
    first = table(report, "Fresh attackers against chance").rows[0].cells
    assert first[:3] == ("features", "41.0 %", "43.7 %")


def test_check_of_other_pictures_or_of_other_weights_does_not_count():
    results = checked(make_results(probe=whole_probe()), 0.41, 0.437)
    results["privacy"]["leakage"] = None
    for changed, counts in (({"test_rows": 9, "data_dir": "x"}, True), ({"crop": "none"}, False)):
        results["evaluated_on"]["changed"] = changed
        assert (leakage(results)["features"]["accuracy"] == 0.41) is counts
    results["evaluated_on"] |= {"changed": {}, "dataset": "lfw"}
    assert leakage(results)["features"]["accuracy"] < 0.2


def test_highest_upper_bound_of_an_old_check_replaces_its_accuracy():
    results = make_results(probe=whole_probe())
    results["evaluated_on"]["changed"] = {}
    results["privacy"]["leakage"] = None
    del results["training"]["final_check"]
    parts = results["stop_rule"]["parts"]
    parts["privacy"]["value"] = 0.3
    found = leakage(results)
    assert found["features"]["accuracy"] == found["features"]["upper"] == 0.3
    assert "only its upper end is known" in found["features"]["source"]
    parts["privacy"]["value"] = 0.13
    assert leakage(results)["features"]["source"] == SOURCE


@pytest.mark.parametrize("in_audit", [False, True])
def test_leakage_takes_the_higher_figure_of_either_file(in_audit):
    low, high = whole_probe(), reads(whole_probe(), 0.5, 0.531)
    results = make_results(probe=low if in_audit else high)
    card = privacy_card(results, make_audit(results, attributes=high if in_audit else low))
    assert "50.0 % from features (upper bound 53.1 %); chance is 12.5 %" in card["summary"]
    found = {part["what"]: part["finding"] for part in card["attacked"]}
    # 152 of 1000 in tests/reporting/probes.py, by attackers of the encoder's own rows.
    shown = ["15.2 % (upper bound 17.6 %)", "50.0 % (upper bound 53.1 %)"]
    first, second = shown if in_audit else reversed(shown)
    assert found["the iris, from features"].endswith(
        f"({SOURCE} {first}, {SOURCE} of the audit {second}); the highest counts"
    )
    # What both files say alike is said once.
    assert found["the iris, from restored images"].endswith("chance 12.5 %")


def test_leakage_counts_attackers_that_were_not_chosen():
    results = make_results(probe=whole_probe())
    probe = results["privacy"]["probe"]
    # Chosen on validation rows: 143 of 1000 test rows. Another one reads 300 of them.
    probe["features"]["attackers"]["knn_whitened"] = {"accuracy": 0.3, "balanced_accuracy": 0.29}
    found = leakage(results)["features"]
    assert (found["accuracy"], found["attacker"]) == (0.3, "knn_whitened")
    assert found["upper"] == pytest.approx(wilson_interval(300, 1000)[1])
    # A bound over all attackers and the points of a learning curve count as well.
    probe["features"]["bound"] = {"accuracy": 0.34, "balanced_accuracy": 0.35, "level": 0.9}
    probe["features"]["curve"] = [{"rows": 900, "balanced_accuracy": 0.31, "balanced_ci95": None}]
    probe["restored"]["updates_curve"] = [{"updates": 9, "balanced_accuracy": 0.2}]
    results["privacy"] |= {"leakage": None, "probe": patient(probe)}
    whole = leakage(results)
    found = whole["features"]
    assert (found["accuracy"], found["rows"], found["upper"]) == (0.31, 900, 0.35)
    assert whole["restored"]["accuracy"] == 0.2
    assert whole["claim"] == {
        "upper": 0.35,
        "target": "features",
        "level": 0.9,
        "all_attackers": True,
    }


def test_rare_classes_count_by_balanced_accuracy():
    results = attacked(features=(0.2, 0.22))
    best = results["privacy"]["probe"]["features"]["strongest"]
    best |= {"balanced_accuracy": 0.6, "balanced_ci95": [0.5, 0.7]}
    found = leakage(results)["features"]
    assert (found["accuracy"], found["balanced_accuracy"], found["upper"]) == (0.6, 0.6, 0.7)


def test_headline_takes_the_stronger_of_unseen_and_own_rows(results):
    found = results["privacy"]["leakage"]["features"]
    assert (found["accuracy"], found["trained_on"]) == (0.152, "own")
    assert {kind: part["accuracy"] for kind, part in found["by_rows"].items()} == {
        "unseen": 0.143,
        "own": 0.152,
    }
    probe = results["privacy"]["probe"]["features"]
    figures = {"name": "mlp", "accuracy": 0.7, "balanced_accuracy": 0.7, "ci95": [0.6, 0.8]}
    probe["by_rows"] = {"unseen": None, "own": figures}
    found = leakage(results)["features"]
    assert (found["accuracy"], found["upper"], found["trained_on"]) == (0.7, 0.8, "own")


def test_worst_target_leads_and_the_bound_is_the_largest_of_all():
    results = attacked(features=(0.3, 0.4), restored=(0.5, 0.55), logits=(0.2, 0.6))
    worst = leakage(results)["worst"]
    assert (worst["target"], worst["accuracy"]) == ("restored", 0.5)
    assert (worst["upper_target"], worst["upper"]) == ("logits", 0.6)
    # What a run keeps to itself is no leak.
    results = attacked(pixels=(0.99, 1.0), masked_pictures=(0.8, 0.9), features=(0.3, 0.4))
    assert leakage(results)["worst"]["target"] == "features"


def test_measurement_can_raise_a_figure_and_never_lower_it():
    first = attacked(features=(0.5, 0.55))
    first["privacy"]["probe"]["weights"] = "w"
    first["evaluated_on"] = {"data_fingerprint": "d"}
    first["privacy"]["leakage"] = leakage(first)
    assert carried(first, "other", "d".__eq__) is carried(first, "w", "other".__eq__) is None
    assert carried(None, "w", "d".__eq__) is carried({"privacy": {}}, "w", "d".__eq__) is None
    second = attacked(features=(0.2, 0.25))
    second["privacy"]["leakage"] = carried(json.loads(json.dumps(first)), "w", "d".__eq__)
    found = leakage(second)
    assert (found["features"]["accuracy"], found["features"]["upper"]) == (0.5, 0.55)
    # Applying it again changes nothing.
    second["privacy"]["leakage"] = found
    assert leakage(second) == found
    third = leakage(
        second,
        others=[{"source": "kept readings", **attacked(features=(0.7, 0.72))["privacy"]["probe"]}],
    )
    assert (third["features"]["accuracy"], third["features"]["source"]) == (0.7, "kept readings")


def test_kept_readings_of_other_settings_count():
    results = attacked(features=(0.15, 0.17), restored=(0.2, 0.22))
    kept = {"setting": "thorough", "rows": 16_000, "trained_on": "own", "readings": 40}
    kept["strongest"] = {"name": "local_raw", "accuracy": 0.6, "balanced_accuracy": 0.59}
    kept["bound"] = {"accuracy": 0.63, "balanced_accuracy": 0.62, "level": 0.95}
    check = {"setting": "check", "strongest": kept["strongest"] | {"accuracy": 0.3}}
    results["privacy"]["probe"]["kept_best"] = {"features": kept, "restored": check}
    found = leakage(results)
    assert (found["features"]["accuracy"], found["features"]["upper"]) == (0.6, 0.63)
    assert found["features"]["source"] == "kept readings of thorough attackers"
    assert (found["features"]["rows"], found["features"]["trained_on"]) == (16_000, "own")
    assert found["restored"]["source"] == CHECK
    # They do not vouch for the attackers that were sent.
    results["privacy"]["probe"] |= {"underpowered": True, "underpowered_reasons": ["few rows"]}
    assert leakage(results)["refused"] == ["few rows"] and leakage(results)["setting"] == "fast"


def test_target_missing_in_one_file_is_taken_from_the_other():
    own, audited = whole_probe(), whole_probe()
    own["regions"] = {"strongest": None, "reason": "only --probe=thorough measures it"}
    del audited["removal_off"]
    audited["setting"], own["setting"] = "thorough", "fast"
    found = leakage({"privacy": {"probe": own}}, {"attributes": audited})
    assert found["regions"]["accuracy"] == 0.139 and found["removal_off"]["accuracy"] == 0.787
    assert found["told"] == [] and found["setting"] == "fast and thorough"
    assert leakage({"privacy": {"probe": None}}) is None
    assert leakage({"privacy": {}}, {"attributes": audited})["features"]["accuracy"] == 0.152
    assert leakage({"privacy": {"classes": 0, "probe": own}}) is None


def test_weak_attackers_void_only_their_own_claims():
    strong, weak = whole_probe(), whole_probe(pixels=300)
    assert weak["underpowered"] and not strong["underpowered"]
    for pair in ((strong, weak), (weak, strong)):
        found = leakage({"privacy": {"probe": pair[0]}}, {"attributes": pair[1]})
        assert not found["underpowered"] and found["underpowered_reasons"] == []
    # The mask was attacked by the weak ones only.
    strong["regions"] = {"strongest": None, "reason": "not asked for"}
    found = leakage({"privacy": {"probe": strong}}, {"attributes": weak})
    assert found["underpowered"] and found["underpowered_reasons"] and found["claim"] is None


def test_claim_is_refused_for_rising_curves_or_short_training():
    def claim(change, model="mtl_adv_dp"):
        results = make_results(model=model, probe=change(whole_probe()))
        found = results["privacy"]["leakage"]
        assert (found["claim"] is None) is bool(found["refused"])
        table = " ".join(results_text(results).split())
        assert ("NO BOUND CLAIMED" in table) is (found["claim"] is None)
        return found["refused"]

    def rising(probe):
        probe["restored"] |= {"trend": "still rising", "trend_words": "13 % of 900, 31 % of 3,600"}
        return patient(probe)

    def steep(probe):
        reason = "81 % after 30 passes, 12 % after 8"
        return probe | {"patience": {"checked": True, "flat": False, "reason": reason}}

    assert claim(patient) == []
    assert claim(rising) == ["restored images: 13 % of 900, 31 % of 3,600"]
    assert claim(steep) == ["after adversarial training: 81 % after 30 passes, 12 % after 8"]
    (fast,) = claim(lambda probe: probe | {"setting": "fast"})
    assert "the fast setting does not check this" in fast and "--probe=thorough" in fast
    # Without a game there is nothing that makes a label slow to learn.
    assert claim(lambda probe: probe, model="mtl_dp") == []


def curved(setting, trend, rows, flat=None):
    """The probe of attackers with a learning curve on features, over rows and over updates."""
    probe = copy.deepcopy(whole_probe()) | {"setting": setting}
    words = f"{trend}: from {rows // 2:,} to {rows:,} rows"
    probe["features"] |= {"trend": trend, "trend_words": words, "rows": rows}
    if flat is not None:
        reason = f"{'flat' if flat else 'still rising'} from 2,500 to 5,000 updates"
        probe["features"] |= {"patience": {"checked": True, "flat": flat, "reason": reason}}
        probe["features"]["updates_curve"] = [{"updates": 5000, "balanced_accuracy": 0.1}]
    open_ = trend != "flat" or flat is False
    return probe | {"underpowered": open_, "underpowered_reasons": [words] if open_ else []}


@pytest.mark.parametrize("in_audit", [False, True])
@pytest.mark.parametrize("trend", ["still rising", "not clear"])
def test_flat_curve_of_weaker_attackers_does_not_hide_a_rise(in_audit, trend):
    """Both learned from the 9,600 rows that there are; the fast ones call their curve flat."""
    pair = [curved("fast", "flat", 9600), curved("thorough", trend, 9600)]
    own, audited = pair if in_audit else reversed(pair)
    privacy = {"probe": own, "classes": 8, "chance": 0.125, "majority": 0.14}
    results = {"model": "mtl_dp", "privacy": privacy}
    found = leakage(results, {"attributes": audited})
    assert found["claim"] is None
    assert found["refused"] == [f"features: {trend}: from 4,800 to 9,600 rows"]
    assert found["features"]["trend"] == trend
    assert trend in _attackers(results, found)
    # A curve that goes further and is flat answers the question.
    further = curved("thorough", "flat", 20_000)
    assert leakage(results, {"attributes": further})["claim"]


def test_rise_is_kept_after_later_weaker_attackers():
    first = curved("thorough", "flat", 9600, flat=False) | {"weights": "w"}
    results = {"model": "mtl_dp", "evaluated_on": {}, "privacy": {"probe": first}}
    results["privacy"]["leakage"] = leakage(results)
    assert results["privacy"]["leakage"]["claim"] is None
    later = {"probe": curved("fast", "flat", 9600), "leakage": carried(results, "w", "".__eq__)}
    found = leakage({"model": "mtl_dp", "privacy": later})
    assert found["claim"] is None
    assert found["refused"] == ["features: still rising from 2,500 to 5,000 updates"]
    assert leakage({"model": "mtl_dp", "privacy": later | {"leakage": found}}) == found
    patient_ones = curved("thorough", "flat", 9600, flat=True)
    patient_ones["features"]["updates_curve"][0]["updates"] = 10_000
    assert leakage({"model": "mtl_dp", "privacy": later}, {"attributes": patient_ones})["claim"]


def test_attackers_of_an_earlier_version_claim_no_bound():
    """Their result is read as it lies there, without an evaluation that would mark it."""
    results = attacked(features=(0.156, 0.223))
    assert leakage(results)["claim"]["upper"] == 0.223
    del results["privacy"]["probe"]["features"]["by_rows"]
    found = leakage(results)
    assert found["claim"] is None and found["underpowered"]
    assert "earlier version" in found["refused"][0]
    assert "underpowered_reasons" not in results["privacy"]["probe"], "it is left as it was"


def test_cached_results_alone_count_but_claim_no_bound():
    kept = {"setting": "thorough", "rows": 16_000, "trained_on": "own", "readings": 40}
    kept["strongest"] = {"name": "local_raw", "accuracy": 0.6, "balanced_accuracy": 0.59}
    kept["bound"] = {"accuracy": 0.63, "balanced_accuracy": 0.62, "level": 0.95}
    results = checked(make_results(probe=None), 0.41, 0.437)
    found = leakage(results, others=[{"source": "kept", "kept_best": {"features": kept}}])
    assert (found["worst"]["accuracy"], found["worst"]["upper"]) == (0.6, 0.63)
    assert found["features"]["source"] == "kept readings of thorough attackers"
    assert found["claim"] is None and "interrupted" in found["refused"][0]
    check = {"features": kept | {"setting": "check"}}
    found = leakage(results, others=[{"source": "kept", "kept_best": check}])
    assert "only the quick check" in found["refused"][0]


def _attackers(results, found):
    """The section on attackers as one line."""
    return " ".join(render_text(attacker_blocks(results, found, "RUN", chart=False)).split())


def test_target_below_one_computed_from_it_has_no_bound():
    """An attacker read 55 % of the masked pictures and 72 % of the features made from them."""
    results = attacked(masked_pictures=(0.55, 0.58), features=(0.72, 0.75), restored=(0.8, 0.82))
    told = leakage(results)["told"]
    assert [text.partition(":")[0] for text in told] == [
        "masked images",
        "features",
    ]
    assert "restored images, which are computed from them, reveal the label with 80.0 %" in told[0]
    assert leakage(attacked(masked_pictures=(0.9, 0.92), features=(0.72, 0.75)))["told"] == []
    # Within the interval nothing is out of order.
    assert leakage(attacked(features=(0.72, 0.75), restored=(0.74, 0.76)))["told"] == []


def test_upper_ends_are_rounded_up():
    results = attacked(features=(0.2, 0.22301))
    results["privacy"]["majority"] = 0.14
    found = leakage(results)
    text = _attackers(results, found)
    assert "accuracy of these attackers is at most 22.4 %" in text and "22.3 %" not in text
    assert headline_text(found) == "20.0 % from features (upper bound 22.4 %)"
    # Not by the rounding of a product: 1000 * 0.57 is not 570, nor 1000 * 0.289 289.
    for rate, shown in ((0.57, "57.0 %"), (0.289, "28.9 %"), (1.0, "100.0 %"), (0.0, "0.0 %")):
        assert at_most(rate) == shown
    assert at_most(None) == "–" and shown_figures(
        {"fresh_probe_balanced_accuracy": 0.41, "fresh_probe_upper": 0.43701}
    ).endswith(" 43.8 %)")


def test_training_check_alone_claims_no_bound():
    results = checked(make_results(probe=None), 0.13, 0.14)
    found = results["privacy"]["leakage"]
    assert found["worst"]["accuracy"] == 0.13 and found["claim"] is None
    assert "only the quick check" in found["refused"][0]
    assert headline_text(found) == "13.0 % from features (upper bound 14.0 %)"
    screen = " ".join(render_text(results_summary(results)).split())
    assert "13.0 % from features (upper bound 14.0 %)" in screen


def test_report_names_both_files_if_they_differ(tmp_path):
    results = kept_results()
    own = results["privacy"]["probe"]
    summary = target_summary([reading("local_raw", 500)], UNSEEN, 6000)
    audit = make_audit(results, attributes=own | {"features": summary})
    report = build_report(read_run(write_run(tmp_path / "a", results, audit=audit)))
    # An upper end is rounded up.
    assert 0.531 < clopper_pearson(500, 1000)[1] < 0.532
    high = "53.2 %"
    assert f"upper bound {high}" in report.tiles[0].note
    found = table(report, "Fresh attackers against chance")
    assert found.rows[0].cells[:3] == ("features", "50.0 %", high)
    assert any(
        note.startswith("Features: measurements differ (fast attackers 12.9 %")
        and f"fast attackers of the audit 50.0 % (upper bound {high})" in note
        for note in found.notes
    )
