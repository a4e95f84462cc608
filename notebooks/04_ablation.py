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
# regime, the input size? And would something simpler have done?
#
# One factor at a time is changed from the reference; folds stay the same, so that every difference is paired. The paper
# reports that "performance first rises, then falls" as the network grows. This chapter shows what can be seen of that
# with the networks whose weights are at hand.
#
# *You need:* chapters 2 and 3. *You will learn:* to read a difference rather than two numbers, and what a colour histogram
# can do.

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
HONEST_PROTOCOL = {"phantom": "source", "msld-v1": "source", "msid": "source"}
BACKBONE = "tf_efficientnet_lite1"
BACKBONES = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]
IMAGE_SIZE = 0
IMAGE_SIZES = [128]
BASELINES = ["colour_histogram", "hog", "lbp"]
TRAINED_DATASETS = ["phantom"]
TRAINED_BACKBONES = []
TRAINED_IMAGE_SIZE = 128
TRAINING = {"epochs": 3, "frozen_stages": 3}
SCRATCH_TRAINING = {"epochs": 3}
N_FOLDS = 3
N_REPEATS = 1
SEED = 0
DEVICE = "cpu"

# %%
import matplotlib.pyplot as plt
import pandas as pd

from mpox import ModelConfig, cross_validate, evaluate, figures, open_store, report
from mpox.backbones import describe_model
from mpox.errors import WeightsMissing

figures.use_style()
store = open_store(RUN_STORE)
loaded = [store.dataset(name, data_dir=DATA_DIR or None) for name in DATASETS]
datasets = {data.name: data for data in loaded}
reference = ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)

# %% [markdown]
# ## What is varied
#
# The reference is the linear probe: it is cheap enough to repeat and has no schedule to tune. Each variant differs from
# it in one factor, except that another backbone comes with its own input size. The baselines know nothing of deep learning: a histogram of colours, oriented gradients
# {cite}`dalal2005`, local binary patterns {cite}`ojala2002`, each with the same logistic regression on top.

# %%
variants = [("reference", "reference", reference)]
variants += [("backbone", name, reference.with_(backbone=name)) for name in BACKBONES if name != BACKBONE]
variants += [
    ("input size", f"{size} px", reference.with_(image_size=size)) for size in IMAGE_SIZES if size != reference.image_size
]
variants += [("head", "hidden", reference.with_(head="hidden"))]
variants += [("rival reading", "B0, hidden head", reference.with_(backbone="efficientnet_b0", head="hidden"))]
variants += [("weights", "random", reference.with_(weights="random"))]
variants += [("not deep", name, reference.with_(backbone=name)) for name in BASELINES]

# %% [markdown]
# Networks that are trained as a whole have their own input size. Fine-tuning is held against the reference, from which it
# differs in that size too; training from scratch, where there is nothing to transfer and nothing to freeze, is held
# against fine-tuning.

# %%
tuned = ModelConfig(
    regime="fine_tune", backbone=BACKBONE, image_size=TRAINED_IMAGE_SIZE, seed=SEED, device=DEVICE, training=TRAINING
)
trained = [
    ("regime", "fine_tune", tuned),
    ("regime", "scratch", tuned.with_(regime="scratch", training=SCRATCH_TRAINING)),
]
trained += [
    ("fine-tuned backbone", name, tuned.with_(backbone=name, image_size=TRAINED_IMAGE_SIZE)) for name in TRAINED_BACKBONES
]
BASELINE = {"regime: scratch": ("regime", "fine_tune")}
BASELINE |= {f"fine-tuned backbone: {name}": ("regime", "fine_tune") for name in TRAINED_BACKBONES}

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
predictions, missing = {}, []
for name in datasets:
    for factor, level, model in variants + (trained if name in TRAINED_DATASETS else []):
        repeats = N_REPEATS if model.regime == "linear_probe" else 1
        try:
            table = cross_validate(
                store, datasets[name], HONEST_PROTOCOL.get(name, "source"), model, n_folds=N_FOLDS, n_repeats=repeats, seed=SEED
            )
        except WeightsMissing as error:
            missing.append({"dataset": name, "factor": factor, "level": level, "why": str(error)})
        else:
            predictions[name, factor, level] = (model, table)
if missing:
    report.show(pd.DataFrame(missing))
report.prose(f"{len(predictions)} cross-validations were run; {len(missing)} could not be.")

# %%
from mpox.metrics import difference

rows = []
for (name, factor, level), (_, table) in predictions.items():
    metrics = evaluate(table)
    baseline = BASELINE.get(f"{factor}: {level}", ("reference", "reference"))
    against = predictions[name, *baseline][1]
    common = set(against["repeat"]) & set(table["repeat"])
    first, second = (part[part["repeat"].isin(common)] for part in (table, against))
    row = {
        "dataset": name, "factor": factor, "level": level, "variant": f"{factor}: {level}", "against": baseline[1],
    }  # fmt: skip
    for metric, label in (("accuracy", "all"), ("f1", "macro"), ("auroc", "Mpox")):
        part = metrics[(metrics["metric"] == metric) & (metrics["class"] == label)].iloc[0]
        row |= {metric: part["estimate"], f"{metric}_low": part["low"], f"{metric}_high": part["high"]}
    row["change"], row["change_low"], row["change_high"] = difference(first, second, "auroc", "Mpox")
    rows.append(row)
results = pd.DataFrame(rows)
results.loc[results["factor"] == "reference", "variant"] = "reference"

# %% [markdown]
# ## The differences

# %% mystnb={"image": {"alt": "AUROC for Mpox with 95 percent intervals for every variant of the ablation, one panel a data set."}, "figure": {"caption": "AUROC for Mpox under the honest protocol, one line a variant, out-of-fold, with 95 % intervals from resampling groups."}}
figures.intervals(
    results.rename(columns={"auroc": "estimate", "auroc_low": "low", "auroc_high": "high"}),
    by="variant",
    colour="factor",
    xlabel="AUROC (Mpox against the rest)",
)
plt.show()

# %% mystnb={"image": {"alt": "Paired differences in AUROC from the reference with 95 percent intervals, one panel a data set, zero marked."}, "figure": {"caption": "The same variants as paired differences from the reference; scratch is held against fine-tuning. An interval that crosses zero leaves open which of the two is better."}}
figures.intervals(
    results[results["factor"] != "reference"].rename(columns={"change": "estimate", "change_low": "low", "change_high": "high"}),
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
            f"{value:.3f} ({low:.3f} to {high:.3f})"
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
report.show(text[["dataset", "factor", "level", "accuracy", "macro F1", "AUROC", "difference in AUROC", "against"]])

# %%
for name in datasets:
    part = results[(results["dataset"] == name) & (results["factor"] != "reference")]
    worse, better = (part["change_high"] < 0).sum(), (part["change_low"] > 0).sum()
    report.prose(
        f"{figures.dataset_title(name)}: of {len(part)} variants {worse} are worse than what they are held against and {better} better, "
        f"in the sense that the interval of the difference leaves out zero; {len(part) - worse - better} cannot be told apart. "
        "These intervals are not corrected for their number."
    )

# %% [markdown]
# ## Does it rise, then fall?
#
# The networks of the list of backbones whose weights are at hand grow in width, depth and input. "First rises, then falls"
# would show as a middle point above both ends.

# %%
from mpox.latency import measure_latency

growth = []
for name in datasets:
    for backbone in BACKBONES:
        model = reference.with_(backbone=backbone)
        try:
            table = cross_validate(
                store, datasets[name], HONEST_PROTOCOL.get(name, "source"), model, n_folds=N_FOLDS, n_repeats=N_REPEATS, seed=SEED
            )
        except WeightsMissing:
            continue  # its row in the table above says why
        card = describe_model(backbone, "linear", len(datasets[name].classes), image_size=model.image_size)
        metrics = evaluate(table)
        part = metrics[(metrics["metric"] == "auroc") & (metrics["class"] == "Mpox")].iloc[0]
        growth.append(
            {
                "dataset": name,
                "model": backbone.removeprefix("tf_efficientnet_"),
                "backbone": backbone,
                "input (px)": model.image_size,
                "parameters": card.parameters,
                "multiply_adds": card.multiply_adds,
                **part[["estimate", "low", "high"]],
            }
        )
growth = pd.DataFrame(growth)
sizes = sorted(set(growth["backbone"]))
latency = store.table("latency", {"backbones": sizes}, lambda: measure_latency(sizes))
growth = growth.merge(latency, on="backbone").sort_values(["dataset", "multiply_adds"])

# %% mystnb={"image": {"alt": "AUROC with intervals against multiply-adds for three sizes of EfficientNet-Lite, one panel a data set."}, "figure": {"caption": "Complexity and AUROC of the EfficientNet-Lite networks as linear probes, each at its own input size."}}
figures.complexity(growth, ylabel="AUROC (Mpox against the rest)")
plt.show()

# %%
table = growth.assign(
    **{"parameters (M)": growth["parameters"] / 1e6, "multiply-adds (M)": growth["multiply_adds"] / 1e6}
).rename(columns={"median_ms": "latency median (ms)", "p95_ms": "latency p95 (ms)", "estimate": "AUROC"})
report.show(
    table[
        [
            "dataset", "model", "input (px)", "parameters (M)", "multiply-adds (M)",
            "latency median (ms)", "latency p95 (ms)", "AUROC", "low", "high",
        ]
    ]
)  # fmt: skip
report.prose(f"Latency is one picture on {latency['device'].iloc[0]}, warm.")

# %%
for name, part in growth.groupby("dataset"):
    order = part.sort_values("multiply_adds")["estimate"].to_numpy()
    middle = len(order) > 2 and order[1:-1].max() > max(order[0], order[-1])
    overlap = part["low"].max() < part["high"].min()
    report.prose(
        f"{figures.dataset_title(name)}: the estimates {'do' if middle else 'do not'} rise and then fall along these "
        f"{len(part)} sizes, and their intervals {'all overlap' if overlap else 'do not all overlap'}."
    )

# %% [markdown]
# ## What this means
#
# Read the figure of differences from zero outward. What lies far to the left of zero matters; whatever has zero inside its
# interval may matter or not, and this many patients cannot tell. Where a baseline that knows only colours comes near the
# networks, part of what the networks know may be colour too.
#
# ## What could be wrong
#
# - One factor at a time misses interactions: a larger network may want a larger input.
# - The sizes at hand without a hub are too few to show a rise and a fall; the others need its weights (profile `gpu`).
# - The hidden head is fitted without class weights, which the linear one has.
# - Fine-tuning differs from the reference in its input size too, and training from scratch for so few epochs on so few
#   pictures is under-trained: it shows what these data can teach alone, not what the architecture could learn.
# - Many comparisons were made, and the intervals are not corrected for that.
#
# ## Exercises
#
# 1. *(easy)* Which variant costs the most accuracy? Is it the one that costs the most AUROC?
# 2. *(medium)* Add `"mirror": False` as a factor with `reference.with_(mirror=False)`.
# 3. *(open)* Concatenate the colour histogram with the frozen features. What does the network not know yet?

# %% tags=["hide-input"]
report.provenance("04_ablation", store, list(datasets.values()), device=DEVICE)
