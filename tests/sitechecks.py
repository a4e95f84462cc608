"""Instruments that look at a built book: each returns one line a problem, and none where all is well; for `test_site.py`."""

import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from mpox.book.build import OTHER

#: The browser resolves no name, so that a page which asks the network gets no answer, and the request is seen.
CHROMIUM = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip
#: Bytes of a page with its own pictures.
HEAVIEST = 3_000_000


def chromium() -> str | None:
    """The Chromium or Chrome of this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser for tests, which are skipped where there is none."""
    if (executable := chromium()) is None:
        pytest.skip("there is no Chromium here to look at pages with: install it, on Debian with `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM)
        yield browser
        browser.close()


def page_names(html: Path) -> list[str]:
    """Every page of the book, by its path under ``html``."""
    return sorted(page.relative_to(html).as_posix() for page in html.rglob("*.html") if "_static" not in page.parts)


# ------------------------------------------------------------------------------------- what the files say
class _Parsed(HTMLParser):
    """Anchors, addresses and pictures of a page as it lies on disk."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str]] = []
        self.redirects = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids += [values[name] for name in ("id", "name") if name in values and (name == "id" or tag == "a")]
        self.links += [values[name] for name in ("href", "src", "data") if name in values and (name != "data" or tag == "object")]
        self.redirects |= tag == "meta" and values.get("http-equiv", "").lower() == "refresh"
        if tag == "img":
            self.images.append(values)


def _local(address: str) -> bool:
    return not re.match(r"[a-z][a-z0-9+.-]*:|//", address, re.I)


def broken_links(html: Path) -> list[str]:
    """Internal addresses and anchors that do not exist, whatever points to them, and anchors that exist twice."""
    parsed = {name: _Parsed(html / name) for name in page_names(html)}
    other = html.resolve().parent / OTHER.get(html.name, html.name)
    problems = []
    for name, page in parsed.items():
        twice = [anchor for anchor, count in Counter(page.ids).items() if count > 1]
        problems += [f"{name}: the anchor {anchor} is there more than once" for anchor in twice]
        for address in sorted(set(filter(_local, page.links))):
            parts = urlsplit(address)
            target = (html / name).parent / unquote(parts.path) if parts.path else html / name
            target = Path(target.resolve())
            if not target.is_file():
                problems.append(f"{name}: {address} does not exist")
            elif target.parent != other and not target.is_relative_to(html.resolve()):
                problems.append(f"{name}: {address} is outside the edition, and not the other one's cover")
            elif parts.fragment and target.suffix == ".html":
                anchors = parsed[target.relative_to(html.resolve()).as_posix()].ids
                if unquote(parts.fragment) not in anchors:
                    problems.append(f"{name}: {address} has no such anchor")
    return problems


def poor_alt_texts(html: Path) -> list[str]:
    """Pictures without a text in their place, or with a file name for it."""
    problems = []
    for name in page_names(html):
        for image in _Parsed(html / name).images:
            alt = image.get("alt", "").strip()
            if len(alt) < 10 or re.search(r"\.(png|jpe?g|webp|svg|gif)$", alt, re.I):
                problems.append(f"{name}: {image.get('src', '')[:80]} has the alternative text '{alt}'")
    return problems


def heavy_pages(html: Path, *, limit: int = HEAVIEST) -> list[str]:
    """Pages that weigh too much with their own pictures."""
    problems = []
    for name in page_names(html):
        sources = {image.get("src", "") for image in _Parsed(html / name).images}
        files = {(html / name).parent / unquote(urlsplit(source).path) for source in sources if _local(source)}
        size = sum(path.stat().st_size for path in (html / name, *files) if path.is_file())
        if size > limit:
            problems.append(f"{name}: {size:,} bytes with its pictures, over {limit:,}")
    return problems


# ---------------------------------------------------------------------------------- what the browser shows
@contextmanager
def served(html: Path) -> Iterator[str]:
    """The address of a server of the folder, on this machine only."""
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(html))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


#: Gives what went wrong since the last call: errors of scripts and failed requests; and requests to anywhere but the book.
Drain = Callable[[], tuple[list[str], list[str]]]


@contextmanager
def window(browser: Browser, base: str, *, width: int = 1280, dark: bool = False) -> Iterator[tuple[Page, Drain]]:
    """A page in a context of its own, watched; the addresses of the book begin with `base`."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", accept_downloads=True
    )
    loading: list[str] = []
    outside: list[str] = []

    def requested(request) -> None:
        if not request.url.startswith((base, "data:", "blob:", "about:")):
            outside.append(f"asks for {request.url[:150]}")

    def failed(request) -> None:
        if "ERR_ABORTED" not in request.failure:  # a download, or the reader goes on to another page
            loading.append(f"{request.url[:150]} failed: {request.failure}")

    def answered(response) -> None:
        if response.status >= 400:
            loading.append(f"{response.url[:150]} answers {response.status}")

    def said(line) -> None:
        if line.type == "error":
            loading.append(f"console: {line.text[:200]} ({line.location.get('url', '')[:150]})")

    def drain() -> tuple[list[str], list[str]]:
        found = list(dict.fromkeys(loading)), list(dict.fromkeys(outside))
        loading.clear()
        outside.clear()
        return found

    events = {"request": requested, "requestfailed": failed, "response": answered, "console": said}
    events["weberror"] = lambda error: loading.append(f"script: {str(error.error)[:200]}")
    for event, handler in events.items():
        context.on(event, handler)
    yield context.new_page(), drain
    context.close()


def load_pictures(page: Page) -> list[str]:
    """Load the lazy pictures too; those that cannot be shown."""
    return page.evaluate(
        """async () => {
            const images = Array.from(document.images);
            images.forEach((image) => { image.loading = "eager"; });
            const done = await Promise.allSettled(images.map((image) => image.decode()));
            const lost = images.filter((_, k) => done[k].status === "rejected");
            return lost.map((image) => `cannot show ${image.src.slice(0, 150)}`);
        }"""
    )


#: Keeps one of each kind of token in each kind of code block: thousands of spans have the same few colours.
_THIN_CODE = """() => {
    const seen = new Set();
    document.querySelectorAll(".highlight pre").forEach((pre) => {
        const ground = [pre, pre.parentElement, pre.parentElement.parentElement].map((e) => getComputedStyle(e).backgroundColor);
        pre.querySelectorAll("span").forEach((span) => {
            const kind = `${span.className} ${ground}`;
            if (seen.has(kind)) { span.replaceWith(...span.childNodes); } else { seen.add(kind); }
        });
    });
}"""


def inaccessible(page: Page, *rules: str) -> list[str]:
    """Serious and critical violations that axe-core finds on the page as it is shown: of these rules, or of all."""
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(_THIN_CODE)
    options = {"resultTypes": ["violations"], "preload": False} | ({"runOnly": list(rules)} if rules else {})
    problems = []
    for violation in Axe().run(page, options=options).response["violations"]:
        if violation["impact"] not in ("serious", "critical"):
            continue
        for node in violation["nodes"][:5]:
            reason = next((check["message"] for kind in ("any", "all", "none") for check in node[kind]), violation["help"])
            problems.append(f"{violation['id']}: {node['html'][:120]}: {reason}")
    return problems


def too_wide(page: Page) -> list[str]:
    """What is wider than the window and does not scroll within itself, where the whole page scrolls sideways or cuts it off."""
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            const name = (element) => `<${element.tagName.toLowerCase()}>`;
            const problems = [];
            if (document.documentElement.scrollWidth > width) {
                problems.push(`the page is ${document.documentElement.scrollWidth} px wide in a window of ${width}`);
            }
            const parts = "table, pre, img, svg, canvas, p, figure, input, select, button";
            document.querySelectorAll(`main :is(${parts})`).forEach((element) => {
                const box = element.getBoundingClientRect();
                const shown = box.width && element.checkVisibility({ visibilityProperty: true });
                if (!shown || box.right <= width + 1) { return; }
                for (let around = element; around && around.tagName !== "MAIN"; around = around.parentElement) {
                    const frame = around.getBoundingClientRect();
                    if (/auto|scroll/.test(getComputedStyle(around).overflowX) && frame.right <= width + 1) { return; }
                }
                const text = element.textContent.trim().replace(/\\s+/g, " ").slice(0, 60);
                problems.push(`${name(element)} ends at ${Math.round(box.right)} px of ${width}: ${text}`);
            });
            return problems;
        }"""
    )


def cut_on_paper(page: Page) -> list[str]:
    """What a sheet would show that is no text of the chapter, or would cut off at its edge; leaves the page in print mode."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            const box = (element) => element.getBoundingClientRect();
            const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && box(element).width;
            const aside = [".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".prev-next-area", ".copybtn"];
            const problems = aside.filter((part) => Array.from(document.querySelectorAll(part)).some(shown));
            problems.forEach((part, place) => { problems[place] = `shows ${part}`; });
            document.querySelectorAll("article :is(table, pre, img, p)").forEach((element) => {
                const right = Math.max(box(element).right, box(element).left + element.scrollWidth);
                if (shown(element) && right > width + 1) {
                    problems.push(`cuts <${element.tagName.toLowerCase()}>: ${element.textContent.trim().slice(0, 60)}`);
                }
            });
            if (!Array.from(document.querySelectorAll("article")).some(shown)) { problems.push("shows no text"); }
            return problems;
        }"""
    )


# -------------------------------------------------------------------------------------------------- search
def telling_words(html: Path) -> dict[str, str]:
    """For each page of text a word that few other pages have, so that to find the page by it means something."""
    words = {}
    for name in page_names(html):
        text = re.sub(r"<(script|style|pre)\b.*?</\1>", " ", (html / name).read_text(encoding="utf-8"), flags=re.S)
        article = re.search(r"<article\b.*?</article>", text, flags=re.S)
        paragraphs = re.findall(r"<p>(.*?)</p>", article[0] if article else "", flags=re.S)
        words[name] = Counter(re.findall(r"\b[a-z]{7,14}\b", re.sub(r"<[^>]+>", "", " ".join(paragraphs))))
    pages = Counter(word for counts in words.values() for word in counts)
    generated = ("index.html", "genindex.html", "search.html")
    return {
        name: min(counts, key=lambda word: (pages[word], -counts[word], word))
        for name, counts in words.items()
        if counts and name not in generated
    }


def found_by(page: Page, base: str, word: str) -> list[str]:
    """The pages that the book's own search lists for a word."""
    page.goto(f"{base}/search.html?q={word}")
    page.wait_for_function("/finished|did not match/.test(document.querySelector('#search-results')?.textContent)")
    links = page.eval_on_selector_all("#search-results li > a", "links => links.map((link) => link.href)")
    return [unquote(urlsplit(link).path) for link in links]
