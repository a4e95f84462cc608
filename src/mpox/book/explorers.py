"""What a reader works with in the page: an ROC curve, the costs of screening, a table to sort, a quiz; whole without scripts.

Everything that can be shown is computed here and set into ``NAME.html``; ``NAME.js`` only picks a row, or sums up what was
computed. Nothing is fetched.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from IPython.display import display
from jinja2 import Environment, FileSystemLoader

from mpox._core import MpoxError, project_root
from mpox.stats.decisions import Costs, strategy_costs
from mpox.stats.metrics import N_BOOTSTRAP, groups_of
from mpox.stats.resample import bootstrap, weighted_mean

#: Thresholds from which the reader of an ROC curve chooses.
THRESHOLDS = np.linspace(0, 1, 101)
#: Prevalence, in per cent, at which the reader of an ROC curve begins.
PREVALENCE = 1
#: How many replicates of each operating point go into the page on costs; its intervals are read off these.
N_SHIPPED = 400
#: Of how many people the page on costs speaks: enough that all counts are whole at the lowest prevalence.
PEOPLE = 10_000
_VERDICT = {True: "Right.", False: "Not this one."}
_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


def piece(name: str, function: str, data: object = None, **values) -> str:
    """A template filled in, with its style and script; ``%ID%`` becomes the element's id, made of its contents."""
    page, payload = _TEMPLATES.get_template(f"{name}.html").render(**values), json.dumps(data).replace("</", "<\\/")
    key = f"mpox-{hashlib.sha256(f'{payload}{page}'.encode()).hexdigest()[:12]}"
    style, script = (Path(__file__).with_name(f"{name}.{suffix}").read_text(encoding="utf-8") for suffix in ("css", "js"))
    call = f'{function}("{key}", {payload});'
    return f"<style>{style}</style>\n{page.replace('%ID%', key)}\n<script>{script}\n{call}</script>"


# -------------------------------------------------------------------------------------------------- an ROC curve
def operating_table(
    predictions: pd.DataFrame, *, positive: str = "Mpox", n_bootstrap: int = N_BOOTSTRAP, seed: int = 0
) -> pd.DataFrame:
    """Sensitivity and specificity at every threshold of `THRESHOLDS`, and the confusion matrix, of the first repeat.

    Parameters are as in `mpox.evaluate`. An image is called positive from the threshold on.

    Returns
    -------
    DataFrame
        One row a threshold: ``threshold``; ``sensitivity`` and ``specificity``, each with ``_low`` and ``_high`` (95 %
        percentiles over groups); ``tp``, ``fn``, ``fp``, ``tn`` (images).
    """
    first = predictions[predictions["repeat"] == predictions["repeat"].min()]
    truth = (first["label"] == positive).to_numpy()
    if not truth.any() or truth.all():
        raise MpoxError(f"An ROC curve needs images of {positive} and others.")
    called = first[f"p_{positive}"].to_numpy()[:, None] >= THRESHOLDS
    rows = {"threshold": THRESHOLDS}
    for name, side, right in (("sensitivity", truth, called), ("specificity", ~truth, ~called)):
        options = {"n_bootstrap": n_bootstrap, "seed": seed, "among": side}
        found = bootstrap(partial(weighted_mean, right, among=side), groups_of(first), **options)
        rows |= dict(zip((name, f"{name}_low", f"{name}_high"), found.row().values(), strict=True))
    for name, part in (("tp", called[truth]), ("fn", ~called[truth]), ("fp", called[~truth]), ("tn", ~called[~truth])):
        rows[name] = part.sum(axis=0)
    return pd.DataFrame(rows)


def explorer_html(curves: Mapping[str, pd.DataFrame], *, caption: str) -> str:
    """The curves (name to `operating_table`, one to four), a threshold to choose, the confusion matrix and false alarms."""
    if not 0 < len(curves) <= 4:
        raise MpoxError(f"The explorer shows one to 4 curves, not {len(curves)}.")
    shares, counts = (list(next(iter(curves.values())))[part] for part in (slice(1, 7), slice(7, None)))
    drawn = {
        name: " ".join(f"{274 - 240 * row.specificity:.1f},{274 - 240 * row.sensitivity:.1f}" for row in table.itertuples())
        for name, table in curves.items()
    }
    data = {name: table[shares].round(3).join(table[counts]).to_numpy().tolist() for name, table in curves.items()}
    half = next(iter(curves.values())).round(3).iloc[len(THRESHOLDS) // 2]
    values = {"curves": drawn, "half": half[counts].astype(int), "says": _says(half), "alarms": _alarms(half), "caption": caption}
    return piece("roc_explorer", "mpoxRoc", data, prevalence=PREVALENCE, **values)


def _says(row: pd.Series) -> str:
    sides = (
        f"{name} {row[name]:.2f} (95 % interval {row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"
        for name in ("sensitivity", "specificity")
    )
    return f"{', '.join(sides)}.".replace("s", "S", 1)


def _alarms(row: pd.Series) -> str:
    wrong, right = (100 - PREVALENCE) * (1 - row["specificity"]), PREVALENCE * row["sensitivity"]
    here = f"Where {PREVALENCE} % have Mpox, "
    if wrong + right == 0:
        return f"{here}nobody is called Mpox at this threshold."
    return f"{here}{100 * wrong / (wrong + right):.0f} of 100 alarms are false."


def show_explorer(curves: Mapping[str, pd.DataFrame], *, caption: str) -> None:
    """Show `explorer_html` in a notebook, and as text, at a threshold of one half, where there is no browser."""
    rows = {name: table.round(3).iloc[len(THRESHOLDS) // 2] for name, table in curves.items()}
    half = [f"{name}: {_says(row)} {_alarms(row)}" for name, row in rows.items()]
    text = "\n".join([caption, "At a threshold of 0.50:", *half])
    display({"text/html": explorer_html(curves, caption=caption), "text/plain": text}, raw=True)


def show_drawing(name: str, alt: str) -> None:
    """Show ``book/_static_mpox/NAME.svg`` in a notebook, set into the page so that its lines take the colour of the text."""
    drawing = (project_root() / "book" / "_static_mpox" / f"{name}.svg").read_text(encoding="utf-8")
    page = drawing.replace("<svg", f'<svg aria-label="{escape(alt)}"', 1)
    display({"text/html": page, "text/plain": alt}, raw=True)


# ------------------------------------------------------------------------------------------ the costs of screening
def shipped(replicates: Mapping[str, np.ndarray]) -> list[list[float]]:
    """Sensitivities and specificities as the page gets them: the estimate, then `N_SHIPPED` replicates, rounded."""
    pairs = np.stack([replicates["sensitivity"], replicates["specificity"]])
    whole = pairs[:, ~np.isnan(pairs).any(axis=0)]
    return whole[:, : N_SHIPPED + 1].round(4).tolist()


def widget_html(points: Mapping[str, Mapping[str, np.ndarray]], *, prevalence: float, costs: Costs, caption: str) -> str:
    """A calculator: what a screened person costs under each strategy, and how many of `PEOPLE` are missed or alarmed."""
    if not points or not 0.001 <= prevalence <= 0.5:
        raise MpoxError("The calculator needs an operating point and a prevalence from 0.001 to 0.5.")
    known = {name: shipped(replicates) for name, replicates in points.items()}
    sensitivity, specificity = np.array(next(iter(known.values())))
    table = strategy_costs(prevalence, sensitivity, specificity, costs)
    values = {
        "caption": caption, "points": known, "prevalence": prevalence, "place": np.log10(prevalence), "costs": vars(costs),
        "rows": table.to_dict("records"), "cheapest": table["strategy"][table["estimate"].idxmin()],
        "says": people_text(prevalence, sensitivity[0], specificity[0]),
    }  # fmt: skip
    return piece("screening_widget", "mpoxScreening", known, **values)


def people_text(prevalence: float, sensitivity: float, specificity: float) -> str:
    """What becomes of `PEOPLE` at an operating point, in whole people, and of 100 alarms.

    Examples
    --------
    >>> people_text(0.01, 0.95, 0.8)
    'Of 10,000 people 100 have Mpox: the model finds 95, misses 5, and sends on 1,980 of the others. Of 100 alarms 95 are false.'
    """
    ill = int(PEOPLE * prevalence + 0.5)  # rounded as in the page's script
    missed, alarms = int(PEOPLE * prevalence * (1 - sensitivity) + 0.5), int(PEOPLE * (1 - prevalence) * (1 - specificity) + 0.5)
    false = f"Of 100 alarms {int(100 * alarms / total + 0.5)} are false." if (total := alarms + ill - missed) else "No alarm."
    found = f"the model finds {ill - missed:,}, misses {missed:,}, and sends on {alarms:,} of the others. {false}"
    return f"Of {PEOPLE:,} people {ill:,} have Mpox: {found}"


def show_widget(points: Mapping[str, Mapping[str, np.ndarray]], *, prevalence: float, costs: Costs, caption: str) -> None:
    """Show `widget_html` in a notebook, and as text, for the first operating point, where there is no browser."""
    page = widget_html(points, prevalence=prevalence, costs=costs, caption=caption)
    first = next(iter(points))
    sensitivity, specificity = np.array(shipped(points[first]))
    table = strategy_costs(prevalence, sensitivity, specificity, costs)
    text = "\n".join(
        [
            caption, f"{first}, prevalence {100 * prevalence:g} %", table.to_string(index=False, float_format="{:.2f}".format),
            people_text(prevalence, sensitivity[0], specificity[0]),
        ]
    )  # fmt: skip
    display({"text/html": page, "text/plain": text}, raw=True)


# ----------------------------------------------------------------------------------------------- a table to sort
def sortable_html(table: pd.DataFrame, *, caption: str) -> str:
    """A table whose headers are buttons that sort its rows; its index is not shown, missing values are empty cells."""
    shown = table.astype(object).where(table.notna(), "")
    return piece("sortable", "mpoxSortable", caption=caption, columns=list(shown), rows=shown.to_numpy().tolist())


# --------------------------------------------------------------------------------------------------------- a quiz
def read_quiz(chapter: str) -> list[dict]:
    """The questions in ``notebooks/quizzes/<chapter>.yml``: a chapter's digits."""
    path = project_root() / "notebooks" / "quizzes" / f"{chapter}.yml"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.yml"))) or "none"
        raise MpoxError(f"There is no quiz of chapter '{chapter}' in {path.parent}; there are {there}.")
    try:
        questions = yaml.safe_load(path.read_text(encoding="utf-8"))
        for number, question in enumerate(questions, start=1):
            options = question["options"]
            texts = [question["ask"], *(option[key] for option in options for key in ("text", "why"))]
            right = sum(option.get("right") is True for option in options)
            if right != 1 or len(options) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
                raise ValueError(f"question {number}")
    except (yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise MpoxError(
            f"{path} is no list of questions ({error}): each needs a text `ask` and at least two `options`, all with `text` and "
            "`why`, exactly one with `right: true`."
        ) from error
    return questions


def quiz_html(questions: list[dict]) -> str:
    """Multiple choice with a reason for every option, answered in the browser without a server."""
    return piece("quiz", "mpoxQuiz", questions=questions, verdict=_VERDICT)


def quiz_text(questions: list[dict]) -> str:
    """The quiz to be read without a browser: the questions, then the answers."""
    asked, answered = [], []
    for number, question in enumerate(questions, start=1):
        asked.append(f"{number}. {question['ask'].strip()}")
        for letter, option in zip("abcdefgh", question["options"], strict=False):
            asked.append(f"   {letter}) {option['text'].strip()}")
            answered.append(f"{number} {letter}) {_VERDICT[option.get('right', False)]} {option['why'].strip()}")
    return "\n".join([*asked, "", "Answers", *answered]).replace("`", "")
