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
# # Shortcuts
#
# **Question.** Does the network look at the disease? Take the disease away and see what is left; take the rest away and see what
# is lost; show it other light.
#
# **After this chapter you can**
#
# - show how a model can be right for the wrong reason, and why covering a lesion also draws it;
# - say how far file size or skin tone alone would get you, and what the best of many such facts reaches by chance;
# - find a mark that lies in one place of the pictures, and say what such a search cannot find;
# - measure what blur, light and another skin tone do to a model that was tested on clean pictures only.
#
# **You need** [chapters 1](01_data_exploration.ipynb) and [3](03_cross_validation.ipynb).

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 80
MIRROR = False
ALTERATIONS = ["covered", "covered_random", "inpainted", "mask_only", "background_only", "border_only", "tiny", "colour_only", "shuffled", "grey"]
TRUE_ALTERATIONS = ["covered_true", "mask_only_true"]
BLANKED = []
CORRUPTIONS = ["blur", "jpeg", "exposure"]
STRENGTHS = [2, 5]
TRANSFORMS = ["mirrored", "crop_75"]
TONE_COPIES = 1
EXTERNAL = []
N_FOLDS = 3
SHORTCUT_REPEATS = 1
LABEL_DEALS = 100
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import matplotlib.pyplot as plt
import pandas as pd

from mpox import ModelConfig, cross_validate, open_store
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.data.changes import UNTOUCHED, cell_recipes, corruption_recipes
from mpox.protocols.copies import has_true_masks
from mpox.protocols.splits import make_splits
from mpox.stats.metrics import difference
from mpox.studies.shortcuts import CORRUPTED, only_tested, survival, train_and_test, train_with_copies

check_parameters("07_shortcuts", globals())
plots.use_style()
store = open_store(RUN_STORE)
loaded = store.datasets(DATASETS, data_dir=DATA_DIR or None)
datasets = {data.name: data for data in loaded}
model = ModelConfig(backbone=BACKBONE, image_size=IMAGE_SIZE, mirror=MIRROR, seed=SEED, device=DEVICE)
folds = {"n_folds": N_FOLDS, "n_repeats": SHORTCUT_REPEATS, "seed": SEED}

# %%
at_the_top = report.key_findings()

# %% [markdown]
# ## Two ways to alter a picture
#
# The model is the linear probe of chapter 3 under the honest protocol `source`, with one difference: it looks at each picture once, and
# not at its mirror image too (`MIRROR`), so that left stays left. Its untouched figures differ a little from chapter 3's for that, and for
# the number of repeats. Each alteration is used in two ways. *Trained and
# tested*: a model learns from altered pictures and is tested on altered ones; it shows what the altered pictures still tell.
# *Tested only*: the model that learnt from untouched pictures is shown altered ones; it shows what that model leans on, mixed with
# how strange the altered picture is to it.

# %%
splits = {name: make_splits(data.manifest, "source", **folds) for name, data in datasets.items()}
untouched = {name: cross_validate(store, data, "source", model, **folds) for name, data in datasets.items()}
recipes = {name: ALTERATIONS + (TRUE_ALTERATIONS if has_true_masks(data) else []) for name, data in datasets.items()}
blanks = {name: cell_recipes() if name in BLANKED else [] for name in datasets}
shown, trained = {}, {}
for name, data in datasets.items():
    shown[name] = only_tested(store, data, splits[name], model, recipes[name] + blanks[name])
    parts = [train_and_test(store, data, splits[name], model, recipe) for recipe in recipes[name]]
    trained[name] = pd.concat(parts, ignore_index=True)

# %%
left = []
for name in datasets:
    tested = shown[name][~shown[name]["recipe"].str.startswith("cell-")]
    for way, table in (("trained and tested", trained[name]), ("tested only", tested)):
        left.append(survival(table, untouched[name]).assign(dataset=name, way=way))
left = pd.concat(left, ignore_index=True)
area = left.set_index(["dataset", "way", "recipe"])


def words(name, way, recipe):
    """An AUROC of the table with its interval."""
    return report.with_interval(*area.loc[(name, way, recipe), ["estimate", "low", "high"]])


# %% [markdown]
# ## Where the lesions are
#
# To cover lesions one must know where they are. Nobody has drawn them on these sets, so a program guesses: redder than the main
# skin, uneven in redness, uneven in lightness, all in CIELAB, without any learning. Its constants were set on one phantom; the
# table is from another one, where the true masks are known ([by class](#table-map-by-class), [by skin type](#table-map-by-skin)). The map
# leans to covering too much, because what stays uncovered leaks.
#
# :::{margin} Trained on nothing
# A learnt lesion detector would itself have to be believed, and would have been taught on pictures like these. Three sums in CIELAB can be
# read in a minute, and their mistakes counted on a phantom that they have not seen.
# :::

# %%
from mpox.data import changes
from mpox.data.phantom import PhantomSpec
from mpox.studies.shortcuts import lesion_table, map_accuracy, phantom_lesions

check = PhantomSpec(seed=changes.SET_ON + 1, n_patients=36, size=160, copies=0, label_conflicts=0, corner_mark=False)
mapped = store.table(
    "lesion-map-check", {"phantom": check.key(), "version": changes.LESION_MAP_VERSION, "size": 160}, lambda: phantom_lesions(check, 160)
)
report.show(map_accuracy(mapped, "label"), digits=2, name="map-by-class", caption="The lesion map against true masks, by class.")
report.show(
    map_accuracy(mapped, "fitzpatrick").rename(columns={"fitzpatrick": "skin type"}),
    digits=2,
    name="map-by-skin",
    caption="The lesion map against true masks, by planted skin type.",
)

# %%
accuracy = map_accuracy(mapped, "label").set_index("label").loc["all"]
by_type = map_accuracy(mapped, "fitzpatrick").set_index("fitzpatrick").drop(index="all")["recall"]
report.prose(
    f"On the other phantom the map covers {accuracy['recall']:.0%} of the lesion pixels, {accuracy['lesions found']:.0%} of the "
    f"lesions by half at least, and {accuracy['healthy covered']:.0%} of the rest. It is worst on skin type {by_type.idxmin()}, where "
    f"it covers {by_type.min():.0%} of the lesion pixels: redness shows less there."
)
report.finding("lesion_map_recall", f"{accuracy['recall']:.0%}")

# %% [markdown]
# On the data sets of this page the truth is not known to the map, and only what it covers can be counted ([by class](#table-covered)). A class Normal has no
# lesion: what is covered there is moles, lips, hair, wrinkles and shadows.

# %%
from mpox.stats.metrics import auroc_of_number

maps, rows = {}, []
for name, data in datasets.items():
    spec = {"data": data.hash, "version": changes.LESION_MAP_VERSION, "size": IMAGE_SIZE}
    maps[name] = store.table("lesion-map", spec, lambda data=data: lesion_table(data, IMAGE_SIZE))
    means = maps[name].groupby("label")[["covered", "boxed", "boxes"]].mean()
    rows.append(means.reset_index().assign(**{"data set": plots.dataset_title(name)}))
    for column, meaning in (("covered", "the share of the picture that the map covers"), ("boxes", "the number of its boxes")):
        groups = maps[name]["image_id"].map(data.groups).to_numpy(str)
        alone = auroc_of_number(maps[name][column].to_numpy(float), (maps[name]["label"] == data.positive).to_numpy(), groups)
        report.prose(f"{plots.dataset_title(name)}: {meaning}, alone, has an AUROC for Mpox of {report.with_interval(*alone)}.")
table = pd.concat(rows, ignore_index=True)
report.show(
    table[["data set", "label", "covered", "boxed", "boxes"]].rename(columns={"label": "class"}),
    digits=2,
    name="covered",
    caption="What the map covers, and what its boxes cover, as shares of a picture.",
)

# %% [markdown]
# ## Taking things away
#
# Vega et al. {cite}`vega2023` covered the lesions of Mpox pictures with boxes, and a network still told the classes apart. Here
# are their boxes and some more ways to take things away: [in words](#table-alterations), [as pictures](#fig-altered-forms) where there are
# any, and [what is left of the AUROC](#fig-survival) with each.

# %%
from mpox.data.changes import ALTERATIONS as MEANINGS

meanings = pd.DataFrame([(name, MEANINGS[name].meaning) for name in ALTERATIONS], columns=["alteration", "what it does"])
report.show(meanings, name="alterations", caption="The alterations of this chapter.")

# %% mystnb={"image": {"alt": "One picture of Mpox in every altered form, one sheet a data set where its pictures are available."}, "figure": {"name": "altered-forms", "caption": "One picture of Mpox in every altered form. Where the true lesion mask is known, the last forms use it."}}
from mpox.data.pixels import load_pixels
from mpox.protocols.copies import with_copies


def recipe_words(recipe):
    return recipe.replace("_true", ", true mask").replace("_", " ")


for name, data in datasets.items():
    if not data.has_pictures:
        plots.sheet([], [], data=data)
        continue
    copies = with_copies(data, recipes[name]).manifest
    first = data.manifest.loc[data.manifest["label"] == data.positive, "image_id"].iloc[0]
    sheet = copies[copies["original_id"] == first].set_index("recipe").loc[[UNTOUCHED, *recipes[name]]].reset_index()
    pixels = load_pixels(sheet, 224)
    plots.sheet(pixels, sheet["recipe"].map(recipe_words), columns=4, title=plots.dataset_title(name))
plt.show()

# %% mystnb={"image": {"alt": "AUROC with 95 percent intervals under each alteration, trained and tested or tested only, with the untouched AUROC as a band and chance as a dotted line, one panel a data set."}, "figure": {"name": "survival", "caption": "What is left of the AUROC for Mpox when something is taken away, with 95 % intervals from resampling groups. Band: untouched pictures."}}
taken = left[left["recipe"] != UNTOUCHED].assign(what=lambda table: table["recipe"].map(recipe_words))
whole = left[left["recipe"] == UNTOUCHED].drop_duplicates("dataset").assign(label="untouched, 95 %")
lines = pd.concat([whole, pd.DataFrame([{"label": "chance", "estimate": 0.5}])])
plots.forest(taken, "what", hue="way", row="dataset", reference=lines, xlabel="AUROC (Mpox against the rest)")
plt.show()

# %%
cells = left[left["recipe"] != UNTOUCHED].assign(
    AUROC=[report.with_interval(row.estimate, row.low, row.high) for row in left[left["recipe"] != UNTOUCHED].itertuples()],
    survives=[
        report.with_interval(row.survives, row.survives_low, row.survives_high)
        for row in left[left["recipe"] != UNTOUCHED].itertuples()
    ],
)
for name, part in cells.groupby("dataset", sort=False):
    caption = f"{plots.dataset_title(name)}: AUROC, and the share of it above chance that survives."
    wide = part.pivot(index="recipe", columns="way", values=["AUROC", "survives"]).loc[recipes[name]].reset_index()
    report.show(wide, name="survival", caption=caption)

# %% [markdown]
# ### What boxes tell
#
# A box hides a lesion and says: here was one, this large, this many. If the map itself, white on black, tells the class, then what
# survives under boxes ([the numbers](#table-survival)) need not be a shortcut of the background; it may be the rash, drawn by its cover.
# Two comparisons help. Boxes
# at random places cost what boxes cost as such. And what `covered` tells *more* than the map alone cannot be the boxes.

# %%
for name in datasets:
    part = {recipe: table for recipe, table in trained[name].groupby("recipe")}
    pairs = [("covered", "mask_only"), ("covered", "covered_random"), ("covered_true", "mask_only_true")]
    for first, second in pairs:
        if first in part and second in part:
            change = difference(part[first], part[second], "auroc", "Mpox")
            report.prose(
                f"{plots.dataset_title(name)}, trained and tested: AUROC of `{first}` minus that of `{second}`: "
                f"{report.with_interval(*change, digits=3)}."
            )

# %% [markdown]
# An AUROC well above 0.5 without lesions says that the pictures tell the class by other means: the background, the body site, the
# photographer, the web page. One at 0.5 says only that this model finds nothing there. On the phantom, lesions and a planted corner
# mark carry the class and nothing else does; the package's tests draw it with and without that mark, and see that covering the
# true lesions takes the AUROC to chance without it, and not with it.
#
# ## Facts that are not the disease
#
# How far would one get with a single number that has nothing to do with lesions? Each fact is asked out-of-fold, in the same honest
# folds: the rate of Mpox in each of eight bins of the training pictures is the score of a test picture that falls into it. The
# dashed line of [the figure](#fig-facts) is what the *best* of so many facts reaches by chance: labels are assigned anew to whole groups many
# times, and 95 % of the best AUROCs lie below it {cite}`westfall1993`.

# %%
from mpox.audit import quality
from mpox.data import skintone
from mpox.studies.shortcuts import FACTS, fact_table, single_facts

tones, told = {}, []
for name, data in datasets.items():
    measured = store.table(
        "image-quality", {"data": data.hash, "version": quality.QUALITY_VERSION}, lambda data=data: quality.image_quality(data.manifest)
    )
    tones[name] = store.table(
        "skin-tone", {"data": data.hash, "version": skintone.SKIN_TONE_VERSION}, lambda data=data: quality.skin_tone(data.manifest)
    )
    facts = fact_table(data.manifest, measured, tones[name])
    kinds = {"all classes": facts}
    if (facts["label"] == "Normal").any() and facts["label"].nunique() > 2:
        kinds["rashes only"] = facts[facts["label"] != "Normal"].reset_index(drop=True)
    for kind, part in kinds.items():
        found = single_facts(part, data.groups, splits[name], positive=data.positive, n_deals=LABEL_DEALS, seed=SEED)
        told.append(found.assign(dataset=name, tested=kind, words=found["fact"].map(FACTS).fillna(found["fact"])))
told = pd.concat(told, ignore_index=True)

# %% mystnb={"image": {"alt": "Out-of-fold AUROC of single facts such as file size, lightness and skin tone with 95 percent intervals, with chance and the level that the best fact reaches by chance, one panel a data set."}, "figure": {"name": "facts", "caption": "How well single facts tell Mpox from the rest, out-of-fold, with 95 % intervals from resampling groups. Best of them by chance: what the best of these facts reaches in 95 % of deals of meaningless labels."}}
best = told.drop_duplicates(["dataset", "tested"])
lines = pd.concat([pd.DataFrame([{"label": "chance", "estimate": 0.5}]), pd.DataFrame({
    "label": "best of them by chance, " + best["tested"], "estimate": best["chance"], "dataset": best["dataset"]
})])  # fmt: skip
ordered = pd.concat([table.sort_values("estimate", ascending=False) for _, table in told.groupby("dataset", sort=False)])
alone = "AUROC of the fact alone (Mpox against the rest)"
plots.forest(ordered, "words", hue="tested", row="dataset", reference=lines, xlabel=alone)
plt.show()

# %%
for (name, kind), part in told.groupby(["dataset", "tested"], sort=False):
    single = part[part["fact"].isin(FACTS)].set_index("fact")
    best, tone, trees = single.loc[single["estimate"].idxmax()], single.loc["ita"], part.iloc[-1]
    report.prose(
        f"{plots.dataset_title(name)}, {kind}: the best single fact is {best['words']}, with an AUROC of "
        f"{report.with_interval(best['estimate'], best['low'], best['high'])} (p {best['p']:.3f}, corrected for the number of facts); "
        + ("" if best.name == "ita" else f"skin tone alone reaches {report.with_interval(tone['estimate'], tone['low'], tone['high'])}, and ")
        + f"all facts together, in boosted trees, reach {report.with_interval(trees['estimate'], trees['low'], trees['high'])}."
    )
    key = f"facts_{report.short_name(name)}_{kind.split()[0]}"
    report.finding(key, report.with_interval(trees["estimate"], trees["low"], trees["high"]))

# %% [markdown]
# ## Where in the picture
#
# A watermark, a ruler or a hospital's logo lies in one place. The picture is cut into a grid, and each cell is asked two questions:
# what do its colours tell *alone* (mean and deviation of L*, a*, b*, out-of-fold), and, for the sets that `BLANKED` names, what does the
# model lose when the cell is *blanked* in the test pictures ([the grid](#fig-cells))? Lesions lie anywhere, so that every cell may tell a little. A frame marks a cell that tells, or
# costs, more than the median of the others, by a bound that holds for all cells at once {cite}`romano2005`.

# %%
from mpox.studies.shortcuts import CELLS_VERSION, cell_name, cells_alone, cells_blanked

grid = []
for name, data in datasets.items():
    spec = {"data": data.hash, "version": CELLS_VERSION, "size": IMAGE_SIZE, "seed": SEED, "n_folds": N_FOLDS}
    alone = store.table(
        "shortcut-cells", spec, lambda data=data, name=name: cells_alone(data, splits[name], IMAGE_SIZE, seed=SEED)
    )
    grid.append(alone.assign(dataset=name, way="alone"))
    if blanks[name]:
        grid.append(cells_blanked(shown[name], positive=data.positive, seed=SEED).assign(dataset=name, way="blanked"))
grid = pd.concat(grid, ignore_index=True)

# %% mystnb={"image": {"alt": "A grid of four by four cells with the AUROC of each cell's colours alone and, where cells were blanked, the AUROC lost by that, flagged cells framed, one row a data set."}, "figure": {"name": "cells", "caption": "What each cell of the picture tells alone and, where cells were blanked, what that costs. A frame: more than the other cells, by a 99 % bound for all cells at once."}}
titles = {"alone": "AUROC of the cell alone", "blanked": "AUROC lost when it is blanked"}
named = grid.replace({"way": titles}).assign(row=grid["row"] + 1, column=grid["column"] + 1)
look = {"frame": "flagged", "limits": None if any(blanks.values()) else (0.4, 1), "width": 3.6, "height": 3.6}
plots.matrix(named, "column", "row", "estimate", row="dataset", col="way", xlabel="column", ylabel="row", **look)
plt.show()

# %%
for (name, way), part in grid.groupby(["dataset", "way"], sort=False):
    flagged = part[part["flagged"]]
    named = ", ".join(cell_name(row.row, row.column) for row in flagged.itertuples())
    top = part.loc[part["more"].idxmax()]
    report.prose(
        f"{plots.dataset_title(name)}, cells {way}: "
        + (f"**flagged: {named}**." if named else "no cell is flagged.")
        + f" The largest excess over the other cells is {top['more']:.2f} (at least {top['at_least']:.2f}), in "
        f"{cell_name(int(top['row']), int(top['column']))}."
    )
    report.finding(f"cells_{report.short_name(name)}_{way}", named or "none")

# %% [markdown]
# ## Skin tone
#
# Chapter 1 showed that skin tone differs between the classes of some sets. A model can then score by tone. Three looks at the same
# predictions ([side by side](#fig-tone-strata)): within strata of tone; over pairs of pictures of one stratum only; and with each picture
# weighted so that Mpox and the others have the same tones {cite}`hirano2003`. Weighting has a price: the effective number of pictures {cite}`kish1965` shrinks.
# An AUROC within a stratum can be high while the threshold is wrong for it, so [the table](#table-tone-strata) has sensitivity and
# specificity first. That Mpox might be missed on light skin is a question that these tables raised, so that they cannot answer it too. Where there is another collection, the model
# is asked again on predictions that had no part in that, though their images had: trained on all of one collection, tested on what the other does not share with it.

# %%
from mpox._core import TooFewImages
from mpox.runs.cross_validation import validate_externally
from mpox.studies.external import external_pair, unshared_part
from mpox.studies.tones import between_strata, equal_tones, within_strata

LIGHT, DARK = "very light and light", "brown and dark"
within, equal, apart = [], [], {}
for name, data in datasets.items():
    within.append(within_strata(untouched[name], tones[name], positive=data.positive, seed=SEED).assign(dataset=name))
    try:
        equal.append(equal_tones(untouched[name], tones[name], positive=data.positive, seed=SEED).assign(dataset=name))
    except TooFewImages as reason:
        report.prose(f"{plots.dataset_title(name)}: {reason}")
    apart[name] = between_strata(untouched[name], tones[name], LIGHT, DARK, positive=data.positive, seed=SEED).set_index("metric")
within = pd.concat(within, ignore_index=True)
equal = pd.concat(equal, ignore_index=True) if equal else pd.DataFrame(columns=["how", "dataset"], dtype=str)

# %% mystnb={"image": {"alt": "AUROC with 95 percent intervals in three strata of skin tone, and for all pictures as they are, over pairs of one stratum and re-weighted, one panel a data set."}, "figure": {"name": "tone-strata", "caption": "AUROC for Mpox by skin tone (in brackets: pictures of Mpox, and all), and over all pictures with an angle: as they are, over pairs of one stratum, and re-weighted to equal tones."}}
strata = within[within["metric"] == "auroc"]
names = [f"{row.stratum} ({row.positives} of {row.images})" for row in strata.itertuples()]
whole = equal[~equal["how"].str.contains("minus")]
lines = pd.concat([strata.assign(line=names, of="one stratum"), whole.assign(line="all: " + whole["how"], of="all strata")])
look = {"missing": "why", "reference": {"chance": 0.5}, "xlabel": "AUROC (Mpox against the rest)"}
plots.forest(lines.assign(why="too few groups of a side"), "line", hue="of", row="dataset", **look)
plt.show()

# %%
shown_strata = within.assign(
    text=[report.with_interval(row.estimate, row.low, row.high) for row in within.itertuples()],
    pictures=[f"{row.images} ({row.positives} of Mpox)" for row in within.itertuples()],
    dataset=within["dataset"].map(plots.dataset_title),
).pivot(index=["dataset", "stratum", "pictures"], columns="metric", values="text")
report.show(
    shown_strata[["sensitivity", "specificity", "auroc"]].rename_axis(columns=None).reset_index(),
    name="tone-strata",
    caption="The model within strata of skin tone: sensitivity and specificity for Mpox as the class with the highest probability, and AUROC.",
)
by_tone = within.set_index(["dataset", "metric", "stratum"]).sort_index()


def on_skin(name, metric, stratum):
    """A metric on one stratum of skin tone with its interval, or that it has too few people."""
    row = by_tone.loc[(name, metric, stratum)]
    return "not known (too few people)" if pd.isna(row["estimate"]) else report.with_interval(row["estimate"], row["low"], row["high"])


def lighter_minus_darker(name, metric):
    """The difference between light and dark skin with its interval, or that it is not known."""
    row = apart[name].loc[metric]
    return "not known" if pd.isna(row["estimate"]) else report.with_interval(*row[["estimate", "low", "high"]])


for name in datasets:
    report.prose(
        f"{plots.dataset_title(name)}: sensitivity for Mpox is {on_skin(name, 'sensitivity', LIGHT)} on {LIGHT} skin and "
        f"{on_skin(name, 'sensitivity', DARK)} on {DARK} skin, a difference of {lighter_minus_darker(name, 'sensitivity')}; specificity is "
        f"{on_skin(name, 'specificity', LIGHT)} and {on_skin(name, 'specificity', DARK)}, a difference of "
        f"{lighter_minus_darker(name, 'specificity')}."
    )
    key = report.short_name(name)
    for metric in ("sensitivity", "specificity"):
        report.finding(f"tone_{key}_{metric}_light", on_skin(name, metric, LIGHT))
        report.finding(f"tone_{key}_{metric}_dark", on_skin(name, metric, DARK))
        report.finding(f"tone_{key}_{metric}_difference", lighter_minus_darker(name, metric))
checked = {}
for train, test in (pair for pair in EXTERNAL if pair[1] in tones):
    joint, train_name, test_name = external_pair(store, train, test, data_dir=DATA_DIR or None)
    fresh = unshared_part(validate_externally(store, joint, train_name, test_name, model.with_(mirror=True), seed=SEED))
    there = tones[test_name].assign(image_id=f"{test_name}/" + tones[test_name]["image_id"])
    by_skin = within_strata(fresh, there, seed=SEED).query("metric == 'sensitivity'").set_index("stratum")
    found = {"light": by_skin.loc[LIGHT], "dark": by_skin.loc[DARK]}
    found["difference"] = between_strata(fresh, there, LIGHT, DARK, seed=SEED).set_index("metric").loc["sensitivity"]
    texts = {part: report.with_interval(*row[["estimate", "low", "high"]]) for part, row in found.items()}
    report.prose(
        f"Trained on {plots.dataset_title(train_name)}, asked about what {plots.dataset_title(test_name)} does not share with it: sensitivity is {texts['light']} on "
        f"{LIGHT} skin ({found['light']['positives']} images of Mpox) and {texts['dark']} on {DARK} skin ({found['dark']['positives']}), a difference of {texts['difference']}."
    )
    checked[train_name] = f"; trained on all of this and asked about what {plots.dataset_title(test_name)} does not share with it, the difference is {texts['difference']}"
    for part, text in texts.items():
        report.finding(f"tone_{report.short_name(train_name)}_{report.short_name(test_name)}_sensitivity_{part}", text)
for name, part in equal.groupby("dataset", sort=False):
    how = part.set_index("how")
    plain, other, change = (how.loc[key] for key in ("as they are", "re-weighted", "re-weighted minus as they are"))
    report.prose(
        f"{plots.dataset_title(name)}: over {plain['images']} pictures in strata that hold both sides, the AUROC is "
        f"{report.with_interval(plain['estimate'], plain['low'], plain['high'])} as they are and "
        f"{report.with_interval(other['estimate'], other['low'], other['high'])} with equal tones, a difference of "
        f"{report.with_interval(change['estimate'], change['low'], change['high'], digits=3)}. The stratum alone has an AUROC of "
        f"{plain['tone_alone']:.2f} before and {other['tone_alone']:.2f} after; the weights leave as much information as "
        f"{other['effective_positives']:.0f} pictures of Mpox and {other['effective_others']:.0f} others would without weights."
    )
    key = f"tone_{report.short_name(name)}_reweighted"
    report.finding(key, report.with_interval(other["estimate"], other["low"], other["high"]))

# %% [markdown]
# ## Robustness
#
# A patient's own photograph is blurred, dark or yellow. The model learnt from the pictures of the set; here it is tested on
# corrupted copies of the test pictures, in families of [five strengths](#table-severity) {cite}`hendrycks2019`. Nothing is trained anew.
# The [AUROC](#fig-robust-auroc) falls where the order of the pictures suffers, the [accuracy](#fig-robust-accuracy) also where only the
# level of the probabilities moves.

# %% tags=["nbval-check-output"]
from mpox.data.changes import severity_table

report.show(severity_table(), digits=2, name="severity", caption="What each corruption does at its strengths.")

# %%
from mpox.studies.shortcuts import EVERY, consistency, robustness

corrupted, curves, means = {}, [], []
for name, data in datasets.items():
    wanted = corruption_recipes(CORRUPTIONS, STRENGTHS) + TRANSFORMS
    corrupted[name] = only_tested(store, data, splits[name], model, wanted, protocol=CORRUPTED)
    by_strength, mean = robustness(corrupted[name], positive=data.positive, seed=SEED)
    curves.append(by_strength.assign(dataset=name))
    means.append(mean.assign(dataset=name))
curves, means = pd.concat(curves, ignore_index=True), pd.concat(means, ignore_index=True)

# %% mystnb={"image": {"alt": "AUROC over corruption strength from 0 to 5 with 95 percent bands, a panel a family, a line a data set."}, "figure": {"name": "robust-auroc", "caption": "AUROC for Mpox over the strength of each corruption, with 95 % bands. Strength 0: untouched."}}
look = {"hue": "dataset", "col": "family", "wrap": 4, "xlabel": "strength", "width": 1.85, "height": 2.0}
plots.bands(curves[curves["metric"] == "auroc"], "strength", reference={"chance": 0.5}, ylabel="AUROC", **look)
plt.show()

# %% mystnb={"image": {"alt": "Accuracy over corruption strength from 0 to 5 with 95 percent bands, a panel a family, a line a data set."}, "figure": {"name": "robust-accuracy", "caption": "Accuracy over the strength of each corruption, with 95 % bands."}}
plots.bands(curves[curves["metric"] == "accuracy"], "strength", ylabel="accuracy", **look)
plt.show()

# %% [markdown]
# [The mean](#table-robust) is over the strengths of a family, and then over the families with equal weight; the change is against the
# untouched pictures. It is not the mean corruption error of {cite}`hendrycks2019`, which divides by the errors of a reference network.

# %%
text = [report.with_interval(row.estimate, row.low, row.high) for row in means.itertuples()]
changed = [report.with_interval(row.change, row.change_low, row.change_high) for row in means.itertuples()]
cells = means.assign(mean=text, change=changed)
report.show(cells[["dataset", "metric", "family", "mean", "change"]], name="robust", caption="Mean over the strengths of each corruption, and the change.")
for name, part in means[(means["family"] == EVERY) & (means["metric"] == "auroc")].groupby("dataset", sort=False):
    row = part.iloc[0]
    worst = means[(means["dataset"] == name) & (means["metric"] == "auroc") & (means["family"] != EVERY)]
    worst = worst.loc[worst["change"].idxmin()]
    report.prose(
        f"{plots.dataset_title(name)}: over all families and strengths the AUROC changes by "
        f"{report.with_interval(row['change'], row['change_low'], row['change_high'], digits=3)}; worst is "
        f"{worst['family'].replace('_', ' ')}, by {report.with_interval(worst['change'], worst['change_low'], worst['change_high'])}."
    )
    key = f"robust_{report.short_name(name)}_auroc_change"
    report.finding(key, report.with_interval(row["change"], row["change_low"], row["change_high"], digits=3))

# %% [markdown]
# ### The same picture, shown otherwise
#
# A rash is the same rash mirrored, upside down or cropped a little. A model that averages a picture and its mirror image
# (`MIRROR`) answers the mirrored one alike by construction; the other rows of [the table](#table-shown-otherwise) say how far its opinion
# hangs on the frame.

# %%
kept = []
for name, data in datasets.items():
    table = consistency(corrupted[name], TRANSFORMS, positive=data.positive, seed=SEED)
    rows = {
        "data set": plots.dataset_title(name),
        "transform": table["recipe"].str.replace("_", " "),
        "class changes": [report.with_interval(row.changed, row.changed_low, row.changed_high) for row in table.itertuples()],
        "probability moves": [report.with_interval(row.moved, row.moved_low, row.moved_high) for row in table.itertuples()],
    }
    kept.append(pd.DataFrame(rows))
report.show(pd.concat(kept, ignore_index=True), name="shown-otherwise", caption="How often the same picture, shown otherwise, gets another answer.")

# %% [markdown]
# ### Another skin tone as augmentation
#
# Every training picture is also shown in another tone: the skin is moved to a typology angle drawn at random, lesions keep their
# contrast in CIELAB. Test pictures are untouched. If tone was a shortcut, the copies should make the model let go of it.

# %%
for name, data in datasets.items():
    copied = train_with_copies(
        store, data, splits[name], model, [f"tone-{number}" for number in range(1, TONE_COPIES + 1)]
    )
    dark = set(tones[name].loc[tones[name]["ita"] <= 10, "image_id"])
    for who, chosen in (("all pictures", None), ("brown and dark skin", dark)):
        pair = [table if chosen is None else table[table["image_id"].isin(chosen)] for table in (copied, untouched[name])]
        if pair[0]["label"].nunique() < 2 or not (pair[0]["label"] == data.positive).any():
            report.prose(f"*{plots.dataset_title(name)}, {who}: too few pictures to compare.*")
            continue
        change = difference(*pair, "auroc", data.positive)
        report.prose(
            f"{plots.dataset_title(name)}, {who} ({pair[0]['image_id'].nunique()}): AUROC with tone copies minus without: "
            f"{report.with_interval(*change, digits=3)}."
        )
        if chosen is None:
            report.finding(f"tone_copies_{report.short_name(name)}", report.with_interval(*change, digits=3))

# %% tags=["hide-input"]
from mpox.data.changes import FRAME

said = []
for name, both in ((name, "trained and tested") for name in datasets):
    title, key = plots.dataset_title(name), report.short_name(name)
    facts = told[(told["dataset"] == name) & told["fact"].isin(FACTS)]
    best = facts[facts["tested"] == facts["tested"].iloc[-1]].nlargest(1, "estimate").iloc[0]
    fall = means[(means["dataset"] == name) & (means["family"] == EVERY) & (means["metric"] == "auroc")].iloc[0]
    parts = {recipe: table for recipe, table in trained[name].groupby("recipe")}
    boxes = report.with_interval(*difference(parts["covered"], parts["covered_random"], "auroc", "Mpox"), digits=3)
    said.append(
        f"**{title}, things taken away**: untouched, the AUROC for Mpox is {words(name, both, UNTOUCHED)}. Trained and tested with the "
        f"lesions under boxes it is {words(name, both, 'covered')}, which differs from boxes at random places by {boxes}; from the lesion map alone, "
        f"white on black, {words(name, both, 'mask_only')}; from the outer frame alone, {1 - (1 - 2 * FRAME) ** 2:.0%} of the area and "
        f"often skin and rash itself, {words(name, both, 'border_only')} ([all of them](#fig-survival))."
    )
    if (name, both, "covered_true") in area.index:
        said.append(
            f"**{title}, the boxes tested**: with the true lesions covered, the planted mark and all else in the picture reach "
            f"{words(name, both, 'covered_true')}; under the automatic boxes, which hide part of that too, "
            f"{words(name, both, 'covered')}. A fall under boxes does not show that lesions were used."
        )
    said.append(
        f"**{title}, skin**: sensitivity for Mpox is {on_skin(name, 'sensitivity', LIGHT)} on {LIGHT} skin, "
        f"{on_skin(name, 'sensitivity', DARK)} on {DARK} skin; the difference is {lighter_minus_darker(name, 'sensitivity')} ([more](#table-tone-strata)). The question was asked after this had been seen{checked.get(name, '')}."
    )
    said.append(
        f"**{title}, facts and light**: the best single fact that is not the disease, {best['words']}, has an AUROC of "
        f"{report.with_interval(best['estimate'], best['low'], best['high'])} ({best['tested']}; chance is 0.5). Corruptions change "
        f"the model's AUROC by {report.with_interval(fall['change'], fall['change_low'], fall['change_high'], digits=3)} on average."
    )
    for recipe in (UNTOUCHED, "covered", "inpainted", "mask_only", "border_only", "background_only", "tiny", "colour_only"):
        if (name, both, recipe) in area.index:
            report.finding(f"shortcut_{key}_{recipe}", words(name, both, recipe))
at_the_top.fill(*said)

# %% [markdown]
# ## What this means
#
# What survives ([here](#fig-survival)) is what *can* be reached without the thing that was taken away. It does not say how much of the
# untouched score came from there: a cue and the disease can tell the same thing twice, so that neither what survives nor what is lost
# is a bound on what the disease contributes. A model that was never shown the cue might do as well; one that was shown both may lean on
# either. What can be said is which figures would look the same if the network had never looked at a lesion: those that the
# pictures also give without them.
#
# The strata of skin tone say something that no single figure does: where the classes differ in tone, a model can be right on the
# average and miss Mpox on the skin that is rare among its pictures of it ([by tone](#table-tone-strata)). Whoever wants to use such a
# model has to look there first, and these sets are too small to look closely.
#
# ## What could be wrong
#
# - **Boxes hide shortcuts too.** On the phantom a mark is planted in a corner, and covering the true lesions leaves it to be found; under
#   the automatic boxes less is left, because they cover part of the mark (the key findings of this chapter on the phantom say
#   how much). A fall under `covered` is therefore no proof that lesions were used, and what survives may be too little.
# - **A frame is not background.** Many pictures were cropped to the rash, and the rash reaches their edge; `border_only`, `tiny` and
#   `colour_only` keep the colour of lesions. That they tell the classes says that little of a picture is needed, not that the rest is a
#   shortcut.
# - **The map misses lesions**, and more of them on dark skin. What it leaves uncovered is counted as shortcut.
# - **The map draws the rash.** Boxes and painted-over patches keep number, size and arrangement of the lesions; the lesion map alone
#   tells how much. Painting over leaves soft spots that a network can learn to see.
# - **The map covers more than lesions**: up to a third of a healthy person's picture, folds and hair among it. What falls then need
#   not be the lesions' part; boxes at random places are a rough control, because they fall on lesions too.
# - A cover is unlike anything that a network pre-trained on photographs has met. *Tested only* mixes what was taken away with that
#   strangeness; *trained and tested* does not.
# - The outline of a grey silhouette, and the share of the picture that it takes, are left in `background_only`, and tell the framing.
# - With few groups, out-of-fold AUROCs of something that tells nothing scatter below 0.5 as well as above, and pooling folds draws
#   them a little below.
# - A cell that tells more than others need not bear a mark: a class whose pictures are framed otherwise does the same. A mark that
#   moves about is not found by a grid.
# - Facts of files are facts of web pages. Width and height are constant where a set was brought to one size, and the file's
#   compression is then that of whoever did it.
# - Weights make tones equal by stratum, not within; what differs along with tone (body site, camera, country) is not balanced.
# - Transferring tone keeps redness, which real skin does not.
# - Corruptions are simulated one at a time, at the network's own input size, after the picture was reduced.
#
# ## Take-aways
#
# - A score can be right for a reason that is not the disease. Take the disease away and see what is left.
# - What covers a lesion also draws it. Ask what the cover tells alone before you credit the background.
# - *Trained and tested* shows what the altered pictures still tell, *tested only* what the model leans on. They answer two questions.
# - Before skin, light or a file's size is called harmless, let it predict the class [by itself](#fig-facts).
# - An instrument for shortcuts has to find one that was planted, and none where none was.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("07")

# %% [markdown]
# ## Exercises
#
# With blanks to be filled in: `notebooks/exercises/07_shortcuts.ipynb`. Here each exercise is followed by a solution, folded in the
# book. Try first.
#
# The honest folds and the corrupted test pictures are enough for them.

# %% tags=["exercise-setup", "hide-input"]
splits = {name: make_splits(data.manifest, "source", **folds) for name, data in datasets.items()}
corrupted = {
    name: only_tested(
        store, data, splits[name], model, corruption_recipes(CORRUPTIONS, STRENGTHS) + TRANSFORMS, protocol=CORRUPTED
    )
    for name, data in datasets.items()
}

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Which corruption changes the predicted class most often at the mildest strength of `STRENGTHS`? Use
# `mpox.studies.shortcuts.consistency` with other recipes.

# %% tags=["solution"]
from mpox.studies.shortcuts import consistency

for name, data in datasets.items():
    mild = consistency(corrupted[name], corruption_recipes(CORRUPTIONS, STRENGTHS[:1]), positive=data.positive, seed=SEED)
    mild = mild.sort_values("changed", ascending=False, ignore_index=True)
    top = mild.iloc[0]
    report.prose(
        f"{plots.dataset_title(name)}: at strength {STRENGTHS[0]} the class changes most often under `{top['recipe']}`, in "
        f"{report.with_interval(top['changed'], top['changed_low'], top['changed_high'])} of the pictures."
    )
    report.show(mild[["recipe", "changed", "changed_low", "changed_high", "moved"]])

# %% [markdown] tags=["solution"]
# A class that changes need not change for the worse: a picture that was wrong may become right. And look at the intervals
# before you call one corruption the worst. Strengths of two families are comparable only in that their makers found them so.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Train on `covered_random` and test on untouched pictures. Does the model lean on lesions more than before? (How much it leans on
# them is seen in what it loses when they are covered. `mpox.protocols.copies.with_copies` makes the copies, `mpox.runs.cross_validation.predict_splits`
# takes any split.)

# %% tags=["solution"]
from mpox.protocols.copies import with_copies
from mpox.runs.cross_validation import predict_splits
from mpox.stats.metrics import replicates

for name, data in datasets.items():
    if not (data.is_phantom and data.has_pictures):
        report.prose(f"*{plots.dataset_title(name)}: these models are trained on the phantom only (this chapter of the edition *instruments*).*")
        continue
    both = with_copies(data, ["covered", "covered_random"])
    rows = splits[name].rename(columns={"image_id": "original_id"})
    rows = rows.merge(both.manifest[["image_id", "original_id", "recipe"]], on="original_id")
    for_test = (rows["role"] == "test") & rows["recipe"].isin([UNTOUCHED, "covered"])
    about, cost = both.manifest.set_index("image_id"), {}
    for taught in (UNTOUCHED, "covered_random"):
        for_training = (rows["role"] == "train") & (rows["recipe"] == taught)
        split = rows.loc[for_test | for_training, splits[name].columns].sort_values(["repeat", "fold", "image_id"], ignore_index=True)
        tested = predict_splits(store, both, "exercise", split, model)
        recipe = tested["image_id"].map(about["recipe"])
        tested["image_id"] = tested["image_id"].map(about["original_id"])
        plain, covered = (replicates(tested[recipe == kind], seed=SEED)["auroc", data.positive] for kind in (UNTOUCHED, "covered"))
        cost[taught] = plain - covered
        report.prose(
            f"Trained on `{taught}`: AUROC {report.with_interval(*plain.row().values())} on untouched pictures, less by "
            f"{report.with_interval(*cost[taught].row().values())} where lesions are covered."
        )
    change = (cost["covered_random"] - cost[UNTOUCHED]).row().values()
    report.prose(f"The loss after training on `covered_random` minus that before: {report.with_interval(*change)}.")

# %% [markdown] tags=["solution"]
# Boxes at random places hide some lesions, and teach that a box means nothing. Both can make the loss smaller: the second because
# part of the loss was the strangeness of boxes, not the missing lesions. So a smaller loss does not say that the model leans on
# lesions less, and a larger one would say that it does lean on them more. That is why the comparison of `covered` with
# `covered_random`, in one and the same model, is the better question.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (hard)
#
# Draw a phantom without the corner mark (`PhantomSpec(corner_mark=False)`), and ask the colours of each cell of the grid again. Is a
# cell flagged now?

# %% tags=["solution"]
import tempfile
from pathlib import Path

from mpox.data.dataset import Dataset
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, generate
from mpox.studies import shortcuts

if not any(data.is_phantom for data in loaded):
    report.prose("*The phantom is asked in the edition *instruments*, where this exercise draws one.*")
else:
    for mark in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            spec = PhantomSpec(n_patients=40, size=96, copies=0, label_conflicts=0, corner_mark=mark, seed=SEED)
            manifest = build_manifest(generate(Path(folder) / "phantom", spec))
            patients = manifest.set_index("image_id")["patient_id"].astype(str)  # there are no copies: patients are the honest groups
            drawn = Dataset("drawn", manifest, patients, is_phantom=True, has_pictures=True)
            split = make_splits(manifest, "patient", n_folds=3, seed=SEED)
            cells = shortcuts.cells_alone(drawn, split, spec.size, seed=SEED)
        top = cells.loc[cells["more"].idxmax()]
        places = [shortcuts.cell_name(row.row, row.column) for row in cells[cells["flagged"]].itertuples()]
        report.prose(
            f"{'With' if mark else 'Without'} the mark: flagged {', '.join(places) or 'none'}; the largest excess over the other cells is "
            f"{top['more']:.2f} (at least {top['at_least']:.2f}), in {shortcuts.cell_name(int(top['row']), int(top['column']))}."
        )

# %% [markdown] tags=["solution"]
# The two phantoms show the same people in the same light; they differ in the mark alone, so that whatever the grid says
# differently is due to it. With forty patients the bound is wide, and a mark that is borne by most pictures of a class is about the least
# that such a grid can see. *No cell is flagged* means for few patients: no mark as plain as this one.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 (open)
#
# Think of an alteration that hides lesions without drawing them, and show with `mask_only` in mind that it does.

# %% tags=["solution"]
import numpy as np

from mpox.data.changes import lesion_map, to_lab, true_mask
from mpox.data.pixels import load_pixels
from mpox.protocols.copies import has_true_masks, true_mask_paths
from mpox.stats.metrics import auroc_of_number
from mpox.studies.shortcuts import fold_of, rate_scores

CELLS, SIDE = 8, 96


def by_cell(values):
    """Means over the cells of a grid, shape (CELLS * CELLS,), of values of shape (SIDE, SIDE)."""
    return values.reshape(CELLS, SIDE // CELLS, CELLS, SIDE // CELLS).mean(axis=(1, 3)).ravel()


for name, data in datasets.items():
    if not has_true_masks(data):
        report.prose(f"*{plots.dataset_title(name)}: where its lesions are is not known; on the phantom it is (edition *instruments*).*")
        continue
    pictures = load_pixels(data.manifest, SIDE)
    truth = np.stack([by_cell(true_mask(path, SIDE)) for path in true_mask_paths(data.manifest)])
    redness = np.stack([by_cell(to_lab(picture)[..., 1]) for picture in pictures])
    half = redness.argsort(axis=1).argsort(axis=1) >= CELLS**2 // 2
    number = np.arange(CELLS**2)
    chessboard = np.tile((number // CELLS + number) % 2 == 0, (len(pictures), 1))
    covers = {
        "cells that the lesion map touches": np.stack([by_cell(lesion_map(picture)) > 0 for picture in pictures]),
        "the redder half of the cells": half,
        "every other cell, in all pictures alike": chessboard,
    }
    is_mpox = (data.manifest["label"] == data.positive).to_numpy()
    groups = data.manifest["image_id"].map(data.groups).to_numpy(str)
    fold, rows = fold_of(splits[name], data.manifest["image_id"]), []
    for word, cover in covers.items():
        varied = cover[:, cover.any(axis=0) & ~cover.all(axis=0)].astype(float)
        score = rate_scores(varied, is_mpox[:, None], fold)[:, 0]
        alone = report.with_interval(*auroc_of_number(score, is_mpox, groups))
        rows.append((word, cover.mean(), truth[cover].sum() / truth.sum(), alone))
    report.show(pd.DataFrame(rows, columns=["cover", "share covered", "lesion pixels hidden", "AUROC of the cover alone"]))

# %% [markdown] tags=["solution"]
# *A model answer.* A cover hides lesions if most lesion pixels lie under it, and draws them if the cover, white on black, tells the
# class. The table asks both. The map hides much and may tell, because number, size and place of its cells follow the rash. The
# chessboard tells nothing by construction: it is the same in every picture. It hides only half, and half of a rash is a rash. Covering
# the redder half in *every* picture, healthy ones among them, holds number and size fixed and hides more than half; only the
# arrangement can still tell, and the last column says how much of it does (an AUROC is never below 0.5 here, whichever
# direction is better is taken). Two such covers with different faults are better than one: if a model trained and tested under
# either still tells the classes, neither fault explains it. What remains open is redness between lesions, which belongs to the disease
# and is not in any mask.

# %% [markdown]
# ## What to read next
#
# [Other data](08_other_data.ipynb) asks what a model that leans on such things is worth elsewhere; [chapter 9](09_use.ipynb), what
# using it would mean. On boxes over lesions: Vega et al. {cite}`vega2023`; on corruptions: Hendrycks and Dietterich
# {cite}`hendrycks2019`; on what a report on such pictures has to say: Daneshjou et al. {cite}`daneshjou2022`.

# %% tags=["hide-input"]
report.provenance("07_shortcuts", store, list(datasets.values()), device=DEVICE)
