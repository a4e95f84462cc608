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
# # Cross-validation
#
# **Question.** How well does the network recognise Mpox in people it has never met, and how much can meeting them beforehand add to a
# figure like the published one?
#
# The same model, the same pictures, the same number of folds: only the rule by which images are assigned to folds differs.
# Under `random_image` each picture is assigned by itself, as in much of the published work. Under `patient` all pictures of a
# patient stay together, under `source` also all copies of a photograph, and of a person who was recognised (chapter 1). Everything else,
# penalty and stopping included, is chosen inside the training part.
#
# **After this chapter you can**
#
# - read an interval that respects patients, and say why one that does not is too narrow;
# - measure what a model gains from siblings of a test picture in its training;
# - say why "no significant difference between folds" tells so little;
# - compare two models on the same folds: a difference, a margin, a correction;
# - say what so many patients could have shown at all, and what more of them would bring.
#
# **You need** [chapters 1](01_data_exploration.ipynb) and [2](02_transfer_learning.ipynb), and to have met a p value before.

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
PROTOCOLS = {"phantom": ["random_image", "patient", "source"]}
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 0
TRAINED_IMAGE_SIZE = 128
TRAINING = {"epochs": 3, "frozen_stages": 3}
N_FOLDS = 3
TAIL_TRAINING = {"epochs": 3, "frozen_stages": 6, "views": 2}
REPEATS = {"linear_probe": 2, "tail_tune": 1}
AUGMENTED_VIEWS = 2
DOSES = [0, 0.5, 1]
DOSE_REPEATS = {"linear_probe": 1, "nearest_neighbour": 1}
DOSE_FINE_TUNED = []
FINE_TUNED_DOSES = [0, 0.5, 1]
CROSSING_SHARES = [0, 0.5, 1]
EXTERNAL = []
SEEDED = ["phantom"]
SEEDS = [0, 1]
FRACTIONS = [0.4, 0.7, 1]
CURVE_REPEATS = 2
MARGIN = 0.02
SIMULATIONS = 200
STUDIES = 10
DRAWS = 25
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mpox import ModelConfig, MpoxError, cross_validate, evaluate, open_store
from mpox._core import TooFewImages
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.book.wording import column_words
from mpox.protocols.copies import augmented
from mpox.runs.cross_validation import validate_externally
from mpox.studies.external import SUBSETS, external_metrics, external_pair
from mpox.studies.intervals import FIXED, REFITTED, SETTINGS, coverage, headline, headline_replicates, kinds_said
from mpox.studies.leakage import DOSE_COLUMNS, dose_response, leak_dose, needed_share
from mpox.studies.verdict import read_paper

check_parameters("03_cross_validation", globals())
PUBLISHED_F1, PUBLISHED_AUROC = (read_paper().claims[key].published for key in ("f1", "roc_auc_mpox"))
plots.use_style()
store = open_store(RUN_STORE)
loaded = store.datasets(DATASETS, data_dir=DATA_DIR or None)
datasets = {data.name: data for data in loaded}

# %%
at_the_top = report.key_findings()

# %% [markdown]
# ## The experiment
#
# Each line of the loop is one cross-validation: out-of-fold predictions of every picture, once a repeat. Runs that exist
# are read, the others are trained. The linear probe and the nearest neighbour work on the same frozen features; the nearest
# neighbour learns nothing, it gives a picture the label of the most similar training picture. `tail_tune` trains the last stages
# of the network on what its frozen first stages make of several augmented views of each picture; that is computed once for all
# folds, so that several repeats of a trained network become affordable.

# %% tags=["exercise-setup"]
protocols = {name: PROTOCOLS.get(name, ["random_image", "source"]) for name in datasets}
models = {
    "linear_probe": ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE),
    "nearest_neighbour": ModelConfig(
        regime="nearest_neighbour", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE
    ),
    "fine_tune": ModelConfig(
        regime="fine_tune", backbone=BACKBONE, image_size=TRAINED_IMAGE_SIZE, seed=SEED, device=DEVICE, training=TRAINING
    ),
    "tail_tune": ModelConfig(
        regime="tail_tune", backbone=BACKBONE, image_size=TRAINED_IMAGE_SIZE, seed=SEED, device=DEVICE, training=TAIL_TRAINING
    ),
}
unknown = sorted({*REPEATS, *DOSE_REPEATS} - set(models))
if unknown or "linear_probe" not in REPEATS:
    raise MpoxError(f"REPEATS needs linear_probe, and knows {', '.join(models)}; unknown: {', '.join(unknown) or 'none'}.")
repeats_of = {**REPEATS, "nearest_neighbour": REPEATS["linear_probe"]}  # it costs nothing once the probe has its features
predictions = {
    (name, protocol, regime): cross_validate(
        store, datasets[name], protocol, models[regime], n_folds=N_FOLDS, n_repeats=repeats, seed=SEED
    )
    for name in datasets
    for protocol in protocols[name]
    for regime, repeats in repeats_of.items()
}

# %% [markdown]
# One more row shows a practice that inflates further {cite}`kapoor2023`. Every picture is first multiplied by augmentation
# (mirrored, turned, shifted, zoomed, brightened), then the copies are assigned to folds like pictures: `augment_before_split`. It
# differs from the other rows in three ways at once: copies cross folds, training is several times as large, and the augmented
# copies are tested too. The interval resamples the patients behind them.

# %%
frozen = [regime for regime in ("linear_probe", "nearest_neighbour") if AUGMENTED_VIEWS]
multiplied = {
    (name, "augment_before_split", regime): cross_validate(
        store, augmented(data, AUGMENTED_VIEWS, SEED), "augment_before_split", models[regime], n_folds=N_FOLDS, seed=SEED
    )
    for name, data in datasets.items()
    for regime in frozen
}

# %% tags=["nbval-check-output"]
done = [
    {
        "data set": plots.dataset_title(name),
        "protocol": protocol,
        "regime": regime,
        "images": table["image_id"].nunique(),
        "repeats": table["repeat"].nunique(),
        "runs": table["run_id"].nunique(),
    }
    for (name, protocol, regime), table in {**predictions, **multiplied}.items()
]
report.show(
    pd.DataFrame(done),
    name="cross-validations",
    caption="The cross-validations of this chapter, each trained on all classes of its data set; in each repeat the folds are assigned anew.",
)

# %%
metrics = pd.concat(
    [
        headline(store, datasets[name], protocol, models[regime], table, n_draws=DRAWS).assign(
            dataset=name, protocol=protocol, regime=regime
        )
        for (name, protocol, regime), table in {**predictions, **multiplied}.items()
    ],
    ignore_index=True,
)

# %% [markdown]
# ## What the rule changes
#
# Groups are resampled {cite}`field2007`: patients, or photographs, are drawn with replacement, and all their images come along.
# Resampling images would treat four views of one arm as four people. But other patients would also have trained *another model*. For the
# probe the whole pipeline is therefore drawn again, where such draws are available: the copies of a drawn group stay in one fold, folds are
# assigned anew, and the probe is fitted again {cite}`jiang2008`. Where training is too dear for that, the interval comes from the folds.
# Everywhere else trained models are held fixed. The caption of each table says which, and [a simulation](#table-coverage) how well each holds.
# [Accuracy](#fig-accuracy-by-protocol) and [AUROC](#fig-auroc-by-protocol) are drawn for every rule. [One table](#table-metrics) has
# every measure of the linear probe, [another](#table-metrics-others) the other models. All are averaged over the repeats of
# [the list above](#table-cross-validations); chapters that take fewer repeats find slightly different figures for the same model.
#
# :::{margin} Why not Hanley and McNeil?
# The textbook interval of an AUROC needs nothing but its value and two counts. It takes every picture for another person and the scores
# for a smooth law. Several views of one patient break the first, one patient with an odd camera the second. Where groups are large it
# promises too much.
# :::

# %% mystnb={"image": {"alt": "Accuracy with 95 percent intervals for each regime and protocol, one panel a data set, with the published F1 as a dashed line."}, "figure": {"name": "accuracy-by-protocol", "caption": "Out-of-fold accuracy, averaged over the repeats, with 95 % intervals as in the tables below. The dashed line is the published F1; accuracy and F1 are different measures, and the line is there for scale."}}
published = {"published F1": PUBLISHED_F1}
accuracy = metrics[metrics["metric"] == "accuracy"]
plots.forest(accuracy, "regime", hue="protocol", row="dataset", xlabel="accuracy", reference=published)
plt.show()

# %% mystnb={"image": {"alt": "AUROC for Mpox with 95 percent intervals for each regime and protocol, one panel a data set, with the published ROC AUC as a dashed line."}, "figure": {"name": "auroc-by-protocol", "caption": "Out-of-fold AUROC for Mpox against all other classes, averaged over the repeats. The dashed line is the published ROC AUC."}}
plots.forest(
    metrics[(metrics["metric"] == "auroc") & (metrics["class"] == "Mpox")],
    "regime",
    hue="protocol",
    row="dataset",
    xlabel="AUROC (Mpox against the rest)",
    reference={"published ROC AUC": PUBLISHED_AUROC},
)
plt.show()

# %%
shown = [
    ("accuracy", "all"), ("kappa", "all"), ("precision", "macro"), ("recall", "macro"), ("f1", "macro"), ("auroc", "macro"), ("auprc", "macro"),
    ("auroc", "Mpox"), ("auprc", "Mpox"), ("sensitivity", "Mpox"), ("specificity", "Mpox"),
]  # fmt: skip
shown = metrics[pd.MultiIndex.from_frame(metrics[["metric", "class"]]).isin(shown)]
cells = shown.assign(
    measure=(shown["metric"] + " (" + shown["class"] + ")").str.removesuffix(" (all)"),
    text=[f"{row.estimate:.3f} ({row.low:.3f} to {row.high:.3f})" for row in shown.itertuples()],
)
main = ["accuracy", "f1 (macro)", "auroc (Mpox)", "sensitivity (Mpox)"]
for name in datasets:
    rules = [*reversed(protocols[name]), *(["augment_before_split"] if frozen else [])]  # the honest one first
    probed = cells[(cells["dataset"] == name) & (cells["regime"] == "linear_probe")]
    table = probed.pivot(index="measure", columns="protocol", values="text")[rules]
    first = [*main, *table.index.difference(main)]
    caption = f"{plots.dataset_title(name)}: the linear probe, {REPEATS['linear_probe']} repeats: every measure under every rule. {kinds_said(probed)}."
    table = table.loc[first].rename(index=column_words).rename_axis(index="measure", columns=None)
    report.show(table.reset_index(), name="metrics", caption=caption)

# %%
for name in datasets:
    rules = [*reversed(protocols[name]), *(["augment_before_split"] if frozen else [])]
    others = cells[(cells["dataset"] == name) & (cells["regime"] != "linear_probe")]
    table = others.pivot(index=["regime", "protocol"], columns="measure", values="text")[main].rename(columns=column_words)
    asked = [(regime, rule) for regime in repeats_of for rule in rules if (regime, rule) in table.index]
    caption = f"{plots.dataset_title(name)}: the other models. {kinds_said(others)}."
    report.show(table.loc[asked].rename_axis(columns=None).reset_index(), name="metrics-others", caption=caption)

# %% [markdown]
# What the random division gives beyond the honest one, model by model, is a difference on the same pictures
# ([the differences](#table-rule-differences)).

# %%
apart, rows, kinds = {}, [], []
for name, data in datasets.items():
    honest = protocols[name][-1]
    if "random_image" not in protocols[name] or honest == "random_image":
        report.prose(f"{plots.dataset_title(name)}: PROTOCOLS names no random and honest protocol, so there is no difference.")
        continue
    for regime in repeats_of:
        drawn = [
            headline_replicates(store, data, protocol, models[regime], predictions[name, protocol, regime], n_draws=DRAWS)
            for protocol in ("random_image", honest)
        ]
        (lax, kind), (strict, _) = drawn
        kinds.append({"regime": regime, "interval": kind})
        for metric, label in (("accuracy", "all"), ("auroc", "Mpox")):
            apart[name, regime, metric] = tuple((lax[metric, label] - strict[metric, label]).row().values())
        texts = [report.with_interval(*apart[name, regime, metric], digits=3) for metric in ("accuracy", "auroc")]
        rows.append((plots.dataset_title(name), regime, f"random_image minus {honest}", *texts))
if rows:
    report.show(
        pd.DataFrame(rows, columns=["data set", "regime", "what", "accuracy", "AUROC (Mpox)"]),
        name="rule-differences",
        caption="What the random division adds to a figure beyond the honest one, on the same images and repeats. "
        f"{kinds_said(pd.DataFrame(kinds), by='regime')}.",
    )

# %% [markdown]
# ## Without the easy class
#
# Healthy skin is easily told from a rash, and the AUROC of a data set that holds much of it flatters. Nobody asks whether a person without a rash
# has Mpox. Here the pictures of the class `Normal` are left out of the test, and the same predictions are asked how well they tell
# Mpox from the other rashes ([both ways](#table-easy-class)). (The AUPRC can rise without them, because Mpox is then more common.)

# %%
from mpox.stats.metrics import without_class

easy = []
for (name, protocol, regime), table in predictions.items():
    if "p_Normal" not in table or sum(column.startswith("p_") for column in table) < 3:
        continue
    for part, shown in (("all classes", table), ("rashes only", without_class(table, "Normal"))):
        found = evaluate(shown).assign(dataset=name, protocol=protocol, regime=regime, tested=part)
        easy.append(found[found["metric"].isin(["accuracy", "auroc", "auprc"]) & found["class"].isin(["all", "Mpox"])])
if easy:
    easy = pd.concat(easy, ignore_index=True)
    text = [f"{row.estimate:.3f} ({row.low:.3f} to {row.high:.3f})" for row in easy.itertuples()]
    wide = easy.assign(text=text, measure=easy["metric"] + " (" + easy["class"] + ")").pivot(
        index=["dataset", "regime", "protocol", "tested"], columns="measure", values="text"
    )
    report.show(
        wide.rename_axis(columns=None).reset_index(),
        name="easy-class",
        caption="The same predictions, of models trained on all classes, with and without the pictures of healthy skin in the test.",
    )
    for (name, tested), part in easy[easy["regime"] == "linear_probe"].groupby(["dataset", "tested"]):
        last = part[part["protocol"] == protocols[name][-1]]
        key = f"cv_{report.short_name(name)}_{tested.replace(' ', '_')}_auroc"
        report.finding(key, report.estimate(last, "auroc", "Mpox", digits=3))
else:
    report.prose("*No data set of this page has a class `Normal`.*")

# %% [markdown]
# ## The price of leakage: a dose-response
#
# Two protocols differ in more than their leak: the test sets are assigned differently. Here only the leak changes. The test
# pictures are those of the random split, always. Their *siblings*, training pictures of the same patient or the same photograph,
# are all removed at dose 0; at each higher dose more of them stay, and as many unrelated pictures of the same class are
# removed instead, so that the amount of training data stays the same as far as there are such pictures. At the last dose all siblings that the random split has are
# there. The penalty, the scale and the stopping are chosen in inner folds that no group crosses, at every dose alike.
# [The figure](#fig-dose-response) follows four measures from dose to dose.
#
# A climb is what siblings in training add. A flat line says only that *these* siblings add nothing that can be seen with so many
# pictures: the model may have learnt the disease, or a shortcut that all pictures of a class share. What is measured is the effect of
# *exchanging* unrelated pictures for siblings. Where a class runs out of unrelated pictures the training set grows with the dose, and
# part of the climb may be due to more data; [the table](#table-dose) gives the numbers, and the sentence below the figure says so.

# %%
plan = [
    (name, regime, DOSES, repeats) for name in datasets for regime, repeats in DOSE_REPEATS.items()
] + [(name, "fine_tune", FINE_TUNED_DOSES, 1) for name in DOSE_FINE_TUNED if name in datasets]  # fmt: skip
curves = []
for name, regime, levels, repeats in plan:
    try:
        asked = leak_dose(store, datasets[name], models[regime], doses=levels, n_folds=N_FOLDS, n_repeats=repeats, seed=SEED)
    except TooFewImages as reason:
        report.prose(f"*No dose-response of {plots.dataset_title(name)}, {regime}: {reason}*")
        continue
    curves.append(dose_response(asked).assign(dataset=name, regime=regime))

# %% mystnb={"image": {"alt": "Accuracy, macro F1, AUROC and sensitivity for Mpox over the share of test images with a sibling in training, one line a regime with interval bars, data sets side by side."}, "figure": {"name": "dose-response", "caption": "Dose and response: the same test images, more and more siblings of them in training in place of unrelated images. Bars are 95 % intervals from resampling groups; lines are shifted a little sideways so that the bars do not cover each other."}}
measures = {
    ("accuracy", "all"): "accuracy",
    ("f1", "macro"): "macro F1",
    ("auroc", "Mpox"): "AUROC (Mpox)",
    ("sensitivity", "Mpox"): "sensitivity (Mpox)",
}
response = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=[*DOSE_COLUMNS, "dataset", "regime"])
if curves:
    drawn = response[response["subset"] == "all"]
    drawn = drawn.assign(measure=[measures.get(key) for key in zip(drawn["metric"], drawn["class"], strict=True)])
    about = {"xlabel": "share of test images with a sibling in training", "ylabel": {word: word for word in measures.values()}}
    look = {"intervals": "bars", "percent": "x", "sharex": "col", "sharey": "row", "width": 3.7, "height": 2.5, **about}
    plots.bands(drawn.dropna(subset="measure"), "share", hue="regime", row="measure", col="dataset", **look)
    plt.show()

# %%
def more_data(row):
    """What a reader must know beside a climb: whether training grew with the dose."""
    less = response[(response["dataset"] == row.dataset) & (response["regime"] == row.regime)]["n_train"].min()
    if row.n_train < 1.02 * less:
        return ""
    return (
        f" Training grew on the way from {less:.0f} to {row.n_train:.0f} pictures, by {row.n_train / less - 1:.0%}, because unrelated pictures "
        "ran out: part of the change may be due to more data. The test images that have no sibling learn from the same additional "
        "pictures; [what they gain](#table-dose) is the measure of that."
    )


top = response.groupby(["dataset", "regime"])["dose"].transform("max") == response["dose"]
for row in response[top & (response["subset"] == "all") & (response["metric"] == "accuracy")].itertuples():
    report.prose(
        f"{plots.dataset_title(row.dataset)}, {row.regime}: with a sibling in training for {row.share:.0%} of the test images "
        f"instead of none, accuracy changes by {report.with_interval(row.change, row.change_low, row.change_high, digits=3)}, "
        f"an interval that {'contains' if row.change_low <= 0 <= row.change_high else 'does not contain'} zero.{more_data(row)}"
    )
    key = f"dose_{report.short_name(row.dataset)}_{row.regime}"
    report.finding(f"{key}_share", f"{row.share:.0%}")
    report.finding(f"{key}_difference", report.with_interval(row.change, row.change_low, row.change_high))
for row in response[top & (response["subset"] == "all") & (response["metric"] == "auroc")].itertuples():
    key = f"dose_{report.short_name(row.dataset)}_{row.regime}_auroc_difference"
    report.finding(key, report.with_interval(row.change, row.change_low, row.change_high, digits=3))

# %% [markdown]
# Only a test picture that has a sibling in the random split can look anything up. If that is where a climb comes from, it is theirs
# alone; the others say whether something else changed on the way. Compare down a column, never across: the two kinds of picture
# differ in class and difficulty. The number of training pictures should not change: where it does, a class had fewer unrelated
# pictures than siblings.

# %%
mechanism = response[response["metric"].eq("accuracy") & response["subset"].ne("all")]
mechanism = mechanism.assign(
    cell=[
        "none" if pd.isna(row.estimate) else f"{row.estimate:.3f} ({row.low:.3f} to {row.high:.3f})"
        for row in mechanism.itertuples()
    ]
)
for name, part in mechanism.groupby("dataset", sort=False):
    table = part.pivot(index=["regime", "dose"], columns="subset", values="cell")
    first = part[part["subset"] == "with sibling"].set_index(["regime", "dose"])
    table.insert(0, "training images", first["n_train"].round(1))
    table.insert(0, "test images with a sibling", first["share"].map("{:.0%}".format))
    caption = (
        f"{plots.dataset_title(name)}: accuracy of test images by whether the random split has a sibling in training. Shares are "
        "averages over the deals of the dose-response; chapter 1 counts one deal."
    )
    table = table.rename_axis(columns=None).reset_index()
    report.show(table.assign(dose=table["dose"].map("{:.0%}".format)), digits=1, name="dose", caption=caption)

# %% [markdown]
# ## How much leak gives the published figure?
#
# Where pictures are multiplied before they are divided, it can suffice to find the copy; how far that goes, a nearest neighbour shows
# ([its rows](#table-metrics-others)). All the leak there is exceeds the published figures and says nothing more. So take less of it. All
# pictures are multiplied, and trained on. The copies of a share of the groups are assigned to folds one by one; every other
# group stays in one fold with all its copies. Tested are the pictures, never their copies. A share of none is honest; a share of
# all leaks as `augment_before_split` does. [The curve](#fig-copies) crosses the published values where [the table](#table-copies) says.

# %%
crossing, needed, held = [], [], {"F1": ("f1_of_means", "macro", PUBLISHED_F1), "ROC AUC": ("auroc", "Mpox", PUBLISHED_AUROC)}
for name, data in datasets.items() if CROSSING_SHARES and AUGMENTED_VIEWS else ():
    views = augmented(data, AUGMENTED_VIEWS, SEED)
    asked = leak_dose(store, views, models["linear_probe"], doses=CROSSING_SHARES, n_folds=N_FOLDS, seed=SEED)
    crossing.append(dose_response(asked).assign(dataset=name))
    for measure, (metric, label, value) in held.items():
        ends = [f"{share:.0%}" if share < np.inf else "not even 100%" for share in needed_share(asked, metric, label, value)]
        needed.append((plots.dataset_title(name), measure, value, ends[0], f"{ends[1]} to {ends[2]}"))
        report.finding(f"copies_{report.short_name(name)}_{metric}", f"{ends[0]} (95 % interval {ends[1]} to {ends[2]})")
if needed:
    columns = ["data set", "measure", "published", "pictures with a copy in training", "95 % interval"]
    caption = "Which share of the tested pictures must have a copy in training for the published value; 0% where the honest division gives more."
    report.show(pd.DataFrame(needed, columns=columns), name="copies", caption=caption, digits=3)
else:
    report.prose("*Not computed on this page: its profile names no share (`CROSSING_SHARES`), or no copies (`AUGMENTED_VIEWS`).*")

# %% mystnb={"image": {"alt": "F1 and ROC AUC over the share of tested images that have an augmented copy in training, with 95 percent bands and the published values as lines, one column a data set."}, "figure": {"name": "copies", "caption": "F1 (harmonic mean of the averaged precision and recall) and ROC AUC of the linear probe over the share of the tested images that have an augmented copy in training, with 95 % intervals from resampling groups. Dashed: the published values."}}
if crossing:
    drawn = pd.concat(crossing, ignore_index=True)
    drawn["measure"] = [{key[:2]: name for name, key in held.items()}.get(key) for key in zip(drawn["metric"], drawn["class"], strict=True)]
    lines = pd.DataFrame([(name, value, "published") for name, (*_, value) in held.items()], columns=["measure", "estimate", "label"])
    look = {"percent": "x", "sharey": "row", "width": 3.7, "height": 2.5, "reference": lines, "ylabel": {name: name for name in held}}
    xlabel = "share of tested pictures with a copy in training"
    plots.bands(drawn.dropna(subset="measure"), "share", row="measure", col="dataset", xlabel=xlabel, **look)
    plt.show()

# %% [markdown]
# ## What "p > 0.05 between folds" would not have noticed
#
# The paper reads "no significant differences between folds, p > 0.05" as robustness. Which test it used is not known to us. Take two
# that can be used, on the correctness of the images: the chi-square test of homogeneity, and the analysis of variance. Now
# *simulate* a model whose folds really differ: from the worst to the best fold the true accuracy rises evenly by the spread on the
# axis, around the accuracy that was found here, in the folds and groups of the first repeat; images of a group are right or wrong together as
# often as here. How often does the test say "p > 0.05"? [The lines](#fig-fold-tests) are the answer.
#
# :::{margin} Absence of evidence
# A fire alarm without a battery also reports "no fire, p > 0.05". Before its silence is quoted, somebody has to hold a match under it;
# the simulation is the match.
# :::

# %% tags=["hide-input"]
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

SPREADS = (0.0, 0.01, 0.02, 0.05, 0.10)  # true accuracy of the best fold minus that of the worst


def with_wilson(hits, n):
    """A simulated share with its 95 % Wilson interval, which says how exact the simulation is."""
    return hits / n, *proportion_confint(hits, n, method="wilson")


def fold_p_values(right, sizes):
    """P values of the chi-square test and of the analysis of variance; ``right`` images in each fold, shape (simulations, folds)."""
    n, k = sizes.sum(), len(sizes)
    overall = right.sum(axis=1, keepdims=True) / n
    between = (sizes * (right / sizes - overall) ** 2).sum(axis=1)
    variance = (overall * (1 - overall))[:, 0]
    within = (right * (1 - right / sizes)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # all right or all wrong: p is 1
        chi_square, f = between / variance, between / (k - 1) / (within / (n - k))
    return stats.chi2.sf(np.nan_to_num(chi_square, posinf=np.inf), k - 1), stats.f.sf(np.nan_to_num(f, posinf=np.inf), k - 1, n - k)


def within_groups(right, groups):
    """Intraclass correlation of being right (Fleiss and Cuzick 1979): 0 where images of a group err by themselves, 1 where as one."""
    each = pd.Series(right, dtype=float).groupby(np.asarray(groups)).agg(["sum", "size"])
    inside = (each["sum"] * (1 - each["sum"] / each["size"])).sum()
    return 1 - inside / ((len(right) - len(each)) * np.mean(right) * (1 - np.mean(right)))


def fold_test_experiment(fold, groups, accuracy, correlation, spreads, *, n_simulations, seed):
    """How often p > 0.05 is found for a model whose folds truly differ by each spread, around a mean accuracy. An image follows its
    group's lot with the root of the correlation as probability, or else its own, so that two of a group correlate as asked."""
    rng, codes, sizes, rows = np.random.default_rng(seed), pd.factorize(groups)[0], np.bincount(fold), []
    for spread in spreads:
        lots = rng.random((n_simulations, codes.max() + 1))[:, codes]
        follows = rng.random((n_simulations, len(fold))) < np.sqrt(max(correlation, 0))
        chance = accuracy + spread * np.linspace(-0.5, 0.5, len(sizes))[fold]
        right = (np.where(follows, lots, rng.random(lots.shape)) < chance) @ (fold[:, None] == np.arange(len(sizes))).astype(float)
        for test, p in zip(("chi-square", "ANOVA"), fold_p_values(right, sizes), strict=True):
            rows.append((spread, test, *with_wilson((p > 0.05).sum(), n_simulations)))
    return pd.DataFrame(rows, columns=["spread", "test", "share_not_significant", "low", "high"])


# %%
blind = []
for name in datasets:
    once = predictions[name, protocols[name][-1], "linear_probe"].query("repeat == 0")
    right = once.filter(regex="^p_").idxmax(axis=1).str.removeprefix("p_") == once["label"]
    together, accuracy = within_groups(right.to_numpy(), once["group_id"]), right.mean()
    spreads = [spread for spread in SPREADS if spread / 2 <= min(accuracy, 1 - accuracy)]  # an accuracy is at most 1
    drawn = {"n_simulations": 5 * SIMULATIONS, "seed": SEED}
    experiment = fold_test_experiment(once["fold"].to_numpy(), once["group_id"], accuracy, together, spreads, **drawn)
    blind.append(experiment.assign(dataset=name, correlation=together))
blind = pd.concat(blind, ignore_index=True)

# %% mystnb={"image": {"alt": "Share of simulated studies in which a test between folds gives p above 0.05, over the true difference between the best and the worst fold, one line a data set and test."}, "figure": {"name": "fold-tests", "caption": "How often a test between folds says 'no significant difference' when the folds truly differ, simulated with the folds, groups and clustered errors of these data sets. At a spread of zero 95 % would be right: less is a test that takes images of a group for independent. Elsewhere a high line is a test that does not see."}}
figure = plots.bands(
    blind.assign(points=100 * blind["spread"]),
    "points",
    y="share_not_significant",
    hue="dataset",
    col="test",
    intervals="bars",
    percent="y",
    reference={"all alike: 95 %": 0.95},
    xlabel="best fold minus worst, true accuracy (points)",
    ylabel="simulations with p > 0.05",
)
figure.axes[0].set_ylim(0, 1.03)
plt.show()

# %%
for name, part in blind[blind["test"] == blind["test"].iloc[0]].groupby("dataset", sort=False):
    said = [f"{row.share_not_significant:.0%} at {100 * row.spread:.0f}" for row in part.itertuples() if row.spread > 0]
    report.prose(
        f"{plots.dataset_title(name)}: when the folds of a model truly differ, the {part['test'].iloc[0]} test still says \"p > 0.05\" in "
        f"{', '.join(said)} points between the best and the worst fold. Where they do not differ it says so in "
        f"{part['share_not_significant'].iloc[0]:.0%} instead of 95 %: images of a group are right or wrong together (intraclass correlation "
        f"{part['correlation'].iloc[0]:.2f}), and the test counts them one by one."
    )
    for row in part.itertuples():
        report.finding(f"blind_{report.short_name(name)}_{100 * row.spread:.0f}", f"{row.share_not_significant:.0%}")

# %% [markdown]
# ## Another collection
#
# The plainest test of a classifier is another collection of pictures: train on all of one data set, test on all of another, with
# the classes that both have (Mpox or another rash; pictures without a rash are left out). But collections from the web copy from each
# other. A joint audit says which test pictures have a sibling in training, the same photograph or another one of the same
# patient (chapter 1 counts photographs alone); without them the test is closer to what it claims to be. The
# shared pictures differ from the others in class and difficulty as well, so the distance between the rows is not the effect of
# sharing alone; but a figure that
# rests on the shared ones is no external validation. [Where there are two collections](#fig-external) the three readings stand side by
# side; [chapter 8](08_other_data.ipynb) goes on from there.

# %%
crossed = []
for train_name, test_name in EXTERNAL:
    both = external_pair(store, train_name, test_name, study=DATASETS, data_dir=DATA_DIR or None)[0]
    for regime in ("linear_probe", "nearest_neighbour"):
        table = validate_externally(store, both, train_name, test_name, models[regime], seed=SEED)
        crossed.append(external_metrics(table).assign(train=train_name, test=test_name, regime=regime))
if not EXTERNAL:
    report.prose(
        "*Nothing to show here: this page has a single collection, or names no pair of them (the parameter `EXTERNAL`). The study on real "
        "images trains on each of its two data sets and tests on the other.*"
    )

# %% mystnb={"image": {"alt": "AUROC for Mpox with 95 percent intervals when training on one data set and testing on another: on all test images, without shared images, and on shared images only; one panel a direction."}, "figure": {"name": "external", "caption": "External validation, AUROC for Mpox against other rashes: all test images, those without a sibling (the same photograph or patient) in training, and those with one. In brackets the number of test images."}}
if crossed:
    crossed = pd.concat(crossed, ignore_index=True)
    crossed["direction"] = "trained on " + crossed["train"] + ", tested on " + crossed["test"]
    area = crossed[(crossed["metric"] == "auroc") & (crossed["class"] == "Mpox")]
    area = area.assign(line=area["regime"] + ", " + area["subset"] + " (" + area["images"].astype(str) + ")")
    look = {"values": "{:.2f}", "missing": "reason", "legend": False, "xlabel": "AUROC (Mpox against other rashes)"}
    plots.forest(area, "line", hue="subset", row="direction", **look)
    plt.show()

# %%
for train_name, test_name in EXTERNAL:
    part = crossed[(crossed["train"] == train_name) & (crossed["test"] == test_name)]
    for regime, rows in part.groupby("regime"):
        said = []
        for subset in SUBSETS:
            chosen = rows[rows["subset"] == subset]
            reason, images = chosen[["reason", "images"]].iloc[0]
            text = f"not defined ({reason})" if reason else report.estimate(chosen, "auroc", "Mpox", digits=3)
            key = f"external_{report.short_name(train_name)}_{report.short_name(test_name)}_{regime}_{subset.replace(' ', '_')}"
            report.finding(f"{key}_auroc", text)
            said.append(f"{subset} ({images} images) {text}")
        report.prose(f"Trained on {train_name}, tested on {test_name}, {regime}: AUROC {'; '.join(said)}.")

# %% [markdown]
# ## Curves
#
# Nothing in [the curves](#fig-curves) depends on a threshold. The bands come from resampling groups, at each place of the horizontal axis by itself.

# %% mystnb={"image": {"alt": "ROC curves and precision-recall curves for Mpox with 95 percent bands under each protocol, data sets in rows."}, "figure": {"name": "curves", "caption": "ROC and precision-recall curves of the linear probe with pointwise 95 % bands, averaged over the repeats; out-of-fold predictions of all folds pooled."}}
from mpox.stats.metrics import curve_bands

probes = {(name, protocol): table for (name, protocol, regime), table in predictions.items() if regime == "linear_probe"}
bands = pd.concat(
    [
        curve_bands(table, kind).assign(dataset=name, protocol=protocol, kind=kind)
        for (name, protocol), table in probes.items()
        for kind in ("roc", "pr")
    ],
    ignore_index=True,
)
axes_of = {"xlabel": {"roc": "1 - specificity", "pr": "recall"}, "ylabel": {"roc": "sensitivity", "pr": "precision"}}
figure = plots.bands(bands, "x", hue="protocol", row="dataset", col="kind", sharex="col", sharey="col", **axes_of)
for axis in figure.axes[::2]:
    axis.axline((0, 0), slope=1, color="grey", linestyle=":", linewidth=1)
plt.show()

# %% [markdown]
# A curve is all thresholds at once; somebody who acts needs one of them. Move it, and see whom it finds and whom it alarms.

# %%
from mpox.book.explorers import operating_table, show_explorer

for name in datasets:
    curves = {protocol: operating_table(probes[name, protocol]) for protocol in reversed(protocols[name])}  # the honest one first
    show_explorer(curves, caption=f"{plots.dataset_title(name)}: the linear probe's ROC curves, first repeat, out-of-fold")

# %% [markdown]
# The area under the ROC curve has a second interval that resamples nothing: DeLong's {cite}`delong1988`, in the form for clustered
# data {cite}`obuchowski1997`. Where [the two](#table-two-intervals) agree, the interval is not an artefact of the bootstrap. Both pool the
# scores of all folds, so that scores of different models are ranked against each other; the mean of the areas *within* folds ranks only
# what one model said, with the interval from the folds, which does not hold where groups cross folds, and is left out there.

# %%
from mpox.protocols.splits import get_protocol
from mpox.stats.comparison import corrected_t_test
from mpox.stats.delong import auroc_delong
from mpox.stats.metrics import fold_metrics

both = []
for (name, protocol), table in probes.items():
    found = metrics[(metrics["dataset"] == name) & (metrics["protocol"] == protocol) & (metrics["regime"] == "linear_probe")]
    area, inside = auroc_delong(table), corrected_t_test(fold_metrics(table, [("auroc", "Mpox")])["estimate"], N_FOLDS)
    both.append(
        {
            "data set": name,
            "protocol": protocol,
            "pooled, as in the tables above": report.estimate(found, "auroc", "Mpox", digits=3),
            "pooled, DeLong for clusters": report.with_interval(area.estimate, area.low, area.high, digits=3),
            "mean within folds": "" if get_protocol(protocol).leaks else report.with_interval(inside.estimate, inside.low, inside.high, digits=3),
        }
    )
report.show(pd.DataFrame(both), name="two-intervals", caption="The AUROC of the linear probe over all folds, with two intervals, and within folds.")

# %% [markdown]
# ## Two readings of F1
#
# The published F1 of 95.80 % is the harmonic mean of the published precision and recall. If these are averages over
# classes, that is not the usual macro F1, which averages the F1 of each class. Side by side, on our own predictions
# ([both readings](#table-two-f1)):

# %%
both = metrics[(metrics["class"] == "macro") & metrics["metric"].isin(["f1", "f1_of_means"])]
both = both.pivot(index=["dataset", "protocol", "regime"], columns="metric", values="estimate")
both["difference"] = both["f1_of_means"] - both["f1"]
report.show(both.rename_axis(columns=None), digits=4, name="two-f1", caption="Macro F1, and the harmonic mean of macro precision and recall.")

# %%
report.prose(
    f"The harmonic mean of the averages is larger in {(both['difference'] > 0).sum()} of {len(both)} cases, "
    f"by up to {both['difference'].max():.3f}."
)

# %% [markdown]
# ## How much the folds differ
#
# Look at the folds themselves: in [the figure](#fig-folds) each point is one fold of the linear probe, the bar is their mean.
#
# :::{margin} Why n - 1 is not enough
# The spread of n numbers is divided by n - 1, because the mean was made from the same numbers. With folds that does not suffice: they
# share most of their training pictures, so that they agree more than n independent trials would. The corrected variance adds the ratio
# of test to training pictures to 1 / n.
# :::

# %%
folds = pd.concat(
    [
        fold_metrics(table).assign(dataset=name, protocol=protocol)
        for (name, protocol, regime), table in predictions.items()
        if regime == "linear_probe"
    ],
    ignore_index=True,
)
accuracy = folds[folds["metric"] == "accuracy"]

# %% mystnb={"image": {"alt": "Dot plots of accuracy for every fold under each protocol over boxes of their quartiles, one panel a data set."}, "figure": {"name": "folds", "caption": "Accuracy of each fold of the linear probe, all repeats; boxes are quartiles."}}
plots.points(accuracy, "estimate", "protocol", hue="protocol", col="dataset", box=True, xlabel="accuracy of a fold")
plt.show()

# %%
for (name, protocol), part in accuracy.groupby(["dataset", "protocol"], sort=False):
    report.prose(
        f"{plots.dataset_title(name)}, `{protocol}`: the folds range from {part['estimate'].min():.3f} to "
        f"{part['estimate'].max():.3f}, standard deviation {part['estimate'].std():.3f}."
    )

# %% [markdown]
# One value a fold, or all predictions pooled? Three intervals for the same accuracy: pooled, as in the tables above; the mean over the folds
# with the variance corrected for their common training pictures {cite}`nadeau2003`, unless groups cross folds; and Wilson's {cite}`wilson1927`, which takes every
# picture for an independent one and so promises too much where groups are large ([all three](#table-three-intervals)).

# %%
from mpox.stats.resample import wilson

three = []
for (name, protocol), part in accuracy.groupby(["dataset", "protocol"], sort=False):
    pooled = metrics[(metrics["dataset"] == name) & (metrics["protocol"] == protocol) & (metrics["regime"] == "linear_probe")]
    mean = corrected_t_test(part["estimate"], N_FOLDS)
    images = len(datasets[name].manifest)
    value = pooled.loc[pooled["metric"] == "accuracy", "estimate"].iloc[0]
    three.append(
        {
            "data set": name,
            "protocol": protocol,
            "pooled, as in the tables above": report.estimate(pooled, "accuracy", "all", digits=3),
            "mean of folds, corrected": "" if get_protocol(protocol).leaks else report.with_interval(mean.estimate, mean.low, mean.high, digits=3),
            "Wilson, pictures as independent": report.with_interval(*wilson(value * images, images), digits=3),
        }
    )
report.show(pd.DataFrame(three), name="three-intervals", caption="Three 95 % intervals for the same accuracy of the linear probe.")

# %% [markdown]
# Where does the spread come from? A trained network can be fitted again on the same folds with another seed, and the folds can be
# dealt anew. The variance of a fold's accuracy is split into what the seed, the fold and the deal contribute
# {cite}`bouthillier2021` ([the components](#fig-variance)). Beside it stands what must be expected from the small number of test
# pictures alone.

# %%
from mpox.stats.power import fold_estimates, variance_components

split_up = []
for name in [name for name in SEEDED if name in datasets and "tail_tune" in REPEATS]:
    honest = protocols[name][-1]
    runs = {
        seed: cross_validate(
            store, datasets[name], honest, models["tail_tune"].with_(seed=seed), n_folds=N_FOLDS,
            n_repeats=REPEATS["tail_tune"], seed=SEED,
        )
        for seed in SEEDS
    }  # fmt: skip
    table = variance_components(fold_estimates(runs, "accuracy", "all"))
    split_up.append(table.assign(dataset=name))
    caption = (
        f"{plots.dataset_title(name)}, {honest}, tail_tune: accuracy of {REPEATS['tail_tune']} x {N_FOLDS} folds with "
        f"{len(SEEDS)} seeds each, split into what the deal, the fold and the seed contribute."
    )
    report.show(table, name="variance", caption=caption)
    sd = table.set_index("component")["sd"]
    report.finding(f"variance_{report.short_name(name)}_seed", f"{100 * sd.iloc[2]:.1f} points")
    report.finding(f"variance_{report.short_name(name)}_fold", f"{100 * sd.iloc[1]:.1f} points")
if not split_up:
    report.prose("*No data set of this page was trained with several seeds (the parameter `SEEDED`).*")

# %% mystnb={"image": {"alt": "Bars of the standard deviation of a fold's accuracy that comes from the deal, the fold and the seed, and what sampling of test pictures alone explains."}, "figure": {"name": "variance", "caption": "Where the spread of a fold's accuracy comes from, as standard deviations. Hatched: what the number of test pictures in a fold explains by itself."}}
if split_up:
    parts = pd.concat(split_up, ignore_index=True)
    share = parts["share"].map(" ({:.0%})".format).where(parts["share"].notna(), "")
    parts = parts.assign(line=parts["component"] + share, of=share.eq("").map({False: "a part of the variance", True: "sampling"}))
    plots.bars(parts, "sd", "line", hue="of", col="dataset", numbers="{:.3f}", xlabel="standard deviation of a fold's accuracy")
    plt.show()

# %% [markdown]
# ## Which regime is better?
#
# A test that does not reject says that a difference was not shown, no more. And folds share most of their training pictures, so that
# the usual t-test over folds counts the same evidence several times; its variance is corrected here {cite}`nadeau2003`. To say that
# two models are *equally good* takes a margin that was fixed before looking and two one-sided tests {cite}`schuirmann1987`. A Bayesian reading of the same differences gives the probability that the
# first model is worse, practically equivalent or better, with the margin as the region of practical equivalence {cite}`benavoli2017`.
# McNemar's test looks at the images of the first repeat that only one of the two gets right; it holds the trained models fixed and takes
# images for independent. The tests over folds allow for other training sets, and for groups too as long as no group crosses folds.
# Under `random_image` groups do, folds agree too well, and the tests find too much ([how much](#table-type-one)): there
# is no comparison of models there. "Equivalent" means one thing in this book: both one-sided tests over the folds reject at 0.05, which
# is to say that their 90 % interval lies within the margin. [The figure](#fig-differences) shows the differences against the margin, [the table](#table-comparisons) has
# the corrected test, and [a second one](#table-comparisons-otherwise) what the others say.

# %%
from mpox.stats.comparison import compare_folds, fold_differences, holm, mcnemar

report.prose(
    f"The margin here is {MARGIN:g}: in accuracy, {100 * MARGIN:g} pictures in a hundred. The data do not supply it. We took it as the "
    "smallest gain for which one would put up with a slower or a larger model, and took it for AUROC as well, so that the two can be read "
    "side by side; whoever would act on less, or needs more, changes the parameter `MARGIN`, and other pairs become equivalent."
)
measured = (("accuracy", "all"), ("auroc", "Mpox"))
compared = []
for name in datasets:
    for protocol in [protocol for protocol in protocols[name] if protocol != "random_image"]:
        for regime in [regime for regime in repeats_of if regime != "linear_probe"]:
            first, second = predictions[name, protocol, regime], predictions[name, protocol, "linear_probe"]
            common = set(first["repeat"]) & set(second["repeat"])
            pair = [table[table["repeat"].isin(common)] for table in (first, second)]
            for metric, label in measured:
                row = compare_folds(*pair, metric, label, MARGIN, n_bootstrap=0).row()
                about = {"dataset": name, "protocol": protocol, "regime": regime, "folds": len(common) * N_FOLDS}
                compared.append({**about, **row, "p_mcnemar": mcnemar(*pair).p if metric == "accuracy" else None})
compared = pd.DataFrame(compared)
compared["p_holm"] = holm(compared["p"])
compared[f"equivalent within {MARGIN}"] = compared["verdict"].replace({"equivalent": "yes"})

# %% mystnb={"image": {"alt": "Difference of each regime from the linear probe with corrected 95 percent intervals, the margin of equivalence shaded, one panel a data set."}, "figure": {"name": "differences", "caption": "Each regime minus the linear probe on the same folds: mean over the folds with the corrected 95 % interval. Shaded: the margin within which a difference would not matter."}}
area = compared[compared["metric"] == "auroc"]
lines = {f"within {MARGIN:g}": (-MARGIN, MARGIN), "no difference": 0.0}
plots.forest(area, "regime", hue="protocol", row="dataset", xlabel="difference in AUROC (Mpox)", reference=lines)
plt.show()

# %%
texts = [report.with_interval(row.estimate, row.low, row.high, digits=3) for row in compared.itertuples()]
compared["against the probe"] = [text.replace("95 % CI ", "") for text in texts]
lines = compared.sort_values(["dataset", "metric"], kind="stable", ignore_index=True)
lines["metric"] = lines["metric"].map(column_words)
shown = ["dataset", "metric", "regime", "protocol", "against the probe", "p", "p_holm", f"equivalent within {MARGIN}"]
report.show(
    lines[shown],
    name="comparisons",
    caption="Each regime minus the linear probe on the same folds: mean over the folds, corrected 95 % interval and p value, and equivalence.",
)
shown = ["dataset", "metric", "regime", "protocol", "p_naive", "p_mcnemar", "p_worse", "p_equivalent", "p_better"]
report.show(
    lines[shown],
    name="comparisons-otherwise",
    caption="The same comparisons by other tests, and the Bayesian probabilities that the regime is worse, equivalent or better.",
)
report.prose(
    f"Of {len(compared)} comparisons {int((compared['p_holm'] < 0.05).sum())} differ after Holm's correction, and "
    f"{int((compared['verdict'] == 'equivalent').sum())} are equivalent within {MARGIN}. The uncorrected t-test would have called "
    f"{int((compared['p_naive'] < 0.05).sum())} significant, the corrected one {int((compared['p'] < 0.05).sum())}, both before Holm's correction."
)

# %% [markdown]
# ## What could have been shown at all?
#
# With so few groups small differences are easily missed. Two calculations: the smallest true difference in
# accuracy between two models that the corrected test over folds would have found four times out of five, given how much
# the differences vary here, and the same for McNemar's exact test on one image a group. Read [the curves of power](#fig-power) from the line
# at 80 % down to the axis.

# %%
from mpox.stats.power import power_table

power = []
for name, data in datasets.items():
    first, second = predictions[name, protocols[name][-1], "nearest_neighbour"], predictions[name, protocols[name][-1], "linear_probe"]
    observed = fold_differences(first, second, "accuracy", "all")["difference"]
    size = (data.groups.nunique(), mcnemar(first, second).discordance, observed.std(), N_FOLDS, first["repeat"].nunique())
    power.append(power_table(*size, differences=np.linspace(0.005, 0.2, 40)).assign(dataset=name))
power = pd.concat(power, ignore_index=True)

# %% mystnb={"image": {"alt": "Probability that a true difference in accuracy is shown, over its size, for two tests, one panel a data set, with 80 percent marked."}, "figure": {"name": "power", "caption": "Power of two tests for a true difference in accuracy between two models, with as many groups, folds and repeats as here; the differences between the nearest neighbour and the probe say how much such differences vary."}}
plots.bands(
    power.assign(points=100 * power["difference"]),
    "points",
    y="power",
    hue="test",
    col="dataset",
    percent="y",
    reference={"80 % power": 0.8},
    xlabel="true difference in accuracy (points)",
    ylabel="probability of p < 0.05",
)
plt.show()

# %%
for (name, test), part in power.groupby(["dataset", "test"], sort=False):
    least, about = f"{100 * part['detectable'].iloc[0]:.1f} points", f"{plots.dataset_title(name)}, {part['n_groups'].iloc[0]} groups, {test}"
    if part["detectable"].isna().all():
        report.prose(f"{about}: too few groups, or two models that do not disagree here; no difference can be named that would have been shown.")
        continue
    report.prose(
        f"{about}: a true difference below {least} between two "
        "models that differ as irregularly as the nearest neighbour and the probe would have been missed more than one time in five."
    )
    report.finding(f"power_{report.short_name(name)}_{test.split()[0].lower()}", least)

# %% [markdown]
# ## What would more patients bring?
#
# The same probe, trained on a part of the groups of each training fold, tested on the same test folds. A power law with a floor,
# error = a + b n<sup>-c</sup>, is fitted to the macro F1 {cite}`viering2023` and asked what it would take to reach the published F1
# ([the learning curve](#fig-learning-curve)).

# %%
from mpox.stats.growth import needed_groups
from mpox.studies.learning_curve import curve_replicates, curve_table, learning_curve

curve_of, need = {}, {}
for name, data in datasets.items():
    try:
        drawn = learning_curve(
            store, data, protocols[name][-1], models["linear_probe"], fractions=FRACTIONS, n_folds=N_FOLDS,
            n_repeats=CURVE_REPEATS, seed=SEED,
        )  # fmt: skip
    except TooFewImages as reason:
        report.prose(f"*No learning curve of {plots.dataset_title(name)}: {reason}*")
        continue
    curve_of[name] = curve_table(drawn)
    if len(FRACTIONS) > 2:
        need[name] = needed_groups(*curve_replicates(drawn, "f1", "macro"), PUBLISHED_F1)

# %% mystnb={"image": {"alt": "Macro F1 over the number of training groups with 95 percent intervals, the fitted power law dashed, the published F1 as a line, one panel a data set."}, "figure": {"name": "learning-curve", "caption": "Macro F1 of the linear probe over the number of groups in training, with 95 % intervals from resampling the tested groups, the fitted power law (dashed), and the published F1."}}
if curve_of:
    learnt = pd.concat([table.assign(dataset=name) for name, table in curve_of.items()], ignore_index=True)
    learnt = learnt[(learnt["metric"] == "f1") & (learnt["class"] == "macro")]
    look = {"intervals": "bars", "join": False, "log": "x", "xlabel": "training groups", "ylabel": "macro F1"}
    figure = plots.bands(learnt, "n_groups", col="dataset", reference={"published F1": PUBLISHED_F1}, **look)
    for axis, (name, points) in zip(figure.axes, learnt.groupby("dataset", sort=False), strict=True):
        if name in need:
            n = np.geomspace(points["n_groups"].min(), 10 * points["n_groups"].max(), 100)
            axis.plot(n, 1 - need[name].law.error(n), "--", color=plots.COLOURS[0], linewidth=1.2)
    plt.show()

# %%
for name, found in need.items():
    law = found.law
    fitted = f"error = {law.a:.3f} + {law.b:.2f} n<sup>-{law.c:.2f}</sup>"
    if found.estimate == float("inf"):
        text = "the fitted floor is above the published figure: no number of pictures of this kind would reach it"
    else:
        text = f"the law would reach the published figure with {found.estimate:,.0f} training groups"
    high = "never" if found.high == float("inf") else f"{found.high:,.0f}"
    report.prose(
        f"{plots.dataset_title(name)}: {fitted}; {text} (95 % interval {found.low:,.0f} to {high}; in {found.never:.0%} of the "
        "replicates never). This is an extrapolation far beyond the data."
    )
    reach = "never, by the fitted law" if found.estimate == float("inf") else f"{found.estimate:,.0f}"
    report.finding(f"needed_{report.short_name(name)}", f"{reach} (95 % interval {found.low:,.0f} to {high})")

# %% [markdown]
# ## Do the intervals and tests do what they say?
#
# A statistical method can be tested like a program: simulate data whose truth is known, and count. First: studies with the groups of
# MSLD v1.0 and two classes of Gaussian features, in which a linear probe is trained and cross-validated, groups kept whole. The truth is
# what such probes are worth on new people, on average. Right answers agree less within these groups than in our data. How many 95 %
# intervals hold it? [The count](#table-coverage) is why this chapter draws the whole pipeline again where it can: with
# the models held fixed an interval knows that other people could have been tested, and not that others could have been learnt from.

# %%
spec = {"studies": STUDIES, "seed": SEED, "features": list(SETTINGS)}
held = store.table("coverage", spec, lambda: coverage(STUDIES, seed=SEED))
caption = f"Share of {STUDIES} simulated studies whose 95 % interval holds the truth, with the standard error of that share."
report.show(held, name="coverage", caption=caption)
spans = held.groupby("method")["coverage"].agg(["min", "max"]).apply("{0[min]:.2f} to {0[max]:.2f}".format, axis=1)
report.prose(
    f"With the whole pipeline drawn again {spans[REFITTED]} of the intervals hold the truth, with the models held fixed {spans[FIXED]}. Above 0.95 an "
    "interval is wider than it need be."
)
report.finding("coverage_refitted", spans[REFITTED])

# %% [markdown]
# Then: two learners that are equally good are compared over and over by repeated cross-validation. A test at the level 0.05 should
# call them different in 5 % of the studies. [What it does](#table-type-one) depends on whether groups cross folds.

# %% tags=["hide-input"]
def null_differences(rng, whole, *, correlation=0.6, n_groups=80, per_group=3, n_folds=5, n_repeats=5, n_features=10, separation=2.0):
    """Accuracy of one learner minus that of its twin in each fold, shape (n_repeats * n_folds,). Both take the class of the nearest
    mean in training; the first sees one half of the features and the second the other, of the same distribution, in which images of
    a group correlate. Folds take ``whole`` groups, or image by image."""
    group = np.repeat(np.arange(n_groups), per_group)
    y, unit = group % 2, group if whole else np.arange(len(group))
    side = y[np.unique(unit, return_index=True)[1]]
    shared, own = rng.normal(size=(2, n_groups, n_features))[:, group], rng.normal(size=(2, len(y), n_features))
    x = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    x[:, y == 1, 0] += separation
    differences, dealt = [], np.empty(len(side), dtype=np.int64)
    for _ in range(n_repeats):
        for label in (0, 1):
            dealt[side == label] = rng.permutation(np.arange((side == label).sum()) % n_folds)
        fold = dealt[unit]
        training = fold != np.arange(n_folds)[:, None]  # (k, n)
        means = [(training & (y == label)) @ x / (training & (y == label)).sum(axis=1)[:, None] for label in (0, 1)]
        direction, middle = means[1] - means[0], (means[1] + means[0]) / 2  # (2, k, d)
        score = np.take_along_axis(x @ direction.transpose(0, 2, 1), fold[None, :, None], axis=2)[..., 0]
        chosen = score > (direction * middle).sum(axis=2)[:, fold]
        gain = (chosen[0] == y).astype(float) - (chosen[1] == y)
        differences.append(np.bincount(fold, gain) / np.bincount(fold))
    return np.concatenate(differences)


def type_one_error(n_simulations=1000, *, seed=0, **study):
    """How often the corrected and the plain t-test call two equally good learners different at the level 0.05."""
    rng, rows = np.random.default_rng(seed), []
    for folds_of, whole in (("whole groups", True), ("single images", False)):
        found = [null_differences(rng, whole, **study) for _ in range(n_simulations)]
        for test in ("corrected t", "plain t"):
            hits = sum(corrected_t_test(values, 5, corrected=test == "corrected t").p < 0.05 for values in found)
            rows.append((folds_of, test, *with_wilson(hits, n_simulations)))
    return pd.DataFrame(rows, columns=["folds_of", "test", "share_significant", "low", "high"])


# %%
wrong = type_one_error(SIMULATIONS, seed=SEED)
caption = "Share of simulated studies in which two equally good learners are called different at the level 0.05, three images a group."
report.show(wrong, name="type-one", caption=caption)

# %%
quoted = {
    "accuracy": ("accuracy", "all"),
    "macro_f1": ("f1", "macro"),
    "auroc": ("auroc", "Mpox"),
    "sensitivity": ("sensitivity", "Mpox"),
    "specificity": ("specificity", "Mpox"),
}
for (name, protocol, regime), part in metrics.groupby(["dataset", "protocol", "regime"]):
    if regime == "linear_probe":
        for key, (metric, label) in quoted.items():
            digits = 3 if key == "auroc" else 2
            report.finding(f"cv_{report.short_name(name)}_{protocol}_{key}", report.estimate(part, metric, label, digits=digits))

# %% tags=["hide-input"]
said = []
for name in datasets:
    honest = protocols[name][-1]
    probe = metrics[(metrics["dataset"] == name) & (metrics["regime"] == "linear_probe")]
    by = {protocol: part for protocol, part in probe.groupby("protocol")}
    text = (
        f"**{plots.dataset_title(name)}**: on groups it has not met (`{honest}`) the linear probe has an AUROC of "
        f"{report.estimate(by[honest], 'auroc', 'Mpox', digits=3)} and a macro F1 of {report.estimate(by[honest], 'f1', 'macro')}"
    )
    if "augment_before_split" in by:
        text += f"; where pictures are multiplied before they are divided the macro F1 is {report.estimate(by['augment_before_split'], 'f1', 'macro')}"
    doses = response[top & (response["dataset"] == name) & (response["subset"] == "all") & (response["metric"] == "accuracy")]
    changes = [
        f"by {report.with_interval(100 * row.change, 100 * row.change_low, 100 * row.change_high, digits=1)} points ({row.regime.replace('_', ' ')})"
        for row in doses.itertuples()
    ]
    grown = sorted({more_data(row) for row in doses.itertuples()} - {""})
    if changes:
        text += f". With siblings back in training accuracy changes {' and '.join(changes)}; see [dose by dose](#fig-dose-response)"
        text += f".{grown[0]}".rstrip(".") if grown else ""
    found = power[power["dataset"] == name].groupby("test", sort=False)["detectable"].first()
    missed = f"below {100 * found.iloc[0]:.1f} points between two models would be missed more than one time in five"
    said.append(f"{text}. A true difference in accuracy {missed if found.iloc[0] > 0 else 'of any size could have been missed'}.")
for train_name, test_name in EXTERNAL:
    rows = crossed[(crossed["train"] == train_name) & (crossed["test"] == test_name) & (crossed["regime"] == "linear_probe")]
    told = {subset: rows[rows["subset"] == subset] for subset in SUBSETS}
    texts = [f"{subset} {report.estimate(part, 'auroc', 'Mpox', digits=3)}" for subset, part in told.items() if not part["reason"].iloc[0]]
    said.append(f"Trained on {train_name}, tested on {test_name}, the AUROC is: {'; '.join(texts)}.")
at_the_top.fill(*said)

# %% [markdown]
# ## What this means

# %% tags=["hide-input"]
for name in datasets:
    honest = protocols[name][-1]
    probe = metrics[(metrics["dataset"] == name) & (metrics["regime"] == "linear_probe")]
    area = probe[(probe["protocol"] == honest) & (probe["metric"] == "auroc") & (probe["class"] == "Mpox")].iloc[0]
    text = (
        f"**{plots.dataset_title(name)}**: on people or photographs that it has not met the probe reaches an AUROC of "
        f"{report.with_interval(*area[['estimate', 'low', 'high']], digits=3)}."
    )
    if not datasets[name].is_phantom:
        inside = area["low"] <= PUBLISHED_AUROC <= area["high"]
        apart_by = "lies inside that interval" if inside else f"is {PUBLISHED_AUROC - area['estimate']:.3f} higher and outside that interval"
        text += f" The published {PUBLISHED_AUROC} {apart_by}."
    if (name, "linear_probe", "accuracy") in apart:
        change = apart[name, "linear_probe", "accuracy"]
        told = "so that the rule alone changes the figure" if change[1] > 0 or change[2] < 0 else "which the deal of the pictures can explain"
        text += f" A random division changes the probe's accuracy by {report.with_interval(*change, digits=3)}, {told}."
    doses = response[top & (response["dataset"] == name) & (response["subset"] == "all") & (response["metric"] == "accuracy")]
    said = []
    for row in doses.itertuples():
        judged = "gains" if row.change_low > 0 else "loses" if row.change_high < 0 else "is not shown to gain or lose"
        change = report.with_interval(row.change, row.change_low, row.change_high, digits=3)
        said.append(f"the {row.regime.replace('_', ' ')} {judged} ({change})")
    text += f" By siblings in training, in the dose-response, {', '.join(said)}." if said else ""
    report.prose(text + "".join(sorted({more_data(row) for row in doses.itertuples()})[-1:]))

# %% [markdown]
# The distance between the protocols mixes leakage with a different deal of the test sets; the dose-response isolates more closely what
# the known siblings cause. An interval there that contains zero does not show that a leak is harmless. On photographs, what lies between
# the honest figure and the published one is left to be explained by something else: other data, another schedule, or another way of testing.
#
# ## What could be wrong
#
# - `source` keeps together what the audit of all sets found to belong together. A copy that it missed can still be on both sides, and
#   where no patient ids are known, so can a person whom nobody recognised. `patient` trusts the ids: a photograph that is filed
#   under two patients (chapter 1 lists such pairs) can still be on both sides.
# - The dose-response trains on other amounts than the protocols and is tested on the random split's images, so that its levels cannot
#   be compared with theirs; only its differences count.
# - Siblings in the dose-response take the place of unrelated pictures, so that a higher dose also means fewer different patients in
#   training. This should work against the climb; the test pictures without a sibling show how much.
# - On MSID photographs are resampled, because patients are not known. If one person gave several photographs, the intervals are too
#   narrow, and pictures of one person can be on both sides of `source`.
# - The copies of `augment_before_split` are made by our recipe; the published ones are not documented well enough to be repeated.
# - Another collection differs in more than its patients: other sources, other habits of cropping, other rashes.
# - Pooling scores of different folds into one curve assumes that their scores mean the same; each fold has its own model.
# - The interval covers the choice of patients, where the pipeline is drawn again also of those that are learnt from, but not the choice of model, training
#   schedule or data set. Of a trained network it covers the seed only as far as the folds show it; the table of components says more.
# - The paper's test between folds is not named; ours are two readings of it.
# - The corrected t-test rests on an approximation of how folds depend on each other. Where groups cross folds it does not hold its level.
# - Differences between doses, curves and other tests of this book still hold the trained models fixed: [their intervals](#table-coverage) are
#   too narrow. The intervals from the folds are nearly right for an accuracy, and too narrow for an AUROC.
# - A power law fitted to a few sizes says little about sizes that nobody has seen.
#
# ## Take-aways
#
# - The rule by which images are assigned to folds is part of the result ([the same model under each](#fig-auroc-by-protocol)). A figure
#   without it cannot be read.
# - Resample patients, not pictures. The interval then answers the question that a new patient asks.
# - "p > 0.05" shows no equality ([how often it is said](#fig-fold-tests)). State a margin, and show that the interval lies inside.
# - Folds share their training pictures. A test that takes them for independent finds what is not there.
# - Ask what a study could have shown before reading what it did not show ([its power](#fig-power)).
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("03")

# %% [markdown]
# ## Exercises
#
# With blanks to be filled in: `notebooks/exercises/03_cross_validation.ipynb`. Here each exercise is followed by a solution, folded
# in the book. Try first.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Compute the accuracy of always naming the largest class, and find it on the axis of the first figure. How far is the probe above it?

# %% tags=["solution"]
for name, data in datasets.items():
    share = data.manifest["label"].value_counts(normalize=True)
    found = evaluate(predictions[name, protocols[name][-1], "linear_probe"], n_bootstrap=0).set_index(["metric", "class"])["estimate"]
    report.prose(
        f"{plots.dataset_title(name)}: always naming {share.idxmax()} is right in {share.max():.1%} of the pictures; the probe under "
        f"`{protocols[name][-1]}` is right in {found['accuracy', 'all']:.1%}."
    )

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Replace the column `group_id` of the predictions by `image_id`, so that `evaluate` resamples pictures, and compare the width of
# the intervals. One repeat is enough. When are the two alike?

# %% tags=["solution"]
rows = []
for name in datasets:
    table = predictions[name, protocols[name][-1], "linear_probe"].query("repeat == 0")
    by_group, by_picture = evaluate(table), evaluate(table.assign(group_id=table["image_id"]))
    width = (by_group["high"] - by_group["low"]) / (by_picture["high"] - by_picture["low"])
    for metric, label in (("accuracy", "all"), ("auroc", "Mpox")):
        row = (by_group["metric"] == metric) & (by_group["class"] == label)
        texts = [report.estimate(found, metric, label, digits=3) for found in (by_group, by_picture)]
        rows.append((plots.dataset_title(name), metric, *texts, width[row].iloc[0]))
report.show(
    pd.DataFrame(rows, columns=["data set", "metric", "groups resampled", "pictures resampled", "ratio of widths"]),
    digits=2,
    caption="The linear probe under the honest protocol, the first repeat alone.",
)

# %% [markdown] tags=["solution"]
# The estimate is the same, the interval is not. Where pictures of a group are right or wrong together, a group brings less than
# its number of pictures, and resampling pictures promises a precision that is not there. The two are alike where almost every
# group holds a single picture, or where errors within a group are independent.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (medium)
#
# Take the differences in accuracy between nearest neighbour and probe, fold by fold (`mpox.stats.comparison.fold_differences`), and
# write the same list ten and a hundred times in a row, as if the cross-validation had been repeated and every repeat had come out
# the same. What do the plain and the corrected t-test (`mpox.stats.comparison.corrected_t_test`) make of it?

# %% tags=["solution"]
from mpox.stats.comparison import corrected_t_test, fold_differences

rows = []
for name in datasets:
    pair = [predictions[name, protocols[name][-1], regime] for regime in ("nearest_neighbour", "linear_probe")]
    values = fold_differences(*pair, "accuracy", "all")["difference"].to_list()
    for times in (1, 10, 100):
        plain, corrected = (corrected_t_test(values * times, N_FOLDS, corrected=way).p for way in (False, True))
        rows.append((plots.dataset_title(name), len(values), times, f"{plain:.2g}", f"{corrected:.2g}"))
report.show(pd.DataFrame(rows, columns=["data set", "differences", "written down", "p, plain", "p, corrected"]))

# %% [markdown] tags=["solution"]
# Nothing was learnt by copying a list, but the plain test takes every copy for new evidence and its p value collapses. The
# corrected variance has a term that no number of repeats can shrink, because the folds share training pictures however often they
# are assigned. Its p value falls at first, since more differences seem to tell more of how they spread, and then stays where it is. It
# can be fooled by copies, too, but not without end.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 (hard)
#
# For each picture, compare the probability of its true class under `random_image` and under the honest protocol. Are the pictures
# that gain the ones with siblings? (`mpox.protocols.splits.has_sibling` tells which these are, `mpox.stats.metrics.group_weights` resamples groups.)

# %% tags=["solution"]
from mpox.protocols.splits import has_sibling, make_splits
from mpox.stats.metrics import group_weights
from mpox.stats.resample import weighted_mean, with_percentiles
from mpox.studies.errors import error_table

for name, data in datasets.items():
    lax, strict = ("random_image", protocols[name][-1])
    if lax not in protocols[name] or lax == strict:
        report.prose(f"{plots.dataset_title(name)}: PROTOCOLS names no random and honest protocol to compare.")
        continue
    first = [predictions[name, way, "linear_probe"].query("repeat == 0") for way in (lax, strict)]
    p_true = [error_table(table).set_index("image_id")["p_true"] for table in first]
    siblings = has_sibling(make_splits(data.manifest, lax, n_folds=N_FOLDS, seed=SEED), data.groups).set_index("image_id")["sibling"]
    table = pd.DataFrame({"gain": p_true[0] - p_true[1], "sibling": siblings, "group": data.groups})
    weights = group_weights(table["group"].to_numpy(str), 2000, SEED)
    gain, has = table["gain"].to_numpy(), table["sibling"].to_numpy(bool)
    those, others = (weighted_mean(gain, weights, one) for one in (has, ~has))
    texts = [report.with_interval(*with_percentiles(values), digits=3) for values in (those, others, those - others)]
    report.prose(
        f"{plots.dataset_title(name)}: mean gain in the probability of the true class {texts[0]} for the {has.sum()} pictures with a "
        f"sibling in training, {texts[1]} for the {(~has).sum()} others; difference {texts[2]}."
    )

# %% [markdown] tags=["solution"]
# If the pictures with siblings gain and the others do not, the distance between the protocols is leakage rather than luck of the
# deal. Where the others gain as well, something else changed too: the deal itself, what is in training in place of the siblings, or
# siblings that nobody found. The difference of the two gains is what siblings are worth beyond that, and an interval of it that
# contains zero leaves the matter open. The first repeat alone is used here, because which pictures have a sibling in training
# changes with every deal.

# %% [markdown] tags=["exercise"]
# ### Exercise 5 (open)
#
# You referee a paper whose abstract says: "Five-fold cross-validation showed no significant differences between folds (p > 0.05),
# which confirms the robustness of the model." Write the five questions that you would put to the authors, the most important first.

# %% [markdown] tags=["solution"]
# *A model answer.*
#
# 1. How were images assigned to folds, and what was done with several pictures of one patient, and with copies of one photograph?
#    Was augmentation done before or after?
# 2. Where do the intervals come from, and what was resampled: patients or pictures?
# 3. Which test was used between folds, on what, and which difference between folds would it have found with a probability of 80 %?
# 4. Which difference would matter, was it fixed beforehand, and can you show that the folds differ by less?
# 5. Where were the number of epochs, the threshold and the best configuration chosen: inside the training folds, or on the folds
#    whose figures are reported?
#
# The first comes first because no answer to the others repairs a leak. A sixth: may we have the predictions, one row a picture
# with its fold and its patient? With these a reader can answer the other five.

# %% [markdown]
# ## What to read next
#
# [Chapter 5](05_ablation.ipynb) compares what a model is made of, with the tests of this chapter; [the verdict](10_verdict.ipynb)
# holds the paper's claims against these intervals. On tests over folds: Nadeau and Bengio {cite}`nadeau2003`; on equivalence:
# Schuirmann {cite}`schuirmann1987`; on a Bayesian reading: Benavoli et al. {cite}`benavoli2017`.

# %% tags=["hide-input"]
report.provenance("03_cross_validation", store, list(datasets.values()), device=DEVICE)
