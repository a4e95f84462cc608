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
# # Testing on strangers: how leakage makes 99 %

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
# - On people and photographs it has never met, the same classifier reaches an accuracy of {{ cv_msld_source_accuracy }} on MSLD
#   and {{ cv_msid_source_accuracy }} on MSID; when copies are made before the division into folds,
#   {{ cv_msld_augment_before_split_accuracy }} and {{ cv_msid_augment_before_split_accuracy }}.
# - Siblings of test images in training are enough to raise a score: with the test images unchanged, they raise the accuracy of a
#   nearest neighbour by {{ dose_msld_nearest_neighbour_difference }} on MSLD and by {{ dose_msid_nearest_neighbour_difference }}
#   on MSID.
# - Neither collection gives the published F1 and AUROC together unless copies cross folds; on MSLD (AUROC otherwise
#   {{ cv_msld_source_auroc }}) the F1 needs a copy in training of {{ copies_msld_f1_of_means }} of the tested images.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
# - Planted in the phantom are several images of one patient, and copies of photographs under other names; the rules see both.
# - With groups kept apart the AUROC is {{ cv_phantom_source_auroc }}, image by image {{ cv_phantom_random_image_auroc }}, and
#   with copies made first {{ cv_phantom_augment_before_split_auroc }}: as on real images, the last rule is the most flattering.
# - Siblings put back into training change the accuracy of a nearest neighbour by {{ dose_phantom_nearest_neighbour_difference }}
#   and that of the linear probe by {{ dose_phantom_linear_probe_difference }}.
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
N_FOLDS = 3
TAIL_TRAINING = {"epochs": 3, "frozen_stages": 6, "views": 2}
REPEATS = {"linear_probe": 2, "tail_tune": 1}
AUGMENTED_VIEWS = 2
DOSES = [0, 0.5, 1]
DOSE_REPEATS = {"linear_probe": 1, "nearest_neighbour": 1}
DOSE_FINE_TUNED = []
FINE_TUNED_DOSES = [0, 0.5, 1]
CROSSING_SHARES = [0, 0.5, 1]
DRAWS = 25
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import pandas as pd

import mpox.studies.verdict
from mpox.book import explorers, plots, report
from mpox.book.run import check_parameters
from mpox.protocols import copies, splits
from mpox.studies import intervals, leakage

check_parameters("03_cross_validation", globals())
published = {key: mpox.studies.verdict.read_paper().claims[key].published for key in ("f1", "roc_auc_mpox")}
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = {data.name: data for data in store.datasets(DATASETS, data_dir=DATA_DIR or None)}
data = next(iter(datasets.values()))  # the first, on which the cells that are shown work
protocols = {name: PROTOCOLS.get(name, ["random_image", "source"]) for name in datasets}
honest = {name: rules[-1] for name, rules in protocols.items()}
frozen, trained = ("linear_probe", "nearest_neighbour"), {"fine_tune": TRAINING, "tail_tune": TAIL_TRAINING}
same = {"backbone": BACKBONE, "seed": SEED, "device": DEVICE}
models = {regime: mpox.ModelConfig(regime=regime, image_size=IMAGE_SIZE, **same) for regime in frozen}
for regime, how in trained.items():
    models[regime] = mpox.ModelConfig(regime=regime, image_size=TRAINED_IMAGE_SIZE, training=how, **same)
if unknown := sorted({*REPEATS, *DOSE_REPEATS} - set(models)):
    raise mpox.MpoxError(f"REPEATS and DOSE_REPEATS know {', '.join(models)}, not {', '.join(unknown)}.")
repeats_of = {**REPEATS, "nearest_neighbour": REPEATS["linear_probe"]}  # it costs nothing once the probe has its features
folds = {"n_folds": N_FOLDS, "seed": SEED}
predictions = {
    (name, rule, regime): mpox.cross_validate(store, datasets[name], rule, models[regime], n_repeats=repeats, **folds)
    for name in datasets
    for rule in protocols[name]
    for regime, repeats in repeats_of.items()
}

# %%
words = plots.WORDS
views = {name: copies.augmented(data, AUGMENTED_VIEWS, SEED) for name, data in datasets.items() if AUGMENTED_VIEWS}
multiplied = {
    (name, "augment_before_split", regime): mpox.cross_validate(store, own, "augment_before_split", models[regime], **folds)
    for name, own in views.items()
    for regime in frozen
}
every = {**predictions, **multiplied}
every = {key: every[key] for name in datasets for rule in words for key in every if key[:2] == (name, rule)}
replicates = {
    (name, rule, regime): intervals.headline_replicates(store, datasets[name], rule, models[regime], table, n_draws=DRAWS)
    for (name, rule, regime), table in predictions.items()
}
parts = {
    (name, rule, regime): intervals.headline(store, datasets[name], rule, models[regime], table, n_draws=DRAWS)
    for (name, rule, regime), table in every.items()
}
metrics = pd.concat(parts, names=["dataset", "protocol", "regime"]).reset_index([0, 1, 2]).reset_index(drop=True)
metrics = metrics.assign(rule=metrics["protocol"].map(words), model=metrics["regime"].map(words))
measures = {
    "accuracy": ("accuracy", "all"), "AUROC": ("auroc", "Mpox"), "macro F1": ("f1", "macro"),
    "sensitivity": ("sensitivity", "Mpox"), "specificity": ("specificity", "Mpox"),
}  # fmt: skip
probed, said = metrics[metrics["regime"] == "linear_probe"], []
for (name, rule), part in probed.groupby(["dataset", "protocol"], sort=False):
    for title, measure in measures.items():
        text = report.estimate(part, *measure, digits=3 if title == "AUROC" else 2)
        report.finding(f"cv_{report.short_name(name)}_{rule}_{title.lower().replace(' ', '_')}", text)
        said.append((plots.dataset_title(name), title, words[rule], text))

# %% mystnb={"image": {"alt": "AUROC for Mpox with 95 percent intervals for each model and rule, one panel a data set, with the published value as a dashed line."}, "figure": {"name": "auroc-by-protocol", "caption": "The same models and images under different rules: out-of-fold AUROC (area under the ROC curve) for Mpox against all other classes, averaged over the repeats, with 95 % intervals. Dashed: the published ROC AUC."}}
area = metrics[(metrics["metric"] == "auroc") & (metrics["class"] == "Mpox")]
look = {"xlabel": "AUROC (Mpox against the rest)", "reference": {"published ROC AUC": published["roc_auc_mpox"]}}
figure = plots.forest(area, "model", hue="rule", row="dataset", **look)

# %% tags=["guard"]
estimates = probed.set_index(["dataset", "protocol", "metric", "class"])["estimate"]
for name, rule in [key[:2] for key in every if key[2] == "linear_probe" and report.is_study(datasets)]:
    f1, auroc = estimates[name, rule, "f1_of_means", "macro"], estimates[name, rule, "auroc", "Mpox"]
    both = f1 >= published["f1"] and auroc >= published["roc_auc_mpox"]
    report.guard(f"{name}: only copies made first give both figures", both == (rule == "augment_before_split"))

# %% [markdown]
# **Question.** How well does a network recognise Mpox in people it has never met, and how much does meeting them beforehand add?
# The model, the images and the number of folds stay the same in this chapter. Only the rule that assigns images to folds changes.
#
# **What you learn**
#
# - to find the leak in a description of how data were divided;
# - to measure what siblings of a test image are worth;
# - to read an interval that respects patients, and say why one that does not is too narrow;
# - to ask how much leak a published figure would take.
#
# ## The experiment
#
# Two images are *siblings* if they show the same patient, or the same photograph, as far as the audit of chapter 1 knows.
# Siblings form a *group*, named after one of its images, perhaps of the other collection.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five images of three groups and the folds that each of three rules gives them."}, "figure": {"caption": "Three rules for the same five images. Dashed lines join siblings of which one is learnt from and the other is tested."}}
explorers.show_drawing("leakage", "Image by image and copies made first put siblings on both sides; groups kept apart does not.")

# %% [markdown]
# - **Image by image** assigns every image by itself, as much of the published work does.
# - **Groups kept apart** puts a whole group into one fold. (*Patients kept apart* knows patients alone, and not copies.)
# - **Copies made first** multiplies every image by augmentation, then assigns the copies one by one {cite}`kapoor2023`. Copies
#   cross folds, there is more to train on, and the copies are tested as well.
#
# Every choice, such as the strength of a penalty, comes from inner folds of the training part. How many test images have a
# sibling in training?

# %% tags=["nbval-check-output"]
shares = {}
for rule in protocols[data.name]:
    split = splits.make_splits(data.manifest, rule, n_folds=N_FOLDS, seed=SEED)
    shares[rule] = round(splits.siblings_in_training(split, data.groups), 2)
shares

# %% [markdown]
# One call trains and tests a model in every fold. Each image is judged by a model that was not trained on it:

# %%
probe, rule = models["linear_probe"], honest[data.name]
table = mpox.cross_validate(store, data, rule, probe, n_folds=N_FOLDS, n_repeats=REPEATS["linear_probe"], seed=SEED)
table[["repeat", "fold", "group_id", "label", "p_Mpox"]].head(3).round(2)

# %% [markdown]
# The *linear probe* fits a linear classifier to the features of the frozen network. The *nearest neighbour* gives an image the
# label of the most similar training image: it shows what finding a sibling is worth. *Fine-tuned* networks are trained further,
# *tail-tuned* ones in their last stages only.
#
# ## What the rule changes
#
# The interval must know that a sample of patients could have been another one. So groups are drawn with replacement, and all
# their images come along {cite}`field2007`. Other patients would also have trained another model: for the probe, folds are
# assigned anew and the probe is fitted again in every draw {cite}`jiang2008`.

# %%
known = intervals.headline(store, data, rule, probe, table, n_draws=DRAWS)
known.loc[known["class"] == "Mpox", ["metric", "estimate", "low", "high", "interval"]].round(3)

# %%
wide = pd.DataFrame(said, columns=["data set", "measure", "rule", "text"]).query("rule != 'patients kept apart'")
wide = wide.set_index(["data set", "measure", "rule"])["text"].unstack(sort=False).rename_axis(columns=None).reset_index()
caption = f"The linear probe under three rules, {REPEATS['linear_probe']} repeats. {intervals.kinds_said(probed, by='rule')}."
report.show(wide, name="metrics", caption=caption)

# %% [markdown]
# Every other measure, the other models and patients kept apart are in [appendix B](B_metrics.ipynb). What does a rule add? Its
# replicates are drawn from the same groups, so that a difference is one subtraction, interval included:

# %%
lax, strict = (replicates[data.name, one, "linear_probe"][0]["auroc", "Mpox"] for one in (protocols[data.name][0], rule))
(lax - strict).row()

# %%
apart, rows = {}, []
for (name, rule, regime), (lax, _) in replicates.items():
    if rule == "random_image" != honest[name]:
        strict = replicates[name, honest[name], regime][0]
        found = [(lax[measure] - strict[measure]).row() for measure in (("accuracy", "all"), ("auroc", "Mpox"))]
        rows.append((plots.dataset_title(name), words[regime], *(report.with_interval(*one.values(), digits=3) for one in found)))
        apart[name, regime] = found[1]
differences = pd.DataFrame(rows, columns=["data set", "model", "accuracy", "AUROC (Mpox)"])
caption = "Image by image minus groups kept apart. The intervals are those of models held fixed, but for the linear probe."
report.show(differences, name="rule-differences", caption=caption)

# %% tags=["guard"]
for regime in frozen if report.is_study(datasets) else ():
    more, less = apart["msld-v1", regime], apart["msid", regime]
    report.guard(f"MSLD: {regime}, image by image adds more", more["low"] > 0 and more["estimate"] > less["estimate"] > 0)

# %% [markdown] tags=["study"]
# On MSLD the rule alone raises the AUROC of the probe and of the nearest neighbour, by more than the intervals can explain
# ([the differences](#table-rule-differences)). On MSID, where fewer images have a sibling that we know of, it adds less.
#
# ## Without the easy class
#
# Nobody asks whether a person without a rash has Mpox. MSID has many images of healthy skin, and these are easy: with them the
# AUROC is {{ cv_msid_source_auroc }}, among the rashes alone it is {{ cv_msid_rashes_only_auroc }}
# ([in full](B_metrics.ipynb#with-and-without-healthy-skin)).

# %% [markdown]
# ## The price of leakage: a dose-response
#
# Two rules differ in more than their leak: they also assign the test images differently. Here only the leak changes. The test
# images are always those of the rule *image by image*. At dose 0 all siblings are removed from training; at each higher dose more
# of them stay, and as many unrelated images of the same class are removed instead, as far as there are any.

# %% tags=["show"]
plan = [(name, regime, DOSES, repeats) for name in datasets for regime, repeats in DOSE_REPEATS.items()]
plan += [(name, "fine_tune", FINE_TUNED_DOSES, 1) for name in DOSE_FINE_TUNED if name in datasets]
asked, missing = {}, {}
for name, regime, doses, repeats in sorted(plan, key=lambda one: [*datasets].index(one[0])):
    try:
        asked[name, regime] = leakage.leak_dose(store, datasets[name], models[regime], doses=doses, n_repeats=repeats, **folds)
    except splits.TooFewImages as reason:
        missing[name, regime] = reason

# %%
for (name, regime), reason in missing.items():
    report.prose(f"*Not computed on this page: {plots.dataset_title(name)}, {words[regime]}, because {reason}*")
curves = [leakage.dose_response(table).assign(dataset=name, regime=regime) for (name, regime), table in asked.items()]
response = pd.concat([pd.DataFrame(columns=[*leakage.DOSE_COLUMNS, "dataset", "regime"]), *curves], ignore_index=True)
response["model"] = response["regime"].map(words)
top = response[response.groupby(["dataset", "regime"])["dose"].transform("max") == response["dose"]]
for row in top[(top["subset"] == "all") & top["metric"].isin(["accuracy", "auroc"])].itertuples():
    key, auroc = f"dose_{report.short_name(row.dataset)}_{row.regime}", row.metric == "auroc"
    change = report.with_interval(row.change, row.change_low, row.change_high, digits=3 if auroc else 2)
    found = {"auroc_difference": change} if auroc else {"difference": change, "share": f"{row.share:.0%}"}
    _ = [report.finding(f"{key}_{name}", text) for name, text in found.items()]

# %% mystnb={"image": {"alt": "Accuracy over the share of test images with a sibling in training, one line a model with interval bars, one panel a data set."}, "figure": {"name": "dose-response", "caption": "Dose and response: the same test images, with more and more of their siblings in training in place of unrelated images. Bars are 95 % intervals from resampling groups with the models held fixed."}}
drawn = response[(response["subset"] == "all") & (response["metric"] == "accuracy")]
if len(drawn):
    look = {"intervals": "bars", "percent": "x", "width": 5.2, "height": 2.8, "ylabel": "accuracy"}
    figure = plots.bands(drawn, "share", hue="model", row="dataset", xlabel="test images with a sibling in training", **look)

# %% [markdown]
# What siblings add belongs to the test images that have one. Where training grew with the dose, because a class ran out of
# unrelated images, what the others gain is the effect of more data.

# %% tags=["nbval-check-output"]
said = []
for (name, model), part in top[top["metric"] == "accuracy"].groupby(["dataset", "model"], sort=False):
    grown = response[(response["dataset"] == name) & (response["model"] == model)]["n_train"]
    size = " to ".join(dict.fromkeys(f"{number:.0f}" for number in (grown.min(), grown.max())))
    change = [report.with_interval(row.change, row.change_low, row.change_high) for row in part.itertuples()]
    said.append((plots.dataset_title(name), model, f"{part['share'].max():.0%}", *change[1:], size))  # change[0] is of all images
columns = ["data set", "model", "have a sibling", "their gain in accuracy", "gain of the others", "training images"]
report.show(pd.DataFrame(said, columns=columns), name="dose", caption="From no sibling in training to all there are.")
report.download(response.drop(columns="model"), "dose_response")

# %% tags=["guard"]
if report.is_study(datasets):
    gain = top.set_index(["dataset", "regime", "subset", "metric"])["change_low"]
    for name, regime in [(name, regime) for name in ("msld-v1", "msid") for regime in frozen]:
        least = [gain[name, regime, *one] for one in (("all", "accuracy"), ("all", "auroc"), ("with sibling", "accuracy"))]
        report.guard(f"{name}: siblings raise the scores of the {regime}", min(least) > 0)

# %% [markdown] tags=["study"]
# With a sibling in training for {{ dose_msld_linear_probe_share }} of the test images instead of none, the probe gains
# {{ dose_msld_linear_probe_difference }} in accuracy on MSLD and {{ dose_msld_linear_probe_auroc_difference }} in AUROC; on MSID,
# with {{ dose_msid_linear_probe_share }}, it gains {{ dose_msid_linear_probe_difference }} and
# {{ dose_msid_linear_probe_auroc_difference }}. The nearest neighbour, which can only look things up, gains
# {{ dose_msld_nearest_neighbour_difference }} and {{ dose_msid_nearest_neighbour_difference }} in accuracy. The gain is that of
# the images with a sibling ([the table](#table-dose)).

# %% [markdown]
# A flat line would not show that a leak is harmless. It says that *these* siblings add nothing that so many images can show: the
# model may have learnt the disease, or a mark that all images of a class share.
#
# ## How much leak gives the published figure?
#
# Copies made first exceed the published figures, which by itself says little. So take less of that leak. All images are
# multiplied and trained on. The copies of a share of the groups are assigned one by one; every other group stays in one fold.
# Only the images themselves are tested.

# %%
leaky = {}
for name in views if CROSSING_SHARES else ():
    leaky[name] = leakage.leak_dose(store, views[name], probe, doses=CROSSING_SHARES, **folds)

# %% tags=["nbval-check-output"]
held = {"F1": ("f1_of_means", "macro", published["f1"]), "ROC AUC": ("auroc", "Mpox", published["roc_auc_mpox"])}
needed, starts = [], {}
for name, measure in [(name, measure) for name in leaky for measure in held]:
    shares = starts[name, measure] = leakage.needed_share(leaky[name], *held[measure])
    middle, low, high = (f"{share:.0%}" if share <= 1 else "not even 100%" for share in shares)
    needed.append((plots.dataset_title(name), measure, held[measure][2], middle, f"{low} to {high}"))
    report.finding(f"copies_{report.short_name(name)}_{held[measure][0]}", f"{middle} (95 % interval {low} to {high})")
columns = ["data set", "measure", "published", "copies needed", "95 % interval"]
report.show(pd.DataFrame(needed, columns=columns), name="copies", caption="Share of tested images that need a copy in training.")

# %% mystnb={"image": {"alt": "F1 and ROC AUC over the share of tested images with a copy in training, one line a data set with a 95 percent band, and the published values as dashed lines."}, "figure": {"name": "copies", "caption": "F1 (harmonic mean of the averaged precision and recall) and ROC AUC of the linear probe over the share of the tested images that have an augmented copy in training, with 95 % intervals from resampling groups. Dashed: the published values."}}
if leaky:
    drawn = pd.concat([leakage.dose_response(table).assign(dataset=name) for name, table in leaky.items()], ignore_index=True)
    drawn["measure"] = drawn["metric"].map({"f1_of_means": "F1", "auroc": "ROC AUC"})
    lines = pd.DataFrame([(name, value) for name, (*_, value) in held.items()], columns=["measure", "estimate"])
    look = {"percent": "x", "sharey": False, "width": 5.2, "height": 2.6, "xlabel": "tested images with a copy in training"}
    look |= {"reference": lines.assign(label="published"), "ylabel": {name: name for name in held}}
    figure = plots.bands(drawn.dropna(subset="measure"), "share", row="measure", hue="dataset", **look)

# %% tags=["guard"]
for measure in held if report.is_study(datasets) and starts else ():
    report.guard(f"MSLD: without copies in training the published {measure} is not reached", starts["msld-v1", measure][1] > 0)

# %% [markdown] tags=["study"]
# [The table](#table-copies) gives the share at which [the curve](#fig-copies) crosses the published value. This does not show
# that the paper tested so, of which we know nothing. It shows how much of this leak would turn our honest score into theirs.

# %% [markdown]
# ## Curves
#
# An ROC curve is all thresholds at once; somebody who acts needs one. Choose it by the slider or on the curve, and see whom it
# finds and whom it alarms.

# %%
for name in datasets:
    shown = {rule: every.get((name, rule, "linear_probe")) for rule in words if rule != "patient"}
    curves = {words[rule]: explorers.operating_table(table) for rule, table in shown.items() if table is not None}
    explorers.show_explorer(curves, caption=f"{plots.dataset_title(name)}: ROC curves of the linear probe, first repeat")

# %% [markdown]
# ## What this means
#
# The rule by which images are assigned to folds is part of the result: a score without it cannot be read. Keep groups apart
# before anything else, augmentation included; no later analysis repairs a leak. And resample groups, not images: the interval
# then answers the question that a new patient asks.
#
# ## What could be wrong
#
# - A copy that the audit missed can be on both sides even with groups kept apart, and on MSID so can a person whom nobody
#   recognised: both flatter the honest scores.
# - Siblings in the dose-response replace unrelated images, so that a higher dose also means fewer different patients. This should
#   work against the climb.
# - Intervals of models held fixed, among them those of the dose-response and of the copies, are too narrow
#   ([appendix C](C_intervals.ipynb)).
# - Our augmentation is our own; the published one is not documented well enough.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("03")

# %% [markdown]
# ## Exercises
#
# With blanks in `notebooks/exercises/03_cross_validation.ipynb`.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Compute the accuracy of always naming the largest class of each data set, as a dictionary `always` by the data set's name, and
# set it beside the accuracy of the probe with groups kept apart.
#
# *Hint.* `data.manifest["label"]` is a pandas Series of labels; its `value_counts(normalize=True)` gives shares.
# `mpox.evaluate(table)` gives one row a metric and class.

# %% tags=["solution"]
always = {}
for name, own in datasets.items():
    share = own.manifest["label"].value_counts(normalize=True)
    always[name] = share.max()
    scores = mpox.evaluate(predictions[name, honest[name], "linear_probe"]).set_index(["metric", "class"])["estimate"]
    report.prose(f"{name}: always naming {share.idxmax()} {share.max():.1%}, the probe {scores['accuracy', 'all']:.1%}.")
    assert 1 / len(own.classes) <= always[name] < 1, f"{name}: at least an equal share, and less than all. Did you take counts?"

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Let `evaluate` resample images instead of groups: give it a table in which `group_id` is the `image_id`. How does the width of
# the interval of the accuracy change, and when would it not? One repeat is enough.
#
# *Hint.* `mpox.evaluate(table)` gives columns `estimate`, `low` and `high`; `table.assign(group_id=...)` gives a changed copy.

# %% tags=["solution"]
for name in datasets:
    once = predictions[name, honest[name], "linear_probe"].query("repeat == 0")
    by_group, by_image = (
        mpox.evaluate(one).set_index(["metric", "class"]).loc[("accuracy", "all")]
        for one in (once, once.assign(group_id=once["image_id"]))
    )
    width = (by_group["high"] - by_group["low"]) / (by_image["high"] - by_image["low"])
    report.prose(f"{plots.dataset_title(name)}: resampling groups makes the interval {width:.2f} times as wide.")
    assert abs(by_group["estimate"] - by_image["estimate"]) < 1e-9, "Only the interval may change: look at your `group_id`."

# %% [markdown] tags=["solution"]
# The estimate is the same, the interval is not. Where images of a group are right or wrong together, a group brings less than its
# number of images. The two are alike where almost every group has one image, or where errors within a group are independent.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (open)
#
# A methods section says: "The 228 images were augmented to 3,192 and divided 70:20:10 into training, validation and test sets at
# random. We report the mean of five runs." What leaks here? Write three questions to the authors, the most important first.
#
# *Hint.* Ask of every step whether it knew who is on an image, and whether it came before or after the division.

# %% [markdown] tags=["solution"]
# *A model answer.* Copies of one image are on all three sides, and so are other images of the patient. Five runs repeat the leak.
#
# 1. What is the score when patients, and copies of a photograph, are kept apart before augmentation?
# 2. Were augmented images tested, and how many test images have a copy in training?
# 3. May we have the predictions, one row an image, with its patient and its part? Then a reader can compute the rest.

# %% [markdown]
# ## What to read next
#
# [Chapter 4](04_power.ipynb): what so few patients could have shown at all. On leaks in other fields: {cite}`kapoor2023`.

# %% tags=["hide-input"]
report.provenance("03_cross_validation", store, list(datasets.values()), device=DEVICE)
