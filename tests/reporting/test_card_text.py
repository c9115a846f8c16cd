"""The privacy card on the terminal."""

import pytest

from tests.reporting.audits import make_audit
from tests.reporting.private_runs import private_dp
from tests.reporting.report.runs import kept_results
from tf_mtl_privacy.reporting.card_text import privacy_card_text
from tf_mtl_privacy.reporting.formats import WIDTH
from tf_mtl_privacy.reporting.privacy_card import privacy_card
from tf_mtl_privacy.reporting.privacy_lines import epsilon


@pytest.mark.parametrize("audit", [None, make_audit()])
def test_every_line_of_the_card_is_there(audit):
    card = privacy_card(kept_results(), audit, "runs/demo")
    text = privacy_card_text(card)
    flat = " ".join(text.split())
    for part in ("claims", "readers", "not_protected"):
        assert card[part] and all(" ".join(line.split()) in flat for line in card[part])
    assert all(found["finding"] in flat for found in card["attacked"])
    assert all(f"{gap['what']}: {gap['why']}" in text for gap in card["not_attacked"])
    assert card["summary"] in flat and "encoder: none" in flat
    assert max(len(line) for line in text.splitlines() if "python -m" not in line) <= WIDTH


def test_released_weights_show_their_epsilon_and_a_contradiction_comes_first():
    dp = private_dp("all")
    audit = make_audit(contradictions=["at least 5 where 2 is claimed"])
    text = privacy_card_text(privacy_card(kept_results() | {"dp": dp}, audit))
    assert f"encoder: {epsilon(dp['epsilon_pld'])}" in " ".join(text.split())
    assert text.index("at least 5 where 2 is claimed") < text.index("Released weights")
