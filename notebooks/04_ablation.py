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
# # Ablation
#
# **Question.** Which part of the recipe carries the result: the size of the network, its ImageNet weights, the head, the
# regime, the input size, the augmentation? Would something simpler have done? And what is the best that can honestly be had?
#
# One factor at a time is changed from a reference; folds stay the same, so that every difference is paired. The paper
# reports that "performance first rises, then falls" as the network grows. This chapter tests what can be tested of that
# with the networks whose weights are at hand.
#
# *You need:* chapters 2 and 3. *You will learn:* to read a difference rather than two numbers, what a colour histogram
# can do, what a point of AUROC costs, and what happens to a figure when the configuration is chosen on the test folds.

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
HONEST_PROTOCOL = {"phantom": "source", "msld-v1": "source", "msid": "source"}
BACKBONE = "tf_efficientnet_lite1"
BACKBONES = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]
OTHER_BACKBONES = ["tf_efficientnet_lite3"]
IMAGE_SIZE = 0
IMAGE_SIZES = [128]
FACTORIAL = False
BASELINES = ["colour_histogram", "hog", "lbp"]
SMALL_CNN = "lcnet_050"
TRAINED_DATASETS = ["phantom"]
TRAINED_BACKBONES = []
TRAINED_IMAGE_SIZE = 128
TRAINING = {"epochs": 3, "frozen_stages": 3}
TAIL_TRAINING = {"epochs": 3, "frozen_stages": 5, "views": 2}
TAIL_FACTORS = ["augmentation"]
SCRATCH_TRAINING = {"epochs": 3}
SCRATCH_IMAGE_SIZE = 96
MIXED = []
N_FOLDS = 3
N_REPEATS = 1
MARGIN = 0.02
SEED = 0
DEVICE = "cpu"

# %%
import matplotlib.pyplot as plt
import pandas as pd
from mpox.ensembling import ensemble

from mpox import ModelConfig, cross_validate, evaluate, figures, figures_statistics, open_store, report
from mpox.comparison import compare_folds, friedman, holm
from mpox.errors import WeightsMissing

figures.use_style()
store = open_store(RUN_STORE)
loaded = [store.dataset(name, data_dir=DATA_DIR or None) for name in DATASETS]
datasets = {data.name: data for data in loaded}
reference = ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
tail = ModelConfig(
    regime="tail_tune", backbone=BACKBONE, image_size=TRAINED_IMAGE_SIZE, seed=SEED, device=DEVICE, training=TAIL_TRAINING
)

# %% [markdown]
# ## What is varied
#
# The reference is the linear probe: it is cheap enough to repeat and has no schedule to tune. Each variant differs from
# it in one factor, except that another backbone comes with its own input size. The baselines know nothing of deep learning: a histogram
# of colours, oriented gradients {cite}`dalal2005`, local binary patterns {cite}`ojala2002`, each under a logistic regression and
# under a support vector machine.

# %%
variants = [("reference", "reference", reference)]
variants += [("backbone", name, reference.with_(backbone=name)) for name in BACKBONES + OTHER_BACKBONES if name != BACKBONE]
variants += [
    ("input size", f"{size} px", reference.with_(image_size=size)) for size in IMAGE_SIZES if size != reference.image_size
]
variants += [("head", "hidden", reference.with_(head="hidden"))]
variants += [("rival reading", "B0, hidden head", reference.with_(backbone="efficientnet_b0", head="hidden"))]
variants += [("weights", "random", reference.with_(weights="random"))]
variants += [("test-time augmentation", "no mirror image", reference.with_(mirror=False))]
variants += [("classifier", "support vectors", reference.with_(regime="svm"))]
variants += [("classifier", "1 nearest neighbour", reference.with_(regime="nearest_neighbour"))]
variants += [
    ("not deep", f"{name}, {word}", reference.with_(backbone=name, regime=regime))
    for name in BASELINES
    for regime, word in (("linear_probe", "logistic"), ("svm", "support vectors"))
]

# %% [markdown]
# Networks that are trained have their own input size. Fine-tuning and tail-tuning are held against the reference, from which they
# differ in that size too. Their own factors are varied around tail-tuning, which is cheap: how strongly the pictures are
# augmented, whether labels are smoothed, whether classes are weighed. Training from scratch, where there is nothing to transfer and nothing
# to freeze, is held against fine-tuning, and so is a small convolutional network that never saw ImageNet.

# %%
tuned = tail.with_(regime="fine_tune", training=TRAINING)
scratch = tuned.with_(regime="scratch", training=SCRATCH_TRAINING)
trained = [("regime", "tail_tune", tail), ("regime", "fine_tune", tuned), ("regime", "scratch", scratch)]
trained += [("small network", SMALL_CNN, scratch.with_(backbone=SMALL_CNN, image_size=SCRATCH_IMAGE_SIZE))] if SMALL_CNN else []
trained += [
    ("tuned backbone", name, tail.with_(backbone=name, image_size=TRAINED_IMAGE_SIZE)) for name in TRAINED_BACKBONES
]
FACTORS = {
    "augmentation": [("none", {"augmentation": "none"}), ("medium", {"augmentation": "medium"})],
    "label smoothing": [("0", {"label_smoothing": 0.0}), ("0.1", {"label_smoothing": 0.1})],
    "class weights": [("none", {"class_weights": False})],
    "views": [("0", {"views": 0})],
}
trained += [
    (f"tail: {factor}", level, tail.with_(training={**TAIL_TRAINING, **change}))
    for factor in TAIL_FACTORS
    for level, change in FACTORS[factor]
]
BASELINE = {"regime: scratch": ("regime", "fine_tune"), f"small network: {SMALL_CNN}": ("regime", "fine_tune")}
BASELINE |= {f"{factor}: {level}": ("regime", "tail_tune") for factor, level, _ in trained if factor.startswith("tail: ")}
BASELINE |= {f"tuned backbone: {name}": ("regime", "tail_tune") for name in TRAINED_BACKBONES}

# %% tags=["nbval-check-output"]
plan = [
    {
        "factor": factor,
        "level": level,
        "regime": model.regime,
        "backbone": model.backbone,
        "head": model.head,
        "weights": model.weights,
        "input (px)": model.image_size,
    }
    for factor, level, model in variants + trained
]
report.show(pd.DataFrame(plan))

# %% [markdown]
# A model whose weights cannot be had is a row that says why; it does not vanish, and nothing stands in for it.

# %%
predictions, models, missing = {}, {}, []
for name in datasets:
    for factor, level, model in variants + (trained if name in TRAINED_DATASETS else []):
        repeats = 1 if model.training else N_REPEATS
        try:
            table = cross_validate(
                store, datasets[name], HONEST_PROTOCOL.get(name, "source"), model, n_folds=N_FOLDS, n_repeats=repeats, seed=SEED
            )
        except WeightsMissing as error:
            missing.append({"dataset": name, "factor": factor, "level": level, "why": str(error)})
        else:
            predictions[name, factor, level] = table
            models[name, factor, level] = model
    sizes = [("reference", "reference"), *(("backbone", other) for other in BACKBONES if other != BACKBONE)]
    members = [predictions[name, *key] for key in sizes if (name, *key) in predictions]
    if len(members) > 1:
        predictions[name, "ensemble", f"{len(members)} sizes"] = ensemble(members)
if missing:
    report.show(pd.DataFrame(missing))
report.prose(f"{len(predictions)} cross-validations were run; {len(missing)} could not be.")

# %% [markdown]
# ## The differences
#
# A difference is tested on the same folds with the corrected t-test of chapter 3, Holm's correction goes over all rows of a data
# set, and the interval comes from resampling groups. Variants that are trained have one repeat, the others more.

# %%
rows = []
for (name, factor, level), table in predictions.items():
    metrics = evaluate(table)
    baseline = BASELINE.get(f"{factor}: {level}", ("reference", "reference"))
    against = predictions[name, *baseline]
    row = {"dataset": name, "factor": factor, "level": level, "variant": f"{factor}: {level}", "against": baseline[1]}
    for metric, label in (("accuracy", "all"), ("f1", "macro"), ("auroc", "Mpox")):
        part = metrics[(metrics["metric"] == metric) & (metrics["class"] == label)].iloc[0]
        row |= {metric: part["estimate"], f"{metric}_low": part["low"], f"{metric}_high": part["high"]}
    if (factor, level) != ("reference", "reference"):
        common = set(against["repeat"]) & set(table["repeat"])
        pair = [part[part["repeat"].isin(common)] for part in (table, against)]
        found = compare_folds(*pair, "auroc", "Mpox", MARGIN)
        row["change"], row["change_low"], row["change_high"] = found.bootstrap
        row |= {"p": found.t_test.p, "verdict": found.equivalence.verdict}
    rows.append(row)
results = pd.DataFrame(rows)
results.loc[results["factor"] == "reference", "variant"] = "reference"
tested = results["p"].notna()
results.loc[tested, "p_holm"] = results[tested].groupby("dataset")["p"].transform(holm)

# %% mystnb={"image": {"alt": "AUROC for Mpox with 95 percent intervals for every variant of the ablation, one panel a data set."}, "figure": {"caption": "AUROC for Mpox under the honest protocol, one line a variant, out-of-fold, with 95 % intervals from resampling groups."}}
figures.intervals(
    results.rename(columns={"auroc": "estimate", "auroc_low": "low", "auroc_high": "high"}),
    by="variant",
    colour="factor",
    xlabel="AUROC (Mpox against the rest)",
)
plt.show()

# %% mystnb={"image": {"alt": "Paired differences in AUROC from what each variant is held against, with 95 percent intervals, one panel a data set, zero marked."}, "figure": {"caption": "The same variants as paired differences: from the reference, or from what the table names. An interval that crosses zero leaves open which of the two is better."}}
figures.intervals(
    results[tested].rename(columns={"change": "estimate", "change_low": "low", "change_high": "high"}),
    by="variant",
    colour="factor",
    xlabel="difference in AUROC (from the reference, or see the table)",
    reference={"no difference": 0.0},
)
plt.show()

# %%
text = results.assign(
    **{
        title: [
            "" if pd.isna(value) else f"{value:.3f} ({low:.3f} to {high:.3f})"
            for value, low, high in zip(results[key], results[f"{key}_low"], results[f"{key}_high"], strict=True)
        ]
        for key, title in (
            ("accuracy", "accuracy"),
            ("f1", "macro F1"),
            ("auroc", "AUROC"),
            ("change", "difference in AUROC"),
        )
    }
)
report.show(
    text[["dataset", "factor", "level", "accuracy", "macro F1", "AUROC", "difference in AUROC", "against", "p", "p_holm", "verdict"]]
)

# %%
for name in datasets:
    part = results[(results["dataset"] == name) & tested]
    worse, better = ((part["p_holm"] < 0.05) & (part["change"] < 0)).sum(), ((part["p_holm"] < 0.05) & (part["change"] > 0)).sum()
    equal = (part["verdict"] == "equivalent").sum()
    report.prose(
        f"{figures.dataset_title(name)}: of {len(part)} variants {worse} are worse than what they are held against and {better} better "
        f"after Holm's correction; {equal} are equivalent within {MARGIN}; the others cannot be told apart with so many groups."
    )

# %% [markdown]
# ## Several models at once
#
# Friedman's test asks whether any of several models ranks differently over the folds {cite}`demsar2006`; where it does, Nemenyi's
# critical difference says which mean ranks are too far apart to be chance. Folds of one data set share their training pictures, so that its p
# values are too small; what it does *not* tell apart is the safer reading.

# %%
from mpox.metrics import fold_metrics

ranked = {}
for name in datasets:
    scores = {}
    for (dataset, factor, level), table in predictions.items():
        if dataset == name and table["repeat"].nunique() == N_REPEATS:
            part = fold_metrics(table)
            part = part[(part["metric"] == "auroc") & (part["class"] == "Mpox")]
            scores[level if factor == "reference" else f"{factor}: {level}"] = part.set_index(["repeat", "fold"])["estimate"]
    ranked[name] = friedman(pd.DataFrame(scores))
    report.prose(
        f"{figures.dataset_title(name)}: Friedman's test over {len(scores)} models and {ranked[name].n_blocks} folds: "
        f"chi-square {ranked[name].statistic:.1f}, p = {ranked[name].p:.2g}."
    )

# %% mystnb={"image": {"alt": "Critical-difference diagram: mean ranks of the models over the folds, with bars that join what cannot be told apart."}, "figure": {"caption": "Mean rank of each variant over the folds, 1 is best; a bar joins what Nemenyi's test does not tell apart."}}
figures_statistics.critical_difference(ranked[list(datasets)[-1]])
plt.show()

# %% [markdown]
# ## Network and input size together
#
# One factor at a time misses what two do together: a larger network may want a larger input. The probe is cheap enough for the whole
# table.

# %%
if FACTORIAL:

    grid = []
    for name in datasets:
        for backbone in BACKBONES:
            for size in sorted({*IMAGE_SIZES, reference.image_size}):
                table = cross_validate(
                    store, datasets[name], HONEST_PROTOCOL.get(name, "source"),
                    reference.with_(backbone=backbone, image_size=size), n_folds=N_FOLDS, n_repeats=N_REPEATS, seed=SEED,
                )  # fmt: skip
                predictions[name, "grid", f"{backbone}, {size} px"] = table
                grid.append({"dataset": name, "backbone": backbone, "size": size, "cell": report.estimate(evaluate(table), "auroc", "Mpox", digits=3)})
    for name, part in pd.DataFrame(grid).groupby("dataset", sort=False):
        report.prose(f"**{figures.dataset_title(name)}**, AUROC (Mpox) of the probe by network and input size in pixels")
        report.show(part.pivot(index="backbone", columns="size", values="cell").rename_axis(columns=None).reset_index())
else:
    report.prose("*Not computed on this page (the parameter `FACTORIAL`).*")

COSTS_HERE
# %% [markdown]
# ## What this means
#
# Read the figure of differences from zero outward. What lies far to the left of zero matters; whatever has zero inside its
# interval may matter or not, and this many patients cannot tell. Where a baseline that knows only colours comes near the
# networks, part of what the networks know may be colour too.
#
# ## What could be wrong
#
# - One factor at a time misses interactions; only network and input size were crossed.
# - The sizes at hand without a hub are too few to show a rise and a fall; the others need its weights (profile `gpu`).
# - The hidden head is fitted without class weights, which the linear one has.
# - Fine-tuning differs from the reference in its input size too, and training from scratch for so few epochs on so few
#   pictures is under-trained: it shows what these data can teach alone, not what the architecture could learn.
# - Many comparisons were made: the p values are corrected for that, the intervals are not.
# - Latency and memory are of one machine; their order carries over, their size does not.
# - The best model was chosen among a few that we thought of. More of them, or more pictures, may do better.
#
# ## Exercises
#
# 1. *(easy)* Which variant costs the most accuracy? Is it the one that costs the most AUROC?
# 2. *(medium)* Add `"mirror": False` as a factor with `reference.with_(mirror=False)`.
# 3. *(open)* Concatenate the colour histogram with the frozen features. What does the network not know yet?

# %% tags=["hide-input"]
report.provenance("04_ablation", store, list(datasets.values()), device=DEVICE)
