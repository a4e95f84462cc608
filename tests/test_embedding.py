"""The map of the pictures: reproducible, with the clusters that are there; its page answers mouse and keyboard, offline."""

import json
import re
import subprocess

import numpy as np
import pandas as pd
import pytest

from mpox._core import MpoxError
from mpox.book import plots
from mpox.book.mapview import MapView, map_html
from mpox.studies.errors import embedding_map, map_table

EVIL = "</script><script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(0, 0.5, (60, 20)) + 8 * np.eye(20)[np.repeat([0, 1, 2], [30, 20, 10])]).astype(np.float32)


def test_like_lies_by_like_and_the_largest_cluster_is_the_first(blobs):
    found = embedding_map(blobs, n_clusters=3, seed=0)
    assert found["cluster"].tolist() == [1] * 30 + [2] * 20 + [3] * 10
    places = found[["x", "y"]].to_numpy()
    away = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(away, np.inf)
    truth = found["cluster"].to_numpy()
    assert (truth[away.argmin(axis=1)] == truth).all()


def test_the_same_features_give_the_same_map(blobs):
    assert embedding_map(blobs, n_clusters=3, seed=1).equals(embedding_map(blobs, n_clusters=3, seed=1))


def test_too_few_pictures_are_refused(blobs):
    with pytest.raises(MpoxError, match="3 pictures in 8 clusters"):
        embedding_map(blobs[:3])


def table() -> pd.DataFrame:
    place = pd.DataFrame(
        {"dataset": ["s", "s", "t", "t"], "image_id": ["a", "b", "a", EVIL], "x": [0.0, 10, 0, 10], "y": [0.0, 0, 10, 10]}
    )
    errors = place[["dataset", "image_id"]].assign(
        label=["Mpox", "Normal", "Mpox", "Mpox"],
        predicted=["Mpox", "Mpox", "Mpox", "Normal"],
        confidence=[0.9, 0.8, 0.7, 0.6],
        wrong=[False, True, False, True],
    )
    return map_table(place, errors.iloc[::-1])


def test_mistakes_are_drawn_on_top():
    found = table()
    assert found["image_id"].tolist() == ["a", "a", "b", EVIL] and found["outcome"].tolist() == [
        "right",
        "right",
        "wrong",
        "wrong",
    ]
    assert found["source"].tolist() == ["s", "t", "s", "t"] and found["probability"].tolist() == [0.9, 0.7, 0.8, 0.6]


def map_colours(found: pd.DataFrame) -> dict:
    return {key: plots.palette(found[key]) for key in ("class", "outcome", "source")}


def test_the_page_is_self_contained_and_safe():
    text = map_html(table(), caption=f"Map {EVIL}", colours=map_colours(table()))
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "<img" not in text and "url(" not in text
    assert text.count("</script>") == 1, "nothing in the data ends the script"
    assert re.findall(r'<use href="#([\w-]+)-\d" x="([\d.]+)" y="([\d.]+)" fill="(#\w+)"', text)[0][1:3] == ("2.00", "98.00")
    assert text.count("<use ") == 4 and 'tabindex="0"' in text and 'aria-live="polite"' in text


def test_one_source_gets_no_button():
    one = table().assign(source="s")
    payload = map_html(one, caption="x", colours=map_colours(one))
    assert '"source":{' not in payload.split("mpoxMap(")[-1]


PAGE = """
// The least of a document that the script needs.
function element(name) {
  return {
    name, attributes: {}, children: [], listeners: {}, dataset: {}, textContent: "",
    setAttribute(key, value) { this.attributes[key] = String(value); },
    getAttribute(key) { return this.attributes[key]; },
    removeAttribute(key) { delete this.attributes[key]; },
    append(...some) { this.children.push(...some); },
    replaceChildren(...some) { this.children = some; },
    addEventListener(type, listener) { this.listeners[type] = listener; },
  };
}
const [points, data, actions] = JSON.parse(process.argv[1]);
const parts = { ".mpox-map-here": element("circle"), ".mpox-map-said": element("p"), ".mpox-map-legend": element("ul"),
  ".mpox-map-buttons": element("div"), svg: element("svg") };
const marks = points.map(([x, y]) => { const mark = element("use"); mark.attributes = { x, y }; return mark; });
parts.svg.querySelectorAll = () => marks;
parts.svg.querySelector = (what) => parts[what];
parts.svg.getBoundingClientRect = () => ({ left: 100, top: 50, width: 200, height: 200 });
parts.svg.viewBox = { baseVal: { width: 100, height: 100 } };
global.document = {
  getElementById: () => ({ querySelector: (what) => parts[what] }),
  createElement: element, createElementNS: (_, name) => element(name),
};
mpoxMap("m", data);
const log = [];
for (const [what, value] of actions) {
  const event = { key: value, preventDefault() {} };
  if (what === "key") { parts.svg.listeners.keydown(event); }
  if (what === "focus") { parts.svg.listeners.focus(event); }
  if (what === "point") { parts.svg.listeners.pointermove({ clientX: value[0], clientY: value[1] }); }
  if (what === "press") { parts[".mpox-map-buttons"].children[value].listeners.click(); }
  log.push([parts[".mpox-map-said"].textContent.split(" ")[0], marks.map((mark) => mark.attributes.fill).join(" "),
    parts[".mpox-map-buttons"].children.map((button) => button.attributes["aria-pressed"]).join(" ")]);
}
console.log(JSON.stringify(log));
"""


def use(actions: list) -> list:
    """What the map says and shows after each action: first word said, colours of the marks, which button is pressed."""
    rows = [["p0", "A", "A", "0.9", "right", "s"], ["p1", "A", "B", "0.8", "wrong", "s"], ["p2", "B", "B", "0.7", "right", "s"],
            ["p3", "B", "A", "0.6", "wrong", "s"]]  # fmt: skip
    data = {
        "rows": rows,
        "columns": {"class": 1, "outcome": 4},
        "colours": {"class": {"A": "#a", "B": "#b"}, "outcome": {"right": "#r", "wrong": "#w"}},
        "shapes": {"A": 0, "B": 1},
    }
    asked = json.dumps([[[10, 10], [90, 10], [10, 90], [90, 90]], data, actions])
    html = map_html(table(), caption="x", colours=map_colours(table()))
    script = re.search(r"<script>(.*)\nmpoxMap\(", html, re.DOTALL)[1]
    done = subprocess.run(["node", "-e", script + PAGE, asked], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_keys_walk_over_the_map():
    keys = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "End", "Home", "w", "w", "w", "W", "q"]
    said = [word for word, _, _ in use([["focus", ""], *(["key", key] for key in keys)])]
    assert said == ["p0", "p1", "p3", "p2", "p0", "p3", "p0", "p1", "p3", "p1", "p3", "p3"]


def test_the_pointer_finds_the_nearest_point_if_it_is_near():
    # the drawing is 100 wide and shown at (100, 50), 200 pixels wide: 2 pixels a unit
    said = [word for word, _, _ in use([["point", [283, 72]], ["point", [200, 150]], ["point", [121, 229]]])]
    assert said == ["p1", "p1", "p2"]


def test_buttons_colour_the_points():
    log = use([["focus", ""], ["press", 1], ["press", 0]])
    assert [colours for _, colours, _ in log] == ["#a #a #b #b", "#r #w #r #w", "#a #a #b #b"]
    assert [pressed for _, _, pressed in log] == ["true false", "false true", "true false"]


def test_on_paper_it_is_a_figure_and_in_a_terminal_a_sentence():
    found = table()
    view = MapView(found, caption="A map.", colours=map_colours(found), draw=lambda: plots.points(found, "x", "y", hue="class"))
    bundle = view._repr_mimebundle_()
    assert bundle["text/plain"] == "A map. 4 pictures, 2 of them predicted wrongly."
    assert bundle["image/png"].startswith("iVBOR") and "<svg" in bundle["text/html"]
