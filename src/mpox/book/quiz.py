"""A chapter's quiz: multiple choice with a reason for every option, answered in the browser without a server."""

import hashlib
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from mpox._core import MpoxError, project_root


@dataclass(frozen=True)
class Option:
    """An answer that can be chosen, and why it is right or what is wrong with it."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with its options, exactly one of them right."""

    ask: str
    options: tuple[Option, ...]


def read_quiz(chapter: str) -> list[Question]:
    """The questions in ``notebooks/quizzes/<chapter>.yml``: a chapter's digits, or its name where two have the same digits."""
    path = project_root() / "notebooks" / "quizzes" / f"{chapter}.yml"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.yml"))) or "none"
        raise MpoxError(f"There is no quiz of chapter '{chapter}' in {path.parent}; there are {there}.")
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        questions = [Question(entry["ask"], tuple(Option(**option) for option in entry["options"])) for entry in entries]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise MpoxError(f"{path} is no quiz ({error}): a list of questions, each with `ask` and `options`.") from error
    for number, question in enumerate(questions, start=1):
        right = sum(option.right is True for option in question.options)
        texts = [question.ask, *(text for option in question.options for text in (option.text, option.why))]
        if right != 1 or len(question.options) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
            raise MpoxError(
                f"{path}: question {number} needs a text, at least two options with `text` and `why`, and exactly one with "
                "`right: true`."
            )
    return questions


def quiz_html(questions: list[Question]) -> str:
    """The quiz as HTML with its style and script; nothing is fetched from anywhere."""
    name = "mpox-quiz-" + hashlib.sha256(repr(questions).encode()).hexdigest()[:12]
    style, script = (Path(__file__).with_name(f"quiz.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    groups = "\n".join(_question_html(question, number, name) for number, question in enumerate(questions, start=1))
    return (
        f'<style>{style}</style>\n<form class="mpox-quiz" id="{name}" aria-label="Quiz">\n{groups}\n'
        f'<p class="mpox-quiz-score" aria-live="polite"></p>\n</form>\n<script>{script}\nmpoxQuiz({json.dumps(name)});</script>'
    )


def _question_html(question: Question, number: int, name: str) -> str:
    options = "\n".join(
        f'<label><input type="radio" name="{name}-{number}" value="{letter}" data-right="{str(option.right).lower()}" '
        f'data-why="{html.escape(_plain(option.why))}"><span><b>{letter}</b> {_inline(option.text)}</span></label>'
        for letter, option in _lettered(question)
    )
    reasons = "\n".join(
        f"<li><b>{letter}</b> {_verdict(option)} {_inline(option.why)}</li>" for letter, option in _lettered(question)
    )
    return (
        f"<fieldset>\n<legend>{number}. {_inline(question.ask)}</legend>\n{options}\n"
        f'<p class="mpox-quiz-reply" aria-live="polite"></p>\n'
        f"<details><summary>All answers</summary>\n<ul>\n{reasons}\n</ul>\n</details>\n</fieldset>"
    )


def quiz_text(questions: list[Question]) -> str:
    """The quiz to be read without a browser: the questions, then the answers."""
    asked, answered = [], []
    for number, question in enumerate(questions, start=1):
        asked.append(f"{number}. {_plain(question.ask)}")
        asked += [f"   {letter}) {_plain(option.text)}" for letter, option in _lettered(question)]
        answered += [f"{number} {letter}) {_verdict(option)} {_plain(option.why)}" for letter, option in _lettered(question)]
    return "\n".join([*asked, "", "Answers", *answered])


def _lettered(question: Question) -> Iterator[tuple[str, Option]]:
    return zip("abcdefgh", question.options, strict=False)


def _verdict(option: Option) -> str:
    return "Right." if option.right else "Not this one."


def _inline(text: str) -> str:
    """Escaped for HTML; what stands between backticks is set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text.strip()))


def _plain(text: str) -> str:
    return text.strip().replace("`", "")
