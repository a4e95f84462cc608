"""Links the first use of each of the glossary's words on a page to the glossary."""

import re
from collections.abc import Iterable
from pathlib import Path

#: Words of the glossary that are everyday words as well: only a writer knows which is meant, and sets ``{term}`` by hand.
AMBIGUOUS = frozenset({"power", "run", "source"})

_BLOCK = re.compile(r"^:::+\{glossary\}\n(.*?)^:::+$", re.M | re.S)
_ROLE = re.compile(r"\{term\}`(?:[^`<]*<([^`>]+)>|([^`]+))`")
#: What is no running prose: roles, code, links and pictures, emphasis, HTML, addresses.
_APART = re.compile(
    r"\{[\w:]+\}`[^`]*`|(`+).*?\1|!?\[[^\]]*\]\([^)]*\)|\*\*.+?\*\*|(?<!\*)\*[^*\n]+\*|<[^>]*>|\{\{.*?\}\}|https?://\S+", re.S
)
#: Lines that are no running prose: headings, fences and their options, tables, labels, comments.
_LINE_APART = re.compile(r"\s*(#|:::|```|\||:[\w-]+:|\([\w-]+\)=|<!--)")


def glossary_terms(page: Path) -> list[str]:
    """The words that a page's glossary explains, as they stand there; none where there is no such page."""
    if not page.is_file():
        return []
    blocks = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip() and not line.startswith((" ", "\t"))]


class FirstUses:
    """Links words of a page, each once.

    Parameters
    ----------
    terms : iterable of str
        From `glossary_terms`.

    Examples
    --------
    >>> page = FirstUses(["fold", "inner fold", "AUROC"])
    >>> page.link("Inner folds lie in a `fold`. The fold is new.")
    '{term}`Inner folds <inner fold>` lie in a `fold`. The {term}`fold` is new.'
    >>> page.link("Another fold.")
    'Another fold.'
    """

    def __init__(self, terms: Iterable[str]):
        self._terms = {term.lower(): term for term in terms if term.lower() not in AMBIGUOUS}
        forms = sorted(((form, term) for term in self._terms.values() for form in _forms(term)), key=lambda pair: -len(pair[0]))
        self._forms = {form.lower(): term for form, term in reversed(forms)}
        words = "|".join(re.escape(form).replace(r"\ ", r"\s+") for form, _ in forms)
        self._word = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.I) if forms else None
        self._used: set[str] = set()

    def link(self, text: str) -> str:
        """The next text of the page, with the terms linked that are new in it."""
        self._used |= {(found[1] or found[2]).strip().lower() for found in _ROLE.finditer(text)}
        if self._word is None:
            return text
        fenced = ""
        blocks: list[tuple[bool, list[str]]] = []
        for line in text.split("\n"):
            fence = line.strip()[:3]
            if fence in ("```", "~~~"):
                fenced = "" if fence == fenced else fenced or fence
            apart = bool(fenced or fence in ("```", "~~~") or _LINE_APART.match(line))
            if blocks and not apart and not blocks[-1][0]:
                blocks[-1][1].append(line)
            else:
                blocks.append((apart, [line]))
        return "\n".join("\n".join(lines) if apart else self._prose("\n".join(lines), self._word) for apart, lines in blocks)

    def _prose(self, text: str, word: re.Pattern[str]) -> str:
        """Running prose, between the things that are none."""
        pieces, end = [], 0
        for apart in _APART.finditer(text):
            pieces += [word.sub(self._linked, text[end : apart.start()]), apart[0]]
            end = apart.end()
        return "".join([*pieces, word.sub(self._linked, text[end:])])

    def _linked(self, found: re.Match) -> str:
        word = re.sub(r"\s+", " ", found[0])
        term = self._forms[word.lower()]
        shouted = re.match(r"[A-Z]{2}", term)
        if term.lower() in self._used or (shouted and not re.match(r"[A-Z]{2}", word)):
            return found[0]
        self._used.add(term.lower())
        return f"{{term}}`{word}`" if word == term else f"{{term}}`{word} <{term}>`"


def _forms(term: str) -> list[str]:
    """A term and its simple plural."""
    if term.endswith("s"):
        return [term]
    return [term, f"{term[:-1]}ies" if re.search(r"[^aeiou]y$", term) else f"{term}s"]
