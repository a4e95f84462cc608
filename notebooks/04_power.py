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
# # What could have been shown at all

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# The paper reads p > 0.05 in cross-validation as robustness; in simulated studies of MSLD's size a test between folds finds
# nothing in {{ blind_msld_5 }} where the folds truly differ by 5 points of accuracy, and in {{ blind_msld_0 }} where they do not
# differ. Between two models, a true difference in accuracy below {{ power_msld_corrected }} on MSLD, or
# {{ power_msid_corrected }} on MSID, would be missed more than one time in five. More images of the same kind are no quick
# remedy: extrapolated, the published F1 takes at least {{ needed_msld_least }} training groups on MSLD and
# {{ needed_msid_least }} on MSID, and perhaps no number suffices.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# Here the truth is set: in simulated studies of the phantom's size the folds differ by 5 points of accuracy, and a test between
# folds still finds nothing in {{ blind_phantom_5 }}. The same test finds nothing in {{ blind_phantom_0 }} where no fold differs;
# 95 % would be right. Between two models, a true difference in accuracy below {{ power_phantom_corrected }} would be missed more
# than one time in five.
# :::

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
PROTOCOLS = {"phantom": ["random_image", "patient", "source"]}
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 0
TRAINED_IMAGE_SIZE = 128
TRAINING = {"epochs": 3, "frozen_stages": 3}
TAIL_TRAINING = {"epochs": 3, "frozen_stages": 6, "views": 2}
N_FOLDS = 3
REPEATS = {"linear_probe": 2, "tail_tune": 1}
FRACTIONS = [0.4, 0.7, 1]
CURVE_REPEATS = 2
MARGIN = 0.02
SIMULATIONS = 200
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import numpy as np
import pandas as pd
from scipy import stats

import mpox.studies.verdict
from mpox.book import plots, report, run
from mpox.stats import comparison, power
from mpox.studies import learning_curve

run.check_parameters("04_power", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = {data.name: data for data in store.datasets(DATASETS, data_dir=DATA_DIR or None)}
kept = {name: [one for one in PROTOCOLS.get(name, ["source"]) if one != "random_image"] or ["random_image"] for name in datasets}
apart = {name: protocols[-1] for name, protocols in kept.items()}
settings = {"backbone": BACKBONE, "seed": SEED, "device": DEVICE}
models = {regime: mpox.ModelConfig(regime, image_size=IMAGE_SIZE, **settings) for regime in ("linear_probe", "nearest_neighbour")}
for regime, training in {"fine_tune": TRAINING, "tail_tune": TAIL_TRAINING}.items():
    models[regime] = mpox.ModelConfig(regime, image_size=TRAINED_IMAGE_SIZE, training=training, **settings)
folds = {"n_folds": N_FOLDS, "seed": SEED}
predictions = {
    (name, protocol, regime): mpox.cross_validate(store, data, protocol, models[regime], n_repeats=n_repeats, **folds)
    for name, data in datasets.items()
    for protocol in kept[name]
    for regime, n_repeats in {**REPEATS, "nearest_neighbour": REPEATS["linear_probe"]}.items()
}

# %%
def chi_square_p(right, sizes):
    """P values of the chi-square test of homogeneity; ``right`` images in each fold, a row a simulated study."""
    overall = right.sum(axis=1, keepdims=True) / sizes.sum()
    with np.errstate(divide="ignore", invalid="ignore"):  # all right or all wrong: p is 1
        statistic = (sizes * (right / sizes - overall) ** 2).sum(axis=1) / (overall * (1 - overall))[:, 0]
    return stats.chi2.sf(np.nan_to_num(statistic, posinf=np.inf), len(sizes) - 1)


def within_groups(right, groups):
    """Intraclass correlation of being right (Fleiss and Cuzick 1979): 0 where images of a group err alone, 1 where as one."""
    each = pd.Series(right, dtype=float).groupby(np.asarray(groups)).agg(["sum", "size"])
    inside = (each["sum"] * (1 - each["sum"] / each["size"])).sum()
    return 1 - inside / ((len(right) - len(each)) * np.mean(right) * (1 - np.mean(right)))


def fold_test_experiment(fold, groups, accuracy, correlation, spreads, *, n_simulations, seed):
    """How often p > 0.05 is found where best and worst fold truly differ by each spread. An image follows its group's lot with
    the root of the correlation as probability, or else its own, so that two of a group correlate as asked."""
    rng, codes, sizes, rows = np.random.default_rng(seed), pd.factorize(groups)[0], np.bincount(fold), []
    for spread in spreads:
        lots = rng.random((n_simulations, codes.max() + 1))[:, codes]
        follows = rng.random((n_simulations, len(fold))) < np.sqrt(max(correlation, 0))
        chance = accuracy + spread * np.linspace(-0.5, 0.5, len(sizes))[fold]
        right = np.where(follows, lots, rng.random(lots.shape)) < chance
        right = right @ (fold[:, None] == np.arange(len(sizes))).astype(float)
        rows.append((spread, (chi_square_p(right, sizes) > 0.05).mean()))
    return pd.DataFrame(rows, columns=["spread", "share_not_significant"])


silent = []
for name in datasets:
    once = predictions[name, apart[name], "linear_probe"].query("repeat == 0")
    right = once.filter(regex="^p_").idxmax(axis=1).str.removeprefix("p_") == once["label"]
    together, accuracy = within_groups(right.to_numpy(), once["group_id"]), right.mean()
    spreads = [one for one in (0.0, 0.01, 0.02, 0.05, 0.10) if one / 2 <= min(accuracy, 1 - accuracy)]
    drawn = {"n_simulations": 5 * SIMULATIONS, "seed": SEED}
    found = fold_test_experiment(once["fold"].to_numpy(), once["group_id"], accuracy, together, spreads, **drawn)
    silent.append(found.assign(dataset=name, points=100 * found["spread"]))
    for row in found.itertuples():
        report.finding(f"blind_{report.short_name(name)}_{100 * row.spread:.0f}", f"{row.share_not_significant:.0%}")
    report.finding(f"blind_{report.short_name(name)}_correlation", f"{together:.2f}")
silent = pd.concat(silent, ignore_index=True)
report.finding("blind_studies", f"{5 * SIMULATIONS:,}")

# %% mystnb={"image": {"alt": "Share of simulated studies in which a chi-square test between folds gives p above 0.05, over the true difference in accuracy between the best and the worst fold, a line for each data set."}, "figure": {"name": "fold-tests", "caption": "How often a chi-square test between folds finds no significant difference, over the true difference between the best and the worst fold. Simulated with the folds, the groups and the clustered errors of the linear probe, groups kept apart. Where no fold differs 95 % would be right. A high line on the right is a test that does not see."}}
look = {"percent": "y", "width": 5.5, "reference": {"right if no fold differs": 0.95}, "ylabel": "simulations with p > 0.05"}
xlabel = "best fold minus worst, true accuracy (points)"
figure = plots.bands(silent, "points", y="share_not_significant", hue="dataset", xlabel=xlabel, **look)
limits = figure.axes[0].set_ylim(0, 1.03)

# %% [markdown]
# **Question.** Which differences, between folds or between models, could studies of this size have shown, and which would they
# have missed?
#
# **After this chapter you can**
#
# - say why p > 0.05 between folds is no evidence of robustness;
# - compare two models on the same folds, with an interval and a correction for shared training images;
# - tell *not shown to differ* from *shown to be equivalent*, with a margin;
# - compute the smallest difference that a study could have shown;
# - read a learning curve, and distrust its extrapolation.
#
# **You need** [chapter 3](03_cross_validation.ipynb), and to have met a p value before.
#
# ## What such a test would have missed
#
# The paper reports cross-validation results without significant differences (p > 0.05). A test that finds nothing has two
# possible reasons: nothing is there, or the test cannot see it. To tell them apart, simulate a case in which something *is*
# there. Here is one study with five folds of 46 images, about as many as MSLD has. From the worst fold to the best the true
# accuracy rises by 5 points. The chi-square test compares the folds:

# %% tags=["nbval-check-output"]
rng = np.random.default_rng(0)
true_accuracy = 0.80 + np.array([-0.025, -0.0125, 0, 0.0125, 0.025])  # of five folds
right = rng.binomial(46, true_accuracy)  # images that the model gets right in each
p = stats.chi2_contingency([right, 46 - right]).pvalue
print(right, f"p = {p:.2f}")

# %% [markdown]
# One study may be luck. So repeat it, and count how often the test sees what we planted:

# %% tags=["nbval-check-output"]
studies = rng.binomial(46, true_accuracy, size=(1000, 5))
p = np.array([stats.chi2_contingency([right, 46 - right]).pvalue for right in studies])
print(f"p > 0.05 in {np.mean(p > 0.05):.0%} of the studies")

# %% [markdown]
# The folds differ in every one of these studies, and the test is silent in nearly all of them.
#
# [The figure above](#fig-fold-tests) does the same with the real folds. It starts from the probe's own accuracy, and images of
# one group are right or wrong together as often as in the data. Each point is the share in {{ blind_studies }} simulated studies.
# The paper does not name its test in the abstract; an analysis of variance of right and wrong answers is nearly the same test.

# %% [markdown] tags=["study"]
# A true difference of 5 points hardly changes how often the test is silent: {{ blind_msld_5 }} instead of {{ blind_msld_0 }} on
# MSLD, and {{ blind_msid_5 }} instead of {{ blind_msid_0 }} on MSID. It is wrong in both directions. Where no fold differs it
# should be silent in 95 % of the studies, and raises false alarms instead: it counts images one by one, while images of a group
# are right or wrong together (intraclass correlation {{ blind_msld_correlation }} on MSLD, {{ blind_msid_correlation }} on MSID).

# %% tags=["guard"]
if report.is_study(datasets):
    seen = silent.set_index(["dataset", "points"])["share_not_significant"]
    for name in ("msld-v1", "msid"):
        report.guard(f"{name}: folds that differ by 5 points are missed in most studies", seen[name, 5] > 0.5)
        report.guard(f"{name}: 5 points hardly change how often the test is silent", seen[name, 0] - seen[name, 5] < 0.1)
        report.guard(f"{name}: the test finds differences where there are none", seen[name, 0] < 0.9)

# %% [markdown]
# ## Which model is better?
#
# Two models that were tested on the same folds are compared fold by fold. The folds share most of their training images, so that
# fifty differences from ten repeats are not fifty independent observations. The corrected t-test enlarges the variance for that
# {cite}`nadeau2003`. Here the nearest neighbour is compared with the linear probe:

# %%
name = next(iter(datasets))
neighbour, probe = (predictions[name, apart[name], regime] for regime in ("nearest_neighbour", "linear_probe"))
differences = comparison.fold_differences(neighbour, probe, "accuracy", "all")["difference"]
for corrected in (False, True):
    found = comparison.corrected_t_test(differences, N_FOLDS, corrected=corrected)
    print(f"{name}: {found.estimate:.3f} ({found.low:.3f} to {found.high:.3f}), corrected: {corrected}")

# %% [markdown]
# The estimate is the same, the corrected interval is wider. If it contained zero, a difference would not be shown, and no
# equality either. Equivalence takes a margin, fixed before looking, and two one-sided tests {cite}`schuirmann1987`. Both must
# reject, which means that the 90 % interval lies inside the margin:

# %%
equivalence = comparison.tost(differences, MARGIN, N_FOLDS)
print(f"90 % interval {equivalence.low90:.3f} to {equivalence.high90:.3f}, margin {MARGIN}: {equivalence.verdict}")

# %% [markdown]
# The margin of this book is {{ margin }}, of accuracy or of AUROC (area under the ROC curve). The data do not supply it. We took
# it as the smallest gain for which one would accept a slower or larger model; the parameter `MARGIN` changes it.
# [The figure](#fig-differences) and [the table](#table-comparisons) compare each model with the probe in this way.

# %%
compared = []
for (name, protocol, regime), first in predictions.items():
    if regime == "linear_probe" or protocol == "random_image":  # there groups cross folds, and the test finds too much
        continue
    common = set(first["repeat"]) & set(predictions[name, protocol, "linear_probe"]["repeat"])
    pair = [table[table["repeat"].isin(common)] for table in (first, predictions[name, protocol, "linear_probe"])]
    for metric, label in (("accuracy", "all"), ("auroc", "Mpox")):
        row = comparison.compare_folds(*pair, metric, label, MARGIN, n_bootstrap=0).row()
        about = {"dataset": name, "protocol": protocol, "model": regime, "folds": len(common) * N_FOLDS}
        compared.append({**about, **row, "p_mcnemar": comparison.mcnemar(*pair).p if metric == "accuracy" else None})
compared = pd.DataFrame(compared)
compared["p_holm"] = comparison.holm(compared["p"])
shown = compared[compared["protocol"] == compared["dataset"].map(apart)]
report.finding("margin", f"{100 * MARGIN:g} points")
report.finding("compared", str(len(compared)))
for test, p in (("uncorrected", "p_naive"), ("corrected", "p"), ("holm", "p_holm")):
    report.finding(f"compared_{test}", str((compared[p] < 0.05).sum()))
report.finding("compared_equivalent", str((compared["verdict"] == "equivalent").sum()))

# %% mystnb={"image": {"alt": "Difference in AUROC between each model and the linear probe with corrected 95 percent intervals, the margin of equivalence shaded, one panel for each data set."}, "figure": {"name": "differences", "caption": "AUROC for Mpox of each model minus that of the linear probe on the same folds, groups kept apart: mean over the folds with the corrected 95 % interval. Shaded: the margin within which a difference would not matter."}}
lines = {f"margin, {MARGIN:g}": (-MARGIN, MARGIN), "no difference": 0.0}
area = shown[shown["metric"] == "auroc"]
figure = plots.forest(area, "model", row="dataset", xlabel="AUROC minus that of the linear probe", reference=lines)

# %%
cells = [report.with_interval(row.estimate, row.low, row.high, digits=3) for row in shown.itertuples()]
cells = shown.assign(difference=cells, equivalent=shown["verdict"].replace({"equivalent": "yes"}))
cells = cells.assign(model=cells["model"].map(plots.WORDS), measure=cells["metric"].replace({"auroc": "AUROC"}))
caption = f"Each model minus the linear probe: mean over folds with the corrected 95 % interval; equivalent within {MARGIN:g}."
cells = cells.sort_values(["dataset", "measure"], kind="stable", ignore_index=True)
report.show(cells[["dataset", "model", "measure", "difference", "p_holm", "equivalent"]], name="comparisons", caption=caption)
report.download(compared, "comparisons")

# %% [markdown]
# The file also compares models with only patients kept apart, and has more tests: McNemar's, which takes trained models as fixed
# and images as independent, and Bayesian probabilities of being worse, equivalent or better {cite}`benavoli2017`. Of its
# {{ compared }} comparisons the uncorrected t-test calls {{ compared_uncorrected }} significant, the corrected one
# {{ compared_corrected }}, and after Holm's correction for their number {{ compared_holm }} remain. Equivalence within the margin is shown for {{ compared_equivalent }} of them.

# %% [markdown]
# ## Which difference could have been shown?
#
# With so few groups, small differences are easily missed. *Power* is the probability of finding a difference that is there; 80 %
# is the usual aim. For the corrected t-test it depends on how much the differences vary between folds, for McNemar's test on how
# often two models disagree and on the number of independent groups:

# %%
powers = []
for name, data in datasets.items():
    pair = [predictions[name, apart[name], regime] for regime in ("nearest_neighbour", "linear_probe")]
    spread = comparison.fold_differences(*pair, "accuracy", "all")["difference"].std()
    size = (data.groups.nunique(), comparison.mcnemar(*pair).discordance, spread, N_FOLDS, pair[0]["repeat"].nunique())
    powers.append(power.power_table(*size, differences=np.linspace(0.005, 0.2, 40)).assign(dataset=name))
powers = pd.concat(powers, ignore_index=True)

# %% mystnb={"image": {"alt": "Probability that a true difference in accuracy between two models is found, over its size, for two tests, one panel for each data set, with 80 percent marked."}, "figure": {"name": "power", "caption": "Power of two tests to find a true difference in accuracy between two models, with as many groups, folds and repeats as here. How much such differences vary is taken from the nearest neighbour and the probe."}}
powers["points"] = 100 * powers["difference"]
look = {"percent": "y", "width": 5.5, "height": 2.6, "reference": {"80 % power": 0.8}, "ylabel": "probability of p < 0.05"}
xlabel = "true difference in accuracy (points)"
figure = plots.bands(powers, "points", y="power", hue="test", row="dataset", xlabel=xlabel, **look)

# %%
least = powers.groupby(["dataset", "test"], sort=False)["detectable"].first()
for (name, test), value in least.dropna().items():
    report.finding(f"power_{report.short_name(name)}_{test.split()[0].lower()}", f"{100 * value:.1f} points")

# %% tags=["guard"]
if report.is_study(datasets):
    gap = least.unstack()["corrected t"]
    report.guard("MSLD: only differences of many points could have been shown", gap["msld-v1"] > 2 * MARGIN)
    report.guard("MSID: what could have been shown is above the margin", gap["msld-v1"] > gap["msid"] > MARGIN)

# %% [markdown]
# In [the curves](#fig-power), go from the line at 80 % down to the axis: the smallest difference that is found four times out of
# five.

# %% [markdown] tags=["study"]
# For the corrected test it is {{ power_msld_corrected }} on MSLD and {{ power_msid_corrected }} on MSID; for McNemar's
# {{ power_msld_mcnemar }} and {{ power_msid_mcnemar }}. The margin is {{ margin }}. On neither data set can two models that vary
# like these be separated at that margin.

# %% [markdown]
# ## What would more patients bring?
#
# A learning curve trains the probe on a part of each training set and tests it on the same test folds:

# %%
curves = {}
for name, data in datasets.items():
    parts = {"fractions": FRACTIONS, "n_repeats": CURVE_REPEATS, **folds}
    try:
        curves[name] = learning_curve.learning_curve(store, data, apart[name], models["linear_probe"], **parts)
    except mpox._core.TooFewImages as reason:
        print(f"No learning curve of {name}: {reason}")

# %% [markdown]
# A power law with a floor, error = a + b n<sup>-c</sup> for n training groups, is fitted to its macro F1 {cite}`viering2023`. The
# law then says how many groups it would take to reach the published F1, and resampling the tested groups gives the interval:

# %%
published = mpox.studies.verdict.read_paper().claims["f1"].published
needed = {}
for name, curve in curves.items():
    if len(FRACTIONS) > 2:
        n_groups, f1 = learning_curve.curve_replicates(curve, "f1", "macro")
        needed[name] = mpox.stats.growth.needed_groups(n_groups, f1, published)

# %% mystnb={"image": {"alt": "Macro F1 over the number of training groups with 95 percent intervals, the fitted power law dashed, the published F1 as a line, one panel for each data set."}, "figure": {"name": "learning-curve", "caption": "Macro F1 of the linear probe over the number of groups in training, groups kept apart, with 95 % intervals from resampling the tested groups. Dashed curve: the fitted power law, extended to ten times the groups. Dashed line: the published F1."}}
points = [learning_curve.curve_table(curve).assign(dataset=name) for name, curve in curves.items()]
points = [table[(table["metric"] == "f1") & (table["class"] == "macro")] for table in points]
if points:
    look = {"intervals": "bars", "join": False, "log": "x", "width": 5.5, "height": 2.6, "reference": {"published F1": published}}
    figure = plots.bands(pd.concat(points), "n_groups", row="dataset", xlabel="training groups", ylabel="macro F1", **look)
    for axis, table in zip(figure.axes, points, strict=True):
        if law := needed.get(table["dataset"].iloc[0]):
            n = np.geomspace(table["n_groups"].min(), 10 * table["n_groups"].max(), 100)
            axis.plot(n, 1 - law.law.error(n), "--", color=plots.COLOURS[0], linewidth=1.2)

# %%
for name, found in needed.items():
    key = f"needed_{report.short_name(name)}"
    reach = "never, by the fitted law" if found.estimate == np.inf else f"{found.estimate:,.0f}"
    report.finding(key, f"{reach} (95 % interval {found.low:,.0f} to {found.high:,.0f})".replace("inf", "never"))
    report.finding(f"{key}_least", f"{float(f'{found.low:.2g}'):,.0f}".replace("inf", "never"))
    report.finding(f"{key}_never", f"{found.never:.0%}")

# %% tags=["guard"]
if report.is_study(datasets):
    low, high = (pd.Series({name: getattr(found, end) for name, found in needed.items()}) for end in ("low", "high"))
    report.guard("The published F1 takes thousands of training groups at least", low.min() > 5000)
    report.guard("On both data sets it may never be reached", np.isinf(high).all())

# %% [markdown] tags=["study"]
# [The curves](#fig-learning-curve) rise and flatten far below the published F1. Extrapolated, it takes at least
# {{ needed_msld_least }} training groups on MSLD and {{ needed_msid_least }} on MSID, and perhaps it is never reached: in
# {{ needed_msld_never }} and {{ needed_msid_never }} of the replicates the fitted floor lies above it.

# %% [markdown] tags=["instruments"]
# By the fitted law the published F1 takes this many of the phantom's groups: {{ needed_phantom }}. Three sizes and so few groups
# cannot say more.

# %% [markdown]
# ## What could be wrong
#
# - The simulation takes the correlation within groups from one model, and lets the accuracy rise evenly over the folds. Another
#   pattern with the same range would be seen a little more or less often.
# - The corrected t-test rests on an approximation of how folds depend on each other. [Appendix C](C_intervals.ipynb) measures how
#   well it works.
# - Power depends on the two models that are compared. Two models that err on the same images can be separated with fewer groups.
# - A power law fitted to a few sizes says little about sizes that nobody has seen. Which groups a fraction kept is not in the
#   interval.
# - More images of another kind, from clinics and not from the web, may follow another curve.
#
# ## Check yourself

# %%
report.quiz("04")

# %% [markdown]
# ## Exercises
#
# With blanks to be filled in: `notebooks/exercises/04_power.ipynb`. Here a solution is folded behind each.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Two models disagree on 15 % of the images. How many independent patients does McNemar's test need to find a true difference of
# 10, 5 and 2 points in accuracy four times out of five? Hint: `power.mcnemar_size(difference, discordance)` returns that number.

# %% tags=["solution"]
patients = {points: power.mcnemar_size(points / 100, 0.15) for points in (10, 5, 2)}
report.prose("; ".join(f"{points} points: {n:,.0f} patients" for points, n in patients.items()))
right = patients[2] > 5 * patients[5] > 10 * patients[10]
report.prose("Right." if right else "Look again: 5 points are 0.05, and half the difference takes about four times the patients.")

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Take the differences in accuracy between nearest neighbour and probe, fold by fold, and write the same list ten and a hundred
# times in a row, as if every repeat of the cross-validation had come out the same. What do the plain and the corrected t-test
# make of it? Hint: `comparison.fold_differences(first, second, "accuracy", "all")["difference"]` returns the list, and
# `comparison.corrected_t_test(values, N_FOLDS, corrected=False).p` the plain p value.

# %% tags=["solution"]
rows = []
for name in datasets:
    pair = (predictions[name, apart[name], regime] for regime in ("nearest_neighbour", "linear_probe"))
    values = comparison.fold_differences(*pair, "accuracy", "all")["difference"].to_list()
    for times in (1, 10, 100):
        plain, corrected = (comparison.corrected_t_test(values * times, N_FOLDS, corrected=way).p for way in (False, True))
        rows.append((plots.dataset_title(name), len(values) * times, plain, corrected))
table = pd.DataFrame(rows, columns=["data set", "differences", "p, plain", "p, corrected"])
report.show(table)
right = (table["p, plain"] <= table["p, corrected"]).all()
report.prose("Right." if right else "Look again: the correction makes a p value larger.")

# %% [markdown] tags=["solution"]
# Copying a list teaches nothing, but the plain test takes every copy for new evidence, and its p value collapses. The corrected
# variance has a term that no number of repeats can shrink: its p value falls at first, and then stays where it is.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (open)
#
# You referee a paper that reports: five-fold cross-validation showed no significant differences between folds (p > 0.05), which
# confirms the robustness of the model. Write the five questions that you would put to the authors, the most important first.

# %% [markdown] tags=["solution"]
# *A model answer.*
#
# 1. How were images assigned to folds: what was done with several images of one patient, and with copies of one photograph? Was
#    augmentation done before or after?
# 2. Where do the intervals come from, and what was resampled: patients or images?
# 3. Which test was used between folds, on what, and which difference would it have found with a probability of 80 %?
# 4. Which difference would matter, was it fixed beforehand, and can you show that the folds differ by less?
# 5. Where were the number of epochs, the threshold and the best configuration chosen: inside the training folds, or on the folds
#    whose results are reported?
#
# The first comes first because no answer to the others repairs a leak. A sixth: may we have the predictions, one row an image
# with its fold and its patient? With these a reader can answer the others.

# %% [markdown]
# ## What to read next
#
# [Chapter 5](05_ablation.ipynb) compares with these tests what a model is made of; [appendix C](C_intervals.ipynb) tests them.

# %%
report.provenance("04_power", store, list(datasets.values()), device=DEVICE)
