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
# # In a clinic: thresholds, prevalence, 'not sure', costs

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# With a threshold fixed before the test, to find 95 of 100 Mpox images, the model clears {{ use_msld_specificity_at_95 }} other
# rashes of MSLD, and {{ use_msid_specificity_at_95 }} other images of MSID, most of which show healthy skin. Where one person in a hundred has Mpox, {{ use_msld_false_alarms_1 }} of 100 alarms are false with the model of MSLD and
# {{ use_msid_false_alarms_1 }} with that of MSID.
# A model that may answer 'not sure' names one class for {{ use_msld_certain }} images of MSLD and {{ use_msid_certain }} of MSID, and
# is then right in {{ use_msld_right }} and {{ use_msid_right }}. But it names one class for many a page or a cat, too.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# The phantom's lesions are drawn to be distinguishable: with a threshold fixed before the test, to find 95 of 100 Mpox images, the model finds
# {{ use_phantom_sensitivity_at_95 }} and clears {{ use_phantom_specificity_at_95 }} others. Even so {{ use_phantom_false_alarms_1 }} of
# 100 alarms are false where one person in a hundred has Mpox. Sets that aim to contain the true class of nine images in ten contain it for {{ use_phantom_coverage }}, so that the
# instruments do what they are built for.
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
SENSITIVITIES = [0.95, 0.9]
CONFIDENCES = [0.8, 0.9, 0.95]
CLINIC_PREVALENCE = 0.05
COSTS = {"picture": 1, "false_alarm": 50, "missed": 2000}
ODDITIES = 6
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import pandas as pd

import mpox
from mpox.book import explorers, plots, report, run
from mpox.stats import calibration, conformal, decisions
from mpox.studies import unfamiliar

run.check_parameters("09_use", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = {data.name: data for data in store.datasets(DATASETS, data_dir=DATA_DIR or None)}
probe = mpox.ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
protocol = {name: HONEST_PROTOCOL.get(name, "source") for name in datasets}
splits = {name: mpox.make_splits(data.manifest, protocol[name], n_folds=N_FOLDS, seed=SEED) for name, data in datasets.items()}
predictions = {
    name: mpox.cross_validate(store, data, protocol[name], probe, n_folds=N_FOLDS, seed=SEED) for name, data in datasets.items()
}
nested = {name: mpox.predict_nested(store, data, splits[name], probe) for name, data in datasets.items()}
aims = [decisions.Aim("sensitivity", level) for level in SENSITIVITIES]
fixed = {(name, aim): decisions.carry_thresholds(predictions[name], nested[name], aim) for name in datasets for aim in aims}
reached = {key: decisions.operating_replicates(table) for key, table in fixed.items()}
level, first = CONFIDENCES[len(CONFIDENCES) // 2], next(iter(datasets))

# %% mystnb={"image": {"alt": "False alarms among 100 alarms over the prevalence from 0.1 to 50 percent on a logarithmic axis, one line with its band a data set."}, "figure": {"name": "predictive-values", "caption": "How many of 100 alarms are false, over the prevalence of Mpox where the model is used, at a threshold fixed before the test to find at least 95 of 100 Mpox images. Bands: 95 % intervals from resampling groups. By Bayes' theorem, from the sensitivity and the specificity on test images."}}
grid = [10 ** (step / 14 - 3) for step in range(39)]
values = [decisions.predictive_table(reached[name, aims[0]], grid).assign(dataset=name) for name in datasets]
ppv = 100 * pd.concat(values).query("measure == 'ppv'").set_index(["dataset", "prevalence"])[["estimate", "low", "high"]]
false = (100 - ppv).rename(columns={"low": "high", "high": "low"}).reset_index()
scales = {"log": "x", "percent": "x", "xlabel": "prevalence (logarithmic)", "ylabel": "false among 100 alarms"}
figure = plots.bands(false, "prevalence", hue="dataset", width=6.2, height=3.6, **scales)

# %% [markdown]
# ## A person and a question
#
# A woman of thirty shows you a rash that is four days old. You take an image with a phone, and a model says: *Mpox, 0.8*. Do you isolate
# her, send a swab to the laboratory, or let her go?
#
# The AUROC of [chapter 3](03_cross_validation.ipynb) says how well a model ranks images, but you have to act on one. This chapter takes the
# same model, the linear probe with groups kept apart. You learn
#
# - whether a probability of 0.8 means eight in ten;
# - how to fix a threshold before the test, and what an alarm means where the disease is rare;
# - whether acting on it does more good than harm, and who says what a missed case costs;
# - what a model may say in place of an answer.
#
# Whatever is fitted is fitted on training images held out in turn, and judged once on test images; intervals resample groups.
#
# ## Does 0.8 mean eight in ten?
#
# Sort the test images by the stated probability, and count how many show Mpox in each of ten bins. If the two agree, the model is
# *calibrated* {cite}`guo2017`.

# %%
bins = {name: calibration.reliability_bins(table, "Mpox") for name, table in predictions.items()}
bins[first].round(2).tail(4)

# %% mystnb={"image": {"alt": "Reliability diagrams: observed share of Mpox over the stated probability with 95 percent intervals, one panel a data set, with the line of equality."}, "figure": {"name": "stated-observed", "caption": "Stated probability of Mpox and what came true, on test images in ten bins of equal size, with 95 % intervals from resampling groups. On the dotted line a probability means what it says."}}
look = {"intervals": "bars", "join": False, "diagonal": True, "width": 4.6, "height": 2.9, "ylabel": "observed share"}
table = pd.concat([part.assign(dataset=name) for name, part in bins.items()], ignore_index=True)
figure = plots.bands(table, "stated", y="observed", row="dataset", xlabel="stated probability of Mpox", **look)

# %% tags=["nbval-check-output"]
QUANTITIES = {
    "ece": "mean distance from the line (ECE)", "ece if calibrated": "the same if perfectly calibrated (simulated)",
    "brier": "Brier score (0 is best)", "slope": "slope (1 is best)", "intercept": "intercept (0 is best)",
}  # fmt: skip
measured = {name: calibration.calibration_table(table, "Mpox").set_index("measure") for name, table in predictions.items()}
shown = pd.DataFrame(index=pd.Index(QUANTITIES.values(), name="measure"))
for name, part in measured.items():
    shown[plots.dataset_title(name)] = [report.with_interval(*part.loc[key], digits=3) for key in QUANTITIES]
    for key, text in zip(QUANTITIES, shown[plots.dataset_title(name)], strict=True):
        found = key.replace(" ", "_") if "if" in key else f"{key}_as_they_are"
        report.finding(f"use_{report.short_name(name)}_{found}", text)
caption = "Calibration of the probability of Mpox on test images (of the simulated row: the middle 95 % of simulations)."
report.show(shown, name="probabilities", caption=caption)

# %% [markdown]
# By chance alone a perfect model would show the second row. Above 0, the intercept says that the model states Mpox too rarely.

# %% [markdown] tags=["study"]
# On MSLD the distance is no larger than chance makes it. On MSID the model states Mpox somewhat too rarely, as expected: it weighs all
# classes alike in training, though Mpox is more common there than other rashes ([appendix G](G_calibration.ipynb) tries to mend it).

# %% [markdown]
# ## A threshold, fixed before the test
#
# Who must not miss cases wants a *sensitivity*, say 95 of 100. The threshold that just reaches it on held-out training images is
# written down, then used on the test images. Here is one fold:

# %% tags=["nbval-check-output"]
inside, test = (table[first][table[first]["fold"] == 0] for table in (nested, predictions))
threshold = decisions.choose_threshold(inside["p_Mpox"], inside["label"] == "Mpox", aim=aims[0])
found = test.groupby(test["label"] == "Mpox")["p_Mpox"].agg(lambda stated: (stated >= threshold).mean())
print(
    f"threshold {threshold:.2f}: finds {found[True]:.0%} of the fold's test images of Mpox, clears {1 - found[False]:.0%} of others"
)

# %% tags=["nbval-check-output"]
rows = []
for (name, aim), table in fixed.items():
    texts = {}
    for measure in ("sensitivity", "specificity"):
        values, short = reached[name, aim][measure], report.short_name(name)
        texts[measure] = report.with_interval(*values.row().values(), values.kind)
        report.finding(f"use_{short}_{measure}_at_{100 * aim.level:.0f}", report.of_hundred(*values.row().values(), values.kind))
    limits = " to ".join(f"{value:.2f}" for value in (table["threshold"].min(), table["threshold"].max()))
    rows.append({"data set": plots.dataset_title(name), "aim": str(aim), "thresholds of the folds": limits} | texts)
caption = "What thresholds reach on test images that were fixed before, on held-out training images; 95 % intervals."
report.show(pd.DataFrame(rows), name="aims", caption=caption)

# %% [markdown] tags=["study"]
# No threshold is shown to miss its aim: the intervals of the sensitivity contain it, though with so few images they would contain
# other aims, too. The price differs. On MSLD, where all others are chickenpox and measles, most of those raise an alarm. MSID looks
# kinder because its others include healthy skin, which is easily cleared. A clinic sees rashes, so read MSLD first.

# %% [markdown]
# ## What an alarm means where the disease is rare
#
# A large share of these images show Mpox, because they were collected to study it. In a clinic it may be one person in a hundred. If people
# there look like people here, the rest is arithmetic (Bayes' theorem):

# %% tags=["nbval-check-output"]
sensitivity, specificity, prevalence = 0.95, 0.80, 0.01
ill = 10_000 * prevalence
found, false_alarms = ill * sensitivity, (10_000 - ill) * (1 - specificity)
print(f"of 10,000 people {ill:.0f} have Mpox; {found:.0f} are found, and {false_alarms:.0f} others raise an alarm")
print(f"of 100 alarms {100 * false_alarms / (found + false_alarms):.0f} are false")

# %% tags=["nbval-check-output"]
rows = []
for name in datasets:
    both = [reached[name, aims[0]][measure] for measure in ("sensitivity", "specificity")]
    for prevalence in (0.001, 0.01, CLINIC_PREVALENCE):
        at = decisions.predictive_values(*both, prevalence)
        shown = {
            "alarms among 1000 people": (1000 * at["flagged"], 0),
            "false among 100 alarms": (100 * (1 - at["ppv"]), 1),
            "Mpox among 1000 without an alarm": (1000 * (1 - at["npv"]), 1),
        }
        texts = {what: report.with_interval(*value.row().values(), digits=n) for what, (value, n) in shown.items()}
        rows.append({"data set": plots.dataset_title(name), "prevalence": f"{100 * prevalence:g} %"} | texts)
        if prevalence == 0.01:
            report.finding(f"use_{report.short_name(name)}_ppv_1", report.with_interval(*at["ppv"].row().values()))
            report.finding(f"use_{report.short_name(name)}_false_alarms_1", f"{100 * (1 - at['ppv'].estimate):.0f}")
caption = f"What results mean at a threshold fixed before ({aims[0]}); 95 % intervals."
report.show(pd.DataFrame(rows), name="alarms", caption=caption)

# %% [markdown]
# An alarm is a reason to test and never a diagnosis. [The figure at the top](#fig-predictive-values) draws the middle column.
#
# ## Would acting on it do more good than harm?
#
# Who acts at a probability of 0.1 accepts nine false alarms for each case found. *Net benefit* counts cases found, minus false alarms
# at that exchange rate {cite}`vickers2006`:

# %% tags=["nbval-check-output"]
threshold = 0.1
for name, table in predictions.items():
    acts, has_mpox = table["p_Mpox"] >= threshold, table["label"] == "Mpox"
    net = ((acts & has_mpox).sum() - (acts & ~has_mpox).sum() * threshold / (1 - threshold)) / len(table)
    everyone = has_mpox.mean() - (1 - has_mpox.mean()) * threshold / (1 - threshold)
    print(f"{name}: net benefit {net:.3f}; of acting on everyone {everyone:.3f}")

# %% [markdown]
# A model is of use where its curve lies above both simple strategies, to act on everyone and on nobody: [here](#fig-decision-curves) in a
# clinic where Mpox is rarer, to which Bayes' theorem moves the probabilities {cite}`elkan2001`.

# %% mystnb={"image": {"alt": "Decision curves at a prevalence of five percent: net benefit of the model with its band, of acting on everyone and on nobody, over the probability at which one would act, one panel a data set."}, "figure": {"name": "decision-curves", "caption": "Decision curves at a prevalence of 5 % (the parameter CLINIC_PREVALENCE), with pointwise 95 % bands from resampling groups."}}
low = [0.0025 + 0.3975 * step / 79 for step in range(80)]
curves = {(name, ""): decisions.decision_curve(table) for name, table in predictions.items()}
for name, table in predictions.items():
    curves[name, "_rare"] = decisions.decision_curve(table, thresholds=low, prevalence=CLINIC_PREVALENCE)
for (name, where), curve in curves.items():
    span = decisions.useful_range(curve)
    report.finding(f"use_{report.short_name(name)}_useful{where}", f"from {span[0]:.2g} to {span[1]:.2g}" if span else "nowhere")
drawn = pd.concat([curves[name, "_rare"].assign(dataset=name) for name in datasets], ignore_index=True)
drawn = drawn[(drawn["strategy"] != decisions.ADVANTAGE) & (drawn["estimate"] > -0.15 * drawn["estimate"].max())]
drawn.loc[drawn["strategy"] != decisions.MODEL, ["low", "high"]] = float("nan")
axes_of = {"xlabel": "probability at which one would act", "ylabel": "net benefit a person"}
figure = plots.bands(drawn, "threshold", hue="strategy", row="dataset", width=5.6, height=2.7, **axes_of)

# %% [markdown] tags=["study"]
# With as many cases as MSLD has, the model is shown to beat both simple strategies if one acts at probabilities {{ use_msld_useful }},
# where the 95 % band of the difference excludes zero; on MSID {{ use_msid_useful }}. For somebody who accepts nine false alarms for a
# case (0.1), it is not shown to beat acting on everyone on MSLD. In the rarer clinic the ranges are {{ use_msld_useful_rare }} and
# {{ use_msid_useful_rare }} (of thresholds up to 0.4).

# %% [markdown]
# ## 'Not sure' is an answer
#
# A model may name every class that it cannot exclude. Such a *conformal set* {cite}`vovk2005` aims to contain the true class of a share
# 1 - alpha of images. With one held-out set and images in random order, that is a theorem. Our scores come from cross-validation, for
# which no more than 1 - 2 alpha is proved {cite}`vovk2015,barber2021`, and images of one person are not in random order. So nothing
# is guaranteed here, and coverage is measured. Several classes, or none, mean 'not sure': send this one to a person.

# %%
sets = {name: conformal.conformal_sets(predictions[name], nested[name], confidence=level) for name in datasets}
sets[first].groupby("answer").head(2)[["label", *(f"in_{label}" for label in datasets[first].classes)]]

# %% tags=["nbval-check-output"]
KEYS = {"coverage": "coverage", conformal.CERTAIN: "certain", conformal.UNSURE: "not_sure", "right if certain": "right"}
covered = {name: conformal.coverage_table(table).query("measure in @KEYS.keys()") for name, table in sets.items()}
rows = {}
for name, part in covered.items():
    for _, (label, _, measure, *values) in part.iterrows():
        rows.setdefault((plots.dataset_title(name), label), {})[measure] = report.with_interval(*values)
        if label == "all" or (label, measure) == ("Mpox", "coverage"):
            of = "" if label == "all" else "_mpox"
            report.finding(f"use_{report.short_name(name)}_{KEYS[measure]}{of}", report.of_hundred(*values))
caption = f"Conformal sets that aim at a coverage of {level:g} in each class, on test images; 95 % intervals."
report.show(pd.DataFrame(rows).T.rename_axis(["data set", "class"]).reset_index(), name="conformal", caption=caption)

# %% [markdown] tags=["study"]
# At home the sets reach their aim; the price on MSLD is 'not sure' for {{ use_msld_not_sure }} images. Away from home they may fall short:
# trained on MSID, they contain the true class of {{ use_msid_msld_coverage }} images of MSLD ([appendix G](G_calibration.ipynb)).

# %% [markdown]
# ## A cat, a page and a wall
#
# A classifier divides whatever it sees among its classes, [images of no rash](#fig-oddities) included (drawn, or shipped with scikit-image
# {cite}`vanderwalt2014`). A warning helps that compares an image's features with those of the training images {cite}`sun2022`, set so
# that about one own image in twenty raises it.

# %%
others = {train: datasets[test] for train, test in EXTERNAL if {train, test} <= set(datasets)}
how = {"n_folds": N_FOLDS, "seed": SEED, "n_oddities": ODDITIES}
strange = {}
for name, data in datasets.items():
    known = (store, data, splits[name], nested[name], probe, others.get(name))
    strange[name] = unfamiliar.kept_table(*known, protocol=protocol[name], **how)
NO_SKIN = ("document", "plain wall", "landscape", "noise", "cat", "thing", "other medical picture")

# %% mystnb={"image": {"alt": "Six images without a rash, a page, a plain wall, a landscape, a drawn healthy skin, a cat and a cup, each with the probability of Mpox that the model states and whether a warning was raised."}, "figure": {"name": "oddities", "caption": "What the first data set's model says to images of no rash: mean probability of Mpox over the folds, and the share of folds that raise the warning."}}
said = strange[first].set_index("name")
kinds = ("document", "plain wall", "landscape", "drawn healthy skin", "cat", "thing")
oddities = unfamiliar.draw_oddities(probe.image_size, n=ODDITIES, seed=SEED)
chosen = [next(one for one in oddities if one.kind == kind) for kind in kinds]
captions = [f"{one.kind}: Mpox {said.loc[one.name, 'p']:.2f}\nwarned {said.loc[one.name, 'warned']:.0%}" for one in chosen]
for name, table in strange.items():
    no_skin, own = (table[table["kind"].isin(kinds)] for kinds in (NO_SKIN, [unfamiliar.OWN]))
    texts = {f"{key}_no_skin": f"{no_skin[key].mean():.0%}" for key in ("warned", "certain")}
    texts |= {
        "no_skin": f"{len(no_skin)}",
        "p_highest_no_skin": f"{no_skin['p'].max():.2f}",
        "warned_own": f"{own['warned'].mean():.0%}",
    }
    for key, text in texts.items():
        report.finding(f"use_{report.short_name(name)}_{key}", text)
figure = plots.sheet([one.picture for one in chosen], captions, columns=3)

# %% [markdown] tags=["study"]
# Of {{ use_msld_no_skin }} images without skin, the sets of MSLD's model name a single class for {{ use_msld_certain_no_skin }}; the highest
# probability of Mpox is {{ use_msld_p_highest_no_skin }}. The warning catches {{ use_msld_warned_no_skin }} of them, and
# {{ use_msld_warned_own }} of the model's own test images.

# %% [markdown]
# ## Who says what it costs?
#
# What a missed case is worth, no programmer can say. The calculator adds up what a screened person costs on average: the image, a
# laboratory test for each false alarm, and the missed cases. The first numbers are invented; change them.

# %% tags=["nbval-check-output"]
costs = decisions.Costs(**COSTS)
print(f"{decisions.expected_cost(0.01, sensitivity=0.95, specificity=0.80, costs=costs):.2f}")

# %%
points = {f"{plots.dataset_title(name)}, {aim}": reached[name, aim] for name, aim in reached}
caption = "Expected cost of a screened person; the intervals resample the groups behind sensitivity and specificity."
explorers.show_widget(points, prevalence=CLINIC_PREVALENCE, costs=costs, caption=caption)
for name in datasets:
    both = [reached[name, aims[0]][measure].estimate for measure in ("sensitivity", "specificity")]
    span = decisions.worthwhile_prevalences(*both, costs)
    says = f"between prevalences of {100 * span[0]:.1f} % and {100 * min(span[1], 1):.1f} %" if span else "at no prevalence"
    report.finding(f"use_{report.short_name(name)}_worthwhile", says)

# %% [markdown] tags=["study"]
# With these costs, to ask the model first is the cheapest {{ use_msld_worthwhile }} (MSLD) and {{ use_msid_worthwhile }} (MSID). Where Mpox
# is rarer, nobody should be screened; where it is more common, everyone should go to the laboratory.

# %% tags=["guard"]
if report.is_study(datasets):
    ece = measured["msld-v1"].loc[["ece", "ece if calibrated"]]
    report.guard("MSLD: the ECE is no larger than chance makes it", ece["estimate"].iloc[0] < ece["high"].iloc[1])
    report.guard("MSID: Mpox is stated too rarely", measured["msid"].loc["intercept", "estimate"] > 0)
    cleared = reached["msld-v1", aims[0]]["specificity"].interval()[1]
    report.guard("MSLD: most of the other rashes raise an alarm", cleared < 0.5)
    report.guard("MSLD: no use at nine false alarms a case", decisions.useful_range(curves["msld-v1", ""])[0] > 0.1)
    for name, table in strange.items():
        low, high = reached[name, aims[0]]["sensitivity"].interval()
        report.guard(f"{name}: the interval of the sensitivity contains the aim", low <= aims[0].level <= high)
        row = covered[name].set_index(["class", "measure"]).loc[("all", "coverage")]
        report.guard(f"{name}: at home the sets reach their aim", row["low"] <= level <= row["high"])
        certain, warned = table.loc[table["kind"].isin(NO_SKIN), ["certain", "warned"]].mean()
        report.guard(f"{name}: the warning stops what sets of one class let through", certain > 0.25 and warned > 0.95)

# %% [markdown]
# ## What this means
#
# Back to the woman with the rash. The 0.8 may be honest where the model was made, and mean little where Mpox is rare. A clinic needs
# sensitivity and specificity at a threshold fixed before, its own prevalence, and its own costs. Whatever the model says, a swab decides.
#
# ## What could be wrong
#
# - Thresholds and sets are fitted with models that saw three quarters of the training images, and used with one that saw all.
# - Bayes' theorem takes for granted that people elsewhere look the same; [chapter 8](08_other_data.ipynb) shows that they do not.
# - The strange images are few and easy to recognise. A warning that catches a cat may pass a burn.
# - A missed case costs the same whoever is missed ([chapter 7](07_shortcuts.ipynb)). What bounds all: [Limits](../book/limitations.md).
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("09")

# %% [markdown]
# ## Exercises
#
# With blanks: `notebooks/exercises/09_use.ipynb`. Here a folded solution follows each exercise.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# At which prevalence are half of the alarms right? Solve for it, for each threshold of `reached`.
#
# *Hint.* `reached[name, aim]["sensitivity"]` and `["specificity"]` can be added and divided like numbers; `.row()` of the result has
# `estimate`, `low` and `high`. You are right if `decisions.predictive_values(sensitivity, specificity, yours)["ppv"]` is 0.5; if it is
# not, count the true and the false alarms among 1000 people.

# %% tags=["solution"]
rows = []
for (name, aim), values in reached.items():
    hits, alarms = values["sensitivity"], 1 - values["specificity"]
    even = alarms / (alarms + hits)
    rows.append((plots.dataset_title(name), str(aim), report.with_interval(*(100 * even).row().values(), digits=1)))
    half = decisions.predictive_values(hits, 1 - alarms, even.estimate)["ppv"].estimate
    assert abs(half - 0.5) < 1e-9, "Look again: p x sensitivity is to equal (1 - p) x (1 - specificity)."
report.show(pd.DataFrame(rows, columns=["data set", "aim", "prevalence at which half are right (%)"]))

# %% [markdown] tags=["solution"]
# True and false alarms are equally many where p x sensitivity = (1 - p) x (1 - specificity), so p = (1 - specificity) / (1 - specificity
# + sensitivity). The specificity decides: a higher aim for the sensitivity is paid for with false alarms, and moves the point to the right.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# The sets above are fitted for each class by itself. Fit them for all classes together. Which class pays for it?
#
# *Hint.* `conformal.conformal_sets(..., confidence=level, by_class=False)` returns the predictions with their sets,
# `conformal.coverage_table` of these a table with `class`, `measure` and `estimate`. The coverage over all classes stays near `level`.

# %% tags=["solution"]
rows = []
for name in datasets:
    for way, by_class in {"each class by itself": True, "all together": False}.items():
        found = conformal.conformal_sets(predictions[name], nested[name], confidence=level, by_class=by_class)
        share = conformal.coverage_table(found).query("measure == 'coverage'").set_index("class")["estimate"]
        assert abs(share["all"] - level) < 0.15, "Look again: over all classes the coverage stays near the aim."
        rows.append({"data set": plots.dataset_title(name), "fitted for": way, **share})
report.show(pd.DataFrame(rows), digits=2)

# %% [markdown] tags=["solution"]
# Together, the aim is reached on average over all images: easy classes are covered more often than the aim, the hard or rare one less
# often, and nobody who has that disease is helped by the average. If no class loses, they are about equally hard.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (open)
#
# Set `COSTS` for a clinic that you know. Between which prevalences is the model worth asking there, and what would you have to know before
# you asked it? Defend your costs in five sentences.
#
# *Hint.* `decisions.worthwhile_prevalences(sensitivity, specificity, decisions.Costs(picture=..., false_alarm=..., missed=...))` returns
# the two prevalences, or `None` where the model is never the cheapest. If it is so everywhere, look whether false alarms cost anything.

# %% tags=["solution"]
mine, rows = decisions.Costs(picture=5, false_alarm=150, missed=1500), []
for (name, aim), values in reached.items():
    span = decisions.worthwhile_prevalences(values["sensitivity"].estimate, values["specificity"].estimate, mine)
    rows.append((plots.dataset_title(name), str(aim), " to ".join(f"{100 * end:.1f} %" for end in span) if span else "never"))
assert mine.false_alarm > mine.picture, "Look again: a false alarm costs at least the swab that follows the image."
report.show(pd.DataFrame(rows, columns=["data set", "aim", "prevalences at which the model is the cheapest"]))

# %% [markdown] tags=["solution"]
# *A model answer.* A swab and two days of waiting at home cost us 150, a missed case with two contacts 1500. The range is narrow, and
# hangs on a specificity that was measured on collected images. First I would want to know our own prevalence to within a factor of
# three, sensitivity and specificity on our own patients by skin tone, and what happens to those who are sent home wrongly.

# %% [markdown]
# ## What to read next
#
# [The verdict](10_verdict.ipynb); on decision curves Vickers and Elkin {cite}`vickers2006`, on conformal sets Angelopoulos and Bates
# {cite}`angelopoulos2023`, on calibration in medicine Van Calster et al. {cite}`vancalster2019`.

# %% tags=["hide-input"]
report.provenance("09_use", store, list(datasets.values()), device=DEVICE)
