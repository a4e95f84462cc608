"""The figures draw what their tables say, never by colour alone, and refuse tables that say nothing."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mpox import MpoxError
from mpox.book import plots


def estimates(**columns) -> pd.DataFrame:
    """Two regimes under two protocols on two data sets; the second data set lacks one protocol."""
    rows = [
        (name, regime, protocol, value, value - 0.1, value + 0.05)
        for name, start in (("msld-v1", 0.6), ("msid", 0.8))
        for k, regime in enumerate(("linear_probe", "fine_tune"))
        for protocol, value in (("patient", start + k / 20), ("source", start + k / 20 + 0.02))
        if (name, protocol) != ("msid", "patient")
    ]
    return pd.DataFrame(rows, columns=["dataset", "regime", "protocol", "estimate", "low", "high"]).assign(**columns)


def errorbars(axis) -> list[tuple]:
    """x, y, low end, high end, colour and marker of each point with whiskers."""
    found = []
    for bar in axis.containers:
        line, _, ((segments),) = bar.lines
        ends = segments.get_segments()[0]
        found.append((line.get_xdata()[0], line.get_ydata()[0], *ends[:, 0], line.get_color(), line.get_marker()))
    return found


def words(axis) -> list[str]:
    return [label.get_text() for label in axis.get_yticklabels()]


def legend(figure) -> list[str]:
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


def test_forest_draws_estimates_whiskers_lines_and_panels():
    figure = plots.forest(estimates(), "regime", hue="protocol", row="dataset", xlabel="AUROC", reference={"published": 0.95})
    top, bottom = figure.axes
    assert (top.get_title("left"), bottom.get_title("left")) == ("MSLD", "MSID")
    assert words(top) == ["linear probe", "fine-tuned"] and top.get_ylim()[0] > top.get_ylim()[1], "the first line is on top"
    drawn = errorbars(top)
    assert np.allclose([one[:1] + one[2:4] for one in drawn], [(v, v - 0.1, v + 0.05) for v in (0.6, 0.62, 0.65, 0.67)])
    assert [round(one[1]) for one in drawn] == [0, 0, 1, 1] and drawn[0][1] < drawn[1][1], "what shares a line lies side by side"
    assert {one[4:] for one in drawn} == {plots.LOOKS["patient"], plots.LOOKS["source"]}
    assert len(errorbars(bottom)) == 2 and bottom.get_xlabel() == "AUROC" and top.get_xlabel() == ""
    assert all(any(np.allclose(line.get_xdata(), 0.95) for line in axis.lines) for axis in figure.axes)
    assert legend(figure) == ["patients kept apart", "groups kept apart", "published"]


def test_forest_takes_missing_intervals_missing_estimates_and_one_group():
    table = pd.DataFrame(
        {"line": ["a", "b", "c"], "estimate": [0.5, 0.7, None], "low": [0.6, None, None], "high": [0.8, None, None]}
    )
    figure = plots.forest(table, "line")
    assert words(figure.axes[0]) == ["a", "b"] and figure.legends == []
    assert np.allclose([one[2:4] for one in errorbars(figure.axes[0])], [(0.5, 0.8), (0.7, 0.7)]), "an arm has no negative length"
    both = pd.concat([table.iloc[::-1].assign(kind=kind, why="one class only") for kind in ("x", "y")])
    figure = plots.forest(both, "line", hue="kind", missing="why", values="{:.1f}")
    assert words(figure.axes[0]) == ["c", "b", "a"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["not defined: one class only", "0.7", "0.5"] * 2


def test_forest_tells_styles_apart_by_marker_and_fill_and_marks_goals():
    table = estimates(goal=0.9)
    table["protocol"] = pd.Categorical(table["protocol"], ["source", "patient", "random_image"])
    table = table[table["regime"] == "fine_tune"]
    figure = plots.forest(table, "protocol", hue="protocol", style="dataset", goal="goal")
    axis = figure.axes[0]
    assert words(axis) == ["groups kept apart", "patients kept apart"], "in the order of the categories"
    points = [bar.lines[0] for bar in axis.containers]
    assert {(line.get_marker(), line.get_markerfacecolor() == "white") for line in points} == {("o", False), ("s", True)}
    assert legend(figure) == ["MSLD", "MSID"]
    assert sum(bool(np.allclose(line.get_xdata(), 0.9)) for line in axis.lines) == len(table)


def test_a_table_of_references_speaks_to_its_own_panel():
    lines = pd.DataFrame(
        {"label": ["untouched", "untouched", "chance"], "estimate": [0.7, 0.9, 0.5], "dataset": ["msld-v1", "msid", None]}
    ).assign(low=[0.6, 0.85, None], high=[0.8, 0.95, None])
    figure = plots.forest(estimates(), "regime", hue="protocol", row="dataset", reference=lines)
    verticals = [
        sorted(line.get_xdata()[0] for line in axis.lines if line.get_linestyle() in ("--", ":")) for axis in figure.axes
    ]
    assert verticals == [[0.5, 0.7], [0.5, 0.9]]
    assert [patch.get_x() for axis in figure.axes for patch in axis.patches] == [0.6, 0.85]
    assert legend(figure)[-2:] == ["untouched", "chance"]


def curve(**columns) -> pd.DataFrame:
    rows = [(way, x, x / 2 + k / 10) for k, way in enumerate(("with", "without")) for x in (3, 1, 2)]
    table = pd.DataFrame(rows, columns=["way", "x", "estimate"])
    return table.assign(low=table["estimate"] - 0.1, high=table["estimate"] + 0.2, **columns)


def test_bands_join_the_points_in_order_between_the_ends_of_their_band():
    figure = plots.bands(
        curve(dataset="msid"), "x", hue="way", col="dataset", ylabel="AUROC", percent="y", reference={"goal": 1.2}
    )
    (axis,) = figure.axes
    lines = [line for line in axis.lines if len(line.get_xdata()) == 3]
    assert [line.get_ydata().tolist() for line in lines] == [[0.5, 1.0, 1.5], [0.6, 1.1, 1.6]]
    assert len({line.get_color() for line in lines}) == len({line.get_linestyle() for line in lines}) == 2
    heights = [band.get_paths()[0].vertices[:, 1] for band in axis.collections]
    assert [(heights_of.min(), heights_of.max()) for heights_of in heights] == [(0.4, 1.7), (pytest.approx(0.5), 1.8)]
    assert legend(figure) == ["with", "without", "goal"] and axis.get_ylabel() == "AUROC"
    assert axis.yaxis.get_major_formatter()(0.25) == "25 %"


def test_bands_as_bars_lie_beside_each_other_and_need_no_line():
    figure = plots.bands(curve(), "x", hue="way", intervals="bars", join=False, diagonal=True)
    first, second = figure.axes[0].containers
    ends = np.array([segment[:, 1] for segment in first.lines[2][0].get_segments()])
    assert np.allclose(ends, [(0.4, 0.7), (0.9, 1.2), (1.4, 1.7)])
    assert (first.lines[0].get_xdata() < second.lines[0].get_xdata()).all()
    assert first.lines[0].get_marker() != second.lines[0].get_marker() and first.lines[0].get_linestyle() == "None"


def test_bands_draw_a_line_a_unit_and_titles_leave_out_what_the_axes_name():
    table = pd.concat([curve(fold=fold, kind=kind) for fold in (0, 1) for kind in ("roc", "pr")]).drop(columns=["low", "high"])
    names = {"roc": "sensitivity", "pr": "precision"}
    figure = plots.bands(table.assign(dataset="msid"), "x", hue="way", units="fold", row="dataset", col="kind", ylabel=names)
    assert [axis.get_ylabel() for axis in figure.axes] == ["sensitivity", "precision"]
    assert [axis.get_title("left") for axis in figure.axes] == ["MSID", ""]
    assert len(figure.axes[0].lines) == 4


def test_points_lie_where_the_table_says_or_in_strips_that_are_the_same_each_time():
    table = pd.DataFrame({"a": [0.0, 1, 2, None], "b": [3.0, 4, 5, 6], "label": ["Mpox", "Mpox", "Normal", "Normal"], "row": 1})
    figure = plots.points(table, "a", "b", hue="label", diagonal=True)
    assert [part.get_offsets().tolist() for part in figure.axes[0].collections] == [[[0, 3], [1, 4]], [[2, 5]]]
    shapes = [part.get_paths()[0].vertices.shape for part in figure.axes[0].collections]
    assert shapes[0] != shapes[1] and legend(figure) == ["Mpox", "Normal"]
    strips = [plots.points(table, "a", "label", hue="label", box=True, reference={"limit": 1.5}) for _ in range(2)]
    places = [np.vstack([part.get_offsets() for part in one.axes[0].collections]).tolist() for one in strips]
    assert places[0] == places[1] and [round(y) for _, y in places[0]] == [0, 0, 1]
    assert words(strips[0].axes[0]) == ["Mpox", "Normal"] and legend(strips[0]) == ["limit"]


def test_matrix_writes_each_cell_and_frames_the_flagged():
    table = pd.DataFrame(
        {"to": ["b", "a", "b"], "from": ["a", "a", "b"], "share": [0.1, 0.9, 1.0], "flagged": [False, True, False]}
    )
    figure = plots.matrix(table, "to", "from", "share", frame="flagged", limits=(0, 1), xlabel="predicted", ylabel="true")
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["0.10", "0.90", "1.00"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "true")
    (frame,) = axis.patches
    assert (int(frame.get_x()), int(frame.get_y())) == (1, 0), "columns come as they appear"


def test_bars_stack_hues_with_hatches_and_say_their_numbers():
    rows = [("msid", "file", 5), ("msid", "geometric", 491), ("msld-v1", "geometric", 46)]
    table = pd.DataFrame(rows, columns=["dataset", "method", "pairs"])
    figure = plots.bars(table, "pairs", "dataset", hue="method", xlabel="pairs")
    (axis,) = figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in axis.patches] == [(0, 5), (0, 0), (5, 491), (0, 46)]
    assert [text.get_text() for text in axis.texts] == ["5 file, 491 geometric", "46"]
    assert len({bar.get_hatch() for bar in axis.patches}) == 2 and legend(figure) == ["file", "geometric"]
    assert plots.bars(table, "pairs", "method", hue="method", col="dataset", log="x").legends == []


def test_sheet_lays_out_images_and_says_where_those_are_that_are_not_here(capsys):
    images = [np.zeros((4, 5, 3), np.uint8)] * 3
    figure = plots.sheet(images, ["one", "two", "three"], columns=2, overlays=[np.zeros((2, 2))] * 3, title="Sheet")
    assert [axis.get_title() for axis in figure.axes] == ["one", "two", "three", ""]
    assert [len(axis.images) for axis in figure.axes] == [2, 2, 2, 0]
    assert plots.sheet([], [], title="nobody") is None


@pytest.mark.parametrize(
    "draw",
    [
        lambda table: plots.forest(table, "regime"),
        lambda table: plots.bands(table, "estimate"),
        lambda table: plots.points(table, "estimate", "low"),
        lambda table: plots.matrix(table, "regime", "protocol", "estimate"),
        lambda table: plots.bars(table, "estimate", "regime"),
    ],
)
def test_a_table_that_says_nothing_is_refused(draw):
    with pytest.raises(MpoxError, match="no rows"):
        draw(estimates().iloc[:0])
    with pytest.raises(MpoxError, match="lacks estimate"):
        draw(estimates().drop(columns="estimate"))


def test_one_axes_takes_one_panel():
    _, axis = plt.subplots()
    assert plots.forest(estimates(), "regime", hue="protocol", ax=axis) is axis.figure
    assert axis.get_legend() is not None
    with pytest.raises(MpoxError, match="One axes holds one panel"):
        plots.forest(estimates(), "regime", row="dataset", ax=axis)


def test_what_has_a_meaning_has_one_look_and_no_two_values_of_a_figure_share_one():
    assert plots.looks(["patient", "probe", "source"])["patient"] == plots.looks(["source", "patient"])["patient"]
    found = plots.looks(["patient", "a", "source", "b"])
    assert (
        len(set(found.values()))
        == len({colour for colour, _ in found.values()})
        == len({mark for _, mark in found.values()})
        == 4
    )
    assert "not patients" in plots.dataset_title("phantom") and plots.dataset_title("msid") == "MSID"
