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
# # Error analysis
#
# **Question.** Whom is the model wrong about, are its labels right, and what does it look at?
#
# A single figure hides all of this. Chapter 3 counted the mistakes; this chapter opens them: which class is taken for which, which
# pictures are always wrong, which kinds of picture are wrong more often than others, which labels are doubtful, and whether a heat
# map can be believed.
#
# **After this chapter you can**
#
# - read a table of mistakes: which class is taken for which, how surely, and whether mistakes come by patient;
# - look for failing slices without fooling yourself;
# - tell a wrong label from a wrong model, and say how many wrong labels a method would find;
# - test an explanation before you believe it.
#
# **You need** [chapters 1](01_data_exploration.ipynb) and [3](03_cross_validation.ipynb).

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
HONEST_PROTOCOL = {"phantom": "source", "msld-v1": "source", "msid": "source"}
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 0
N_FOLDS = 3
REPEATS = {"linear_probe": 2, "tail_tune": 1}
N_WORST = 12
N_CLUSTERS = 8
PLANTED_SHARE = 0.05
EXPLAINERS = ["grad_cam", "integrated_gradients"]
N_EXPLAINED = 16
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import matplotlib.pyplot as plt
import pandas as pd

from mpox import ModelConfig, cross_validate, open_store
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.studies.errors import confusion_table, error_table, sibling_errors

check_parameters("06_error_analysis", globals())

# %%
at_the_top = report.key_findings()

# %% [markdown]
# ## The model whose mistakes are looked at
#
# It is the linear probe of chapter 3 under the honest protocol: every picture was predicted by a model that had seen no other picture
# of its person, as far as known, and no copy of its photograph. The runs are those of chapter 3. A picture's *error* is the share of the repeats in
# which it was wrong; its probabilities are averaged over them. [How many](#table-error-rates):

# %% tags=["exercise-setup"]
plots.use_style()
store = open_store(RUN_STORE)
loaded = store.datasets(DATASETS, data_dir=DATA_DIR or None)
datasets = {data.name: data for data in loaded}
protocol = {name: HONEST_PROTOCOL.get(name, "source") for name in datasets}
folds = {"n_folds": N_FOLDS, "n_repeats": REPEATS["linear_probe"], "seed": SEED}
model = ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
predictions = {name: cross_validate(store, data, protocol[name], model, **folds) for name, data in datasets.items()}
errors = {name: error_table(table) for name, table in predictions.items()}

# %% tags=["nbval-check-output"]
rows = [
    {
        "data set": plots.dataset_title(name),
        "images": len(table),
        "groups": table["group_id"].nunique(),
        "error rate": table["error"].mean(),
        "always right": (table["error"] == 0).sum(),
        "sometimes wrong": table["error"].between(0, 1, inclusive="neither").sum(),
        "always wrong": (table["error"] == 1).sum(),
    }
    for name, table in errors.items()
]
counts = pd.DataFrame(rows)
report.show(counts, name="error-rates", caption="How many pictures are right and wrong, over the repeats.")

# %% [markdown]
# ## What is taken for what
#
# Each cell of [the matrices](#fig-confusion) is a share of its row, the true class. Its interval comes from resampling groups; with few patients in a class it is wide.

# %% mystnb={"image": {"alt": "Confusion matrices: in each cell the share of the true class, its 95 percent interval and the number of images, one matrix a data set."}, "figure": {"name": "confusion", "caption": "Confusion matrices, out of fold and averaged over the repeats: share of the true class, 95 % interval from resampling groups, and images."}}
confusions = {name: confusion_table(table) for name, table in predictions.items()}
cells = pd.concat([table.assign(dataset=name) for name, table in confusions.items()], ignore_index=True)
cells["text"] = [f"{row.share:.0%}\n{row.low:.0%} to {row.high:.0%}\n{row.images:.1f}" for row in cells.itertuples()]
axes_of = {"xlabel": "predicted class", "ylabel": "true class"}
plots.matrix(cells, "predicted", "true", "share", text="text", row="dataset", limits=(0, 1), **axes_of)
plt.show()

# %%
worst_cell = {}
for name, cells in confusions.items():
    wrong = cells[(cells["true"] != cells["predicted"]) & (cells["images"] > 0)]
    if wrong.empty:
        worst_cell[name] = "no picture is taken for another class"
    else:
        top = wrong.loc[wrong["share"].idxmax()]
        share = report.with_interval(top["share"], top["low"], top["high"])
        worst_cell[name] = f"the most frequent confusion is {top['true']} taken for {top['predicted']}, a share of {share}"
    report.prose(f"{plots.dataset_title(name)}: {worst_cell[name]}.")

# %% [markdown]
# ## The most confident mistakes, and the hardest pictures
#
# A mistake made with 0.99 is of another kind than one made with 0.51: either the picture misleads, or its label is wrong. They are
# [listed](#table-confident-mistakes), and [shown](#fig-confident-mistakes) where the pictures are available.

# %%
for name, table in errors.items():
    wrong = table[table["wrong"]]
    caption = f"{plots.dataset_title(name)}: the most confident mistakes."
    shown = wrong.head(N_WORST)[["image_id", "label", "predicted", "confidence", "p_true", "error"]].reset_index(drop=True)
    report.show(shown, name="confident-mistakes", caption=caption)
    report.prose(
        f"{len(wrong)} of {len(table)} pictures are wrong by their mean probabilities, {(wrong['confidence'] > 0.9).sum()} of them with "
        "a probability above 0.9."
    )

# %% mystnb={"image": {"alt": "Sheets of the images that were misclassified with the highest confidence, with true and predicted class."}, "figure": {"name": "confident-mistakes", "caption": "The most confident mistakes: true class, predicted class, probability given to it."}}
for name, data in datasets.items():
    worst = errors[name][errors[name]["wrong"]].head(N_WORST)
    captions = [f"{row.label}\nas {row.predicted}, {row.confidence:.2f}" for row in worst.itertuples()]
    plots.sheet(worst["image_id"].tolist(), captions, data=data)
plt.show()

# %% [markdown]
# *Hard* is a picture whose true class gets a low probability in the mean, whatever gets the rest. Pictures of one patient are often
# hard together. Compare the share of wrong pictures among those that have a wrong sibling with the share among those that have a right
# one: where the two differ, mistakes come by patient, and an interval that resampled pictures would be too narrow.

# %%
for name, table in errors.items():
    hardest = table.sort_values("p_true", ignore_index=True).head(N_WORST)
    report.prose(
        f"{plots.dataset_title(name)}: the {len(hardest)} hardest pictures show {hardest['group_id'].nunique()} groups; by class: "
        + ", ".join(f"{label} {n}" for label, n in hardest["label"].value_counts().items())
        + "."
    )
    siblings = sibling_errors(table)
    if len(siblings):
        report.show(siblings, digits=2)

# %% [markdown]
# ## Slices set by hand
#
# A *slice* is a set of images that share something that is known without the model: the class, the size of the group, a copy in
# the set, skin tone, light, contrast, sharpness, text, a border, the region of the map further below (a cluster of features). Numbers
# are cut into quarters. Skin tone *within* Mpox is not among them: that question came up after the answer had been seen, so that no correction here
# would count it rightly; [chapter 7](07_shortcuts.ipynb) asks it on other images. The tables of chapter 1 are asked for again, and any other table with an
# `image_id` joins in; on the phantom those of the planted lesions do.

# %% tags=["exercise-setup"]
from pathlib import Path

from mpox.audit import quality
from mpox.data import skintone
from mpox.data.phantom import read_truths
from mpox.models.features import features
from mpox.stats.slices import slice_errors
from mpox.studies import errors as error_study
from mpox.studies.errors import image_metadata

together = pd.concat([data.manifest for data in loaded], ignore_index=True)
places = store.table(
    "embedding",
    {"data": [data.hash for data in loaded], "backbone": BACKBONE, "size": model.image_size, "clusters": N_CLUSTERS,
     "version": error_study.VERSION, "seed": SEED},
    lambda: together[["image_id"]].join(error_study.embedding_map(features(together, model), n_clusters=N_CLUSTERS, seed=SEED)),
).assign(dataset=together["source"])  # fmt: skip
folder = {name: Path(data.manifest["path"].iloc[0]).parents[1] for name, data in datasets.items() if data.has_pictures}
truths = {name: read_truths(folder[name]) for name, data in datasets.items() if data.is_phantom and name in folder}

# %% tags=["exercise-setup"]
metadata = {}
for name, data in datasets.items():
    light = store.table(
        "image-quality", {"data": data.hash, "version": quality.QUALITY_VERSION}, lambda data=data: quality.image_quality(data.manifest)
    )
    tone = store.table(
        "skin-tone", {"data": data.hash, "version": skintone.SKIN_TONE_VERSION}, lambda data=data: quality.skin_tone(data.manifest)
    )
    region = places.loc[places["dataset"] == name, ["image_id", "cluster"]].astype({"cluster": str})
    region = region.rename(columns={"cluster": "region of the map"})
    more = [truths[name][["image_id", "lesion_count", "lesion_fraction"]]] if name in truths else []
    metadata[name] = image_metadata(data, light, tone, region, *more)

slices = {name: slice_errors(errors[name], metadata[name], seed=SEED) for name in datasets}

# %% [markdown]
# Who looks at many slices finds some that are worse by chance. The p value of each is from permutations in which whole groups hand their
# mistakes to other groups, and Holm's correction {cite}`holm1979` bounds the chance that any of them is called worse or better for no
# reason. [The figure](#fig-slices) draws them all, [the table](#table-slices) can be sorted.
#
# :::{margin} The worst of many
# Throw twenty fair coins ten times each, and the worst coin looks bent. Nobody would report it alone; in a table of slices the same coin
# is called a finding.
# :::

# %% mystnb={"image": {"alt": "Error rate of every slice with its 95 percent interval, one panel a data set, the rate of all pictures as a dashed line; colour and marker tell which slices differ from the rest after correction."}, "figure": {"name": "slices", "caption": "Error rate by slice with 95 % intervals from resampling groups; number of groups in brackets. Orange squares and blue diamonds: more or fewer errors than the rest, significant after Holm's correction for all slices of the panel; grey: not told apart."}}
drawn = pd.concat([table.assign(dataset=name) for name, table in slices.items()], ignore_index=True)
drawn["line"] = drawn["column"] + ": " + drawn["slice"] + " (" + drawn["n_groups"].astype(str) + ")"
drawn["found"] = drawn["difference"].gt(0).map({True: "more errors", False: "fewer errors"})
drawn["found"] = drawn["found"].where(drawn["p_corrected"] < 0.05, "not told apart")
overall = {name: table["error"].mean() for name, table in errors.items()}
rates = pd.DataFrame({"dataset": list(overall), "estimate": list(overall.values()), "label": "all pictures"})
look = {"xlabel": "error rate", "percent": "x"}
if len(drawn):
    plots.forest(drawn, "line", x="error_rate", hue="found", row="dataset", reference=rates, **look)
    plt.show()
else:
    report.prose("*Nothing to draw here: no slice has enough groups.*")

# %%
by_hand = {}
for name, table in slices.items():
    called = table[table["p_corrected"] < 0.05]
    worse = called[called["difference"] > 0]
    names = ", ".join(f"*{row.column}: {row.slice}* ({row.error_rate:.0%})" for row in worse.itertuples())
    by_hand[name] = (
        f"of {len(table)} slices set by hand, {len(called) or 'none'} differ{'s' if len(called) < 2 else ''} from the rest after correction"
        + (f"; worse {'is' if len(worse) == 1 else 'are'} {names}" if len(worse) else "")
    )
    report.prose(f"{plots.dataset_title(name)}: {by_hand[name]}.")
    columns = ["column", "slice", "n_images", "n_groups", "error_rate", "difference", "difference_low", "difference_high", "p", "p_corrected"]
    report.sortable(table[columns], name="slices", caption=f"Slices of {plots.dataset_title(name)} against the rest")

# %% [markdown]
# ## Slices found by search
#
# What nobody thought of is in no list. The finder tries every condition and every pair of conditions that at least eight groups meet,
# after Slice Finder {cite}`chung2019` and SliceLine {cite}`sagadeeva2021`, and ranks them by how far their error rate lies above the
# rest's, in standard deviations under permutation. The correction is for the whole search: each permutation is searched just as
# thoroughly, and a slice counts as found if its score beats the *best* score of 95 % of these searches {cite}`westfall1993`
# ([what came first](#table-searched)).

# %%
from mpox.stats.slices import find_slices

searched = {name: find_slices(errors[name], metadata[name], seed=SEED) for name in datasets}
by_search = {}
for name, table in searched.items():
    examined = table["examined"].iloc[0] if len(table) else 0
    hits = table[table["p_corrected"] < 0.05]
    by_search[name] = f"of {examined} slices searched, {len(hits) or 'none'} stand{'s' if len(hits) < 2 else ''} out"
    if len(hits):
        row = hits.iloc[0]
        by_search[name] += (
            f", most clearly *{row['slice']}* with an error rate of {report.with_interval(row['error_rate'], row['low'], row['high'])}"
        )
    report.prose(f"{plots.dataset_title(name)}: {by_search[name]}.")
    caption = f"{plots.dataset_title(name)}: the slices with the highest scores."
    report.show(table[["slice", "n_images", "n_groups", "error_rate", "rest", "score", "p_corrected"]].head(8), name="searched", caption=caption)

# %% [markdown]
# ### Can the finder be trusted?
#
# Give the pictures of this page mistakes whose cause is known, and see. First the model's own, dealt to other groups: there is nothing to
# be found, and the corrected p should be large ([the result](#table-finder)). Then mistakes planted on one pair of conditions: 90 % of its pictures, 10 % of the others.

# %%
from mpox.stats.slices import check_finder

checked = [check_finder(errors[name], metadata[name], seed=SEED).assign(**{"data set": plots.dataset_title(name)}) for name in datasets]
report.show(pd.concat(checked, ignore_index=True), name="finder", caption="What the finder says where nothing is to be found, and where a slice was planted.")

# %% [markdown]
# ## Doubtful labels
#
# Labels come from web pages, and some mistakes may be theirs. Confident learning {cite}`northcutt2021` suspects a label when the
# picture's probability for another class is as high as it usually is for images that bear that class's label. It knows nothing but
# the probabilities. The audit of chapter 1 knows something else: photographs that are filed under two labels. Do they agree
# ([side by side](#table-suspects))?

# %%
from mpox.studies.labels import VERSION, check_suspicion, label_problems, suspicion_by

problems = {name: label_problems(table, datasets[name].audit.conflicts) for name, table in predictions.items()}
agreement = []
for name, table in problems.items():
    report.prose(f"**{plots.dataset_title(name)}**")
    report.show(table[table["suspected"] | table["in_conflict"]].drop(columns="group_id").head(N_WORST).reset_index(drop=True), digits=2)
    known = {"in a conflict of the audit": table.set_index("image_id")["in_conflict"]}
    if name in truths:
        known["wrong, as planted"] = truths[name].set_index("image_id").eval("true_label != label")
    agreement += [
        {"data set": plots.dataset_title(name), "label": kind, **suspicion_by(table, truth)} for kind, truth in known.items()
    ]
agreement = pd.DataFrame(agreement)
report.show(
    agreement.rename(columns={"wrong": "known", "low": "AUROC low", "high": "AUROC high", "auroc": "AUROC"}),
    digits=2,
    name="suspects",
    caption="Suspected labels against labels that are known to be doubtful.",
)

# %% [markdown]
# *Recall* is the share of the known ones that are suspected, *precision* the share of the suspected that are known; the AUROC says how
# well a low probability of the given label tells them from the rest. A picture in a conflict need not be the wrong one of the two.
#
# How good can the method be here at all? We give a few groups, drawn at random, another label by our own hand, train and test the
# probe on these labels, and count how many of ours are suspected ([the count](#table-planted-labels)).

# %%
ours = {}
for name, data in datasets.items():
    spec = {"data": data.hash, "protocol": protocol[name], "backbone": BACKBONE, "size": model.image_size, "share": PLANTED_SHARE,
            "folds": N_FOLDS, "seed": SEED, "version": VERSION}  # fmt: skip
    ours[name] = store.table(
        "planted-labels",
        spec,
        lambda data=data: check_suspicion(data, protocol[data.name], model, share=PLANTED_SHARE, n_folds=N_FOLDS, seed=SEED),
    ).iloc[0]
rows = pd.DataFrame([{"data set": plots.dataset_title(name), **row} for name, row in ours.items()])
rows = rows.astype({column: int for column in ("images", "wrong", "suspected", "found")})
report.show(
    rows.rename(columns={"wrong": "planted", "low": "AUROC low", "high": "AUROC high", "auroc": "AUROC"}),
    digits=2,
    name="planted-labels",
    caption="How many wrong labels of our own the method suspects.",
)

# %%
suspicion = {}
for name, table in problems.items():
    both, conflicts = (table["suspected"] & table["in_conflict"]).sum(), table["in_conflict"].sum()
    agreed = f", {both} of the {conflicts} that are in a conflict of the audit among them" if conflicts else ""
    suspicion[name] = (
        f"{table['suspected'].sum()} labels are suspected{agreed}; of {ours[name]['wrong']:.0f} wrong labels that we planted ourselves the "
        f"method suspects {ours[name]['found']:.0f}"
    )
    report.prose(
        f"{plots.dataset_title(name)}: {suspicion[name]}, and of all that it suspects then {ours[name]['precision']:.0%} are ours. A "
        "list of suspects is a list of pictures to look at, not of wrong labels."
    )

# %% [markdown]
# ## A map of the pictures
#
# t-SNE {cite}`vandermaaten2008` lays out the frozen features so that like lies by like. Distances between far regions, and the sizes
# of clusters, mean little. No label was used. If data sets, or a few patients, form islands of their own, the features know where a
# picture comes from.

# %% mystnb={"image": {"alt": "Scatter plots of the frozen features laid out by t-SNE, coloured by class, by whether the out-of-fold prediction was right, and by data set."}, "figure": {"name": "error-map", "caption": "Frozen ImageNet features of every image, laid out by t-SNE. By colour: class, out-of-fold prediction, data set."}}
mapped = error_study.map_table(places, pd.concat([table.assign(dataset=name) for name, table in errors.items()], ignore_index=True))
ways = ["class", "outcome", "source"]
plots.points(mapped.melt(["x", "y"], ways, "way"), "x", "y", hue="value", col="way", xlabel="t-SNE, first axis", ylabel="second axis")
plt.show()

# %%
errors_by_cluster = pd.concat(
    [metadata[name].join(table.set_index("image_id")["error"]).assign(dataset=name) for name, table in errors.items()]
)
for name, part in errors_by_cluster.groupby("dataset", sort=False):
    rates = part.groupby("region of the map")["error"].agg(["mean", "size"])
    report.prose(
        f"{plots.dataset_title(name)}: over the {len(rates)} regions of the map the error rate goes from {rates['mean'].min():.0%} "
        f"(of {rates.loc[rates['mean'].idxmin(), 'size']} pictures) to {rates['mean'].max():.0%} (of "
        f"{rates.loc[rates['mean'].idxmax(), 'size']}); what of this is more than chance is among the slices above."
    )

# %% [markdown]
# ## Where does it look?
#
# A probe is a linear layer on a frozen backbone, so it can be asked what a network can be asked. Grad-CAM {cite}`selvaraju2017` weighs
# the last feature maps by how much they raise the score of the predicted class; integrated gradients {cite}`sundararajan2017` add up the
# gradient on the way from a grey picture. (The package also has occlusion {cite}`zeiler2014`, which covers parts and sees what is lost; it costs a
# hundred times as much and is not tested here.) [The sheet](#fig-grad-cam) shows surest hits, then surest misses, of pictures of Mpox,
# where the pictures are available.

# %% mystnb={"image": {"alt": "Pictures of confident hits and misses for Mpox with Grad-CAM heat maps laid over them."}, "figure": {"name": "grad-cam", "caption": "Grad-CAM for the predicted class: up to six of the surest hits, then up to six of the surest misses, among pictures of Mpox."}}
from mpox.studies.saliency import Explanations, choose_images

for name, data in datasets.items():
    positive = errors[name][errors[name]["label"] == data.positive].sort_values("confidence", ascending=False)
    shown = pd.concat([positive[~positive["wrong"]].head(6), positive[positive["wrong"]].head(6)])
    captions = [f"{row.label}\nas {row.predicted}, {row.confidence:.2f}" for row in shown.itertuples()]
    overlays = None
    if data.has_pictures:
        maps = Explanations(store, data, protocol[name], model, shown, ["grad_cam"], **folds).maps["grad_cam"]
        overlays = [maps[image_id] for image_id in shown["image_id"]]
    plots.sheet(shown["image_id"].tolist(), captions, data=data, overlays=overlays)
plt.show()

# %% [markdown]
# ## Can a heat map be believed?
#
# A warm spot on a lesion convinces at once, and proves nothing. Three tests, on images that are recognised correctly, one a group:
#
# 1. **Random weights** {cite}`adebayo2018`. Draw the head anew, then everything. A map that stays as it was does not show what was
#    learnt ([rank correlations](#fig-randomised)). For scale: how alike are two maps of *different* pictures?
# 2. **Deletion and insertion** {cite}`petsiuk2018`. Take away the hottest pixels first, or put them into a blurred picture first. If the
#    model heeds what the map shows, the probability must fall, or rise, sooner than with a random map as coarse, or with a mere blob in
#    the middle of the picture ([areas](#fig-deletion)).
# 3. **Pointing** {cite}`zhang2018`. Where the true lesions are known, is the hottest pixel on one more often than chance? They are known
#    for drawn pictures only.
#
# :::{margin} Why a random map is needed
# Most photographs have their subject in the middle, and most heat maps are warm in the middle. A blob painted there by hand would convince
# many a reader. What a map is worth is what it adds to that blob.
# :::

# %%
from mpox.models.explain import TITLES
from mpox.studies import saliency as checks

explained = {
    name: Explanations(
        store, data, protocol[name], model, choose_images(errors[name], N_EXPLAINED, seed=SEED), EXPLAINERS, **folds
    )
    for name, data in datasets.items()
}  # fmt: skip
alike = {
    name: one.table("map-randomisation", checks.VERSION, lambda one: checks.randomisation(one.cases, one.maps, seed=SEED))
    for name, one in explained.items()
}
areas = {
    name: one.table("map-deletion", checks.VERSION, lambda one: checks.deletion_insertion(one.cases, one.maps, seed=SEED))
    for name, one in explained.items()
}

# %% mystnb={"image": {"alt": "Mean rank correlation of heat maps with those of networks with a random head, with all weights random, and with the map of another picture, by method, with 95 percent intervals."}, "figure": {"name": "randomised", "caption": "Rank correlation of a picture's map with that of a network with a random head, of one with everything random, and with the map of another picture. 95 % intervals from resampling groups."}}
by_weights = pd.concat(
    [checks.summarise(table, ["method", "compared"], ["spearman", "ssim"]).assign(dataset=name) for name, table in alike.items()]
)
ranks = by_weights[by_weights["measure"] == "spearman"].replace({"method": TITLES})
none = {"no correlation": 0.0}
plots.forest(ranks, "method", hue="compared", row="dataset", xlabel="mean rank correlation (Spearman)", reference=none)
plt.show()

# %%
cells = by_weights.assign(value=[report.with_interval(row.estimate, row.low, row.high) for row in by_weights.itertuples()])
cells = cells.pivot(index=["dataset", "method", "compared"], columns="measure", values="value").rename_axis(columns=None).reset_index()
report.show(cells.assign(dataset=cells["dataset"].map(plots.dataset_title)).rename(columns={"dataset": "data set"}))
shares = by_weights[by_weights["measure"] == "spearman"].set_index(["dataset", "method", "compared"]).sort_index()
for name, one in explained.items():
    report.prose(f"**{plots.dataset_title(name)}**, {len(one.chosen)} pictures, rank correlation with the picture's own map:")
    for method in EXPLAINERS:
        rows = shares.loc[(name, method)]
        report.prose(
            f"- {TITLES[method]}: "
            + "; ".join(f"{kind} {report.with_interval(row.estimate, row.low, row.high)}" for kind, row in rows.iterrows())
            + "."
        )

# %% mystnb={"image": {"alt": "Area under the deletion and insertion curves minus that of a random map, by method, with 95 percent intervals."}, "figure": {"name": "deletion", "caption": "Area under the probability curve less that of a random map, on the same pictures. A map that shows what the model heeds is below 0 for deletion and above 0 for insertion. 95 % intervals from resampling groups."}}
gains = pd.concat(
    [
        checks.gain_over(table, baseline).assign(dataset=name, baseline=baseline)
        for name, table in areas.items()
        for baseline in ("random", "centre")
    ]
)
less = gains[gains["baseline"] == "random"].replace({"method": TITLES})
random = {"a random map": 0.0}
plots.forest(less, "method", hue="kind", row="dataset", xlabel="area less that of a random map", reference=random)
plt.show()

# %%
cells = gains.assign(value=[report.with_interval(row.estimate, row.low, row.high, digits=3) for row in gains.itertuples()])
cells = cells.pivot(index=["dataset", "method", "kind"], columns="measure", values="value").rename_axis(columns=None).reset_index()
report.show(cells.assign(dataset=cells["dataset"].map(plots.dataset_title)).rename(columns={"dataset": "data set"}))

# %%
from mpox.studies.saliency import lesion_regions, mark_regions

pointed = []
for name in truths:
    one = explained[name]
    for kind, regions_of in (("a lesion", lesion_regions), ("the corner mark", mark_regions)):
        regions = regions_of(folder[name], one.chosen["image_id"].tolist(), model.image_size)
        if regions:
            hits = checks.pointing(one.cases, one.maps, regions)
            hits["excess"] = hits["hit"] - hits["chance"]
            pointed.append(checks.summarise(hits, ["method"], ["hit", "chance", "centre", "excess"]).assign(at=kind, dataset=name))
pointed = pd.concat(pointed) if pointed else None
if pointed is None:
    report.prose("*Where the lesions of these pictures are is not known; on the phantom it is (this chapter of the edition *instruments*).*")
else:
    cells = pointed.assign(value=[report.with_interval(row.estimate, row.low, row.high) for row in pointed.itertuples()])
    cells = cells.pivot(index=["at", "method", "images"], columns="measure", values="value")[["hit", "chance", "centre", "excess"]]
    report.show(cells.rename_axis(columns=None).reset_index())
    report.prose(
        "*hit*: share of pictures whose hottest pixel lies there; *chance*: share of the picture's area; *centre*: what always pointing at "
        "the middle would hit; *excess*: hit less chance."
    )

# %%
verdicts = {}


def beats(name, baseline):
    """The heat maps that are better than a baseline in both deletion and insertion."""
    good = gains[(gains["dataset"] == name) & (gains["baseline"] == baseline)]
    ends = {method: part.set_index("kind") for method, part in good.groupby("method", sort=False)}
    return [TITLES[method] for method, end in ends.items() if end.loc["deletion", "high"] < 0 < end.loc["insertion", "low"]]


for name in datasets:
    words = {"random": "a random map", "centre": "a mere blob in the middle"}
    said = [f"better than {words[key]} in both deletion and insertion: {', '.join(beats(name, key)) or 'none'}" for key in words]
    verdicts[name] = f"of the heat maps of {len(explained[name].chosen)} pictures, {said[0]}; {said[1]}"
    if name in truths and pointed is not None:
        at = pointed[(pointed["dataset"] == name) & (pointed["at"] == "a lesion") & (pointed["measure"] == "excess")]
        on = [TITLES[row.method] for row in at.itertuples() if row.low > 0]
        verdicts[name] += (
            f"; {' and '.join(on)} point{'s' if len(on) == 1 else ''} at planted lesions more often than chance"
            if on
            else "; that any of them points at planted lesions more often than chance is not shown by so few pictures"
        )
        mark = pointed[(pointed["dataset"] == name) & (pointed["at"] == "the corner mark") & (pointed["measure"] == "excess")]
        lured = [TITLES[row.method] for row in mark.itertuples() if row.low > 0]
        verdicts[name] += f"; {' and '.join(lured)} point{'s' if len(lured) == 1 else ''} at the planted corner mark" if lured else ""
    report.prose(f"{plots.dataset_title(name)}: {verdicts[name]}.")

# %% tags=["hide-input"]
summary = []
for name, row in zip(datasets, counts.itertuples(index=False), strict=True):
    title, key = plots.dataset_title(name), report.short_name(name)
    found = {
        "mistakes": f"{overall[name]:.0%} of the predictions are wrong, and {row[-1]} of {row[1]} pictures in every repeat; {worst_cell[name]}",
        "slices": f"{by_hand[name]}; {by_search[name]}",
        "labels": suspicion[name],
        "maps": verdicts[name],
    }
    summary += [f"**{title}, {what}**: {text}." for what, text in found.items()]
    report.finding(f"errors_{key}_rate", f"{overall[name]:.0%}")
    report.finding(f"errors_{key}_always_wrong", f"{row[-1]} of {row[1]}")
    for what in ("slices", "labels", "maps"):
        report.finding(f"errors_{key}_{what}", found[what])
at_the_top.fill(*summary)

# %% [markdown]
# ## What this means
#
# A slice that stands out after correction ([the table](#table-slices)) is a place where the figure of chapter 3 does not hold, and where the next pictures should be
# collected. A slice that does not stand out may still be bad: with a few dozen groups only large differences can be seen, as the
# intervals show.
#
# A suspected label is a reason to look at a picture. A model that has learnt a shortcut vouches for wrong labels that share it: on the
# phantom a picture that is filed under Mpox by mistake gets Mpox's corner mark too.
#
# A heat map is evidence only as far as it passes its tests. That it changes with the weights is the least; that the model heeds what it
# shows is more ([both tests](#fig-deletion)); that it lies on a lesion says nothing of whether the lesion was read as one.
#
# ## What could be wrong
#
# - Slices are correlated: a class that was photographed in poor light makes the poor light a failing slice. A slice is a place, not a
#   cause.
# - A slice of *dark skin* is partly one of dark photographs. [One page](../book/limitations.md) has what bounds every chapter.
# - Groups that do not have the same number of pictures exchange mistakes only nearly fairly in the permutations; the tests are
#   cautious where groups are large.
# - What is known of lesions is planted on the phantom. On real pictures only an automatic map could say it.
# - The intervals of the tests of heat maps are not corrected for their number, and rest on a few images that were recognised.
# - A random head or backbone is drawn once; another draw gives other maps.
# - The planted labels are drawn at random. Real mistakes fall on images that are hard, which are harder to find.
# - Confident learning trusts the probabilities of the probe, and they are not calibrated here (chapter 9 does that).
# - A prediction averages a picture and its mirror image; its heat map is of the picture as it is.
# - Deleting pixels makes images that no camera takes; a network's answer to them is an extrapolation. The random map suffers from the
#   same, which is why only the difference is read.
# - The clusters, and the map, see ImageNet features; what these do not tell apart cannot be a region.
#
# ## Take-aways
#
# - An error rate is a mean over people and places. Say for whom it does not hold, and with how many groups that was seen.
# - The worst of many slices is bad by chance as well ([all of them](#fig-slices)). Correct for all that was looked at, and count in
#   groups.
# - A suspected label is an invitation to look, not a correction. Plant wrong labels to see how many would be found.
# - A heat map is a hypothesis on the network. Change the weights, take the hot pixels away, and see whether it holds.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("06")

# %% [markdown]
# ## Exercises
#
# With blanks to be filled in: `notebooks/exercises/06_error_analysis.ipynb`. Here each exercise is followed by a solution, folded
# in the book. Try first.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Which class has the highest share of confident mistakes (`confidence` above 0.9)? Use `errors`.

# %% tags=["solution"]
for name, table in errors.items():
    sure = (table["wrong"] & (table["confidence"] > 0.9)).groupby(table["label"]).agg(["size", "sum", "mean"])
    top = sure["mean"].idxmax()
    report.prose(
        f"{plots.dataset_title(name)}: "
        + (f"most confident mistakes among pictures of {top}, {sure.loc[top, 'mean']:.1%} of them." if sure["sum"].any() else "none.")
    )
    report.show(sure.set_axis(["images", "confident mistakes", "share"], axis=1).rename_axis("class"))

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Set `correction="benjamini-hochberg"` in `slice_errors`, and then call it with `image_id` in place of `group_id`. How many slices
# are significant each time, and which of the two changes is an honest one?

# %% tags=["solution"]
rows = []
for name in datasets:
    pictures_alone = errors[name].assign(group_id=errors[name]["image_id"])
    for unit, table in (("groups", errors[name]), ("pictures", pictures_alone)):
        for correction in ("holm", "benjamini-hochberg"):
            tested = slice_errors(table, metadata[name], correction=correction, n_bootstrap=0, seed=SEED)
            called = (tested["p_corrected"] < 0.05).sum()
            rows.append((plots.dataset_title(name), unit, correction, len(tested), called))
report.show(pd.DataFrame(rows, columns=["data set", "what is permuted", "correction", "slices", "significant"]))

# %% [markdown] tags=["solution"]
# The first change is honest, because it asks another question and says so. Holm bounds the chance of a single false alarm in the
# whole table, Benjamini and Hochberg the share of false alarms among what is called (the false discovery rate). Whoever is looking for places where
# to collect more pictures can live with a few false alarms; whoever writes "the model fails on dark skin" cannot. The choice must be
# made before the table is read. The second change is not honest: it counts three pictures of one patient as three witnesses. More
# slices pass the limit of eight, too, for the same reason. If nothing changes, mistakes on this page do not come by patient, but
# that is known only afterwards.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (hard)
#
# Plant a failure of your own: raise `error` for pictures of Mpox in the darker half, and see how large the effect must be for the
# finder to name it. (`mpox.stats.slices.conditions` tells which pictures meet which condition; with `n_bins=2` numbers are cut in half.)

# %% tags=["solution"]
import numpy as np

from mpox.stats.slices import conditions, find_slices

ELSEWHERE = 0.1  # chance of a mistake outside of the planted slice
rows = []
for name, data in datasets.items():
    met = conditions(metadata[name], n_bins=2)
    darker = met["lightness"].columns[0]
    planted = f"class: {data.positive} and lightness: {darker}"
    both_met = met["class", data.positive] & met["lightness", darker]
    inside = both_met.reindex(errors[name]["image_id"]).to_numpy(bool)
    luck = np.random.default_rng(SEED).random(len(inside))
    for chance in (0.2, 0.4, 0.6, 0.8):
        dealt = errors[name].assign(error=(luck < np.where(inside, chance, ELSEWHERE)).astype(float))
        first = find_slices(dealt, metadata[name], n_bins=2, n_shown=1, n_bootstrap=0, n_permutations=499, seed=SEED).iloc[0]
        named = "yes" if first["slice"] == planted and first["p_corrected"] < 0.05 else "no"
        n_groups = errors[name].loc[inside, "group_id"].nunique()
        rows.append((plots.dataset_title(name), n_groups, chance, first["slice"], first["p_corrected"], named))
report.show(pd.DataFrame(rows, columns=["data set", "groups in it", "chance of a mistake", "first found", "p_corrected", "named"]))

# %% [markdown] tags=["solution"]
# A finder is not blind or sharp by itself: it is sharp down to an effect of some size in a slice of some size, and this table is how
# to know it. Two things are to be read. From which chance on is the p value small? And is what is found first the planted slice, or
# a neighbour that shares many of its pictures, for instance all pictures of Mpox? A neighbour is enough to make one look at the right
# pictures, and not enough to name a cause. A slice of fewer than eight groups cannot be named, however bad it is: with so few
# patients the page owes its reader the sentence that it would have missed it.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 (open)
#
# Draw the head anew five times with other seeds in `mpox.studies.saliency.randomised`. How much does the rank correlation of the
# Grad-CAM maps vary, and does one draw suffice for a verdict on the method?

# %% tags=["solution"]
from dataclasses import replace

from scipy.stats import spearmanr

from mpox.studies.saliency import Explanations, choose_images, heat_maps, randomised

for name, data in datasets.items():
    if not (data.is_phantom and data.has_pictures):
        report.prose(f"*{plots.dataset_title(name)}: heads are drawn anew on the phantom only, whose pictures everybody has (edition *instruments*).*")
        continue
    few = Explanations(store, data, protocol[name], model, choose_images(errors[name], 6, seed=SEED), ["grad_cam"], **folds)
    learnt, rows = few.maps["grad_cam"], []
    for draw in range(5):
        other_heads = [
            replace(case, network=randomised(case.network, case.backbone, "head", case.pixels, seed=draw)) for case in few.cases
        ]
        drawn = heat_maps(other_heads, "grad_cam")
        for image_id, heat in learnt.items():
            thin = [one[::8, ::8].ravel() for one in (heat, drawn[image_id])]
            flat = any(np.ptp(one) == 0 for one in thin)
            rows.append((image_id, draw, np.nan if flat else spearmanr(*thin).statistic))
    correlation = pd.DataFrame(rows, columns=["image_id", "draw", "spearman"]).pivot(index="image_id", columns="draw", values="spearman")
    means = correlation.mean()
    report.show(correlation.rename_axis(columns=None).reset_index(), digits=2)
    report.prose(
        f"{plots.dataset_title(name)}: the mean over {len(correlation)} pictures goes from {means.min():.2f} to {means.max():.2f} over "
        f"five heads; for a single picture the heads spread by {correlation.std(axis=1).mean():.2f} (standard deviation)."
    )

# %% [markdown] tags=["solution"]
# *A model answer.* The head is a matrix with few rows, so that a random one may point in a direction that happens to be near the learnt
# one, or opposite to it: for a single picture the correlation jumps from draw to draw. The mean over pictures is
# steadier but not steady (a gap in the table is a map that is 0 everywhere, which has no ranks), because all pictures share the drawn head; resampling pictures, as the interval in the figure does, does not
# see this part of the uncertainty. One draw suffices for a coarse verdict ("the map changes when the head does") where all
# draws lie far from 1. It does not suffice to say that one method passes by more than another. For that draw ten heads or more,
# take the draw for the unit, and compare methods on the same draws. The verdict also needs a bound that was set beforehand: the
# correlation between maps of different pictures, in the figure, is a natural one.

# %% [markdown]
# ## What to read next
#
# [Chapter 7](07_shortcuts.ipynb) takes lesions and their surroundings away, instead of asking a map; [chapter 9](09_use.ipynb) asks
# what the mistakes would cost. On sanity checks of heat maps: Adebayo et al. {cite}`adebayo2018`; on the search for failing slices:
# Chung et al. {cite}`chung2019`; on labels: Northcutt et al. {cite}`northcutt2021`.

# %% tags=["hide-input"]
report.provenance("06_error_analysis", store, list(datasets.values()), device=DEVICE)
