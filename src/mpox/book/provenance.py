"""The tables of the book's provenance page: what was run, with what, where, when, and how long it took."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpox.book.parts import Chapter


FACTS = {
    "Data": "datasets",
    "Profile": "profile",
    "Package": "package_version",
    "Device": "device",
    "Date": "date",
}


def provenance_tables(parts: Mapping[str, Mapping[str, "Chapter"]], *, headings: Mapping[str, str]) -> str:
    """Markdown with one section for each part that has chapters.

    Parameters
    ----------
    parts : mapping of part to mapping of name to Chapter
        What `mpox.book.parts.collect` returns.
    headings : mapping of part to str
        How each part is called.

    Returns
    -------
    str
        For each part what all its chapters share, a table (a row a chapter) of what they do not, the versions
        of the libraries, and the run ids in a fold.
    """
    sections = [_section(headings[part], part, list(chapters.values())) for part, chapters in parts.items() if chapters]
    return "\n\n".join(sections)


def duration(seconds: float) -> str:
    """Seconds as a reader says them.

    Examples
    --------
    >>> duration(7.26), duration(72.6), duration(3725)
    ('7.3 s', '1 min 13 s', '1 h 2 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _section(heading: str, part: str, chapters: list["Chapter"]) -> str:
    said = [chapter.provenance for chapter in chapters]
    columns = {"Chapter": [f"[{chapter.title}](../{part}/{chapter.name}.ipynb)" for chapter in chapters]}
    shared = []
    for name, key in FACTS.items():
        values = [_words(entry.get(key, "not stated")) for entry in said]
        if len(set(values)) == 1:
            shared.append(f"{name}: {values[0]}")
        else:
            columns[name] = values
    columns["Runs"] = [str(len(entry.get("run_ids", []))) for entry in said]
    columns["Computing them took"] = [duration(entry.get("runs_s", 0.0)).replace(" ", "\N{NO-BREAK SPACE}") for entry in said]
    columns["This page took"] = [duration(chapter.duration_s).replace(" ", "\N{NO-BREAK SPACE}") for chapter in chapters]
    total = duration(sum(chapter.duration_s for chapter in chapters))
    blocks = [f"## {heading}", f"All chapters: {'; '.join(shared)}." * bool(shared), _table(columns)]
    blocks.append(
        f"Together the pages of {heading} took {total}. Runs that exist are read and not computed again, so that a page may "
        "take less than its runs did; chapters share runs."
    )
    if recorded := next((entry["recorded"] for entry in said if "recorded" in entry), None):
        blocks.append(
            f"The runs were recorded on {recorded['finished'][:10]}: profile {recorded['profile']}, {recorded['device']}, "
            f"torch {recorded['versions'].get('torch')}; computing all of them took {duration(recorded['compute_s'])}."
        )

    versions: dict[str, set[str]] = {}
    for library, version in (item for entry in said for item in entry.get("versions", {}).items()):
        versions.setdefault(library, set()).add(str(version))
    if versions:
        named = [f"{library} {' / '.join(sorted(found))}" for library, found in sorted(versions.items())]
        blocks.append(f"Libraries: {', '.join(named)}.")

    run_ids = {chapter.title: chapter.provenance.get("run_ids", []) for chapter in chapters}
    if distinct := {run_id for ids in run_ids.values() for run_id in ids}:
        lists = [f"**{title}**: {' '.join(f'`{run_id}`' for run_id in ids)}" for title, ids in run_ids.items() if ids]
        heading = f"The ids of the {len(distinct)} runs behind {heading}"
        blocks.append(f":::{{dropdown}} {heading}\n" + "\n\n".join(lists) + "\n:::")
    return "\n\n".join(block for block in blocks if block)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(columns: dict[str, list[str]]) -> str:
    rows = [tuple(columns), *zip(*columns.values(), strict=True)]
    lines = ["| " + " | ".join(value.replace("|", "\\|") for value in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(columns), *lines[1:]])
