"""The quizzes: every option has its reason, the page works without a server and without a script, and answers are told."""

import re
from collections import Counter

import pytest
import sitechecks

from mpox._core import MpoxError
from mpox.book import report
from mpox.book.explorers import quiz_html, quiz_text, read_quiz

CHAPTERS = ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10"]
EVIL = "<script>alert(1)</script>\"'&"
QUESTIONS = [
    {"ask": f"Which {EVIL}?", "options": [
        {"text": "`one`", "why": "Because one."}, {"text": "two", "why": f"Because {EVIL}", "right": True},
    ]},
    {"ask": "And then?", "options": [
        {"text": "this", "why": "It is.", "right": True}, {"text": "that", "why": "Not."}, {"text": "none", "why": "Neither."},
    ]},
]  # fmt: skip


def test_a_chapter_asks_three_or_four_questions_explains_every_option_and_gives_no_hint():
    quizzes = [read_quiz(chapter) for chapter in CHAPTERS]
    questions = [question for quiz in quizzes for question in quiz]
    assert all(3 <= len(quiz) <= 4 for quiz in quizzes)
    options = [question["options"] for question in questions]
    for some in options:
        assert len({option["text"] for option in some}) == len(some) in (3, 4)
        assert all(len(option["why"].split()) >= 5 for option in some)
    places = Counter([option.get("right", False) for option in some].index(True) for some in options)
    longest = sum(max(some, key=lambda option: len(option["text"])).get("right", False) for some in options)
    assert max(places.values()) <= len(questions) / 2 >= longest and len(places) >= 3


@pytest.mark.parametrize(
    "options",
    [
        "[{text: a, why: b, right: true}, {text: c, why: d, right: true}]",
        "[{text: a, why: b}, {text: c, why: d}]",
        "[{text: a, why: '', right: true}, {text: c, why: d}]",
        "[{text: a, right: true}, {text: c, why: d}]",
        "[{text: a, why: b, right: true}]",
        "[",
    ],
)
def test_a_quiz_with_a_hole_in_it_is_one_sentence(tmp_path, monkeypatch, options):
    monkeypatch.setenv("MPOX_PROJECT", str(tmp_path))
    (tmp_path / "notebooks" / "quizzes").mkdir(parents=True)
    (tmp_path / "notebooks" / "quizzes" / "01.yml").write_text(f"- ask: Which?\n  options: {options}")
    with pytest.raises(MpoxError, match="01.yml is no list of questions"):
        read_quiz("01")
    with pytest.raises(MpoxError, match="no quiz of chapter '02'.*there are 01"):
        read_quiz("02")


def test_the_page_is_whole_without_a_script_and_fetches_nothing():
    text = quiz_html(QUESTIONS)
    counts = {"<fieldset": 2, "<legend": 2, "<details": 2, 'type="radio"': 5, "<label": 5, 'aria-live="polite"': 3, "<script": 1}
    assert {part: text.count(part) for part in counts} == counts
    assert len(set(re.findall(r'<input type="radio" name="(.+?)"', text))) == 2
    assert "<script>alert" not in text and not any(word in text for word in ("http", "url(", "@import", " src="))
    assert "<code>one</code>" in text and "Not this one. Because one." in text


def test_a_terminal_reads_the_questions_and_then_the_answers(monkeypatch):
    text = quiz_text(QUESTIONS)
    assert text.index("2. And then?") < text.index("Answers") < text.index("1 b) Right. Because")
    assert "   a) one\n" in text
    shown = []
    monkeypatch.setattr(report, "display", lambda forms, raw: shown.append(forms))
    report.quiz("01")
    bundle = shown[0]
    assert bundle["text/plain"] == quiz_text(read_quiz("01")) and bundle["text/html"] == quiz_html(read_quiz("01"))


@pytest.fixture
def page():
    with sitechecks.launched() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        yield page


def test_in_a_browser_answers_are_told_and_first_tries_counted(page):
    page.set_content(f"<html><body>{quiz_html(QUESTIONS)}</body></html>")
    first, second = page.get_by_role("button", name="Check question 1"), page.get_by_role("button", name="Check question 2")
    replies, score = page.locator(".mpox-quiz-reply"), page.locator(".mpox-quiz-score")
    first.click()
    assert replies.nth(0).text_content() == "Choose an answer first." and not score.text_content()
    page.get_by_label("a one").check()
    first.click()
    assert replies.nth(0).text_content() == "Not this one. Because one."
    page.get_by_label("b two").check()
    first.click()
    assert replies.nth(0).text_content() == f"Right. Because {EVIL}"
    assert score.text_content() == "0 of 1 answered right at the first try; 1 left."
    page.get_by_label("a this").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    assert replies.nth(1).text_content() == "Right. It is."
    assert score.text_content() == "1 of 2 answered right at the first try; 0 left."
    assert second.bounding_box()["height"] >= 24
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.problems == []
