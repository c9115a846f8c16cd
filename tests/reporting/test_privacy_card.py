"""The privacy card: nothing that is not in the results, and nothing of it left out."""

import copy
import json
import re

import pytest

from tests.reporting.audits import make_audit
from tests.reporting.conftest import make_results
from tests.reporting.private_runs import dp_sentences, private_dp
from tests.reporting.probes import whole_probe
from tests.reporting.report.runs import kept_results
from tf_mtl_privacy.reporting.privacy_card import epsilon, privacy_card, private_name
from tf_mtl_privacy.reporting.render_text import WIDTH
from tf_mtl_privacy.reporting.sections.privacy import card_text


def sentences(card):
    return " ".join(card["not_protected"])


def gaps(card):
    return {part["what"]: part["why"] for part in card["not_attacked"]}


def attacked(card):
    return {part["what"]: part["finding"] for part in card["attacked"]}


def test_card_of_discriminator_scope_has_no_released_epsilon(results):
    card = privacy_card(results)
    assert card["released"] == dict.fromkeys(("encoder", "business", "restorer", "discriminator"))
    assert card["conditional"] == results["dp"]["conditional"]["discriminator"] > 0
    assert card["summary"].startswith(
        "No released weights have an epsilon. The discriminator's updates alone have a conditional"
    )
    for text in (card["summary"], sentences(card)):
        assert "by itself protects nobody in the training set" in text
        assert "encoder's weights at every step are known in advance, holds for no released" in text
    assert "released weights of encoder, business, restorer and discrim" in sentences(card)
    assert (card["delta"], card["adjacency"]) == (1e-5, "add_or_remove_one")
    assert (card["sampling"], card["unit"]) == ("poisson", "example")
    assert card["claims"] + card["readers"] == dp_sentences(results["dp"])
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_card_of_scope_all_has_a_released_epsilon(results):
    dp = private_dp("all")
    card = privacy_card(results | {"dp": dp})
    assert set(card["released"].values()) == {dp["epsilon_pld"]}
    assert card["conditional"] is None and "no epsilon bounds" not in sentences(card)
    assert "conditional" not in card["summary"] + sentences(card)
    assert card["summary"].startswith("The released weights of encoder, business, restorer and")
    # An epsilon of weights is none of what is computed from a training picture.
    alone = "does not cover the features, restored image or predictions of a training image"
    assert alone in card["summary"] and alone in " ".join(card["claims"])
    assert alone not in str(privacy_card(results))


def test_card_of_a_void_run_claims_nothing(results):
    card = privacy_card(results | {"dp": private_dp(void="noise comes from a fixed key")})
    assert card["summary"].startswith("No privacy guarantee holds: noise comes from a fixed key.")
    assert set(card["released"].values()) == {None} and card["conditional"] is None


@pytest.mark.parametrize("most", [0, 8])
def test_card_protects_people_only_with_a_bound_on_images(results, most):
    results["dp"] |= {"max_images_per_person": most, "person": {"epsilon_pld": 3, "epsilon_rdp": 4}}
    card = privacy_card(results)
    assert ("People with several training images" in sentences(card)) is (most == 0)
    assert (
        "at most 8 images each: conditional epsilon 3.000 (PLD" in " ".join(card["claims"])
    ) is (most == 8)


def test_card_names_label_access_outside_the_accounting(results):
    results["dp"]["unaccounted_label_access"] = ["erasure: labels of all training rows"]
    card = privacy_card(results)
    assert "Outside the accounting: erasure: labels of all training rows." in card["readers"]
    assert "uses of the private labels of training rows: erasure: labels" in sentences(card)


def test_card_has_the_attackers_figures(results):
    card = privacy_card(results)
    found = attacked(card)
    # 143 of 1000 by attackers of unseen rows and 152 by those of own rows in
    # tests/reporting/probes.py, 1 of 8 by chance: the stronger ones are the headline.
    assert found["the iris, from features"].startswith(
        "15.2 % (upper bound 17.6 %), balanced 15.2 %"
    )
    assert all(text.endswith("chance 12.5 %") for text in found.values())
    assert "15.2 % from features (upper bound 17.6 %); chance is 12.5 %" in card["summary"]
    assert list(found) == [part["what"] for part in card["attacked"]]
    assert next(iter(found)) == "the iris, from features"
    # What nobody is given is no finding about the run.
    assert not any("pixels" in what or "untrained" in what for what in found)


def test_card_of_weak_attackers_claims_no_bound():
    card = privacy_card(make_results(probe=whole_probe(pixels=300)))
    assert "too weak for any claim" in card["summary"] and "15.2 % from" in card["summary"]
    assert "No bound on attacker accuracy is claimed: the strongest" in sentences(card)


def test_card_names_missing_attacks_with_their_command():
    card = privacy_card(make_results(), run_dir="runs/a")
    found = gaps(card)
    assert found["fresh attackers of the private label"].endswith("--run_dir=runs/a --probe=fast")
    assert any("tf_mtl_privacy.audit --run_dir=runs/a" in why for why in found.values())
    assert card["attacked"] == [] and "was not measured" in card["summary"]


def test_card_has_the_findings_of_the_audit(results):
    card = privacy_card(results, make_audit(results))
    found = attacked(card)
    membership = next(text for what, text in found.items() if "modified entropy" in what)
    assert membership == (
        "AUC 0.514 (0.503–0.525), chance 0.5; 1.3 % (1.0–1.7 %) of training images detected at 1 % "
        "false positives; 5.8 % (5.1–6.6 %) of training images detected at 5 % false positives"
    )
    power = next(text for what, text in found.items() if "reference run overfitted" in what)
    assert power.startswith("AUC 0.930 (0.920–0.940)")
    assert any("PSNR 31.5 dB" in text and "42.0 % (39.0–45.0 %)" in text for text in found.values())
    assert found["claimed epsilon (canary test)"].startswith("no claim to test")
    assert card["not_attacked"] == [{"what": "LiRA", "why": "the setting fast leaves it out"}]


@pytest.mark.parametrize(
    ("people", "words"),
    [
        (None, "other images (people unknown)"),
        ("unknown", "other images (people unknown)"),
        ("same", "other images of the same people"),
        ("other", "other people"),
    ],
)
def test_inversion_finding_names_the_attackers_images(results, people, words):
    audit = make_audit(results)
    audit["inversion"] |= {"attacker_people": people} if people else {}
    (what,) = [what for what in attacked(privacy_card(results, audit)) if "decoder" in what]
    assert what == f"image inversion (decoder trained on features of {words})"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "the nearest other image shows the same person for 42.0 % (39.0–45.0 %) of 640 "
            "restored images; chance 0.10 % (the originals themselves reach 63.0 %, the ceiling of "
            "this measure)",
        ),
        ({"retrieval": "own_picture"}, "the nearest of all images is the original for 42.0"),
        # Audits that are older than these figures.
        ({"retrieval": None, "retrieval_queries": None}, "of 1,000 restored images"),
        ({"retrieval_of_originals": None}, "is unknown, so a low figure proves nothing"),
    ],
)
def test_inversion_finding_has_rate_count_and_ceiling(results, changes, words):
    audit = make_audit(results)
    audit["inversion"] |= changes
    (found,) = [
        text for what, text in attacked(privacy_card(results, audit)).items() if "decoder" in what
    ]
    assert words in found and ("or shows the same" in found) is ("retrieval_queries" in changes)


def test_card_summary_begins_with_a_contradiction(results):
    audit = make_audit(results, contradictions=["epsilon is at least 3, claimed is 2"])
    card = privacy_card(results, audit)
    assert card["summary"].startswith("THE AUDIT CONTRADICTS A CLAIM.")
    assert card["contradictions"] == ["epsilon is at least 3, claimed is 2"]


def test_card_ignores_the_audit_of_another_run(results):
    other = copy.deepcopy(results["config"])
    other["train"]["seed"] = 7
    card = privacy_card(results, make_audit({"config": other}))
    assert any("is of another run" in part["why"] for part in card["not_attacked"])
    assert not any("membership" in what or "AUC" in text for what, text in attacked(card).items())


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("iris", "the iris"),
        ("attributes:Eyeglasses,Narrow_Eyes", "the code of Eyeglasses, Narrow_Eyes"),
        ("identity", "identity"),
        ("", "the iris"),
    ],
)
def test_private_name_of_each_label(label, words):
    assert private_name({"config": {"data": {"private_label": label}}}) == words


def test_card_states_what_a_mask_lets_through(results):
    assert "The mask lets" not in sentences(privacy_card(results))
    results["removal"]["mask"] = "learned"
    results["config"]["removal"]["mask_fill"] = "colour"
    assert "two of three colour components of each covered pixel" in sentences(
        privacy_card(results)
    )
    results["config"]["removal"]["mask_fill"] = "grey"
    assert "The mask lets" not in sentences(privacy_card(results))


def test_card_of_bare_results(bare_results):
    card = privacy_card(bare_results)
    assert card["attacked"] == [] and card["claims"][0].startswith("No epsilon: ")
    assert card["delta"] is None
    assert card["summary"].startswith(
        "No released weights have an epsilon, so nothing bounds what they reveal about a training "
        "image. "
    )


@pytest.mark.parametrize("audit", [None, make_audit()])
def test_card_text_has_every_sentence_of_the_card(audit):
    card = privacy_card(kept_results(), audit, "runs/demo")
    text = card_text(card)
    flat = " ".join(text.split())
    for part in ("claims", "readers", "not_protected"):
        assert card[part] and all(" ".join(line.split()) in flat for line in card[part])
    # Cells are wrapped in columns, so their words are compared, not their order.
    words = set(flat.split())
    assert all(set(found["finding"].split()) <= words for found in card["attacked"])
    assert all(
        f"Not available: {gap['what']}" in flat and gap["why"].split("; ")[-1] in text
        for gap in card["not_attacked"]
    )
    assert card["summary"] in flat and re.search(r"encoder +none", text)
    assert max(len(line) for line in text.splitlines() if "python -m" not in line) <= WIDTH


def test_card_text_puts_a_contradiction_before_the_released_epsilon():
    dp = private_dp("all")
    audit = make_audit(contradictions=["at least 5 where 2 is claimed"])
    text = card_text(privacy_card(kept_results() | {"dp": dp}, audit))
    assert re.search(rf"encoder +{epsilon(dp['epsilon_pld'])}", text)
    assert text.index("at least 5 where 2 is claimed") < text.index(
        "Epsilon of the released weights"
    )
