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
# # G. Calibration and novelty

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# Recalibration inside the training groups does not make the probabilities of Mpox better: the Brier score goes from
# {{ use_msld_brier_as_they_are }} to {{ use_msld_brier_isotonic }} on MSLD and from {{ use_msid_brier_as_they_are }} to
# {{ use_msid_brier_isotonic }} on MSID (isotonic).
# Conformal sets that reach their aim at home contain the true class of {{ use_msid_msld_coverage }} images of MSLD when they are
# fitted on MSID, and of {{ use_msld_msid_coverage }} rashes of MSID when they are fitted on MSLD.
# A warning by distance catches {{ use_msld_warned_no_skin }} of images without skin, and {{ use_msld_warned_elsewhere }} (from MSLD) or
# {{ use_msid_warned_elsewhere }} (from MSID) of rashes from the other collection.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# A model that is made three times too sure is found out by its slope, and mended by a temperature from inside the training groups.
# The sets that aim at 0.9 contain the true class of {{ use_phantom_coverage }} images of the phantom.
# Of images without skin {{ use_phantom_warned_no_skin }} raise a warning, of the phantom's own {{ use_phantom_warned_own }}.
# :::

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
HONEST_PROTOCOL = {"phantom": "source", "msld-v1": "source", "msid": "source"}
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 0
N_FOLDS = 3
EXTERNAL = []
CONFIDENCES = [0.8, 0.9, 0.95]
ODDITIES = 6
SEED = 0
DEVICE = "cpu"

# %%
import pandas as pd

import mpox
from mpox.book import plots, report, run
from mpox.protocols import pairs, splits
from mpox.stats import calibration, conformal
from mpox.studies import unfamiliar

run.check_parameters("G_calibration", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = {data.name: data for data in store.datasets(DATASETS, data_dir=DATA_DIR or None)}
probe = mpox.ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
protocol = {name: HONEST_PROTOCOL.get(name, "source") for name in datasets}
folds = {name: mpox.make_splits(data.manifest, protocol[name], n_folds=N_FOLDS, seed=SEED) for name, data in datasets.items()}
predictions = {
    name: mpox.cross_validate(store, data, protocol[name], probe, n_folds=N_FOLDS, seed=SEED) for name, data in datasets.items()
}
nested = {name: mpox.predict_nested(store, data, folds[name], probe) for name, data in datasets.items()}

# %% mystnb={"image": {"alt": "Reliability diagrams: observed share of Mpox over the stated probability with 95 percent intervals, as they are and after isotonic regression, one panel a data set."}, "figure": {"name": "reliability", "caption": "Stated probability of Mpox and what came true, on test images in bins of equal size, as stated and after isotonic regression fitted inside the training groups; 95 % intervals from resampling groups. On the dotted line a probability means what it says."}}
changed = {
    name: {"as stated": table} | {how: calibration.calibrated(table, nested[name], how) for how in calibration.METHODS}
    for name, table in predictions.items()
}
shown = [
    calibration.reliability_bins(tables[how], "Mpox").assign(dataset=name, calibration=how)
    for name, tables in changed.items()
    for how in ("as stated", "isotonic")
]
look = {"intervals": "bars", "join": False, "diagonal": True, "width": 5.2, "height": 3.2, "ylabel": "observed share"}
table = pd.concat(shown, ignore_index=True)
figure = plots.bands(table, "stated", y="observed", hue="calibration", row="dataset", xlabel="stated probability of Mpox", **look)

# %% [markdown]
# [Chapter 9](09_use.ipynb) uses the probabilities of the linear probe as they are. This appendix has the measures in full, two ways to
# mend them, conformal sets away from home, and the images that no model of rashes should be shown.
#
# ## Recalibration
#
# A *temperature* divides all log-probabilities by one number {cite}`guo2017`; an *isotonic* curve is freer and needs more images
# {cite}`zadrozny2002`. Both are fitted for each fold on training images that were held out in turn:

# %%
name = next(iter(datasets))
mended = calibration.calibrated(predictions[name], nested[name], "temperature")
mended.groupby("fold")["temperature"].first().round(2)

# %%
parts = []
for name, tables in changed.items():
    for how, table in tables.items():
        for of in ("Mpox", "top"):
            parts.append(calibration.calibration_table(table, of).assign(dataset=name, calibration=how, of=of))
measures = pd.concat(parts, ignore_index=True)
measures["value"] = [report.with_interval(*row, digits=3) for row in measures[["estimate", "low", "high"]].to_numpy()]
for row in measures[measures["of"] == "Mpox"].itertuples():
    if row.calibration in calibration.METHODS and row.measure in ("ece", "brier", "slope", "intercept"):
        report.finding(f"use_{report.short_name(row.dataset)}_{row.measure}_{row.calibration}", row.value)
titles = [plots.dataset_title(name) for name in datasets]
measures["data set"] = measures["dataset"].map(plots.dataset_title)
few = measures[(measures["of"] == "Mpox") & measures["measure"].isin(["ece", "brier", "slope", "intercept"])]
wide = few.pivot(index=["measure", "calibration"], columns="data set", values="value")
wide = wide.reindex(few.set_index(["measure", "calibration"]).index.unique()).sort_index(level=0, sort_remaining=False)[titles]
caption = "Calibration of the probability of Mpox on test images, as stated and recalibrated inside the training groups."
report.show(wide.reset_index().rename_axis(columns=None), name="recalibration", caption=caption)
report.download(measures.drop(columns=["value", "data set"]), "calibration")

# %% [markdown]
# The expected calibration error (ECE) is the mean distance of the points from the line, in bins of equal size. It is never negative, so
# that a *perfect* model has one, too: the row `ece if calibrated` below simulates it {cite}`brocker2007`, and `ece excess` is what
# remains. The Brier score is the mean squared error of the probability. It falls apart into *reliability* (distance from the line),
# *resolution* (how far the bins differ), *uncertainty* (of somebody who knows only how common Mpox is) {cite}`murphy1973` and a rest
# within the bins; `reliability debiased` has what chance adds taken off {cite}`brocker2012,kumar2019`. The slope is below 1 where
# probabilities are too extreme, the intercept above 0 where they are too low {cite}`vancalster2019`. The CSV has these for the
# most probable class, too (`top`).

# %%
full = measures[(measures["of"] == "Mpox") & (measures["calibration"] == "as stated")]
wide = full.pivot(index="measure", columns="data set", values="value").reindex(full["measure"].unique())[titles]
report.show(wide.rename_axis(columns=None), name="calibration", caption="All measures of the probability of Mpox as stated.")

# %% [markdown]
# A temperature moves all classes toward each other or apart, and never from one to another; it cannot mend an intercept. An isotonic
# curve can.

# %% tags=["guard"]
if report.is_study(datasets):
    ends = few.set_index(["dataset", "measure", "calibration"])
    for name in datasets:
        before, after = (ends.loc[(name, "brier", how)] for how in ("as stated", "isotonic"))
        report.guard(f"{name}: recalibration does not improve the Brier score", after["estimate"] > before["low"])

# %% [markdown]
# ## Would these instruments notice?
#
# The same probabilities, made three times as sure on purpose (a temperature of a third), in the test folds and inside the training groups
# alike:

# %%
surer = {name: calibration.with_temperature(table, 1 / 3) for name, table in predictions.items()}
inside = {name: calibration.with_temperature(table, 1 / 3) for name, table in nested.items()}

# %%
rows = {}
for name, table in predictions.items():
    versions = {"as stated": table, "made three times as sure": surer[name]}
    for how in calibration.METHODS:
        versions[f"made surer, then {how}"] = calibration.calibrated(surer[name], inside[name], how)
    for version, part in versions.items():
        found = calibration.calibration_table(part, "Mpox").set_index("measure")
        for measure in ("ece", "slope"):
            text = report.with_interval(*found.loc[measure])
            rows.setdefault(version, {})[f"{measure}, {plots.dataset_title(name)}"] = text
        if report.is_study(datasets) and version == "made three times as sure":
            report.guard(f"{name}: made three times as sure, the slope is below 1", found.loc["slope", "high"] < 1)
table = pd.DataFrame(rows).T.rename_axis("probabilities").reset_index()
report.show(table, name="made-surer", caption="A model that was made too sure on purpose, and what the instruments see.")

# %% [markdown]
# ## Conformal sets at home and elsewhere
#
# A set aims to contain the true class in a stated share of images, in each class by itself. Scores from cross-validation prove no more than
# 1 - 2 alpha {cite}`vovk2015,barber2021`, so that coverage is measured, at home at several aims:

# %% mystnb={"image": {"alt": "Coverage reached over coverage aimed at by class with 95 percent intervals, one panel a data set, with the line of equality."}, "figure": {"name": "conformal", "caption": "How often conformal sets contain the true class, by class, over the coverage that they aim at; test images, 95 % intervals from resampling groups. On the dotted line they reach their aim."}}
coverage = pd.concat(
    [
        conformal.coverage_table(conformal.conformal_sets(predictions[name], nested[name], confidence=level)).assign(
            dataset=name, confidence=level
        )
        for name in datasets
        for level in CONFIDENCES
    ],
    ignore_index=True,
)
drawn = coverage[(coverage["class"] != "all") & (coverage["measure"] == "coverage")]
look = {"intervals": "bars", "join": False, "diagonal": True, "width": 5.2, "height": 3.2}
axes_of = {"xlabel": "coverage aimed at", "ylabel": "coverage reached"}
figure = plots.bands(drawn, "confidence", hue="class", row="dataset", **look, **axes_of)

# %% [markdown]
# Images of another collection are not exchangeable with those at home at all. There, too, it can be measured: models trained and sets fitted
# on all of one collection, for Mpox against other rashes, and used on what the other does not share with it.

# %% tags=["nbval-check-output"]
level = CONFIDENCES[len(CONFIDENCES) // 2]
others = {train: test for train, test in EXTERNAL if {train, test} <= set(datasets)}
elsewhere, rows = {}, []
for train, test in others.items():
    both = pairs.combine([datasets[name] for name in sorted((train, test))])
    split = splits.make_external_split(both.manifest, train, test, seed=SEED)
    table = mpox.validate_externally(store, both, train, test, probe, seed=SEED)
    sets = conformal.conformal_sets(table[~table["shared"]], mpox.predict_nested(store, both, split, probe), confidence=level)
    elsewhere[train] = conformal.coverage_table(sets)
    values = elsewhere[train].set_index(["class", "measure"])[["estimate", "low", "high", "interval"]]
    for label in values.index.unique("class"):
        texts = {what: report.with_interval(*values.loc[(label, what)]) for what in ("coverage", "not sure", "right if certain")}
        rows.append({"trained on": plots.dataset_title(train), "tested on": plots.dataset_title(test), "class": label} | texts)
    short = report.short_name(train)
    report.finding(f"use_{short}_{report.short_name(test)}_coverage", report.of_hundred(*values.loc[("all", "coverage")]))
if rows:
    caption = f"The same sets on another collection, with an aim of {level:g}."
    report.show(pd.DataFrame(rows), name="conformal-elsewhere", caption=caption)
else:
    report.prose("*Not computed on this page: the parameter `EXTERNAL` names no pair of its data sets.*")

# %% [markdown] tags=["study"]
# No theorem covers this use, and the table shows that it matters: sets fitted on MSID fall far short on MSLD. That the sets of MSLD do well
# on MSID is a finding about this pair, and no promise for a third collection.

# %% tags=["guard"]
if report.is_study(datasets) and report.is_study(elsewhere):
    short, well = (elsewhere[name].set_index(["class", "measure"]).loc[("all", "coverage")] for name in ("msid", "msld-v1"))
    report.guard("the sets of MSID fall short on MSLD", short["high"] < level)
    report.guard("the sets of MSLD do well on MSID", well["high"] >= level)

# %% [markdown]
# ## Strange images
#
# Images that show no rash, drawn or shipped with scikit-image {cite}`vanderwalt2014`, and two controls: drawn healthy skin, which is strange
# among photographs, and, where there are two collections, rashes of the other one. The warning compares the distance to the fifth nearest
# training image {cite}`sun2022` with the distance that 95 % of held-out training images stay below.

# %% mystnb={"image": {"alt": "Distance of every image by kind as a multiple of the warning threshold, one panel a data set."}, "figure": {"name": "novelty", "caption": "Distance to the fifth nearest training image, as a multiple of the warning threshold (dashed), one point an image. First line: own test images."}}
strange = {}
for name, data in datasets.items():
    known = (store, data, folds[name], nested[name], probe, datasets.get(others.get(name)))
    how = {"protocol": protocol[name], "n_folds": N_FOLDS, "seed": SEED, "n_oddities": ODDITIES}
    strange[name] = unfamiliar.kept_table(*known, **how)
words = {unfamiliar.OWN: "own test images", "other medical picture": "other medical image"}
scores = pd.concat([table.assign(dataset=name) for name, table in strange.items()], ignore_index=True).replace({"kind": words})
look = {"reference": {"warning": 1.0}, "xlabel": "distance / threshold", "width": 5.6}
figure = plots.points(scores, "neighbours", "kind", row="dataset", **look)

# %% tags=["nbval-check-output"]
areas = {name: unfamiliar.novelty_measures(table, datasets[name].groups) for name, table in strange.items()}
shares = {}
for name, table in strange.items():
    of_kind = table.groupby("kind", sort=False)[["warned", "certain"]].mean()
    for measure, column in of_kind.items():
        shares[f"{measure}, {plots.dataset_title(name)}"] = column
    elsewhere_warned = of_kind["warned"].get(unfamiliar.ELSEWHERE)
    text = "not measured" if elsewhere_warned is None else f"{elsewhere_warned:.0%}"
    report.finding(f"use_{report.short_name(name)}_warned_elsewhere", text)
    report.finding(f"use_{report.short_name(name)}_elsewhere", f"{(table['kind'] == unfamiliar.ELSEWHERE).sum()}")
caption = "Share of images of each kind that raise the warning, and of those for which a set (aim 0.9) names one class only."
report.show(pd.DataFrame(shares).rename(index=words).rename_axis("kind"), digits=2, name="strange", caption=caption)
report.download(pd.concat([table.assign(dataset=name) for name, table in areas.items()]), "novelty")

# %% [markdown]
# Coverage that was measured on skin protects nobody from a wall: where a set names one class, it is wrong. The CSV compares three scores by
# their AUROC for each kind: this distance, the distance to the nearest class under the covariance within classes {cite}`lee2018`, and the
# model's own doubt {cite}`hendrycks2017`.
#
# ## What could be wrong
#
# - Temperatures, curves and sets are fitted with models that saw three quarters of the training images, and used with one that saw all.
# - Bins, and their number, are a choice; an ECE from other bins is another number.
# - A score from features of photographs warns of drawings because they are drawings. Whether it warns of a burn is not known.
#
# ## What to read next
#
# [Chapter 9](09_use.ipynb) for the clinic; Angelopoulos and Bates {cite}`angelopoulos2023` on conformal sets.

# %% tags=["hide-input"]
report.provenance("G_calibration", store, list(datasets.values()), device=DEVICE)
