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
# **Question.** How well does the network recognise Mpox in people it has never met, and how much of the published figure
# comes from people it has?
#
# The same model, the same pictures, the same number of folds: only the rule by which pictures are dealt to folds differs.
# Under `random_image` each picture is dealt by itself, as in much of the published work. Under `patient` all pictures of a
# patient stay together, under `source` also all copies of a photograph that the audit of chapter 1 finds. Everything else,
# penalty and stopping included, is chosen inside the training part.
#
# *You need:* chapters 1 and 2. *You will learn:* how to read an interval that respects patients, what a model gains from each
# sibling of a test picture in its training, why folds spread, and what "no significant difference between folds" does not say.

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
REPEATS = {"linear_probe": 2, "fine_tune": 1}
AUGMENTED_VIEWS = 2
DOSES = [0, 0.5, 1]
DOSE_REPEATS = {"linear_probe": 1, "nearest_neighbour": 1}
DOSE_FINE_TUNED = []
FINE_TUNED_DOSES = [0, 0.5, 1]
EXTERNAL = []
SEED = 0
DEVICE = "cpu"

# %%
import matplotlib.pyplot as plt
import pandas as pd

from mpox import ModelConfig, MpoxError, cross_validate, evaluate, figures, figures_leakage, open_store, report
from mpox.combine import SUBSETS, combine, external_metrics
from mpox.errors import TooFewImages
from mpox.experiment import validate_externally
from mpox.leakage import DOSE_COLUMNS, dose_response, leak_dose
from mpox.views import augmented

figures.use_style()
store = open_store(RUN_STORE)
loaded = [store.dataset(name, data_dir=DATA_DIR or None) for name in DATASETS]
datasets = {data.name: data for data in loaded}

# %% [markdown]
# ## The experiment
#
# Each line of the loop is one cross-validation: out-of-fold predictions of every picture, once a repeat. Runs that exist
# are read, the others are trained. The linear probe and the nearest neighbour work on the same frozen features; the nearest
# neighbour learns nothing, it gives a picture the label of the most similar training picture.

# %%
protocols = {name: PROTOCOLS.get(name, ["random_image", "source"]) for name in datasets}
models = {
    "linear_probe": ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE),
    "nearest_neighbour": ModelConfig(
        regime="nearest_neighbour", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE
    ),
    "fine_tune": ModelConfig(
        regime="fine_tune", backbone=BACKBONE, image_size=TRAINED_IMAGE_SIZE, seed=SEED, device=DEVICE, training=TRAINING
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
# (mirrored, turned, shifted, zoomed, brightened), then the copies are dealt to folds like pictures: `augment_before_split`. It
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
        "data set": figures.dataset_title(name),
        "protocol": protocol,
        "regime": regime,
        "images": table["image_id"].nunique(),
        "repeats": table["repeat"].nunique(),
        "runs": table["run_id"].nunique(),
    }
    for (name, protocol, regime), table in {**predictions, **multiplied}.items()
]
report.show(pd.DataFrame(done))

# %%
metrics = pd.concat(
    [
        evaluate(table).assign(dataset=name, protocol=protocol, regime=regime)
        for (name, protocol, regime), table in {**predictions, **multiplied}.items()
    ],
    ignore_index=True,
)

# %% [markdown]
# ## What the rule changes
#
# Every interval below comes from resampling groups {cite}`field2007`: patients, or photographs, are drawn with
# replacement, and all their pictures come along. Resampling pictures would treat four views of one arm as four people.

# %% mystnb={"image": {"alt": "Accuracy with 95 percent intervals for each regime and protocol, one panel a data set, with the published F1 as a dashed line."}, "figure": {"caption": "Out-of-fold accuracy with 95 % intervals from resampling groups. The dashed line is the published F1; accuracy and F1 are different measures, and the line is there for scale."}}
figures.intervals(
    metrics[metrics["metric"] == "accuracy"],
    by="regime",
    colour="protocol",
    xlabel="accuracy",
    reference={"published F1": 0.9580},
)
plt.show()

# %% mystnb={"image": {"alt": "AUROC for Mpox with 95 percent intervals for each regime and protocol, one panel a data set, with the published ROC AUC as a dashed line."}, "figure": {"caption": "Out-of-fold AUROC for Mpox against all other classes. The dashed line is the published ROC AUC."}}
figures.intervals(
    metrics[(metrics["metric"] == "auroc") & (metrics["class"] == "Mpox")],
    by="regime",
    colour="protocol",
    xlabel="AUROC (Mpox against the rest)",
    reference={"published ROC AUC": 0.998},
)
plt.show()

# %%
shown = [
    ("accuracy", "all"), ("precision", "macro"), ("recall", "macro"), ("f1", "macro"), ("auroc", "macro"), ("auprc", "macro"),
    ("auroc", "Mpox"), ("auprc", "Mpox"), ("sensitivity", "Mpox"), ("specificity", "Mpox"),
]  # fmt: skip
shown = metrics[pd.MultiIndex.from_frame(metrics[["metric", "class"]]).isin(shown)]
cells = shown.assign(
    measure=shown["metric"] + " (" + shown["class"] + ")",
    text=[f"{row.estimate:.3f} ({row.low:.3f} to {row.high:.3f})" for row in shown.itertuples()],
)
for name, part in cells.groupby("dataset"):
    table = part.pivot(index=["regime", "protocol"], columns="measure", values="text").T
    table.columns = [f"{regime}, {protocol}" for regime, protocol in table.columns]
    report.prose(f"**{figures.dataset_title(name)}**")
    report.show(table.rename_axis(index=None).reset_index(names="measure"))

# %%
from mpox.metrics import difference

for name in datasets:
    honest = protocols[name][-1]
    if "random_image" not in protocols[name] or honest == "random_image":
        report.prose(f"{figures.dataset_title(name)}: PROTOCOLS names no random and honest protocol, so there is no difference.")
        continue
    for regime in repeats_of:
        change = difference(predictions[name, "random_image", regime], predictions[name, honest, regime], "accuracy", "all")
        report.prose(
            f"{figures.dataset_title(name)}, {regime}: accuracy under `random_image` minus accuracy under `{honest}`: "
            f"{report.with_interval(*change, digits=3)}."
        )

# %% [markdown]
# ## The price of leakage: a dose-response
#
# Two protocols differ in more than their leak: the test sets are dealt differently. Here only the leak changes. The test
# pictures are those of the random split, always. Their *siblings*, training pictures of the same patient or the same photograph,
# are all removed at dose 0; at each higher dose more of them stay, and as many unrelated pictures of the same class are
# removed instead, so that the amount of training data stays the same as far as there are such pictures. At the last dose all siblings that the random split has are
# there. The penalty, the scale and the stopping are chosen in inner folds that no group crosses, at every dose alike.
#
# A climb is what siblings in training add. A flat line says only that *these* siblings add nothing that can be seen with so many
# pictures: the model may have learnt the disease, or a shortcut that all pictures of a class share. What is measured is the effect of
# *exchanging* unrelated pictures for siblings. Where a class runs out of unrelated pictures the training set grows with the dose, and
# part of the climb may be due to more data; the table below gives the numbers.

# %%
plan = [
    (name, regime, DOSES, repeats) for name in datasets for regime, repeats in DOSE_REPEATS.items()
] + [(name, "fine_tune", FINE_TUNED_DOSES, 1) for name in DOSE_FINE_TUNED if name in datasets]  # fmt: skip
curves = []
for name, regime, levels, repeats in plan:
    try:
        asked = leak_dose(store, datasets[name], models[regime], doses=levels, n_folds=N_FOLDS, n_repeats=repeats, seed=SEED)
    except TooFewImages as reason:
        report.prose(f"*No dose-response of {figures.dataset_title(name)}, {regime}: {reason}*")
        continue
    curves.append(dose_response(asked).assign(dataset=name, regime=regime))

# %% mystnb={"image": {"alt": "Accuracy, macro F1, AUROC and sensitivity for Mpox over the share of test images with a sibling in training, one line a regime with interval bars, data sets side by side."}, "figure": {"caption": "Dose and response: the same test images, more and more siblings of them in training in place of unrelated images. Bars are 95 % intervals from resampling groups; lines are shifted a little sideways so that the bars do not cover each other."}}
measures = {
    ("accuracy", "all"): "accuracy",
    ("f1", "macro"): "macro F1",
    ("auroc", "Mpox"): "AUROC (Mpox)",
    ("sensitivity", "Mpox"): "sensitivity (Mpox)",
}
response = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=[*DOSE_COLUMNS, "dataset", "regime"])
if curves:
    figures_leakage.dose_response(response, measures)
    plt.show()

# %%
top = response.groupby(["dataset", "regime"])["dose"].transform("max") == response["dose"]
for row in response[top & (response["subset"] == "all") & (response["metric"] == "accuracy")].itertuples():
    report.prose(
        f"{figures.dataset_title(row.dataset)}, {row.regime}: with a sibling in training for {row.share:.0%} of the test images "
        f"instead of none, accuracy changes by {report.with_interval(row.change, row.change_low, row.change_high, digits=3)}, "
        f"an interval that {'contains' if row.change_low <= 0 <= row.change_high else 'does not contain'} zero."
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
    report.prose(
        f"**{figures.dataset_title(name)}**, accuracy of test images by whether the random split has a sibling in training"
    )
    report.show(table.rename_axis(columns=None).reset_index())

# %%
for row in response[top & (response["subset"] == "with sibling") & response["change"].notna()].itertuples():
    other = (
        response[top & (response["subset"] == "without sibling")].set_index(["dataset", "regime"]).loc[(row.dataset, row.regime)]
    )
    change = report.with_interval(row.change, row.change_low, row.change_high, digits=3)
    rest = report.with_interval(other["change"], other["change_low"], other["change_high"], digits=3)
    report.prose(
        f"{figures.dataset_title(row.dataset)}, {row.regime}: from the lowest dose to the highest, the accuracy of test images "
        f"with a sibling changes by {change}, that of the others by {rest}."
    )

# %% [markdown]
# ## Another collection
#
# The plainest test of a classifier is another collection of pictures: train on all of one data set, test on all of another, with
# the classes that both have (Mpox or another rash; pictures without a rash are left out). But collections from the web copy from each
# other. A joint audit says which test pictures have a sibling in training, the same photograph or another one of the same
# patient (chapter 1 counts photographs alone); without them the test is closer to what it claims to be. The
# shared pictures differ from the others in class and difficulty as well, so the distance between the rows is not the effect of
# sharing alone; but a figure that
# rests on the shared ones is no external validation.

# %%
crossed = []
for train_name, test_name in EXTERNAL:
    pair = sorted((train_name, test_name))
    both = combine([store.dataset(name, data_dir=DATA_DIR or None) for name in pair], store.audit(pair, DATA_DIR or None).groups)
    for regime in ("linear_probe", "nearest_neighbour"):
        table = validate_externally(store, both, train_name, test_name, models[regime], seed=SEED)
        crossed.append(external_metrics(table).assign(train=train_name, test=test_name, regime=regime))
if not EXTERNAL:
    report.prose(
        "*Nothing to show here: this page has a single collection, or names no pair of them (the parameter `EXTERNAL`). The study on real "
        "images trains on each of its two data sets and tests on the other.*"
    )

# %% mystnb={"image": {"alt": "AUROC for Mpox with 95 percent intervals when training on one data set and testing on another: on all test images, without shared images, and on shared images only; one panel a direction."}, "figure": {"caption": "External validation, AUROC for Mpox against other rashes: all test images, those without a sibling (the same photograph or patient) in training, and those with one. In brackets the number of test images."}}
if crossed:
    crossed = pd.concat(crossed, ignore_index=True)
    crossed["direction"] = "trained on " + crossed["train"] + ", tested on " + crossed["test"]
    figures_leakage.external(
        crossed[(crossed["metric"] == "auroc") & (crossed["class"] == "Mpox")], xlabel="AUROC (Mpox against other rashes)"
    )
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
# Nothing in the curves below depends on a threshold.

# %% mystnb={"image": {"alt": "ROC curves and precision-recall curves for Mpox under each protocol, one line a repeat, data sets in rows."}, "figure": {"caption": "ROC and precision-recall curves of the linear probe, one line a repeat, out-of-fold predictions of all folds pooled."}}
figures.curves({(name, protocol): table for (name, protocol, regime), table in predictions.items() if regime == "linear_probe"})
plt.show()

# %% [markdown]
# ## Two readings of F1
#
# The published F1 of 95.80 % is the harmonic mean of the published precision and recall. If these are averages over
# classes, that is not the usual macro F1, which averages the F1 of each class. Side by side, on our own predictions:

# %%
both = metrics[(metrics["class"] == "macro") & metrics["metric"].isin(["f1", "f1_of_means"])]
both = both.pivot(index=["dataset", "protocol", "regime"], columns="metric", values="estimate")
both["difference"] = both["f1_of_means"] - both["f1"]
report.show(both.rename_axis(columns=None), digits=4)

# %%
report.prose(
    f"The harmonic mean of the averages is larger in {(both['difference'] > 0).sum()} of {len(both)} cases, "
    f"by up to {both['difference'].max():.3f}."
)

# %% [markdown]
# ## How much the folds differ
#
# The paper reads "no significant differences between folds, p > 0.05" as robustness. Look at the folds themselves: each
# point is one fold of the linear probe, the bar is their mean.

# %%
from mpox.metrics import fold_metrics

folds = pd.concat(
    [
        fold_metrics(table).assign(dataset=name, protocol=protocol)
        for (name, protocol, regime), table in predictions.items()
        if regime == "linear_probe"
    ],
    ignore_index=True,
)
accuracy = folds[folds["metric"] == "accuracy"]

# %% mystnb={"image": {"alt": "Dot plots of accuracy for every fold under each protocol, one panel a data set, the mean marked by a bar."}, "figure": {"caption": "Accuracy of each fold of the linear probe, repeats side by side within a protocol."}}
figures.fold_spread(accuracy, xlabel="accuracy of a fold")
plt.show()

# %%
for (name, protocol), part in accuracy.groupby(["dataset", "protocol"], sort=False):
    report.prose(
        f"{figures.dataset_title(name)}, `{protocol}`: the folds range from {part['estimate'].min():.3f} to "
        f"{part['estimate'].max():.3f}, standard deviation {part['estimate'].std():.3f}."
    )

# %% [markdown]
# A test that does not reject says that a difference was not shown. With so few pictures a fold it could hardly have
# been shown; and folds share most of their training pictures, so that the usual tests count the same evidence several times
# {cite}`nadeau2003`. Robustness would need a margin fixed beforehand and a test of equivalence.

# %%
quoted = {
    "accuracy": ("accuracy", "all"),
    "macro_f1": ("f1", "macro"),
    "auroc": ("auroc", "Mpox"),
    "sensitivity": ("sensitivity", "Mpox"),
}
for (name, protocol, regime), part in metrics.groupby(["dataset", "protocol", "regime"]):
    if regime == "linear_probe":
        for key, (metric, label) in quoted.items():
            digits = 3 if key == "auroc" else 2
            report.finding(f"cv_{report.short_name(name)}_{protocol}_{key}", report.estimate(part, metric, label, digits=digits))

# %% [markdown]
# ## What this means
#
# The distance between the protocols mixes leakage with a different deal of the test sets; the dose-response isolates what the known
# siblings cause more closely: the same test, the same amount of training (but for what the table shows), and another share of test
# pictures that can be looked up. An
# interval there that contains zero does not show that a leak is harmless. The distance between the honest figure and the published
# one is what remains to be explained by something else: other data, another schedule, or another way of testing.
#
# ## What could be wrong
#
# - `source` keeps together what the audit found to belong together. A copy that it missed can still be on both sides, and where no
#   patient ids are known, so can two photographs of one patient. `patient` trusts the ids: a photograph that is filed
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
# - The interval covers the choice of patients, not the choice of model, training schedule or data set.
# - The spread from seed to seed of training is not in the interval.
#
# ## Exercises
#
# 1. *(easy)* Compute the accuracy of always naming the largest class, and find it on the axis of the first figure.
# 2. *(medium)* Pass `group_id=image_id` to `evaluate` (replace the column) and compare the width of the intervals.
# 3. *(hard)* For each picture, compare the probability of its true class under `random_image` and under the honest
#    protocol. Are the pictures that gain the ones with siblings?

# %% tags=["hide-input"]
report.provenance("03_cross_validation", store, list(datasets.values()), device=DEVICE)
