"""The book's pages on the package: all of it is there, each module says in one line what it does, and the pages build."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from mpox._core import MpoxError
from mpox.book.api import _MARK, PACKAGE, _rejoin, first_line, with_api
from mpox.book.build import _jupyter_book

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book/api").glob("*.md")}


def public_modules() -> list[str]:
    """`audit`, `audit.pairs`, `config`, ...: all modules but the package itself."""
    paths = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    names = [".".join(part for part in path.parts if part != "__init__") for path in paths]
    return sorted(filter(None, names))


def marked_modules(text: str) -> list[str]:
    """The modules that the marks of a page name."""
    return [name for mark in _MARK.findall(text) for name in mark.split()]


def test_every_module_is_on_one_page():
    times = Counter(name for text in PAGES.values() for name in marked_modules(text))
    lacking = sorted(set(public_modules()) - set(times))
    assert not lacking, f"name {', '.join(lacking)} in a mark `<!-- api: ... -->` of a page in book/api"
    assert sorted(times) == public_modules() and set(times.values()) == {1}


@pytest.mark.parametrize("module", public_modules())
def test_every_module_says_in_one_line_what_it_does(module):
    line = first_line(module)
    assert re.search(r"[.?]$", line) and len(line) <= 127, line


def test_every_page_is_in_the_contents_and_on_the_first_one():
    listed = re.findall(r"book/api/(\w+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(PAGES)
    assert set(re.findall(r"\]\((\w+)\.md\)", PAGES["index"])) == set(PAGES) - {"index"}


def test_a_mark_becomes_a_list_and_sections():
    text = with_api("# T\n\n<!-- api: _core\ncli -->\n\nend")
    assert text.startswith("# T\n\n- [`mpox._core`](#mpox_core): ")
    assert "The command `mpox`." in text  # code as Markdown has it
    assert text.index("### `mpox._core`") < text.index("### `mpox.cli`") < text.index("end")
    assert ":members:" in text.split("### ")[1] and ":members:" not in text.split("### ")[2]


def test_a_module_that_is_gone_is_named():
    with pytest.raises(MpoxError, match=r"names the module mpox\.nothing, which is not there"):
        with_api("<!-- api: nothing -->")


def test_words_before_a_colon_are_no_type():
    lines = ["how many there are", "and where.", "", ":type: Copies"]
    _rejoin(None, "data", "", None, None, lines)
    assert lines == ["Copies: how many there are", "and where.", ""]
    assert lines == (_rejoin(None, "data", "", None, None, lines), lines)[1]


def test_a_page_builds_without_warnings(tmp_path):
    source = tmp_path / "source"
    (source / "book").mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", source)
    shutil.copy(ROOT / "book/references.bib", source / "book")
    shutil.copytree(ROOT / "book/_static_mpox", source / "book/_static_mpox")
    (source / "book/api.md").write_text(with_api("# API\n\n## Some\n\n<!-- api: _core data.groups data.fetch -->\n"))
    (source / "_toc.yml").write_text("format: jb-book\nroot: book/api\n")
    assert _jupyter_book(source, tmp_path / "out", source / "build.log") == []
    page = (tmp_path / "out/_build/html/book/api.html").read_text(encoding="utf-8")
    assert 'id="mpox.data.groups.connected"' in page and 'id="module-mpox._core"' in page
    assert 'href="#mpox._core.MpoxError"' in page  # "Raises" links to it
    assert str(ROOT) not in page and str(Path.home()) not in page  # no value that is a path of this machine
