"""The built book in a real browser: the instruments can fail, and the book does not make them.

The book is that of ``make book`` (or what ``MPOX_SITE`` names, a folder with ``index.html``), an edition after the other.
Pictures of every page in light, dark and on a phone are left in ``_site/screenshots``.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import sitechecks
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from mpox._core import project_root
from mpox.book.build import CONTENTS, mend

SOURCES = ("_config.yml", "_toc.yml", "book", "src/mpox/book/build.py")
VIEWS = {"light": {"width": 1280}, "dark": {"width": 1024, "dark": True}, "narrow": {"width": 390}}
#: axe-core's rules that can tell one view of a page from another; the light view is held against all of its rules.
RULES = {"light": (), "dark": ("color-contrast",), "narrow": ("scrollable-region-focusable", "target-size", "meta-viewport")}


@pytest.fixture(scope="module")  # not for the whole session: its event loop would be in the way of other tests' notebooks
def browser():
    with sitechecks.launched() as chromium:
        yield chromium


@pytest.fixture(scope="module", params=sorted(CONTENTS, reverse=True))
def html(request) -> Path:
    """The folder of an edition. One that `MPOX_SITE` names must be there; else an absent or an old one is passed over."""
    if named := os.environ.get("MPOX_SITE"):
        folder = Path(named).resolve() / request.param
        assert (folder / "index.html").is_file(), f"MPOX_SITE names no book: there is no index.html in {folder}"
        return folder
    folder = project_root() / "_site" / request.param
    if not (folder / "index.html").is_file():
        pytest.skip("there is no built book to look at: make it with `make book`")
    built = (folder / "index.html").stat().st_mtime
    places = [project_root() / name for name in SOURCES]
    sources = [path for place in places for path in (place, *place.rglob("*")) if path.is_file()]
    if newer := next((path for path in sources if path.stat().st_mtime > built), None):
        pytest.skip(f"the built book is older than {newer.relative_to(project_root())}: make it anew with `make book`")
    return folder


@pytest.fixture(scope="module")
def served(html):
    with sitechecks.served(html.parent) as base:
        yield f"{base}/{html.name}"


def listed(problems: list[str]) -> str:
    return f"{len(problems)} problem(s):\n" + "\n".join(problems[:60])


# ------------------------------------------------------------------------------- what is done to built pages
def test_built_pages_are_mended(tmp_path):
    (tmp_path / "a.html").write_text(
        '<div role="list"><div role="doc-biblioentry">c</div></div><summary><span class="toctree-toggle"></span></summary>'
        '<figure class="a" id="i0">\n<img src="a.png"/>\n<figcaption><p>Of it.</p></figcaption></figure>'
        '<figure class="a" id="i1">\n<p>No image.</p>\n<figcaption><p>Of it.</p></figcaption></figure>'
    )
    mend(tmp_path)
    page = (tmp_path / "a.html").read_text()
    assert '<div role="list"><div role="listitem">' in page and '<summary aria-label="pages of this entry">' in page
    assert page.count("Of it.") == 1 and page.endswith('<span id="i1"></span>\n<p>No image.</p>\n')


# -------------------------------------------------------------------------------------- the instruments fail
GOOD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,"></head>'
    '<body><main><article><h1 id="top">{title}</h1>{body}</article></main></body></html>'
)
PICTURE = '<img src="_images/a.webp" alt="A blue bar on white." width="90" height="60" loading="lazy">'
WIDE = "<table><tr>" + "".join(f"<td>column{number:04d}</td>" for number in range(30)) + "</tr></table>"
CODE = '<div class="highlight"><pre style="background: #fff"><span class="n">f</span>%s</pre></div>'
#: A page without a fault, and one for each fault; its name says which.
BODIES = {
    "good": f'<p>Nothing amiss.</p>{PICTURE}<a href="good.html#top">Up</a>'
    f'<div tabindex="0" role="region" aria-label="Table" style="overflow-x: auto">{WIDE}</div>',
    "no_picture": '<img src="_images/none.webp" alt="A picture that is lost." width="9" height="9" loading="lazy">',
    "outside": '<p>x</p><script src="https://cdn.example/x.js"></script>',
    "script": '<p>x</p><script>throw new Error("a fault of ours");</script>',
    "console": '<p>x</p><script>console.error("it complains");</script>',
    "no_anchor": '<a href="good.html#nowhere">To nowhere</a>',
    "no_page": '<a href="gone.html">Gone</a>',
    "twice": '<p id="a">x</p><p id="a">y</p>',
    "no_alt": '<img src="_images/a.webp" alt="" width="90" height="60">',
    "file_name_alt": PICTURE.replace("A blue bar on white.", "../_images/a.webp"),
    "heavy": "<p>" + "long " * 400_000 + "</p>",
    "wide_table": WIDE,
    "cut_table": f'<div style="overflow: hidden">{WIDE}</div>',
    "wide_code": "<pre>" + "code " * 100 + "</pre>",
    "pale": '<p style="color: #999; background: #fff">Hard to read.</p>',
    "pale_code": CODE % '<span class="n" style="color: #ddd">g</span><span class="c" style="color: #ccc"># pale</span>',
    "unlabelled": "<button></button>",
    "sidebar": '<div class="bd-sidebar-primary">Contents</div><p>x</p>',
}


@pytest.fixture(scope="module")
def small_site(tmp_path_factory):
    html = tmp_path_factory.mktemp("small")
    (html / "_images").mkdir()
    Image.new("RGB", (90, 60), "blue").save(html / "_images/a.webp")
    for name, body in BODIES.items():
        (html / f"{name}.html").write_text(GOOD.format(title=name, body=body))
    return html


def test_links_alt_texts_and_weights_are_checked(small_site):
    assert sitechecks.broken_links(small_site) == [
        "no_anchor.html: good.html#nowhere has no such anchor",
        "no_page.html: gone.html does not exist",
        "no_picture.html: _images/none.webp does not exist",
        "twice.html: the anchor a is there more than once",
    ]
    assert [line.split(":")[0] for line in sitechecks.poor_alt_texts(small_site)] == ["file_name_alt.html", "no_alt.html"]
    assert [line[:18] for line in sitechecks.heavy_pages(small_site, limit=1_500_000)] == ["heavy.html: 2,000,"]


def test_requests_and_errors_are_seen(browser, small_site):
    loading, outside = {}, {}
    with sitechecks.served(small_site) as base, sitechecks.window(browser, base) as (page, drain):
        for name in ("good", "no_picture", "outside", "script", "console"):
            page.goto(f"{base}/{name}.html")
            lost = sitechecks.load_pictures(page)
            found, asked = drain()
            loading |= {name: " | ".join(found + lost)} if found + lost else {}
            outside |= {name: " | ".join(asked)} if asked else {}
    assert outside == {"outside": "asks for https://cdn.example/x.js"}
    assert loading.keys() == {"no_picture", "outside", "script", "console"}
    assert "answers 404" in loading["no_picture"] and "cannot show" in loading["no_picture"]
    assert "a fault of ours" in loading["script"] and "it complains" in loading["console"]
    assert "ERR_NAME_NOT_RESOLVED" in loading["outside"]


@pytest.mark.parametrize(
    ("look", "view", "fine", "faulty"),
    [
        (
            sitechecks.too_wide, {"width": 390}, ["good"],
            {"wide_table": "the page is.*<table> ends at", "cut_table": "^<table> ends at", "wide_code": "the page is"},
        ),
        (
            sitechecks.inaccessible, {}, ["good", "no_alt"],
            {"pale": "color-contrast", "pale_code": "# pale", "unlabelled": "button-name"},
        ),
        (
            lambda page: sitechecks.inaccessible(page, *RULES["dark"]), {"dark": True}, ["good", "unlabelled"],
            {"pale": "color-contrast", "pale_code": "# pale"},
        ),
        # a table that scrolls on a screen cannot scroll on paper
        (sitechecks.cut_on_paper, {}, ["no_alt"], {"good": "^cuts <table>", "sidebar": "^shows .bd-sidebar-primary$"}),
    ],
    ids=["phone", "axe", "dark", "paper"],
)  # fmt: skip
def test_what_a_browser_shows_is_checked(browser, small_site, look, view, fine, faulty):
    found = {}
    with sitechecks.served(small_site) as base, sitechecks.window(browser, base, **view) as (page, _):
        for name in [*fine, *faulty]:
            page.goto(f"{base}/{name}.html")
            found[name] = " | ".join(look(page))
    assert [name for name in fine if found[name]] == []
    assert [name for name, words in faulty.items() if not re.search(words, found[name])] == []


# ------------------------------------------------------------------------------------------------- the book
@pytest.fixture(scope="module")
def seen(browser, html, served, tmp_path_factory) -> dict[str, list[str]]:
    """Problems by what was looked for. Each page is opened once a view, the dark one from disk, the others from a server."""
    ours = html.parts[-2:] == ("_build", "html")
    shots = html.parents[1] / "screenshots" if ours else tmp_path_factory.mktemp("screenshots")
    shutil.rmtree(shots, ignore_errors=True)
    shots.mkdir()
    problems: dict[str, list[str]] = {kind: [] for kind in ("loading", "outside", "width", *VIEWS)}
    for view, options in VIEWS.items():
        base = html.as_uri() if view == "dark" else served
        with sitechecks.window(browser, base, **options) as (page, drain):
            for name in sitechecks.page_names(html):
                if name == "index.html":  # it only leads to the cover
                    continue
                page.goto(f"{base}/{name}")
                page.wait_for_load_state("load")
                lost = sitechecks.load_pictures(page)
                shot = f"{name.replace('/', '_').removesuffix('.html')}.{view}.jpg"
                page.screenshot(path=shots / shot, full_page=True, quality=85)
                width = sitechecks.too_wide(page)
                loading, outside = drain()
                unfit = sitechecks.inaccessible(page, *RULES[view])
                for kind, lines in {"loading": loading + lost, "outside": outside, "width": width, view: unfit}.items():
                    problems[kind] += [f"{name} ({view}): {line}" for line in lines]
    return problems


def test_the_book_opens_at_its_cover(browser, html, served):
    assert len(sitechecks.page_names(html)) > 10
    with sitechecks.window(browser, served) as (page, _):
        page.goto(f"{served}/index.html")
        page.wait_for_url(re.compile(r"/book/(intro|instruments)\.html$"))


@pytest.mark.parametrize("kind", ["loading", "outside", "width", *VIEWS])
def test_no_page_fails_to_load_asks_others_is_too_wide_or_hard_to_use(seen, kind):
    assert not seen[kind], listed(seen[kind])


@pytest.mark.parametrize("check", [sitechecks.broken_links, sitechecks.poor_alt_texts, sitechecks.heavy_pages])
def test_the_files_are_in_order(html, check):
    problems = check(html)
    assert not problems, listed(problems)


def test_search_finds_a_word_of_each_page_and_from_disk_too(browser, html, served):
    words = sitechecks.telling_words(html)
    assert len(words) > 10
    with sitechecks.window(browser, served) as (page, drain):
        missed = [
            f"{word!r} does not find {name}"
            for name, word in words.items()
            if f"/{html.name}/{name}" not in sitechecks.found_by(page, served, word)
        ]
        missed += [line for lines in drain() for line in lines]
        assert not missed, listed(missed)
        assert sitechecks.found_by(page, served, "xylophonist") == []
    name, word = next(iter(words.items()))
    with sitechecks.window(browser, html.as_uri()) as (page, drain):
        assert (html / name).as_posix() in sitechecks.found_by(page, html.as_uri(), word)
        assert drain() == ([], [])


def chapters(html: Path) -> list[str]:
    notebooks = sorted((html / "_sources").rglob("*.ipynb"))
    return [notebook.relative_to(html / "_sources").with_suffix(".html").as_posix() for notebook in notebooks]


def test_a_chapter_can_be_downloaded(browser, html, served):
    assert chapters(html)
    with sitechecks.window(browser, served) as (page, drain):
        for name in chapters(html):
            page.goto(f"{served}/{name}")
            page.click(".dropdown-download-buttons > button")
            with page.expect_download() as download:
                page.click(".btn-download-source-button")
            notebook = nbformat.read(download.value.path(), as_version=4)
            assert sum(bool(cell.get("outputs")) for cell in notebook.cells) > 5, f"{name}: the notebook was not executed"
            if Path(name).name[0].isdigit():
                with page.expect_download() as download:
                    page.click("a.download:has-text('notebooks/exercises/')")
                blank = nbformat.read(download.value.path(), as_version=4)
                assert not any(cell.get("outputs") for cell in blank.cells), f"{name}: an exercise has its answer"
        assert drain() == ([], [])


def test_a_chapter_can_be_printed(browser, html, served):
    problems = []
    with sitechecks.window(browser, served, dark=True) as (page, _):
        for name in chapters(html):
            page.goto(f"{served}/{name}")
            page.evaluate("() => { window.print = () => { window.there = Array.from(document.images, (i) => i.complete); }; }")
            page.click(".dropdown-download-buttons > button")
            page.click(".btn-download-pdf-button")
            page.wait_for_function("window.there !== undefined")
            if not all(page.evaluate("window.there")):
                problems.append(f"{name} is printed before its pictures are there")
            themes = "() => ['beforeprint', 'afterprint'].map((name) => { dispatchEvent(new Event(name)); return %s; })"
            assert page.evaluate(themes % "document.documentElement.dataset.theme") == ["light", "dark"]
            pdf = page.pdf(format="A4")
            sheets = len(re.findall(rb"/Type\s*/Page\b", pdf))
            pictures = page.locator("article figure img:visible").count()
            if not pdf.startswith(b"%PDF") or sheets < 2 or len(re.findall(rb"/Subtype\s*/Image", pdf)) < pictures:
                problems.append(f"{name}: {sheets} sheets, and not all of {pictures} pictures")
            problems += [f"{name} {line}" for line in sitechecks.cut_on_paper(page)]
            page.emulate_media(media="screen")
            page.set_viewport_size({"width": 1280, "height": 900})
    assert not problems, listed(problems)


# ---------------------------------------------------------------------------------------- interactive parts
def sorts(page: Page) -> None:
    """A table that sorts: up, then down, by mouse and keyboard, and says so."""
    number = re.compile(r"[-+]?\d*\.?\d+")
    table = page.locator(".mpox-sortable table").first
    cells = "rows => rows.map((row) => Array.from(row.cells, (cell) => cell.textContent.trim()))"
    rows = table.locator("tbody tr").evaluate_all(cells)
    columns = [[cell for cell in column if cell] for column in zip(*rows, strict=True)]
    numeric = [place for place, column in enumerate(columns) if len(set(column)) > 1 and all(map(number.match, column))]
    assert numeric, "no column of numbers to sort by"
    header = table.locator("thead th").nth(numeric[-1])

    def column() -> list[float]:
        texts = [row[numeric[-1]] for row in table.locator("tbody tr").evaluate_all(cells)]
        return [float(number.match(text)[0]) for text in texts if text]

    before = column()
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending" and column() == sorted(before)
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending" and column() == sorted(before, reverse=True)
    assert table.locator("th[aria-sort]").count() == 1
    assert sorted(table.locator("tbody tr").evaluate_all(cells)) == sorted(rows)


def reviews(page: Page) -> None:
    """The review of pairs: one pair at a time, by button and key; a decision shows, and is in the file to download."""
    review = page.locator(".mpox-review")
    status = review.get_by_role("status")
    assert re.match(r"Pair 1 of \d+, \d+ decided", status.text_content())
    assert review.locator(".mpox-review-pair:visible").count() == 1
    review.get_by_role("button", name="Next").click()
    assert status.text_content().startswith("Pair 2 of ")
    page.keyboard.press("ArrowLeft")
    assert status.text_content().startswith("Pair 1 of ")
    page.keyboard.press("r")
    reject = review.locator(".mpox-review-pair:visible [data-decide=reject]")
    assert reject.get_attribute("aria-pressed") == "true"
    with page.expect_download() as download:
        review.get_by_role("button", name="Download").click()
    assert ",reject," in Path(download.value.path()).read_text()


@pytest.mark.parametrize(
    ("chapter", "selector", "responds", "editions"),
    [
        ("D_costs", ".mpox-sortable", sorts, {"study", "instruments"}),
        ("A_audit", ".mpox-review", reviews, {"instruments"}),  # it needs pictures, which the records have not
    ],
)
def test_an_interactive_part_responds(browser, html, served, chapter, selector, responds: Callable[[Page], None], editions):
    names = [name for name in chapters(html) if Path(name).stem == chapter]
    if not names or html.name not in editions:
        pytest.skip(f"this book has no page that must have {selector}: `make book` builds the whole book")
    with sitechecks.window(browser, served) as (page, drain):
        for name in names:
            page.goto(f"{served}/{name}")
            assert page.locator(selector).count() >= 1, f"{name} has no {selector}"
            responds(page)
        assert drain() == ([], [])


def test_the_theme_switch_and_the_contents_of_a_phone_respond(browser: Browser, served):
    with sitechecks.window(browser, served) as (page, drain):
        page.goto(f"{served}/book/how_to_read.html")
        themes = set()
        for _ in range(3):
            page.click(".theme-switch-button >> visible=true")
            themes.add(page.evaluate("document.documentElement.dataset.theme"))
        assert themes == {"light", "dark"}
        page.set_viewport_size({"width": 390, "height": 800})
        entry = page.locator("#pst-primary-sidebar .toctree-l1 a, #pst-primary-sidebar-modal .toctree-l1 a").nth(1)
        expect(entry).not_to_be_in_viewport()
        page.click(".primary-toggle >> visible=true")
        expect(entry).to_be_in_viewport()
        entry.click()
        page.wait_for_url(re.compile(r"(?<!intro)\.html"))
        assert drain() == ([], [])
