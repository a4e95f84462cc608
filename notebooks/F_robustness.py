# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # F. Corruptions, other views, and the grid

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# Blur, noise, poor light and the like, simulated in the test images only, change the AUROC for Mpox by
# {{ robust_msld_auroc_change }} on MSLD and {{ robust_msid_auroc_change }} on MSID, averaged over kinds and strengths; noise
# costs most. Cropped to three quarters of the side, the same image gets another class in a share of {{ view_msld_crop_75 }} and
# {{ view_msid_crop_75 }} of the images. Training with other skin tones changes the AUROC by {{ tone_copies_msld }} and
# {{ tone_copies_msid }}, no gain that could be shown, and a search for marks at fixed places flags no cell of the grid in either
# set.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# In these drawn images a mark was planted in the upper right corner of most images of Mpox. The search for marks at fixed places
# flags this cell of the grid: {{ cells_phantom_alone }}. Corruptions change the AUROC by {{ robust_phantom_auroc_change }} on
# average.
# :::

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 80
MIRROR = False
ALTERATIONS = [
    "covered", "covered_random", "inpainted", "mask_only", "background_only", "border_only", "tiny", "colour_only", "shuffled",
    "grey",
]  # fmt: skip
TRUE_ALTERATIONS = ["covered_true", "mask_only_true"]
BLANKED = []
CORRUPTIONS = ["blur", "jpeg", "exposure"]
STRENGTHS = [2, 5]
TRANSFORMS = ["mirrored", "crop_75"]
TONE_COPIES = 1
N_FOLDS = 3
SHORTCUT_REPEATS = 1
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import pandas as pd

import mpox
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.data import changes
from mpox.stats.metrics import difference
from mpox.studies import shortcuts, tones

check_parameters("F_robustness", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = {data.name: data for data in store.datasets(DATASETS, data_dir=DATA_DIR or None)}
model = mpox.ModelConfig(backbone=BACKBONE, image_size=IMAGE_SIZE, mirror=MIRROR, seed=SEED, device=DEVICE)
folds = {"n_folds": N_FOLDS, "n_repeats": SHORTCUT_REPEATS, "seed": SEED}
splits = {name: mpox.make_splits(data.manifest, "source", **folds) for name, data in datasets.items()}
untouched = {name: mpox.cross_validate(store, data, "source", model, **folds) for name, data in datasets.items()}

# %% mystnb={"image": {"alt": "Change in AUROC with 95 percent intervals for each kind of corruption and for all of them, one marker a data set; a line marks no change."}, "figure": {"name": "robust", "caption": "Change in AUROC for Mpox when the test images are corrupted, averaged over the strengths of each kind, with 95 % intervals from resampling groups. The models learnt from images as they are; groups are kept apart, in one repeat."}}
wanted = changes.corruption_recipes(CORRUPTIONS, STRENGTHS) + TRANSFORMS
corrupted, curves, means = {}, [], []
for name, data in datasets.items():
    corrupted[name] = shortcuts.only_tested(store, data, splits[name], model, wanted, protocol=shortcuts.CORRUPTED)
    by_strength, mean = shortcuts.robustness(corrupted[name], seed=SEED)
    curves.append(by_strength.assign(dataset=name))
    means.append(mean.assign(dataset=name))
curves, means = pd.concat(curves, ignore_index=True), pd.concat(means, ignore_index=True)
areas = means[means["metric"] == "auroc"]
for row in areas[areas["family"] == shortcuts.EVERY].itertuples():
    text = report.with_interval(row.change, row.change_low, row.change_high, digits=3)
    report.finding(f"robust_{report.short_name(row.dataset)}_auroc_change", text)
look = {"x": "change", "low": "change_low", "high": "change_high", "hue": "dataset", "reference": {"no change": 0}, "width": 4.6}
figure = plots.forest(areas, "family", xlabel="change in AUROC (Mpox against the rest)", **look)

# %% [markdown]
# **Question.** This appendix holds what [chapter 7](07_shortcuts.ipynb) leaves out: what bad images cost, whether the same image
# gets the same answer when it is shown otherwise, whether other skin tones in training help, whether a mark lies at a fixed
# place, and the alterations of chapter 7 in full. The model is that of chapter 7.
#
# ## Corruptions
#
# A patient's own photograph is blurred, dark or yellow. The test images are corrupted in kinds of
# [five strengths](#table-severity) {cite}`hendrycks2019`; nothing is trained anew. The mean over strengths is not the mean
# corruption error of that source, which divides by the errors of a reference network.

# %% tags=["nbval-check-output"]
severity = changes.severity_table().rename(columns={"family": "kind", "meaning": "what the number means"})
severity = severity.assign(mildest=severity["1"].map("{:g}".format), strongest=severity["5"].map("{:g}".format))
severity = severity[["kind", "what the number means", "mildest", "strongest"]]
report.show(severity, name="severity", caption="What each corruption does at the mildest and the strongest of five strengths.")

# %%
report.download(curves, "robustness_by_strength")
report.download(means, "robustness_means")

# %% tags=["guard"]
if report.is_study(datasets):
    for name, part in areas.groupby("dataset"):
        kinds = part.set_index("family")
        report.guard(f"{name}: corruptions lower the AUROC", kinds.loc[shortcuts.EVERY, "change_high"] < 0)
        report.guard(f"{name}: noise costs most", kinds["change"].idxmin() == "noise")
        report.guard(f"{name}: light costs least", set(kinds["change"].nlargest(2).index) == {"exposure", "white_balance"})

# %% [markdown] tags=["study"]
# Noise costs most on both sets, a change of light or of white balance least. The tables to download have each strength, and the
# accuracy, which falls also where only the level of the probabilities moves.

# %% [markdown]
# ## The same image, shown otherwise
#
# A rash is the same rash mirrored, upside down or cropped a little. A model that averages an image and its mirror image answers
# the mirrored one alike by construction; this one does not (`MIRROR`). [The table](#table-shown-otherwise) says how far its
# opinion hangs on the frame.

# %%
views = {name: shortcuts.consistency(table, TRANSFORMS, seed=SEED) for name, table in corrupted.items()}

# %%
views = pd.concat(views, names=["dataset"]).reset_index(0)
views["text"] = [report.with_interval(row.changed, row.changed_low, row.changed_high) for row in views.itertuples()]
for row in views.itertuples():
    report.finding(f"view_{report.short_name(row.dataset)}_{row.recipe}", row.text)
table = pd.DataFrame({
    "data set": views["dataset"].map(plots.dataset_title),
    "shown": views["recipe"].str.replace("_", " "),
    "class changes": views["text"],
    "probability moves by": [report.with_interval(row.moved, row.moved_low, row.moved_high) for row in views.itertuples()],
})  # fmt: skip
caption = "Share of images whose class changes, and mean move of the probability of Mpox, with 95 % intervals."
report.show(table, name="shown-otherwise", caption=caption)

# %% [markdown]
# ## Other skin tones as augmentation
#
# Every training image is also shown in another tone: the skin is moved to a typology angle drawn at random, lesions keep their
# contrast. Test images are as they are. If tone was a shortcut, such copies should make the model let go of it.

# %%
copies = [f"tone-{number}" for number in range(1, TONE_COPIES + 1)]
toned = {name: shortcuts.train_with_copies(store, data, splits[name], model, copies) for name, data in datasets.items()}
gained = {name: difference(toned[name], untouched[name], "auroc", "Mpox") for name in datasets}

# %%
rows = []
for name, data in datasets.items():
    ita = shortcuts.measured_facts(store, data).set_index("image_id")["ita"]
    dark = [table[table["image_id"].map(ita) <= 10] for table in (toned[name], untouched[name])]
    both = dark[0]["label"].eq("Mpox").nunique() == 2
    text = {"all images": report.with_interval(*gained[name], digits=3)}
    change = difference(*dark, "auroc", "Mpox") if both else [float("nan")] * 3
    text["brown and dark skin"] = report.with_interval(*change, digits=3)
    report.finding(f"tone_copies_{report.short_name(name)}", text["all images"])
    rows.append({"data set": plots.dataset_title(name), **text})
caption = "AUROC for Mpox with tone copies in training minus without, with 95 % intervals."
report.show(pd.DataFrame(rows), name="tone-copies", caption=caption)

# %% [markdown]
# ## Equal tones
#
# Does tone explain the score? Weights that give Mpox and the other classes the same tones take away what tone tells
# {cite}`hirano2003`; what is left cannot come from the strata. Within a stratum tones may still differ.

# %%
equal = {}
for name, data in datasets.items():
    try:
        equal[name] = tones.equal_tones(untouched[name], shortcuts.measured_facts(store, data), seed=SEED).set_index("how")
    except mpox.MpoxError as reason:
        print(f"{name}: {reason}")

# %%
rows = []
for name, how in equal.items():
    key, ends = f"tone_{report.short_name(name)}_reweighted", ["estimate", "low", "high"]
    words = {way: report.with_interval(*how.loc[way, ends], digits=3) for way in how.index}
    rows.append({"data set": plots.dataset_title(name), "images": how["images"].iloc[0], **words})
    report.finding(key, report.with_interval(*how.loc["re-weighted", ends]))
    report.finding(f"{key}_change", words["re-weighted minus as they are"])
caption = "AUROC for Mpox, with 95 % intervals: as it is, among pairs of one stratum, and with equal tones."
report.show(pd.DataFrame(rows), name="equal-tones", caption=caption)

# %% [markdown]
# ## The grid
#
# A watermark, a ruler or a logo lies at one place. The image is cut into a grid; for each cell, its colours alone (mean and
# deviation of L*, a*, b*) predict the class out of fold, and for the sets in `BLANKED` the cell is blanked in test images.
# Lesions lie anywhere, so every cell may tell a little: a frame marks a cell that tells more than the median of the others, by a
# bound that holds for all cells at once {cite}`romano2005`. A mark that moves about is not found by a grid, and a class that is
# framed otherwise can be flagged without a mark.

# %%
cells = []
for name, data in datasets.items():
    spec = {"data": data.hash, "version": shortcuts.CELLS_VERSION, "size": IMAGE_SIZE, "seed": SEED, "n_folds": N_FOLDS}
    alone = store.table(
        "shortcut-cells", spec, lambda data=data, name=name: shortcuts.cells_alone(data, splits[name], IMAGE_SIZE, seed=SEED)
    )
    cells.append(alone.assign(dataset=name, way="alone"))
    if name in BLANKED:
        blanked = shortcuts.only_tested(store, data, splits[name], model, changes.cell_recipes())
        cells.append(shortcuts.cells_blanked(blanked, seed=SEED).assign(dataset=name, way="blanked"))

# %% mystnb={"image": {"alt": "A grid of four by four cells with the AUROC of each cell's colours alone and, where cells were blanked, the AUROC lost by that; flagged cells are framed; one panel a data set."}, "figure": {"name": "cells", "caption": "What each cell of the image tells alone (AUROC) and, where cells were blanked, the AUROC lost by that. A frame: more than the other cells, by a 99 % bound for all cells at once."}}
cells = pd.concat(cells, ignore_index=True)
for (name, way), part in cells.groupby(["dataset", "way"], sort=False):
    flagged = [shortcuts.cell_name(row.row, row.column) for row in part[part["flagged"]].itertuples()]
    report.finding(f"cells_{report.short_name(name)}_{way}", ", ".join(flagged) or "none")
named = cells.assign(row=cells["row"] + 1, column=cells["column"] + 1)
look = {"frame": "flagged", "limits": None if BLANKED else (0.4, 1), "width": 3.6, "height": 3.2}
look |= {"col": "way"} if BLANKED else {}
figure = plots.matrix(named, "column", "row", "estimate", row="dataset", xlabel="column", ylabel="row", **look)

# %% tags=["guard"]
if report.is_study(datasets):
    report.guard("no cell of the grid is flagged", not cells["flagged"].any())
    report.guard("tone copies: no gain is shown", all(low <= 0 for _, low, _ in gained.values()))
    lost = [how.loc["re-weighted minus as they are", "high"] for how in equal.values()]
    report.guard("equal tones lower the AUROC on both sets", len(lost) == 2 and max(lost) < 0)
    report.guard("most of it is left with equal tones", min(how.loc["re-weighted", "low"] for how in equal.values()) > 0.6)

# %% [markdown]
# That the search finds a planted mark, and nothing where none was planted, is checked on phantoms with and without a mark by the
# tests of the package. *No cell is flagged* means for few groups: no mark as plain as that one.
#
# ## The alterations in full

# %% tags=["nbval-check-output"]
meanings = {"alteration": ALTERATIONS, "what it does": [changes.ALTERATIONS[name].meaning for name in ALTERATIONS]}
report.show(pd.DataFrame(meanings), name="alterations", caption="The alterations of chapter 7.")

# %% mystnb={"image": {"alt": "AUROC with 95 percent intervals under each alteration, trained and tested or tested only, with the AUROC on whole images as a band and chance as a dotted line, one panel a data set."}, "figure": {"name": "survival-all", "caption": "All alterations in both ways: AUROC for Mpox with 95 % intervals from resampling groups. Band: whole images."}}
left = []
for name, data in datasets.items():
    recipes = ALTERATIONS + (TRUE_ALTERATIONS if shortcuts.has_true_masks(data) else [])
    trained = pd.concat([shortcuts.train_and_test(store, data, splits[name], model, recipe) for recipe in recipes])
    ways = {"trained and tested": trained, "tested only": shortcuts.only_tested(store, data, splits[name], model, recipes)}
    left += [shortcuts.survival(table, untouched[name]).assign(dataset=name, way=way) for way, table in ways.items()]
left = pd.concat(left, ignore_index=True)
whole = left[left["recipe"] == changes.UNTOUCHED].drop_duplicates("dataset").assign(label="whole images, 95 %")
lines = pd.concat([whole, pd.DataFrame([{"label": "chance", "estimate": 0.5}])])
taken = left[left["recipe"] != changes.UNTOUCHED]
look = {"hue": "way", "row": "dataset", "reference": lines, "width": 4.6}
figure = plots.forest(taken, "recipe", xlabel="AUROC (Mpox against the rest)", **look)

# %%
report.download(left, "alterations")

# %% [markdown]
# The file also has the share of the AUROC above 0.5 that survives, with its interval.
#
# ## The lesion map
#
# The map's constants were set on one phantom; [the check](#table-lesion-map) is on another, where the true masks are known. On
# the data sets of this page only [what it covers](#table-covered) can be counted. Healthy skin has no lesion: what is covered
# there is moles, lips, hair, folds and shadows.

# %%
spec = {"phantom": shortcuts.CHECKED_ON.key(), "version": changes.LESION_MAP_VERSION, "size": 160}
mapped = store.table("lesion-map-check", spec, lambda: shortcuts.phantom_lesions(shortcuts.CHECKED_ON, 160))
by_class, by_type = (shortcuts.map_accuracy(mapped, by).set_index(by) for by in ("label", "fitzpatrick"))

# %% tags=["nbval-check-output"]
by_type = by_type.drop(index="all").rename(index="skin type {}".format)
found = pd.concat([by_class, by_type]).rename_axis("images of").reset_index()
columns = {"recall": "lesion pixels covered", "lesions found": "lesions found", "healthy covered": "other pixels covered"}
report.show(
    found[["images of", "images", *columns]].rename(columns=columns), digits=2, name="lesion-map",
    caption="The lesion map against true masks of a second phantom, as shares. Found: covered by half at least.",
)  # fmt: skip
report.finding("lesion_map_recall", f"{by_class.loc['all', 'recall']:.0%}")
report.finding("lesion_map_healthy", f"{by_class.loc['all', 'healthy covered']:.0%}")
report.finding("lesion_map_darkest", f"{by_type['recall'].iloc[-1]:.0%}")
rows = []
for name, data in datasets.items():
    spec = {"data": data.hash, "version": changes.LESION_MAP_VERSION, "size": IMAGE_SIZE}
    lesions = store.table("lesion-map", spec, lambda data=data: shortcuts.lesion_table(data, IMAGE_SIZE))
    means = lesions.groupby("label")[["covered", "boxed", "boxes"]].mean().reset_index()
    rows.append(means.assign(boxes=means["boxes"].round().astype(int)).assign(**{"data set": plots.dataset_title(name)}))
covered = pd.concat(rows, ignore_index=True)[["data set", "label", "covered", "boxed", "boxes"]]
covered = covered.rename(columns={"label": "class", "covered": "map covers", "boxed": "boxes cover", "boxes": "number of boxes"})
report.show(covered, digits=2, name="covered", caption="What the map and its boxes cover, as mean shares of an image.")

# %% [markdown]
# ## What could be wrong
#
# - Corruptions are simulated one at a time, at the network's own input size, after the image was reduced. Real cameras do worse,
#   and several things at once.
# - Strengths of two kinds are comparable only in that their makers found them so.
# - A class that changes need not change for the worse.
# - Moving the tone of an image keeps redness, which real skin of that tone would not show.
# - One repeat of the folds is used.

# %% tags=["hide-input"]
report.provenance("F_robustness", store, list(datasets.values()), device=DEVICE)
