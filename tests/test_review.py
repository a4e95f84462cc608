"""The review page, the data sheet and what is said of the search's accuracy."""

import json
import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mpox.audit.accuracy import accuracy_by_kind, hand_checked, hash_pairs
from mpox.audit.pages import LARGEST_PAGE, Review, by_doubt, datasheet, review_fragment, review_html, review_pages
from mpox.audit.result import COLUMNS, EVIDENCE, PAIR_COLUMNS, Audit

matplotlib.use("Agg")
EVIL = "Mpox/<script>alert(1)</script>\"'&.png"


class _Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def _pairs(rows: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["image_id_a", "image_id_b", "score", "decision"])
    table = table.assign(
        dataset_a="web", dataset_b="web", method="geometric", transform="-1 0 40 0 1 0", label_a="Mpox", label_b="Normal",
        patient_id_a=pd.NA, patient_id_b=pd.NA, mirrored=True, matches=40, inliers=30, correlation=0.9, agreement=0.8,
        overlap=0.7, reason="",
    )  # fmt: skip
    return table[PAIR_COLUMNS + EVIDENCE]


@pytest.fixture
def audit(tmp_path):
    names = [EVIL, "Mpox/b.png", "Normal/c.png", "Normal/d.png"]
    rng = np.random.default_rng(0)
    rows = []
    for number, name in enumerate(names):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (60, 40, 3)).astype(np.uint8)).save(path)
        rows.append((name, str(path), 40, 60, name.split("/")[0]))
    images = pd.DataFrame(rows, columns=["image_id", "path", "width", "height", "label"])
    images = images.assign(dataset="web", source="web", patient_id=pd.NA, group_id="g").astype({"patient_id": "string"})
    found = _pairs([("Mpox/b.png", "Normal/c.png", 0.99, "found"), (EVIL, "Normal/c.png", 0.55, "found")])
    weak = _pairs([("Mpox/b.png", "Normal/d.png", 0.48, "weak"), (EVIL, "Normal/d.png", 0.5, "rejected")])
    return Audit(images, found, weak, pd.DataFrame(columns=["dataset", "image_id", "reason"]))


def test_the_strongest_doubt_comes_first_and_decided_pairs_last(audit):
    assert by_doubt(audit)["score"].tolist() == [0.48, 0.55, 0.99, 0.5]
    shown = _Page(review_html(audit)).all("article")
    assert [(pair["data-image-id-a"], pair["data-image-id-b"]) for pair in shown] == [
        ("Mpox/b.png", "Normal/d.png"), (EVIL, "Normal/c.png"), ("Mpox/b.png", "Normal/c.png"), (EVIL, "Normal/d.png"),
    ]  # fmt: skip


def test_a_second_pass_knows_what_was_decided_in_the_first(audit, monkeypatch):
    def script(found):
        text = review_fragment(found, limit=1)
        name, decided = re.search(r'mpoxReview\("([^"]+)", (\{.*\})\);</script>', text).groups()
        return name, json.loads(decided), text

    name, decided, text = script(audit)
    assert decided == {f"web\t{EVIL}\tweb\tNormal/d.png": {"decision": "reject", "reason": ""}}
    assert "</script>alert" not in text and "<script>alert" not in text
    moved_by_us = audit.weak.iloc[1:][COLUMNS[:4]].assign(decision="reject", reason="")
    weak = audit.weak.assign(decision=["confirmed", "rejected"], reason=["one hand", ""])
    moved = Audit(audit.images, pd.concat([audit.pairs, weak.iloc[:1]]), weak.iloc[1:], audit.rejected)
    monkeypatch.setattr("mpox.audit.pages.package_decisions", lambda: moved_by_us)
    assert script(moved)[1][f"web\t{EVIL}\tweb\tNormal/d.png"]["ours"]  # not to be copied into a user's file
    assert script(moved)[0] == name  # the browser finds what it kept
    assert script(moved)[1]["web\tMpox/b.png\tweb\tNormal/d.png"] == {"decision": "confirm", "reason": "one hand"}


@pytest.mark.parametrize("with_pictures", [True, False])
def test_names_are_escaped_and_nothing_is_fetched(audit, with_pictures):
    text = review_fragment(audit, with_pictures=with_pictures, title="Review")
    page = _Page(text)
    assert "<script>alert" not in text
    assert len(page.all("script")) == (1 if with_pictures else 0)
    assert not re.search(r"(src|href|url)\s*[=(]\s*['\"]?(https?:)?//", text) and "@import" not in text
    fetched = [attrs.get("src") or attrs.get("href") for tag in ("img", "script", "link", "a") for attrs in page.all(tag)]
    assert all(address is None or address.startswith("data:image/jpeg;base64,") for address in fetched)


def test_pictures_have_alternative_texts_and_an_outline(audit):
    page = _Page(review_html(audit))
    assert len(page.all("img")) == 8 and all(picture["alt"] for picture in page.all("img"))
    assert [button["data-decide"] for button in page.all("button") if "data-decide" in button] == 4 * [
        "confirm",
        "same person",
        "reject",
    ]
    corners = page.all("polygon")[0]["points"]
    assert corners == "40.0,0.0 0.0,0.0 0.0,60.0 40.0,60.0"
    assert page.all("svg")[0]["viewbox"] == "0 0 40 60"
    for transform in ("", "nan nan nan nan nan nan"):
        audit.pairs["transform"] = audit.weak["transform"] = transform
        assert not _Page(review_html(audit)).all("polygon")


def test_without_pictures_there_is_the_evidence_and_how_to_see_them(audit):
    audit.images["path"] = pd.NA
    text = review_fragment(audit, with_pictures=False)
    page = _Page(text)
    assert "data:image" not in text and not page.all("img")
    assert [head.strip() for head in re.findall(r"<th scope=\"col\">(.*?)</th>", text)] == [
        "first image", "second image", "found by", "score", "decision",
    ]  # fmt: skip
    assert "mpox data fetch" in text and "geometric" in page.words and "0.99" in page.words
    bundle = Review(audit, with_pictures=False)._repr_mimebundle_()  # a notebook gets HTML and a line of text
    assert bundle["text/plain"].startswith("Review of 4 pairs") and "<table" in bundle["text/html"]
    empty = Audit(audit.images, audit.pairs.iloc[:0], audit.weak.iloc[:0], audit.rejected)
    assert "No pair was found" in review_html(empty)


def test_a_page_says_how_many_pairs_it_leaves_out_and_stays_small(audit, monkeypatch):
    assert "2 of 4 pairs" in _Page(review_fragment(audit, limit=2)).words
    assert "2 more are left out" in _Page(review_fragment(audit, limit=2, with_pictures=False)).words
    first = audit.weak.iloc[:1].assign(decision="rejected", reason="x" * 900)
    decided = pd.concat([first.assign(image_id_b=f"Normal/{name}.png") for name in range(1600)])
    many = Audit(audit.images, audit.pairs, decided, audit.rejected)  # their reasons alone fill a page
    assert len(_Page(review_html(many)).all("article")) == 1
    monkeypatch.setattr("mpox.audit.pages.LARGEST_PAGE", 1)
    assert len(_Page(review_fragment(audit)).all("article")) == 1
    assert LARGEST_PAGE < 1_500_000


def test_every_pair_is_on_one_of_the_pages_and_they_lead_to_each_other(audit, monkeypatch):
    monkeypatch.setattr("mpox.audit.pages.LARGEST_PAGE", 1)
    pages = {name: _Page(text) for name, text in review_pages(audit).items()}
    assert list(pages) == ["review.html", "review-2.html", "review-3.html", "review-4.html"]
    shown = [(pair["data-image-id-a"], pair["data-image-id-b"]) for page in pages.values() for pair in page.all("article")]
    assert shown == list(by_doubt(audit)[["image_id_a", "image_id_b"]].itertuples(index=False, name=None))
    links = [[link["href"] for link in page.all("a")] for page in pages.values()]
    assert links == [["review-2.html"], ["review.html", "review-3.html"], ["review-2.html", "review-4.html"], ["review-3.html"]]
    assert not any("left out" in page.words for page in pages.values())
    assert len({page.all("section")[0]["data-name"] for page in pages.values()}) == 1  # decisions are kept together
    monkeypatch.undo()
    assert list(review_pages(audit)) == ["review.html"] and not _Page(review_html(audit)).all("a")


def test_a_data_sheet_has_the_seven_sections_and_the_counts(audit):
    sheet = datasheet(audit, "web")
    assert re.findall(r"^## (.+)$", sheet, flags=re.M) == [
        "Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance",
    ]  # fmt: skip
    assert "4 images with one label each: 2 Mpox, 2 Normal" in sheet and "under two labels: 2" in sheet
    assert "Not known" in sheet and "Skin tone was not measured." in sheet
    assert "## " not in datasheet(audit, "web", heading=0)
    with pytest.raises(ValueError, match="no data set other"):
        datasheet(audit, "other")
    about = audit.images[["dataset", "image_id", "label"]]
    quality = about.assign(border=[0.1, 0, 0, 0], text_lines=[0, 2, 1, 0], blur=0.25)
    sheet = datasheet(audit, "web", quality=quality, tone=about.assign(ita=[-20.0, -10, 50, np.nan]))
    assert "25% of the images have a plain border and 50% a line of text" in sheet
    assert "75% of the images" in sheet and "Mpox -15, Normal 50" in sheet
    images = audit.images.assign(label=["<b>x</b>", "Mpox", "{{ y }}", "Normal"])
    sheet = datasheet(Audit(images, audit.pairs, audit.weak, audit.rejected), "web")
    assert "<b>" not in sheet and "{{" not in sheet  # names are not markup


def test_recall_and_precision_by_kind():
    copies = {"copy_of": [None, "a", "a", None, "d", None], "copy_kind": [None, "crop", "grey", None, "crop", None]}
    truths = pd.DataFrame({"image_id": list("abcdef"), **copies}).astype("string")
    pairs = pd.DataFrame([("a", "b"), ("b", "c"), ("e", "f")], columns=["image_id_a", "image_id_b"])
    table = accuracy_by_kind(pairs, truths).set_index("kind")
    assert table.loc["grey", ["copies", "found", "pairs", "right"]].tolist() == [1, 1, 1, 1]  # through the other copy
    assert table.loc["crop", ["copies", "found", "pairs", "right"]].tolist() == [2, 1, 3, 2]
    assert table.loc["all", "recall"] == pytest.approx(2 / 3) and table.loc["all", "precision"] == pytest.approx(2 / 3)
    assert np.isnan(table.loc["(no copy)", "recall"]) and table.loc["(no copy)", "pairs"] == 0


def test_hand_checked_samples_are_possible():
    table = hand_checked()
    assert (table["right"] <= table["checked"]).all() and table["measures"].isin(["precision", "recall", "missed"]).all()
    assert ((table["low"] <= table["share"]) & (table["share"] <= table["high"])).all()


def test_hashes_find_a_smaller_copy_and_not_a_mirrored_one(tmp_path):
    from mpox.data.manifest import build_manifest

    rng = np.random.default_rng(3)
    for folder in ("Mpox", "Normal"):
        (tmp_path / folder).mkdir()
        for number in range(4):
            noise = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
            noise.save(tmp_path / folder / f"{number}.png")
    first = Image.open(tmp_path / "Mpox" / "0.png")
    first.resize((64, 64)).save(tmp_path / "Mpox" / "small.png")
    first.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "Mpox" / "mirror.png")
    found = hash_pairs(build_manifest(tmp_path), jobs=1)
    assert found[["image_id_a", "image_id_b"]].to_numpy().tolist() == [["Mpox/0.png", "Mpox/small.png"]]
