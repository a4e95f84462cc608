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
# # The verdict
#
# **Question.** Claim by claim: what does the paper say, what do we get when we test in a way that lets pictures leak, and
# what remains when we do not? And then the question of its title: can deep learning really recognize Mpox?
#
# Nothing new is trained here. The runs are those of chapters 3 and 5; what is new are rules that turn intervals into a judgement.
# Whoever disagrees with a judgement can say with which rule.
#
# **After this chapter you can**
#
# - ask of a claim what would count against it;
# - tell "not reproduced" from "not testable", and both from "refuted";
# - write down a rule before you look, and see how the judgement depends on it;
# - say a result in words that a clinician can use.
#
# **You need** [chapters 3](03_cross_validation.ipynb) and [4](05_ablation.ipynb).

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
PROTOCOLS = {"phantom": ["random_image", "patient", "source"]}
HONEST_PROTOCOL = {"phantom": "source", "msld-v1": "source", "msid": "source"}
BACKBONE = "tf_efficientnet_lite1"
BACKBONES = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]
IMAGE_SIZE = 0
TRAINED_IMAGE_SIZE = 128
TRAINING = {"epochs": 3, "frozen_stages": 3}
TAIL_TRAINING = {"epochs": 3, "frozen_stages": 6, "views": 2}
N_FOLDS = 3
REPEATS = {"linear_probe": 2, "tail_tune": 1}
N_REPEATS = 1
AUGMENTED_VIEWS = 2
EXTERNAL = []
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import matplotlib.pyplot as plt
import pandas as pd

from mpox import ModelConfig, MpoxError, cross_validate, evaluate, open_store
from mpox._core import WeightsMissing
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.models.backbones import describe_model
from mpox.protocols.copies import augmented
from mpox.runs.cross_validation import validate_externally
from mpox.studies import verdict
from mpox.studies.external import external_metrics, external_pair
from mpox.studies.verdict import answer_rules, conclusion, folds_finding, growth_finding, mpox_tests, size_finding

check_parameters("10_verdict", globals())
plots.use_style()
store = open_store(RUN_STORE)
loaded = store.datasets(DATASETS, data_dir=DATA_DIR or None)
datasets = {data.name: data for data in loaded}
is_phantom = any(data.is_phantom for data in loaded)
if "linear_probe" not in REPEATS:
    raise MpoxError("REPEATS needs linear_probe, the regime that is judged.")
if is_phantom:
    report.prose(
        "**This page is made of the phantom, not of patients.** The paper's claims are about photographs of skin, and nothing "
        "here speaks for or against them. What the page shows is that the rules judge as they are stated, on intervals from "
        "pictures whose patients, copies and marks were planted."
    )

# %%
at_the_top = report.key_findings()

# %% [markdown]
# ## What was measured
#
# Of the paper we know the abstract ([what it leaves open](#table-paper)), so that a judgement here says what *our* data give, never
# what the authors did. All that we read of it is in one file, `src/mpox/studies/claims.yml`; whoever has the full text fills it in and
# runs the chapters again. The same model is tested in ways that differ only in what
# may be on both sides of a fold, from the most flattering to the strictest: `augment_before_split`, `random_image`, `patient`,
# `source` (chapter 3). The honest one, whose interval decides, is named by the parameter `HONEST_PROTOCOL`. *Other data* is the same model trained on all of one
# collection and tested on the other, without the images that have a sibling in training (chapter 8).

# %% tags=["nbval-check-output"]
paper = verdict.read_paper()
report.show(pd.DataFrame(paper.about.items(), columns=["what", "the paper"]), name="paper", caption="What the abstract leaves open.")

# %% tags=["exercise-setup"]
probe = ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
plans = {"linear_probe": None, "fine_tune": TRAINING, "tail_tune": TAIL_TRAINING}
if unknown := set(REPEATS) - set(plans):
    raise MpoxError(f"REPEATS knows {', '.join(plans)}, not {', '.join(sorted(unknown))}.")
models = {
    regime: probe if not plan else probe.with_(regime=regime, image_size=TRAINED_IMAGE_SIZE, training=plan)
    for regime, plan in plans.items()
    if regime in REPEATS
}
protocols = {name: PROTOCOLS.get(name, ["random_image", "source"]) for name in datasets}
honest = {name: HONEST_PROTOCOL.get(name, "source") for name in datasets}
predictions = {
    (name, protocol, regime): cross_validate(store, data, protocol, models[regime], n_folds=N_FOLDS, n_repeats=repeats, seed=SEED)
    for name, data in datasets.items()
    for protocol in protocols[name]
    for regime, repeats in REPEATS.items()
}
if AUGMENTED_VIEWS:
    predictions |= {
        (name, "augment_before_split", "linear_probe"): cross_validate(
            store, augmented(data, AUGMENTED_VIEWS, SEED), "augment_before_split", probe, n_folds=N_FOLDS, seed=SEED
        )
        for name, data in datasets.items()
    }
metrics = pd.concat(
    [
        evaluate(table).assign(dataset=name, protocol=protocol, regime=regime)
        for (name, protocol, regime), table in predictions.items()
    ],
    ignore_index=True,
)

# %% tags=["exercise-setup"]
crossed = []
for train_name, test_name in EXTERNAL:
    both = external_pair(store, train_name, test_name, study=DATASETS, data_dir=DATA_DIR or None)[0]
    table = validate_externally(store, both, train_name, test_name, probe, seed=SEED)
    crossed.append(external_metrics(table).assign(train=train_name, test=test_name, regime="linear_probe"))
external = pd.concat(crossed, ignore_index=True) if crossed else None
if external is None:
    report.prose("*There is no other data on this page: it has a single collection, or names no pair of them (`EXTERNAL`).*")

# %% [markdown]
# ## The rules
#
# Each published number is held against 95 % intervals from resampling groups. The first rule that applies decides. An interval
# *contains* a value if it also ends within a margin of it, above and below; one that contains the value and reaches farther is *too
# wide*, and counts for nothing, whether its protocol is honest or laxer. A published value stands for all that round to it. The honest
# interval is judged first; what a laxer protocol does is said beside it. The numbers in [the table](#table-rules) are made up, to show
# each rule at work; the last column is what the program made of them.

# %% tags=["nbval-check-output"]
report.show(verdict.rules(), name="rules", caption="The rules of judgement, each with its reason, at work on made-up numbers.")

# %% [markdown]
# **When they were written.** The figures of this record had been seen, so that for it these rules are no registration. As they stand
# here they are registered for the next record, before it is read: the rules and their order, the words, the metric and the margin of each
# claim, the honest protocol, the judged model (a linear probe on EfficientNet-Lite1), the 0.90, and the rules of
# [the answer](#table-answer-rules). Where that record keeps images, seeds and the frozen probe, this only binds us not to change them; it
# is a test only where runs are new, because the groups change (one audit of both sets, with the same persons). Intervals will be those of
# the pipeline refitted (`studies/intervals.py`), and what the paper says may change, if somebody reads its full text.
#
# [For each claim](#table-criteria) there is a criterion. A margin has to come from somewhere: here, a pass must exclude the figure that a
# careful study reports, or the two could not be told apart.

# %% tags=["nbval-check-output"]
report.show(verdict.criteria(), name="criteria", caption="The criterion of each claim, and where its margin comes from.")

# %% [markdown]
# What is read how:
#
# - *Precision, recall and F1* are read as averages over the classes. The published F1 is the harmonic mean of the published
#   precision and recall (chapter 3), and is held against the same mean of ours.
# - *ROC AUC and PR AUC* can be averages over classes, or Mpox against the rest. Both are judged, a row each.
# - *Growth.* By chapter 5's test of rise and fall: reproduced, if a middle size is shown to be better than both ends; not
#   reproduced, if it is shown that none is as good as both and the smallest is better than the largest; otherwise, or with fewer
#   than three sizes, not testable.
# - *Folds.* A test on our own folds shows what a large p is worth.

# %%
growth, left_out = {}, []
for name, data in datasets.items():
    grown = {}
    for backbone in BACKBONES:
        try:
            table = cross_validate(
                store, data, honest[name], probe.with_(backbone=backbone), n_folds=N_FOLDS, n_repeats=N_REPEATS, seed=SEED
            )
        except WeightsMissing:
            left_out.append(backbone)
        else:
            cost = describe_model(backbone, "linear", len(data.classes)).multiply_adds
            grown[backbone] = (cost, table)
    growth[name] = {backbone: table for backbone, (_, table) in sorted(grown.items(), key=lambda item: item[1][0])}
if left_out:
    report.prose(f"The weights of {', '.join(sorted(set(left_out)))} are not available; the growth is judged without them.")

# %% [markdown]
# ## Claim by claim
#
# The judged model is the linear probe: it exists under every protocol. First the judgements ([the table](#table-claims)), then what each
# protocol gives ([the next one](#table-claims-by-protocol)), and the reasons ([the last](#table-claims-why)). An empty cell was not run, or has
# no meaning for that claim. How much hangs on the margins, [the counts](#table-margins) say.
# [The figure](#fig-claims) has the same intervals.

# %%
tables = {}
for name, data in datasets.items():
    mine = metrics[(metrics["dataset"] == name) & (metrics["regime"] == "linear_probe")]
    findings = {
        "size": size_finding(BACKBONE, describe_model(BACKBONE, "linear", len(data.classes)).parameters),
        "folds": folds_finding(
            {protocol: predictions[name, protocol, "linear_probe"] for protocol in protocols[name]}, honest[name]
        ),
        "growth": growth_finding(growth[name], honest[name]),
    }
    tables[name] = verdict.verdict_table(mine, external, honest=honest[name], findings=findings)
    short = tables[name][["claim", "judgement", honest[name], "paper"]]
    report.show(short, name="claims", caption=f"{plots.dataset_title(name)}: claim by claim, with the honest protocol {honest[name]}.")

# %%
for name, table in tables.items():
    measured = table.drop(columns=["paper", "judgement", "why"]).set_index("claim")
    measured = measured.loc[measured.ne("").any(axis=1), measured.ne("").any()].reset_index()
    caption = f"{plots.dataset_title(name)}: what each protocol gives, from the most flattering to the strictest."
    report.show(measured, name="claims-by-protocol", caption=caption)
for name, table in tables.items():
    report.show(table[["claim", "why"]], name="claims-why", caption=f"{plots.dataset_title(name)}: why each judgement is what it is.")

# %%
rows = []
for name in datasets:
    mine = metrics[(metrics["dataset"] == name) & (metrics["regime"] == "linear_probe")]
    table = verdict.at_margins(mine, honest=honest[name])
    table.insert(0, "data set", plots.dataset_title(name))
    rows.append(table)
rows = pd.concat(rows, ignore_index=True)
given = [word for word in verdict.JUDGEMENTS if word == verdict.REPRODUCED or rows[word].any()]
caption = f"How many of the {len(paper.figures)} published figures get which judgement, at their own margins and at others; what none gets is left out."
report.show(rows[["data set", "margin", *given]], name="margins", caption=caption)
if (rows.groupby("data set")[given].nunique() == 1).all(axis=None):
    report.prose("Nothing hangs on the margins here: at each of them the counts are the same.")

# %% mystnb={"image": {"alt": "A line for each published figure of performance, one panel a data set: intervals under augment_before_split, random_image, patient, source and on other data, with the published value as a dash."}, "figure": {"name": "claims", "caption": "Each published figure (dash) and what the linear probe gives under each protocol, from the most flattering on top to the strictest, and on other data, with 95 % intervals from resampling groups. Where the interval of the honest protocol ends before the line, and one above it contains or passes it, the way of testing, and of multiplying pictures, can make the difference."}}
from textwrap import fill

intervals = verdict.claim_intervals(metrics, external)
probed = intervals[intervals["regime"] == "linear_probe"].dropna(subset=["estimate"])
probed["protocol"] = pd.Categorical(probed["protocol"], [*verdict.STRICTNESS, verdict.OTHER])
subjects = {claim.key: fill(claim.subject, 20) for claim in paper.claims.values()}
about = {"goal": "published", "xlabel": "value, with 95 % interval"}
plots.forest(probed.replace({"claim": subjects}), "claim", hue="protocol", col="dataset", width=3.8, **about)
plt.show()

# %% [markdown]
# ## Does another regime change a judgement?
#
# Other regimes were run under fewer protocols, with fewer repeats and at their own input size. The same rules apply; but a leak under
# which a regime was not run can neither reproduce nor exceed anything. Images that are multiplied
# before the division were tried with the linear probe alone, for the cost of training on so many ([their judgements](#table-other-regimes)).

# %%
others = []
for (name, regime), part in metrics[metrics["regime"] != "linear_probe"].groupby(["dataset", "regime"], sort=False):
    judged = verdict.verdict_table(part, honest=honest[name]).set_index("claim")
    judged = judged[judged[honest[name]] != ""]["judgement"].value_counts().rename_axis("judgement").rename("rows").reset_index()
    others.append(judged.assign(**{"data set": plots.dataset_title(name), "regime": regime}))
if others:
    counted = pd.concat(others, ignore_index=True)[["data set", "regime", "judgement", "rows"]]
    report.show(counted, name="other-regimes", caption="The same rules for other regimes: how many rows of the table of claims get which judgement.")
else:
    report.prose("*The linear probe is the only regime on this page (`REPEATS`).*")

# %% [markdown]
# ## The answer
#
# What a clinician acts on is how many people with Mpox are recognised, the sensitivity, and how many others are cleared, the
# specificity. From their intervals, and that of the AUROC, follows what was found, by [these rules](#table-answer-rules), the first that
# applies:

# %% tags=["nbval-check-output"]
report.show(answer_rules(), name="answer-rules", caption="The rules of the answer; the first that applies decides.")

# %% [markdown]
# The 0.90 is a convention of this book, not a clinical standard; the *tests* are each data set under its honest protocol, and each
# test on other data. In an *honest* test the program has seen no copy that was found of any test image and, as far as patients are known, no other
# image of the same patient. The *flattering* ones do not count: images that are assigned to folds one by one, whoever they show, or after altered copies of
# them were made. On *other data* the program was shown those images of another collection that the two do not share ([the tests](#table-answer-tests)).
# [The last figure](#fig-one-model) is the whole book in one picture.

# %%
main = metrics[metrics["regime"] == "linear_probe"]
measured = mpox_tests(main, external, honest=honest).query("metric != 'auroc'")
words = {"sensitivity": "of 100 images of Mpox it recognised", "specificity": "of 100 others it cleared"}
measured["of 100"] = [report.with_interval(*row, digits=1) for row in (100 * measured[["estimate", "low", "high"]]).to_numpy()]
wide = measured.pivot(index=["kind", "dataset", "tested"], columns="metric", values="of 100").rename(columns=words)
wide = wide.rename_axis(columns=None).reset_index().rename(columns={"kind": "test", "dataset": "learnt from", "tested": "tested by, or on"})
report.show(wide, name="answer-tests", caption="What the program does with images of Mpox and with others, test by test.")
readings = [claim.subject for claim in paper.figures.values()]
found = conclusion(main, external, honest=honest)
counted = measured[measured["kind"] != "flattering"].pivot(index=["dataset", "tested"], columns="metric", values="estimate")
counted = (100 * counted.dropna().sort_values(["sensitivity", "specificity"], ascending=[True, False])).round().astype(int)
fewest, most, alarms = counted["sensitivity"].iloc[0], counted["sensitivity"].iloc[-1], 100 - counted["specificity"].iloc[-1]
shown = f"The program recognised {most} of 100 images of Mpox and took {alarms} of 100 others for Mpox"
if fewest < most:
    shown = f"Depending on the collection the program recognised {fewest} to {most} of 100 images of Mpox; where it recognised {most} it took {alarms} of 100 others for Mpox"
enough = f"In every test it recognised and cleared at least {100 * verdict.ENOUGH:.0f} of 100, chance included"
answers = {
    verdict.NO_BETTER: f"{shown}. In at least one test it is not shown to be better than the toss of a coin.",
    verdict.WELL_ENOUGH: f"{shown}. {enough}.",
    verdict.BETTER: f"{shown}. By AUROC it is better than chance in every test; it is not shown to be well enough to be relied on.",
    verdict.AT_HOME: f"{shown}. {enough}, but on other data it was not tested.",
}
if is_phantom:
    report.prose("These are drawn images, not patients: what follows shows the rules at work and says nothing about Mpox.")
report.prose(f"Does it really recognize Mpox? **{answers[found]}**")
report.finding("verdict_found", found)
report.finding("verdict_answer", answers[found])
for name, table in tables.items():
    published = table["judgement"][table["claim"].isin(readings)]
    for key, text in (("reproduced", verdict.REPRODUCED), ("leaking", verdict.LEAKING), ("passed", verdict.PASSED)):
        report.finding(f"verdict_{report.short_name(name)}_{key}", f"{(published == text).sum()} of {len(published)}")

# %% tags=["cover-figure"] mystnb={"image": {"alt": "F1 and ROC AUC of one model, a panel each, with a marker a data set: intervals under augment_before_split, random_image, patient, source and on other data, with the published value as a dashed line."}, "figure": {"name": "one-model", "caption": "One model, one set of pictures, several ways of testing: F1 and ROC AUC of the linear probe on each data set, with 95 % intervals from resampling groups. Dashed: the published values. `augment_before_split`: pictures are multiplied by augmentation, then divided. `random_image`: divided picture by picture. `patient`, `source`: no patient, and no copy of a photograph, on both sides. *other data*: trained on this collection, tested on what another one does not share with it."}}
two = probed[probed["claim"].isin(["f1", "roc_auc_mpox"])].replace({"claim": {"f1": "F1", "roc_auc_mpox": "ROC AUC"}})
two["claim"] += "; published " + two["published"].astype(str)
values = two.drop_duplicates("claim")[["claim", "published"]].rename(columns={"published": "estimate"}).assign(label="published")
about = {"hue": "protocol", "style": "dataset", "row": "claim", "reference": values, "width": 4.8}
plots.forest(two, "protocol", xlabel="value, with 95 % interval", **about)
plt.show()

# %% tags=["hide-input"]
where = "Nothing here speaks of Mpox; the rules, put to the phantom, say:" if is_phantom else "**Can deep learning really recognize Mpox?**"
said = [f"{where} {answers[found]}"]
for name in datasets:
    counts = tables[name]["judgement"][tables[name]["claim"].isin(readings)].value_counts()
    mine = main[(main["dataset"] == name) & (main["protocol"] == honest[name])]
    said.append(
        f"**{plots.dataset_title(name)}**: of {counts.sum()} readings of the published figures "
        + ", ".join(f"{number} {'is' if number == 1 else 'are'} *{text}*" for text, number in counts.items())
        + f" ([the table](#table-claims), [the figure](#fig-claims)). Under `{honest[name]}` sensitivity for Mpox is "
        f"{report.estimate(mine, 'sensitivity', 'Mpox')}, specificity {report.estimate(mine, 'specificity', 'Mpox')}."
    )
if external is not None:
    rows = external[(external["metric"] == "auroc") & (external["class"] == "Mpox") & (external["subset"] == "without shared")]
    said += [
        f"Trained on {row.train}, tested on what {row.test} does not share with it: AUROC "
        f"{report.with_interval(row.estimate, row.low, row.high, digits=3)}."
        for row in rows.itertuples()
    ]
at_the_top.fill(*said)

# %% [markdown]
# ## What this means
#
# Read the columns of [the table](#table-claims-by-protocol) from left to right. A published figure that only the flattering columns contain or exceed has not been refuted,
# and nobody is accused: a data set that we do not have, or a better model, may give it honestly. But where the way of testing, and of
# multiplying pictures, can produce it, it is no evidence for the model until the way of testing is known; and where one of them
# exceeds it, the question is how much of that leak gives just this value
# ([chapter 3](03_cross_validation.ipynb)). *Not testable here* is not a polite
# form of no. It says that the claim, as it is worded in the abstract, gives a reader nothing to hold against it, or that our data are too few.
#
# The [chapter on cross-validation](03_cross_validation.ipynb) shows how much the folds differ, and why a large p says so little;
# the [ablation](05_ablation.ipynb) has the networks that stand behind the row on growth.
#
# ## What could be wrong
#
# [One page](../book/limitations.md) has what bounds the whole book, and belongs to every quotation of the verdict. Of this chapter:
#
# - We judge a model that we inferred from one number, on data sets that we chose because they can be had. The paper may have used neither.
# - The published values come without intervals. A value that ours just miss may be one that theirs, too, would not exclude; and the
#   more groups, the narrower our intervals, so that in the end they miss any value.
# - The rules are ours, and so are the margins and the 0.90. [One table](#table-margins) moves the margins, exercise 2 the 0.90.
# - Nearly every model of such pictures, the drawn ones included, is better than a coin and not well enough; the figures in the
#   table say more than the sentence.
# - Seven rows are not seven independent claims: precision, recall and F1 rise and fall together, and so do the areas; with two
#   classes both readings of the ROC AUC are the same number.
# - `source` keeps apart what the audit found. What it missed still flatters, and the honest column is then an upper limit.
# - On other data, classes and sources differ too (Mpox against other rashes, without healthy skin), so that an average over classes
#   there is over other classes.
# - "Performance" is read as the AUROC of a linear probe, and the sizes available are few and of one family.
# - Sensitivity and specificity are at one threshold, the most probable class. Another threshold trades one for the other.
# - Pictures from collections are not the patients of a clinic. The answer is about these collections; Mpox is confirmed in the laboratory.
#
# ## Take-aways
#
# - A claim that nothing could count against is not a result.
# - The flattering column shows what the way of testing can do by itself ([in one picture](#fig-one-model)). Only the honest one, and other data, speak for the model.
# - A judgement needs a rule that was there before the numbers, as ours was not for this record, and a reader who can change it.
# - The last step, from collections to patients, is not made by statistics. It takes other data.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("10")

# %% [markdown]
# ## Exercises
#
# With blanks to be filled in: `notebooks/exercises/10_verdict.ipynb`. Here each exercise is followed by a solution, folded
# in the book. Try first.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Which published figure is closest to being reached by the honest interval, and which is farthest from it?
# (`mpox.studies.verdict.claim_intervals` gives the intervals.)

# %% tags=["solution"]
held = verdict.claim_intervals(metrics, external)
held = held[held["regime"] == "linear_probe"]
for name in datasets:
    part = held[(held["dataset"] == name) & (held["protocol"] == honest[name])].set_index("claim")
    short = (part["published"] - part["high"]).sort_values()
    report.prose(
        f"**{plots.dataset_title(name)}**, the published value minus the upper end of the honest interval: closest is "
        f"{short.index[0]}, farthest {short.index[-1]}."
    )
    report.show(part.assign(short=short).loc[short.index, ["estimate", "low", "high", "published", "short"]])

# %% [markdown] tags=["solution"]
# A negative number means that the interval reaches the published value, which is not the same as a judgement: the second rule
# asks, too, that the interval does not lie far below it. Differences near 1 on the scale of an AUROC are not
# comparable with those of a recall. Half of what is missing to 1 is a better yardstick than a number of points.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Set `mpox.studies.verdict.ENOUGH` to 0.80 and then to 0.70 before calling `conclusion`. From which value on would you act differently?
# Say why, before you look whether the finding changes.

# %% tags=["solution"]
import mpox.studies.verdict

judged, usual, rows = metrics[metrics["regime"] == "linear_probe"], mpox.studies.verdict.ENOUGH, []
for enough in (usual, 0.80, 0.70):
    mpox.studies.verdict.ENOUGH = enough
    rows.append((f"{enough:.2f}", conclusion(judged, external, honest=honest)))
mpox.studies.verdict.ENOUGH = usual
report.show(pd.DataFrame(rows, columns=["sensitivity and specificity from", "what was found"]))

# %% [markdown] tags=["solution"]
# Whom the answer serves decides. To tell a person "stay at home until the laboratory has answered", a sensitivity of 0.80 may do,
# because a false alarm costs days and a missed case is found later. To send somebody home without a test, one missed case in five
# is too many. The same value need not hold for both: sensitivity and specificity have different costs. Note that without a test on
# other data it cannot be *well enough* without a *but*, whatever the value: the last rule asks for one.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (hard)
#
# The claim on folds is not testable because it has no margin. Choose one, write down why, and test equivalence of the folds with it:
# is each fold's accuracy within the margin of that of the other folds? (Two one-sided tests at 0.05 say yes when the 90 % interval
# lies within the margin; `mpox.stats.metrics.group_weights` resamples groups.) Would you have chosen the same margin after seeing the folds?

# %% tags=["solution"]
import numpy as np

from mpox.stats.metrics import group_weights
from mpox.studies.errors import error_table

MY_MARGIN = 0.05
for name in datasets:
    table = error_table(predictions[name, honest[name], "linear_probe"].query("repeat == 0"))
    weights, right, rows = group_weights(table["group_id"].to_numpy(str), 2000, SEED), ~table["wrong"].to_numpy(), []
    for fold in sorted(table["fold"].unique()):
        here = (table["fold"] == fold).to_numpy()
        inside, outside = (weights[:, one] @ right[one] / weights[:, one].sum(axis=1) for one in (here, ~here))
        change = inside - outside
        low, high = np.quantile(change[1:], [0.05, 0.95])
        verdict_of_fold = "yes" if max(-low, high) < MY_MARGIN else "not shown"
        rows.append((fold, here.sum(), inside[0], change[0], low, high, verdict_of_fold))
    columns = ["fold", "images", "accuracy", "minus the others", "low (90 %)", "high (90 %)", "equivalent"]
    folds = pd.DataFrame(rows, columns=columns)
    report.prose(f"**{plots.dataset_title(name)}**, `{honest[name]}`, margin {MY_MARGIN}")
    report.show(folds.set_index("fold"))
    needed = folds[["low (90 %)", "high (90 %)"]].abs().to_numpy().max()
    report.prose(
        f"{(folds['equivalent'] == 'yes').sum()} of {len(folds)} folds are shown to be equivalent to the others. All would be with a "
        f"margin of {100 * needed:.0f} points or more."
    )

# %% [markdown] tags=["solution"]
# Five points were chosen because a clinic would not notice less among a hundred patients, and chosen before the table was
# computed; after seeing the last sentence one is tempted by a larger number, which is why a margin belongs into the protocol of a
# study. *Not shown* does not say that folds differ. It says that a fold has too few groups to show that they do not, and that is the
# state in which "p > 0.05" gets read as robustness.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 (open)
#
# A ministry of health asks for two sentences on this model that its press office may print, and for one that it must not print. Write
# all three. Then say what study you would need to write a stronger sentence.

# %% [markdown] tags=["solution"]
# *A model answer.* To print: "In collections of photographs a computer program told Mpox from other skin conditions more often
# than chance, and less often than had been reported, once pictures of the same patients were kept apart." And: "It has not been
# tested on the patients of a clinic, and does not replace the laboratory." Both hold only if the table above bears them out, so
# read it first: on the phantom neither may be printed at all.
#
# Not to print: "Artificial intelligence recognises Mpox with more than 95 % accuracy." It drops the way of testing, the patients,
# and what is to be done with the answer.
#
# For more: consecutive patients with a suspicious rash in several clinics, all with a laboratory result; skin tones, ages and body
# sites as they come; an analysis and a threshold fixed beforehand; and a comparison with what is done today. The only evidence of
# that kind is prospective {cite}`thieme2023`.

# %% [markdown]
# ## What to read next
#
# Back to [chapter 1](01_data_exploration.ipynb) with other eyes, or to the same chapters in the other part of this book. On what
# a network may recognise in place of lesions: Vega et al. {cite}`vega2023`; on a study with patients: Thieme et al.
# {cite}`thieme2023`.

# %% tags=["hide-input"]
report.provenance("10_verdict", store, list(datasets.values()), device=DEVICE)
