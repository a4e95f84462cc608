"""The book's pages on the package: every module is on one page, and says in one line what it does."""

import ast
import re
from collections import Counter
from pathlib import Path

import mpox

PACKAGE = Path(mpox.__file__).parent
ROOT = PACKAGE.parents[1]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book/api").glob("*.md")}


def modules() -> dict[str, Path]:
    names = {path: path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")}
    return {".".join(part for part in name.parts if part != "__init__"): path for path, name in names.items()}


def test_every_module_is_on_one_page():
    times = Counter(name for text in PAGES.values() for name in re.findall(r"automodule:: (\S+)", text))
    assert sorted(times) == sorted(modules()) and set(times.values()) == {1}


def test_every_module_says_in_one_line_what_it_does():
    lines = {name: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0] for name, path in modules().items()}
    assert {name: line for name, line in lines.items() if not re.search(r"[.?]$", line) or len(line) > 127} == {}


def test_every_page_is_in_both_contents_and_on_the_first_one():
    for contents in ("_toc.yml", "book/instruments_toc.yml"):
        listed = re.findall(r"book/api/(\w+)", (ROOT / contents).read_text(encoding="utf-8"))
        assert sorted(listed) == sorted(PAGES)
    assert set(re.findall(r"\]\((\w+)\.md\)", PAGES["index"])) == set(PAGES) - {"index"}
