"""The cover: what stands beside each of its numbers, and that it is the number of the chapters."""

import json
import re
from pathlib import Path

from mpox._core import project_root

COVER = (project_root() / "book/intro.md").read_text()
FINDINGS = {
    key: text
    for texts in json.loads(Path(__file__).with_name("contract_findings.json").read_text()).values()
    for key, text in texts.items()
}

#: A number of the cover, to words that its own sentence must have: which images, against whom, out of how many.
COMPARATORS = {
    "verdict_fewest": ("of 100 Mpox images", "depending on the collection"),
    "verdict_most": ("of 100 Mpox images", "depending on the collection"),
    "verdict_most_interval": ("95 % interval",),
    "verdict_alarms": ("of 100 other images",),
    "data_msld_copies": ("{{ data_msld_images }}", "MSLD"),
    "data_msid_copies": ("{{ data_msid_images }}", "MSID"),
    "data_msld_images": ("MSLD",),
    "data_msid_images": ("MSID",),
    "cv_msld_source_auroc": ("MSLD, against chickenpox and measles",),
    "cv_msid_rashes_only_auroc": ("MSID", "against these rashes"),
    "cv_msid_source_auroc": ("with healthy skin among the others",),
    "external_msid_msld_linear_probe_without_shared_auroc": (
        "Trained on MSID",
        "does not share",
        "{{ external_msid_msld_ceiling }}",
    ),
    "external_msid_msld_ceiling": ("trained on MSLD itself", "on the same images"),
    "use_msld_false_alarms_1": ("100 alarms", "one person in a hundred ill", "find 95 of 100", "MSLD"),
    "use_msid_false_alarms_1": ("100 alarms", "one person in a hundred ill", "find 95 of 100", "MSID", "healthy skin"),
}


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.:?])\s+(?=[A-Z*\[])", re.sub(r"\s+", " ", text))


def test_each_number_of_the_cover_has_its_comparator_beside_it():
    quoted = re.findall(r"\{\{ (\w+) \}\}", COVER)
    assert set(quoted) == set(COMPARATORS)
    for key, words in COMPARATORS.items():
        for sentence in (one for one in sentences(COVER) if f"{{{{ {key} }}}}" in one and key != "verdict_most"):
            assert [word for word in words if word not in sentence] == [], key


def test_no_other_number_of_the_cover_is_typed_but_those_of_the_paper_and_of_plain_counting():
    typed = re.findall(r"\d[\d.,]*\d|\d", re.sub(r"\{\{.*?\}\}|\]\([^)]*\)|\{cite\}`\w+`|^\d\. ", "", COVER, flags=re.M))
    assert sorted(set(typed) - {"100"}) == ["0.5", "0.998", "1", "2025", "3", "8", "9", "95", "95.80", "99"]


def test_the_readme_has_the_numbers_of_the_chapters():
    readme = (project_root() / "README.md").read_text()
    quoted = [f"cv_{name}_auroc" for name in ("msld_source", "msid_source", "msid_rashes_only")]
    for key in (*quoted, "external_msid_msld_linear_probe_without_shared_auroc"):
        assert FINDINGS[key] in readme, key


def test_the_readme_names_what_a_local_model_gets_on_the_same_images():
    estimate = FINDINGS["external_msid_msld_ceiling"].split()[0]
    assert f"a model of MSLD's own has {estimate} on the same images" in (project_root() / "README.md").read_text()
