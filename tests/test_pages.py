"""What is written by hand: glossary, references, citation, changelog, hooks and workflow."""

import re
import tomllib
from datetime import date

import pytest
import yaml

from mpox._core import project_root

ROOT = project_root()
PROSE = [*sorted((ROOT / "book").rglob("*.md")), *sorted((ROOT / "notebooks").glob("*.py"))]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
TEXT = {path: path.read_text(encoding="utf-8") for path in PROSE}


def joined(text: str) -> str:
    """Prose without line breaks and the comment signs of a notebook's source."""
    return re.sub(r"\s+", " ", re.sub(r"^# ?", "", text, flags=re.M))


# ------------------------------------------------------------------------------------------------ glossary
def glossary() -> list[str]:
    body = TEXT[ROOT / "book/glossary.md"].split(":::{glossary}\n")[1]
    return re.findall(r"^(\S.*)\n  \S", body, flags=re.M)


def test_the_glossary_is_in_order_and_has_each_word_once():
    keys = [term.lower().replace("'", "") for term in glossary()]
    assert keys == sorted(set(keys)) and len(keys) > 90


def test_every_word_that_is_linked_is_explained():
    known = {term.lower() for term in glossary()}
    used = {(path.name, role) for path, text in TEXT.items() for role in re.findall(r"\{term\}`([^`]+)`", joined(text))}
    missing = {(name, role) for name, role in used if re.sub(r".*<(.+)>", r"\1", role).strip().lower() not in known}
    assert len(used) > 50 and missing == set()


# ---------------------------------------------------------------------------------------------- references
def entries() -> dict[str, str]:
    found = re.findall(r"^@\w+\{(\w+),\n(.*?)^\}", (ROOT / "book/references.bib").read_text(), flags=re.M | re.S)
    assert len({key for key, _ in found}) == len(found), "a key is there twice"
    return dict(found)


def test_references_are_in_order_and_complete():
    assert list(entries()) == sorted(entries())
    for key, body in entries().items():
        fields = dict(re.findall(r"^  (\w+) *= \{(.*)\},?$", body, flags=re.M))
        assert fields.keys() >= {"author", "title", "year"}, key
        assert fields["year"] in key, key
        assert re.fullmatch(r"10\.\d{4,9}/\S+", fields.get("doi", "10.1000/none")), key
    dois = re.findall(r"^  doi *= \{(.*)\}", "\n".join(entries().values()), flags=re.M)
    assert len(dois) == len(set(dois)) > 30


def test_everything_cited_is_a_reference():
    cited = {
        key.strip() for text in TEXT.values() for group in re.findall(r"\{cite\}`([^`]+)`", text) for key in group.split(",")
    }
    assert len(cited) > 30 and cited <= set(entries())


def test_files_that_contributors_are_sent_to_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = set(re.findall(r"`((?:src|tests|profiles|book|notebooks|results)/[\w/.-]+)`", text))
    assert [path for path in paths if not re.search("NAME|NN", path) and not (ROOT / path).exists()] == []


def test_what_bounds_the_whole_book_fits_one_page_and_chapters_send_there():
    assert len(TEXT[ROOT / "book/limitations.md"].split()) <= 500
    senders = [path.name for path, text in TEXT.items() if "(../book/limitations.md)" in text and path.suffix == ".py"]
    assert "10_verdict.py" in senders and len(senders) >= 4


# ---------------------------------------------------------------------------------------------- checklists
#: How many items each publication has, and the first and last number.
PUBLISHED = {
    "claim_2024": (44, "1", "44"),
    "tripod_ai": (52, "1", "27c"),
    "probast_ai": (34, "D1.1", "E4.7"),
    "clear_derm": (25, "Data 1", "Application 2"),
    "reforms": (32, "1a", "8b"),
}
STATUSES = ["Answered", "Partly", "Not reported", "Not applicable"]


def items(key: str) -> dict[str, str]:
    """Number to status; an item that is answered says where, another one why not."""
    text = TEXT[ROOT / f"book/checklists/{key}.md"]
    rows = re.findall(r"^\| \*\*(.+?)\*\* .+? \| .+? \| \*\*(.+?)\.\*\* \S.* \|$", text, flags=re.M)
    assert len(dict(rows)) == len(rows) == len(re.findall(r"^\| \*\*", text, flags=re.M))
    return dict(rows)


@pytest.mark.parametrize("key", PUBLISHED)
def test_every_item_of_a_checklist_is_there_in_order_and_counted(key):
    found, (count, first, last) = items(key), PUBLISHED[key]
    numbers = list(found)
    assert len(numbers) == count and numbers[0] == first and numbers[-1] == last
    order = [[int(part) if part.isdigit() else part for part in re.findall(r"\d+|[A-Za-z]+", number)] for number in numbers]
    assert order == sorted(order) or key == "clear_derm"
    counts = " | ".join(str(list(found.values()).count(status)) for status in STATUSES)
    assert set(found.values()) <= set(STATUSES)
    assert f"({key}.md) | {count} | {counts} |" in TEXT[ROOT / "book/checklists/index.md"]


def test_nothing_is_claimed_of_what_the_collections_do_not_tell():
    """Consent, who labelled and who is shown are not known to anyone; a page that says otherwise would be wrong."""
    unknown = [("claim_2024", "16"), ("claim_2024", "36"), ("tripod_ai", "17"), ("tripod_ai", "8b"), ("clear_derm", "Data 7")]
    unknown += [("probast_ai", number) for number in ("D3.1", "E3.1")]
    assert {items(key)[number] for key, number in unknown} == {"Not reported"}


# ------------------------------------------------------------------------------------- citation, changelog
def test_the_citation_is_valid_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    known = {"cff-version", "message", "title", "authors", "type", "version", "license", "abstract", "keywords", "references"}
    assert {"cff-version", "message", "title", "authors"} <= set(citation) <= known
    assert (citation["cff-version"], citation["type"], citation["license"]) == ("1.2.0", "software", "MIT")
    assert citation["version"] == VERSION
    for entry in [citation, *citation["references"]]:
        assert entry["authors"] and all(set(author) in ({"name"}, {"family-names", "given-names"}) for author in entry["authors"])
    (paper,) = citation["references"]
    assert paper["doi"] in (ROOT / "book/references.bib").read_text() and isinstance(paper["year"], int)


def test_the_changelog_has_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## \[(.+?)\](?: - (.+))?$", text, flags=re.M)
    assert heads[0][0] == "Unreleased" and VERSION in text
    assert all(date.fromisoformat(day) for _, day in heads[1:])
    assert set(re.findall(r"^### (.+)$", text, flags=re.M)) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_hooks_are_local_and_call_what_is_installed():
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    assert [hook["entry"].split()[0] for hook in repo["hooks"]] == [".venv/bin/ruff", ".venv/bin/mpox"]


def test_the_workflow_publishes_what_make_book_builds():
    workflow = yaml.safe_load((ROOT / ".github/workflows/pages.yml").read_text())
    build, deploy = workflow["jobs"]["build"]["steps"], workflow["jobs"]["deploy"]
    assert "make book" in [step.get("run") for step in build]
    (upload,) = [step for step in build if "upload-pages-artifact" in step.get("uses", "")]
    assert upload["with"]["path"] == "_site"
    assert deploy["needs"] == "build" and deploy["permissions"] == {"pages": "write", "id-token": "write"}


def test_the_configuration_invents_no_address():
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"] == ""
