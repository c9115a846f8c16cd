"""Of readings in results.json and audit.json the worse for privacy stands, and both are named."""

import copy

import pytest

from tests.reporting.audits import make_audit
from tests.reporting.conftest import make_results
from tests.reporting.probes import whole_probe
from tests.reporting.report.runs import kept_results, write_run
from tf_mtl_privacy.reporting.privacy_card import privacy_card
from tf_mtl_privacy.reporting.report.build import build_report
from tf_mtl_privacy.reporting.report.document import Table
from tf_mtl_privacy.reporting.report.run_folder import read_run
from tf_mtl_privacy.reporting.standing import audit_is_of, standing_probe


def reads(probe, accuracy, high, target="features"):
    """A copy of a probe with another strongest reading of a target."""
    probe = copy.deepcopy(probe)
    probe[target]["strongest"] |= {"accuracy": accuracy, "ci95": [accuracy - 0.02, high]}
    return probe


def test_an_audit_is_of_a_run_with_its_configuration_and_weights(results):
    assert audit_is_of(results, make_audit(results))
    assert not audit_is_of(results, make_audit(results, attributes={"weights": "f" * 16}))
    # The same configuration, trained anew: an audit without fresh attackers names its weights, too.
    assert audit_is_of(results, make_audit(results, weights="0123456789abcdef"))
    assert not audit_is_of(results, make_audit(results, weights="f" * 16))
    results["privacy"]["probe"] = None
    assert audit_is_of(results, make_audit(results, weights="f" * 16))


@pytest.mark.parametrize("in_audit", [False, True])
def test_the_higher_upper_end_stands_whichever_file_has_it(in_audit):
    # 14.3 % (up to 16.6 %) in tests/reporting/probes.py.
    low, high = whole_probe(), reads(whole_probe(), 0.5, 0.531)
    results = make_results(probe=low if in_audit else high)
    card = privacy_card(results, make_audit(results, attributes=high if in_audit else low))
    assert "50.0 % of test pictures (95 % interval up to 53.1 %" in card["summary"]
    found = {part["what"]: part["finding"] for part in card["attacked"]}
    shown = ["14.3 % (up to 16.6 %)", "50.0 % (up to 53.1 %)"]
    first, second = shown if in_audit else reversed(shown)
    assert found["the iris, from features"].endswith(
        f"results.json reads {first}, audit.json {second}: the larger upper end stands here"
    )
    # What both files say alike is said once.
    assert found["the iris, from restored images"].endswith("a guess 12.5 %")


def test_each_target_has_its_own_worse_reading():
    own = reads(reads(whole_probe(), 0.3, 0.33), 0.1, 0.12, "restored")
    audited = reads(whole_probe(), 0.2, 0.4, "regions")
    audited["features"]["own"]["strongest"]["ci95"] = [0.5, 0.6]
    probe, told = standing_probe({"privacy": {"probe": own}}, {"attributes": audited})
    ends = {
        name: round(probe[name]["strongest"]["ci95"][1], 3)
        for name in ("features", "restored", "regions")
    }
    assert ends == {"features": 0.33, "restored": 0.153, "regions": 0.4}
    assert probe["features"]["own"]["strongest"]["ci95"][1] == 0.6
    assert set(told) == {"features", "restored images", "the mask", "features, own rows"}


def test_what_one_file_leaves_out_is_taken_from_the_other():
    own, audited = whole_probe(), whole_probe()
    own["regions"] = {"strongest": None, "reason": "only --probe=thorough measures it"}
    del audited["removal_off"]
    audited["setting"], own["setting"] = "thorough", "fast"
    probe, told = standing_probe({"privacy": {"probe": own}}, {"attributes": audited})
    assert probe["regions"] == audited["regions"] and probe["removal_off"] == own["removal_off"]
    assert told == {}
    assert probe["setting"] == "fast in results.json, thorough in audit.json"
    assert standing_probe({"privacy": {"probe": None}}, None).probe is None
    assert standing_probe({"privacy": {}}, {"attributes": audited}).probe == audited


def test_weak_attackers_take_nothing_from_strong_ones_but_claim_nothing_alone():
    strong, weak = whole_probe(), whole_probe(pixels=300)
    assert weak["underpowered"] and not strong["underpowered"]
    for pair in ((strong, weak), (weak, strong)):
        probe = standing_probe({"privacy": {"probe": pair[0]}}, {"attributes": pair[1]}).probe
        assert not probe["underpowered"] and probe["underpowered_reasons"] == []
    # The mask was attacked by the weak ones only.
    strong["regions"] = {"strongest": None, "reason": "not asked for"}
    probe = standing_probe({"privacy": {"probe": strong}}, {"attributes": weak}).probe
    assert probe["underpowered"] and probe["underpowered_reasons"]


def test_the_report_s_table_and_tile_have_the_worse_reading(tmp_path):
    results = kept_results()
    own = results["privacy"]["probe"]
    audit = make_audit(results, attributes=reads(own, 0.1, 0.11))
    report = build_report(read_run(write_run(tmp_path / "a", results, audit=audit)))
    high = f"{100 * own['features']['strongest']['ci95'][1]:.1f} %"
    assert f"up to {high}" in report.tiles[0].note
    (table,) = [
        block
        for section in report.sections
        for block in section.blocks
        if isinstance(block, Table) and "against a guess" in block.caption
    ]
    assert table.rows[0].cells[0] == "features" and table.rows[0].cells[2].endswith(high)
    assert any(
        note.startswith("Features: results.json reads")
        and "audit.json 10.0 % (up to 11.0 %)" in note
        for note in table.notes
    )
