"""The quizzes: every option has its reason, the page works without a server and without a script, and answers are told."""

import shutil
from collections import Counter
from html.parser import HTMLParser

import pytest

from mpox._core import MpoxError
from mpox.book import report
from mpox.book.quiz import Option, Question, quiz_html, quiz_text, read_quiz

CHAPTERS = [*(f"{number:02d}" for number in range(1, 9)), "06_other_data"]
EVIL = "<script>alert(1)</script>\"'&"
QUESTIONS = [
    Question(f"Which {EVIL}?", (Option("`one`", "Because one."), Option("two", f"Because {EVIL}", right=True))),
    Question("And then?", (Option("this", "It is.", right=True), Option("that", "It is not."), Option("none", "Neither."))),
]


class _Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_asks_three_or_four_questions_and_explains_every_option(chapter):
    questions = read_quiz(chapter)
    assert 3 <= len(questions) <= 4
    for question in questions:
        assert 3 <= len(question.options) <= 4
        assert all(len(option.why.split()) >= 5 for option in question.options)
        assert len({option.text for option in question.options}) == len(question.options)


def test_neither_the_place_nor_the_length_of_the_right_option_tells():
    places = Counter(
        next(place for place, option in enumerate(question.options) if option.right)
        for chapter in CHAPTERS
        for question in read_quiz(chapter)
    )
    assert max(places.values()) <= sum(places.values()) / 2 and len(places) >= 3
    questions = [question for chapter in CHAPTERS for question in read_quiz(chapter)]
    longest = sum(max(question.options, key=lambda option: len(option.text)).right for question in questions)
    assert longest <= len(questions) / 2


@pytest.mark.parametrize(
    "text",
    [
        "- ask: Which?\n  options: [{text: a, why: b, right: true}, {text: c, why: d, right: true}]",
        "- ask: Which?\n  options: [{text: a, why: b}, {text: c, why: d}]",
        "- ask: Which?\n  options: [{text: a, why: '', right: true}, {text: c, why: d}]",
        "- ask: Which?\n  options: [{text: a, right: true}, {text: c, why: d}]",
        "- options: []",
        "[",
    ],
)
def test_a_quiz_with_a_hole_in_it_is_one_sentence(tmp_path, monkeypatch, text):
    monkeypatch.setenv("MPOX_PROJECT", str(tmp_path))
    (tmp_path / "notebooks" / "quizzes").mkdir(parents=True)
    (tmp_path / "notebooks" / "quizzes" / "01.yml").write_text(text)
    with pytest.raises(MpoxError, match="01.yml"):
        read_quiz("01")
    with pytest.raises(MpoxError, match="no quiz of chapter '02'.*there are 01"):
        read_quiz("02")


def test_the_page_is_whole_without_a_script_and_fetches_nothing():
    text = quiz_html(QUESTIONS)
    page = _Tags(text)
    assert len(page.all("fieldset")) == len(page.all("legend")) == len(page.all("details")) == 2
    assert {attrs["type"] for attrs in page.all("input")} == {"radio"} and len(page.all("label")) == 5
    assert [name for name, count in Counter(attrs["name"] for attrs in page.all("input")).items() if count > 1] and len(
        {attrs["name"] for attrs in page.all("input")}
    ) == 2
    assert len([attrs for attrs in page.all("p") if attrs.get("aria-live") == "polite"]) == 3
    assert "<script>alert" not in text and len(page.all("script")) == 1
    assert not any(word in text for word in ("http", "url(", "@import", " src="))
    assert "<code>one</code>" in text and "Not this one. Because one." in text


def test_a_terminal_reads_the_questions_and_then_the_answers(monkeypatch):
    text = quiz_text(QUESTIONS)
    assert text.index("2. And then?") < text.index("Answers") < text.index("1 b) Right. Because")
    assert "   a) one\n" in text
    shown = []
    monkeypatch.setattr(report, "display", shown.append)
    report.quiz("01")
    bundle = shown[0]._repr_mimebundle_()
    assert bundle["text/plain"] == quiz_text(read_quiz("01")) and bundle["text/html"] == quiz_html(read_quiz("01"))


@pytest.fixture(scope="module")
def page():
    playwright = pytest.importorskip("playwright.sync_api")
    if not (program := shutil.which("chromium")):
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        yield page
        browser.close()


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
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert replies.nth(1).text_content() == "Right. It is."
    assert score.text_content() == "1 of 2 answered right at the first try; 0 left."
    assert second.bounding_box()["height"] >= 24
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.problems == []
