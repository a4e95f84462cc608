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
# with the networks whose weights are available.
#
# **After this chapter you can**
#
# - read a paired difference rather than two numbers;
# - say what a histogram of colours can do, and why it has to be in the table;
# - tell what a point of AUROC costs in parameters, time and memory;
# - show what happens to a figure when the configuration is chosen on the test folds, and choose inside instead.
#
# **You need** [chapters 2](02_transfer_learning.ipynb) and [3](03_cross_validation.ipynb).

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
FACTORIAL_SIZES = []
BASELINES = ["colour_histogram", "lbp"]
SMALL_CNN = "lcnet_035"
TRAINED_DATASETS = ["phantom"]
TRAINED_BACKBONES = []
TRAINED_IMAGE_SIZE = 128
TRAINING = {"epochs": 3, "frozen_stages": 3}
TAIL_TRAINING = {"epochs": 3, "frozen_stages": 6, "views": 2}
TAIL_FACTORS = []
SCRATCH_TRAINING = {"epochs": 3}
SCRATCH_IMAGE_SIZE = 96
TIMED_ROUNDS = 3
EXPORTED_FOLDS = 0
MIXED = []
TAIL_CANDIDATE = []
STAGED = []
N_FOLDS = 3
N_REPEATS = 1
MARGIN = 0.02
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
from contextlib import suppress

import matplotlib.pyplot as plt
import pandas as pd

from mpox import ModelConfig, cross_validate, evaluate, open_store
from mpox._core import WeightsMissing
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.book.wording import p_words
from mpox.models.backbones import describe_model
from mpox.stats.comparison import compare_folds, corrected_intervals, friedman, holm
from mpox.stats.metrics import repeat_spread
from mpox.stats.selection import ensemble

check_parameters("05_ablation", globals())
plots.use_style()
store = open_store(RUN_STORE)
loaded = store.datasets(DATASETS, data_dir=DATA_DIR or None)
datasets = {data.name: data for data in loaded}
reference = ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
tail = ModelConfig(
    regime="tail_tune", backbone=BACKBONE, image_size=TRAINED_IMAGE_SIZE, seed=SEED, device=DEVICE, training=TAIL_TRAINING
)

# %%
at_the_top = report.key_findings()

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
# augmented, whether labels are smoothed, whether classes are weighed ([all variants](#table-variants)). Training from scratch, where there is nothing to transfer and nothing
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
    "views": [(f"{views}", {"views": views}) for views in (0, 16)],
    "frozen stages": [(f"{stages}", {"frozen_stages": stages}) for stages in (5, 7)],
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
report.show(pd.DataFrame(plan), name="variants", caption="What is varied: each row differs from what it is held against in the factor that it names.")

# %% [markdown]
# A model whose weights cannot be had is named below as not run; it does not vanish, and nothing stands in for it.

# %%
predictions, models, missing = {}, {}, []
for name in datasets:
    for factor, level, model in variants + (trained if name in TRAINED_DATASETS else []):
        try:
            table = cross_validate(
                store, datasets[name], HONEST_PROTOCOL.get(name, "source"), model, n_folds=N_FOLDS, n_repeats=N_REPEATS, seed=SEED
            )
        except WeightsMissing:
            missing.append({"dataset": name, "level": level})
        else:
            predictions[name, factor, level] = table
            models[name, factor, level] = model
    sizes = [("reference", "reference"), *(("backbone", other) for other in BACKBONES if other != BACKBONE)]
    members = [predictions[name, *key] for key in sizes if (name, *key) in predictions]
    if len(members) > 1:
        predictions[name, "ensemble", f"{len(members)} networks"] = ensemble(members)
report.prose(
    f"{len(predictions)} cross-validations were run, each with {N_REPEATS} repeat{'s' * (N_REPEATS != 1)} (other folds, other random "
    "numbers), on all classes of the data set. Chapter 3 repeats some of them more often, so that the same model has a slightly different "
    "figure there."
)
absent = pd.DataFrame(missing, columns=["dataset", "level"]).groupby("dataset", sort=False)["level"].agg("; ".join)
for levels, names in absent.groupby(absent, sort=False):
    where = " and ".join(map(plots.dataset_title, names.index))
    report.prose(f"**Not run** on {where}: {levels}. The pretrained weights that they begin with are not available.")
untrained = [plots.dataset_title(name) for name in datasets if name not in TRAINED_DATASETS]
if untrained and TRAINED_DATASETS:
    report.prose(
        f"What is trained was run on {', '.join(TRAINED_DATASETS)} and not on {', '.join(untrained)}, for its cost: a probe is fitted to "
        "features that are computed once for all folds, a network is trained anew in every fold of every variant."
    )

# %% [markdown]
# ## The differences
#
# A difference is the mean over the same folds, with the interval and the p value of the corrected t-test of chapter 3; Holm's correction
# goes over all rows of a data set. Equivalent means what it means there: the two one-sided tests over the folds reject, so that their
# 90 % interval lies within the margin. Each variant would be too dear to refit in a bootstrap, and so the intervals of the figures by
# themselves come from the folds too. [The first figure](#fig-variants) has each variant by itself,
# [the second](#fig-variant-differences) the differences, which are what counts; [one table](#table-reached) and
# [another](#table-differences) have their numbers.
#
# :::{margin} Two intervals that overlap
# Two intervals can overlap although the difference is sure: both models are tested on the same people, and whom one finds hard the other
# finds hard too. The difference on the same people drops what they share. That is why the second figure exists.
# :::

# %%
rows, SPREAD = [], "SD of the AUROC over the repeats"
for (name, factor, level), table in predictions.items():
    metrics = corrected_intervals(table, evaluate(table, n_bootstrap=0))
    baseline = BASELINE.get(f"{factor}: {level}", ("reference", "reference"))
    against = predictions[name, *baseline]
    row = {"dataset": name, "factor": factor, "level": level, "variant": f"{factor}: {level.removeprefix('tf_efficientnet_')}", "against": baseline[1]}
    for metric, label in (("accuracy", "all"), ("f1", "macro"), ("auroc", "Mpox")):
        part = metrics[(metrics["metric"] == metric) & (metrics["class"] == label)].iloc[0]
        row |= {metric: part["estimate"], f"{metric}_low": part["low"], f"{metric}_high": part["high"]}
    row[SPREAD] = repeat_spread(table, "auroc", "Mpox")
    if (factor, level) != ("reference", "reference"):
        found = compare_folds(table, against, "auroc", "Mpox", MARGIN, n_bootstrap=0)
        row |= {"change": found.t_test.estimate, "change_low": found.t_test.low, "change_high": found.t_test.high}
        row |= {"p": found.t_test.p, "verdict": found.equivalence.verdict}
    rows.append(row)
results = pd.DataFrame(rows)
results.loc[results["factor"] == "reference", "variant"] = "reference"
tested = results["p"].notna()
equivalent = f"equivalent within {MARGIN}"
results[equivalent] = results["verdict"].eq("equivalent").map({True: "yes", False: "not shown"}).where(tested, "")
results.loc[tested, "p_holm"] = results[tested].groupby("dataset")["p"].transform(holm)

# %% mystnb={"image": {"alt": "AUROC for Mpox with 95 percent intervals for every variant of the ablation, one panel a data set."}, "figure": {"name": "variants", "caption": "AUROC for Mpox under the honest protocol, one line a variant, out-of-fold, averaged over the repeats, with 95 % intervals from the folds, corrected for the training images that they share."}}
area = {"x": "auroc", "low": "auroc_low", "high": "auroc_high"}
plots.forest(results, "variant", **area, row="dataset", xlabel="AUROC (Mpox against the rest)")
plt.show()

# %% mystnb={"image": {"alt": "Paired differences in AUROC from what each variant is held against, with 95 percent intervals, one panel a data set, zero marked."}, "figure": {"name": "variant-differences", "caption": "The same variants as paired differences: from the reference, or from what the table names. An interval that crosses zero leaves open which of the two is better."}}
change = {"x": "change", "low": "change_low", "high": "change_high"}
none = {"no difference": 0.0}
plots.forest(results[tested], "variant", **change, row="dataset", xlabel="difference in AUROC", reference=none)
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
for name in datasets:
    part = text[text["dataset"] == name].set_index("variant")
    caption = f"{plots.dataset_title(name)}: what each variant reaches, with 95 % intervals from the folds, corrected; repeats: {N_REPEATS}."
    report.show(part[["accuracy", "macro F1", "AUROC", SPREAD]], name="reached", caption=caption)
    caption = f"{plots.dataset_title(name)}: how far that is from what it is held against, a mean over the folds with the corrected 95 % interval."
    told = part.loc[part["p"].notna(), ["against", "difference in AUROC", "p", "p_holm", equivalent]]
    report.show(told, name="differences", caption=caption)

# %%
for name in datasets:
    part = results[(results["dataset"] == name) & tested]
    worse, better = ((part["p_holm"] < 0.05) & (part["change"] < 0)).sum(), ((part["p_holm"] < 0.05) & (part["change"] > 0)).sum()
    equal = (part[equivalent] == "yes").sum()
    report.prose(
        f"{plots.dataset_title(name)}: of {len(part)} variants {worse} are worse than what they are held against and {better} better "
        f"after Holm's correction; {equal} are equivalent within {MARGIN}; for the others the test over folds shows neither a difference nor "
        "equivalence, which does not say that there is none (see their intervals)."
    )
    plain = part[part["factor"] == "not deep"]
    if plain.empty:
        continue
    best = plain.loc[plain["auroc"].idxmax()]
    whole = results.loc[(results["dataset"] == name) & (results["factor"] == "reference"), "auroc"].iloc[0]
    kept = (best["auroc"] - 0.5) / (whole - 0.5)
    report.prose(
        f"Of the baselines that no network helps, the best on {plots.dataset_title(name)} is {best['level'].replace('_', ' ')}: an AUROC of "
        f"{report.with_interval(*best[['auroc', 'auroc_low', 'auroc_high']], digits=3)}, which is "
        f"{report.with_interval(*best[['change', 'change_low', 'change_high']], digits=3)} against the reference. "
        f"Of what the reference has beyond a coin, {kept:.0%} can be had by the estimates from "
        + (
            "texture: small patterns of light and dark, wherever in the picture they are."
            if best["level"].startswith("lbp")
            else "edges and their directions."
            if best["level"].startswith("hog")
            else "colour alone."
        )
        + " It is taken of the whole picture and does not tell lesion from skin, so that part of it may be the rash."
    )

# %% [markdown]
# ## What tail-tuning gives up
#
# Where to cut the network was settled by the loss on the inner validation folds of MSLD v1.0, one setting for all. A fold's validation
# pictures are test pictures of other folds, so that tail-tuning on that data set may be flattered a little. Negative: better than fine-tuning, which trains more of the network on augmentation that never repeats itself.

# %%
tails = []
for name in [name for name in datasets if name in TRAINED_DATASETS]:
    wanted = {
        f"{factor}: {level}": table
        for (dataset, factor, level), table in predictions.items()
        if dataset == name and (factor == "regime" and level != "scratch" or factor in ("tail: views", "tail: frozen stages"))
    }
    runs = {key: table.drop_duplicates(["repeat", "fold"]).set_index(["repeat", "fold"])["run_id"] for key, table in wanted.items()}
    loss = pd.DataFrame({key: ids.map(lambda run: store.history(run)["validation_loss"].min()) for key, ids in runs.items()})
    change = loss.sub(loss["regime: fine_tune"], axis=0)
    table = pd.DataFrame({"validation loss (nats)": loss.mean(), "minus fine-tuning": change.mean(), "SD over the folds": change.std()})
    tails.append(table.rename_axis("variant").reset_index().assign(dataset=name))
report.show(pd.concat(tails, ignore_index=True)) if tails else report.prose("*Nothing was trained on this page.*")

# %% [markdown]
# ## Several models at once
#
# Friedman's test asks whether any of several models ranks differently over the folds {cite}`demsar2006`; where it does, Nemenyi's
# critical difference says which mean ranks are too far apart to be chance. Folds of one data set share their training pictures, so that its p
# values are too small; what it does *not* tell apart is the safer reading. One repeat is ranked, and
# [the diagram](#fig-critical-difference) is of the last data set.

# %%
from mpox.stats.metrics import fold_metrics

ranked = {}
for name in datasets:
    scores = {}
    for (dataset, factor, level), table in predictions.items():
        if dataset == name and (factor in ("reference", "backbone", "classifier", "weights", "ensemble") or "logistic" in level):
            part = fold_metrics(table[table["repeat"] == 0])
            part = part[(part["metric"] == "auroc") & (part["class"] == "Mpox")]
            label = {"random": "random weights"}.get(level, f"average of {level}" if factor == "ensemble" else level)
            label = label.removeprefix("tf_efficientnet_").removesuffix(", logistic").replace("_", " ")
            scores[label] = part.set_index(["repeat", "fold"])["estimate"]
    ranked[name] = friedman(pd.DataFrame(scores))
    report.prose(
        f"{plots.dataset_title(name)}: Friedman's test over {len(scores)} models and {ranked[name].n_blocks} folds: "
        f"chi-square {ranked[name].statistic:.1f}, {p_words(ranked[name].p)}."
    )

# %% mystnb={"image": {"alt": "Critical-difference diagram: mean ranks of the models over the folds, with bars that join what cannot be told apart."}, "figure": {"name": "critical-difference", "caption": "Mean rank of each variant over the folds, 1 is best; a bar joins what Nemenyi's test does not tell apart."}}
import scikit_posthocs

last = list(datasets)[-1]
report.prose(f"**{plots.dataset_title(last)}**")
found = ranked[last]
_, axis = plt.subplots(figsize=(6.6, 1.3 + 0.28 * len(found.mean_ranks)))
look = {"label_fmt_left": "{label} ({rank:.2f})", "label_fmt_right": "({rank:.2f}) {label}", "alpha": 0.05}
black = ["black"] * len(found.mean_ranks)
scikit_posthocs.critical_difference_diagram(found.mean_ranks, found.nemenyi, color_palette=black, ax=axis, **look)
axis.grid(visible=False)
axis.set_title(f"mean rank over {found.n_blocks} blocks; critical difference {found.critical_difference:.2f}", loc="left")
plt.show()

# %% [markdown]
# ## What it costs
#
# A point of AUROC has a price: parameters, multiply-adds, time a picture, memory. Time is measured on one thread, warm, one picture by itself and in
# batches of sixteen. [The table](#table-costs) has the prices, [the figure](#fig-costs) what they buy.
#
# :::{margin} Why the median, and on one thread
# A clock on a shared machine errs in one direction only: something else ran too. The median of many rounds forgets the bad ones, the 95th
# percentile keeps them in sight. One thread, because nobody knows how many the reader's machine has.
# :::

# %%
from mpox.models.costs import measure_costs

asked = list(dict.fromkeys((model.backbone, model.head, model.image_size) for model in models.values()))
spec = {"configs": [list(config) for config in asked], "rounds": TIMED_ROUNDS}
costs = store.table("costs", spec, lambda: measure_costs(asked, rounds=TIMED_ROUNDS))
costs["parameters (M)"], costs["multiply-adds (M)"] = costs["parameters"] / 1e6, costs["multiply_adds"] / 1e6
priced = pd.DataFrame(
    [
        {"dataset": name, "factor": factor, "level": level, "backbone": model.backbone, "head": model.head, "image_size": model.image_size}
        for (name, factor, level), model in models.items()
    ]
).merge(results, on=["dataset", "factor", "level"]).merge(costs, on=["backbone", "head", "image_size"])
report.show(
    costs[
        ["backbone", "head", "image_size", "parameters (M)", "multiply-adds (M)", "file_mib", "median_ms_1", "p95_ms_1",
         "median_ms_16", "p95_ms_16", "peak_mib"]
    ],
    name="costs",
    caption="What each network costs: parameters, multiply-adds, size of the file, milliseconds, memory.",
)  # fmt: skip
report.prose(
    f"Measured on {report.device_words(costs['device'].iloc[0])}. File size as float32; the last column is the memory that a prediction adds. "
    "Whatever else the machine had to do is in them, so that milliseconds are comparable within this table, where each model was timed in the same way "
    "shortly after the one before, and not with those of another table."
)

# %% mystnb={"image": {"alt": "AUROC with intervals over parameters, multiply-adds and latency, the Pareto front as a step line, a row of panels for each cost, data sets side by side."}, "figure": {"name": "costs", "caption": "What a model costs and what it gives: AUROC for Mpox with 95 % intervals over parameters, multiply-adds and milliseconds a picture. The line joins the models that no other beats in both."}}
from mpox.stats.growth import pareto_front

shown = priced[priced["factor"].isin(["reference", "backbone", "input size"])].assign(
    model=lambda table: table["level"].where(table["factor"] != "reference", table["backbone"]).str.removeprefix("tf_efficientnet_")
)
prices = {
    "parameters (M)": "parameters (millions)",
    "multiply-adds (M)": "multiply-adds a picture (millions)",
    "median_ms_1": "latency of a picture (ms, one thread)",
}
priced_by = shown.melt(["dataset", "model", *area.values()], list(prices), "cost", "price").dropna(subset="price")
look = {"intervals": "bars", "join": False, "shift": 0, "sharex": "row", "sharey": "col", "width": 3.7, "height": 2.6}
ends = {"y": "auroc", "low": "auroc_low", "high": "auroc_high", "xlabel": prices, "ylabel": "AUROC (Mpox)"}
figure = plots.bands(priced_by, "price", hue="model", row="cost", col="dataset", **ends, **look)
for axis, (_, part) in zip(figure.axes, priced_by.groupby(["cost", "dataset"], sort=False), strict=True):
    front = part[pareto_front(part, "price", "auroc")].sort_values("price")
    axis.step(front["price"], front["auroc"], "k", where="post", linewidth=1, zorder=0)
plt.show()

# %% [markdown]
# ## Outside this package
#
# The reference as a file for other programs (ONNX), in float32 and with its convolutions in 8 bits: its size, the time of a picture on one
# thread, and what is lost against torch on the test folds of the first repeat, paired, with intervals from resampling groups. `mpox export`
# writes such a file. It holds the whole predictor: the picture *and its mirror image* go through the network, which doubles the time of
# [the table of costs](#table-costs), where a network sees one picture; and what else ran on the machine was not the same. Only the ratios
# within a table carry over.

# %%
if EXPORTED_FOLDS:
    import numpy as np
    import torch

    from mpox.models.backbones import fold_batch_norm
    from mpox.models.costs import latency
    from mpox.models.hardware import device_name
    from mpox.runs.export import asking, export_run
    from mpox.runs.predict import outputs
    from mpox.stats.metrics import difference

    def measure_forms(ids: list[str]) -> pd.DataFrame:
        """Torch and both files: size and latency of the first run, the loss against torch over the test folds of all."""
        runs = [export_run(store, run_id, DATA_DIR or None, int8=True) for run_id in ids]
        network, models, positive = runs[0].network, runs[0].models, runs[0].predictor.positive
        size = runs[0].predictor.model.image_size
        fold_batch_norm(network.network, torch.zeros(1, 3, size, size))
        ways = {"torch": lambda pixels: outputs(network, pixels)} | {form: asking(model, threads=1) for form, model in models.items()}
        sizes = {"torch": sum(part.nbytes for part in network.network.state_dict().values())} | {form: len(model) for form, model in models.items()}
        rows = []
        for form, ask in ways.items():
            first, said = (pd.concat([run.predictions[which] for run in runs], ignore_index=True) for which in ("torch", form))
            row = {"form": form, "size_mb": sizes[form] / 1e6, "device": device_name("cpu", threads=1), "images": len(said)}
            row["max_abs_difference"] = (first.filter(regex="^p_") - said.filter(regex="^p_")).abs().max(axis=None)
            for batch in (1, 16):
                pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
                timed = latency(lambda ask=ask, pixels=pixels: ask(pixels), images=batch, rounds=TIMED_ROUNDS)
                row[f"latency_ms_{batch}"], row[f"latency_p95_ms_{batch}"] = timed
            for metric, label in (("accuracy", "all"), ("auroc", positive)):
                row[metric] = evaluate(said, positive=positive, n_bootstrap=0).set_index(["metric", "class"]).loc[(metric, label), "estimate"]
                lost = difference(first, said, metric, label, positive=positive)
                row |= dict(zip((f"{metric}_loss{end}" for end in ("", "_low", "_high")), lost, strict=True))
            rows.append(row)
        return pd.DataFrame(rows)

    for name in datasets:
        table = predictions[name, "reference", "reference"]
        ids = list(dict.fromkeys(table.loc[table["repeat"] == 0, "run_id"]))[:EXPORTED_FOLDS]
        spec = {"runs": ids, "rounds": TIMED_ROUNDS, "version": 1}
        forms = store.table("latency-deployment", spec, lambda ids=ids: measure_forms(ids))
        report.prose(f"**{plots.dataset_title(name)}**, the reference, first repeat; measured on {report.device_words(forms['device'].iloc[0])}")
        shown = ["form", "file_mib", "latency_ms_1", "latency_p95_ms_1", "latency_ms_16", "max_abs_difference", "accuracy", "auroc"]
        report.show(forms.assign(file_mib=forms["size_mb"] * 1e6 / 2**20)[shown])
        row = forms.set_index("form").loc["onnx int8"]
        loss = report.with_interval(row["auroc_loss"], row["auroc_loss_low"], row["auroc_loss_high"], digits=3)
        report.prose(
            f"In 8 bits the file is {forms['size_mb'].iloc[0] / row['size_mb']:.1f} times as small, and the AUROC (Mpox) lost is {loss}."
        )
        report.finding(f"int8_loss_{report.short_name(name)}", loss)
else:
    report.prose("*Not computed on this page (the parameter `EXPORTED_FOLDS`); it needs the extra `onnx`.*")

# %% [markdown]
# ## Does it rise, then fall?
#
# The networks of the list of backbones whose weights are available grow in width and depth, and each was made for an input of its own.
# They are compared at that size, at the same size for all, and trained (tail-tuning, at one small size). "First rises, then falls"
# means that some network in between is better than both ends. The same groups are resampled for
# all sizes to test it: *shown* if a size in between beats both ends, *contradicted* if none is as good as both, and otherwise
# it cannot be told ([the sizes](#table-growth)). A second test compares a monotone with a rising-then-falling row {cite}`robertson1988`.

# %%
from mpox.stats.growth import rise_and_fall

ways = [(reference, size, BACKBONES) for size in (0, *(FACTORIAL_SIZES or [reference.image_size]))]
ways += [(tail, TRAINED_IMAGE_SIZE, [one for one in BACKBONES if one in (BACKBONE, *TRAINED_BACKBONES)])] if TRAINED_BACKBONES else []
grown = []
for name, data in datasets.items():
    for model, size, backbones in ways:
        sizes, way = {}, f"{model.regime.replace('_', ' ')}, {f'{size} px' if size else 'own input sizes'}"
        for backbone in backbones:
            grows = model.with_(backbone=backbone, image_size=size)
            with suppress(WeightsMissing):
                table = cross_validate(
                    store, data, HONEST_PROTOCOL.get(name, "source"), grows, n_folds=N_FOLDS, n_repeats=N_REPEATS, seed=SEED
                )
                sizes[backbone] = (describe_model(backbone, "linear", 2, image_size=grows.image_size).multiply_adds, table)
        ordered = {backbone: table for backbone, (_, table) in sorted(sizes.items(), key=lambda item: item[1][0])}
        if len(ordered) < 3:
            report.prose(f"*{plots.dataset_title(name)}, {way}: fewer than three sizes are available, so that nothing can rise and fall.*")
            continue
        found = rise_and_fall(ordered)
        row = {"data set": name, "way": way, **{one.removeprefix("tf_efficientnet_"): value for one, value in zip(found.models, found.estimates, strict=True)}}
        over = report.with_interval(found.over_better_end, found.over_better_end_low, found.over_better_end_high, digits=3)
        row |= {"best in between minus better end": over, "p (rises and falls)": found.p_rise_and_fall, "p (does not)": found.p_no_rise_and_fall}
        grown.append(row | {"p (unimodal against monotone)": found.p_unimodal, "verdict": found.verdict})
        report.finding(f"growth_{report.short_name(name)}_{model.regime}_{size or 'own'}", found.verdict)
report.show(pd.DataFrame(grown), name="growth", caption="AUROC by size of the network and of its input, and the tests of a rise and a fall.")

# %% [markdown]
# ## Everything on one board
#
# All methods of this chapter on the same folds, and figures from the literature {cite}`zhao2025,ali2022,ali2024,thieme2023` with the way
# they were tested. The column *leaks* says where that way is known to leak; a figure for which we have no reference says so in its note. Rows of different data sets or protocols are not comparable by their numbers alone; that is what
# the columns are for. Click a heading of [the board](#table-board) to sort.

# %%
from mpox.studies.verdict import as_text, leaderboard, literature

found = []
for (name, factor, level), model in models.items():
    about = {"dataset": name, "method": "reference" if factor == "reference" else f"{factor}: {level}", "regime": model.regime}
    about |= {"protocol": HONEST_PROTOCOL.get(name, "source"), "backbone": model.backbone, "head": model.head}
    found.append(evaluate(predictions[name, factor, level]).assign(**about, image_size=model.image_size))
board = leaderboard(pd.concat(found, ignore_index=True), costs, literature())
report.sortable(as_text(board), name="board", caption="All methods of this chapter, and published figures with how they were tested; the figures with their intervals first")

# %% [markdown]
# ## The best honest model
#
# What is the most that a network of 4.14 M parameters, with a classifier on top, gives under the honest protocol? The choice is *nested*:
# made in each fold by one loss for all, the log loss of predictions of the training pictures by models fitted without them. The tested
# pictures have no part in it ([the choice](#table-best), [the aims](#table-aims)). **The list was fixed before its figures were seen**:
#
# - the *probe* of this chapter; its probabilities averaged over *all sizes* of the input, because no size is known to be better;
#   support vectors likewise; *both* together;
# - *stage means*: the same with the means of the last three feature maps beside the pooled features, where `STAGED` says so;
# - *tail-tuning*, where `TAIL_CANDIDATE` says so: a choice costs four more trainings in each fold, and so no seeds are averaged;
# - each of these *with* the other data set's pictures in training (`MIXED`), all but those that share a photograph or a person with this one.
#
# It is not innocent: that averages, the other set and stage means might help was seen on these data, with other folds. Not tried
# is MSLD's collection for MSID: only its Mpox has a label there, and a source that comes with one class teaches the source.
#
# Many papers report the best of what they tried on the folds on which they tried it, which is too good {cite}`varma2006,cawley2010`.
# [Done with the same candidates](#table-optimism) it differs from the nested choice by luck on the test folds, and by what that choice
# lost by choosing fold by fold, by a loss and from less data. The two cannot be told apart.

# %%
from dataclasses import asdict
from functools import partial

from mpox.protocols.splits import make_splits, split_hash
from mpox.runs.cross_validation import predict_nested
from mpox.stats.metrics import difference
from mpox.stats.power import t_test_detectable
from mpox.stats.selection import BEST_ON_TEST, choose_nested, nested_losses, optimism
from mpox.studies.external import cross_validate_mixed, external_pair

sizes = sorted({*IMAGE_SIZES, reference.image_size})
probes = [reference.with_(image_size=size) for size in sizes]
vectors = [model.with_(regime="svm") for model in probes]
recipes = {
    "probe": [reference],
    "probe, all sizes": probes,
    "support vectors, all sizes": vectors,
    "both, all sizes": probes + vectors,
    "both, stage means": [model.with_(stages=3) for model in probes + vectors],
    "tail-tuning": [tail],
}
limited = {"both, stage means": STAGED, "tail-tuning": TAIL_CANDIDATE}
joint = {(name, other): external_pair(store, other, name, study=DATASETS, data_dir=DATA_DIR or None)[0] for name, other in MIXED if name in datasets}
folds = {"n_folds": N_FOLDS, "n_repeats": N_REPEATS, "seed": SEED}


def ask(name: str, other: str, models: list[ModelConfig], nested: bool) -> pd.DataFrame:
    """The mean of several models' predictions of the tested pictures, or, nested, of the training pictures."""
    data, protocol = datasets[name], HONEST_PROTOCOL.get(name, "source")
    if other:
        tables = [cross_validate_mixed(store, data, joint[name, other], model, protocol, nested=nested, **folds) for model in models]
    elif nested:
        tables = [predict_nested(store, data, make_splits(data.manifest, protocol, **folds), model) for model in models]
    else:
        tables = [cross_validate(store, data, protocol, model, **folds) for model in models]
    return ensemble(tables) if len(tables) > 1 else tables[0]


def inner_losses(name: str, wanted: dict) -> pd.DataFrame:
    """The losses that choose. They are kept, and not the predictions behind them, which are many."""
    return nested_losses({word: ask(name, *what, nested=True) for word, what in wanted.items()})


# %%
AIMS = {"msld-v1": {("accuracy", "all"): (0.84, 0.88), ("auroc", "Mpox"): (0.90, 0.93)}, "msid": {("f1", "macro"): (0.87, 0.90), ("auroc", "Mpox"): (0.98, 0.985)}}
SHOWN = (("accuracy", "all", "accuracy"), ("f1", "macro", "macro F1"), ("auroc", "Mpox", "AUROC (Mpox)"))
best_rows, flattered, aimed = [], [], []
for name in datasets:
    wanted = {
        f"{word}, with {other}" if other else word: (other, models)
        for other in ("", *(second for first, second in MIXED if first == name))
        for word, models in recipes.items()
        if name in limited.get(word, datasets)
    }
    candidates = {word: ask(name, *what, nested=False) for word, what in wanted.items()}
    outer = split_hash(make_splits(datasets[name].manifest, HONEST_PROTOCOL.get(name, "source"), **folds))
    asked = {word: [other and joint[name, other].hash, *map(asdict, models)] for word, (other, models) in wanted.items()}
    losses = store.table("nested-losses", {"split": outer, "candidates": asked}, partial(inner_losses, name, wanted))
    chosen, choices = choose_nested(candidates, losses)
    counts, mean_loss = choices["candidate"].value_counts(), losses.groupby("candidate")["loss"].mean()
    for word, table in {"chosen inside": chosen, **candidates}.items():
        found = evaluate(table)
        row = {"dataset": name, "model": word, "nested loss (nats)": mean_loss.get(word), "folds that chose it": counts.get(word, 0)}
        row |= {title: report.estimate(found, metric, label, digits=3) for metric, label, title in SHOWN}
        best_rows.append(row | {SPREAD: repeat_spread(table, "auroc", "Mpox")})
    report.finding(f"best_{report.short_name(name)}_candidates", str(len(candidates)))
    found = evaluate(chosen).set_index(["metric", "class"])
    for key, (aim, far) in AIMS.get(name, {}).items():
        value, low, high = found.loc[key, ["estimate", "low", "high"]]
        gained = compare_folds(chosen, candidates["probe"], *key, MARGIN)
        sd = gained.differences["difference"].std()
        row = {"dataset": name, "measure": f"{key[0]} ({key[1]})", "chosen inside": report.with_interval(value, low, high, digits=3)}
        row |= {"minus the probe": report.with_interval(*gained.bootstrap, digits=3), "least gain shown with 80 % power": t_test_detectable(sd, N_FOLDS, N_REPEATS) if sd else float("nan")}
        reached = {goal: "reached" if value >= goal else "within the interval" if high >= goal else "not reached" for goal in (aim, far)}
        aimed.append(row | {"aim": f"{aim}: {reached[aim]}", "far aim": f"{far}: {reached[far]}"})
        report.finding(f"best_{report.short_name(name)}_{key[0]}", row["chosen inside"])
    for metric, label in (("accuracy", "all"), ("auroc", "Mpox")):
        table = optimism(candidates, losses, metric, label)
        flattered.append(table.assign(dataset=name, metric=metric, configurations=len(candidates)))
        row = table.set_index("rule").loc[BEST_ON_TEST]
        key = f"optimism_{report.short_name(name)}_{metric}"
        report.finding(key, report.with_interval(row["optimism"], row["optimism_low"], row["optimism_high"], digits=3))
flattered = pd.concat(flattered, ignore_index=True)
report.show(pd.DataFrame(best_rows), name="best", caption=f"The choice made inside the training groups, and its candidates; repeats: {N_REPEATS}.")
report.show(pd.DataFrame(aimed), name="aims", caption="The aims, set before the candidates were computed, and the gain over the probe that so few groups could show.")
columns = ["dataset", "configurations", "metric", "rule", "estimate", "low", "high", "optimism", "optimism_low", "optimism_high"]
report.show(flattered[columns], name="optimism", caption="The best of the same candidates on the test folds, against the choice inside the training groups.")

# %% [markdown]
# Middle feature maps see texture and frame. What [their means gain](#table-stages) is progress only if less of it is gained from the frame
# alone, with the lesions covered, or with the patches of the picture shuffled, and if it is there on the other collection too.

# %%
from mpox.runs.cross_validation import validate_externally
from mpox.studies.external import unshared_part
from mpox.studies.shortcuts import train_and_test

checked = []
for name in [name for name in STAGED if name in datasets]:
    split = make_splits(datasets[name].manifest, HONEST_PROTOCOL.get(name, "source"), n_folds=N_FOLDS, seed=SEED)
    pair = (reference.with_(stages=3), reference)
    shown = {"as it is": [ask(name, "", [model], False) for model in pair]}
    for recipe in ("border_only", "covered", "shuffled"):
        shown[recipe] = [train_and_test(store, datasets[name], split, model, recipe) for model in pair]
    for names, both in joint.items():
        if name in names:
            (other,) = set(names) - {name}
            shown[f"trained here, tested on {other}"] = [unshared_part(validate_externally(store, both, name, other, model, seed=SEED)) for model in pair]
    for way, (staged, plain) in shown.items():
        gain = report.with_interval(*difference(staged, plain, "auroc", "Mpox"), digits=3)
        checked.append({"dataset": name, "pictures": way, "AUROC (Mpox), probe": report.estimate(evaluate(plain), "auroc", "Mpox", digits=3), "gain by stage means": gain})
report.show(pd.DataFrame(checked), name="stages", caption="What the stage means add to the probe, and where.") if checked else report.prose("*Stage means are no candidates on this page (the parameter `STAGED`).*")

# %% tags=["hide-input"]
said = []
for name in datasets:
    part = results[(results["dataset"] == name) & tested].set_index(["factor", "level"])
    worse, better = ((part["p_holm"] < 0.05) & (part["change"] < 0)).sum(), ((part["p_holm"] < 0.05) & (part["change"] > 0)).sum()
    weights = part.loc[("weights", "random")]
    best = next(row for row in best_rows if (row["dataset"], row["model"]) == (name, "chosen inside"))
    luck = flattered.set_index(["dataset", "metric", "rule"]).loc[(name, "accuracy", BEST_ON_TEST)]
    luck = 100 * luck[["optimism", "optimism_low", "optimism_high"]].astype(float)
    said.append(
        f"**{plots.dataset_title(name)}**: of {len(part)} variants, worse than what they are held against after correction: {worse}; "
        f"better: {better} ([all differences](#fig-variant-differences)). Random weights in place of ImageNet's change the AUROC by "
        f"{report.with_interval(*weights[['change', 'change_low', 'change_high']], digits=3)}. The best model that is chosen inside the "
        f"training groups has an accuracy of {best['accuracy']} and an AUROC of {best['AUROC (Mpox)']}; the best of the same candidates on "
        f"the test folds differs by {report.with_interval(*luck, digits=1)} points of accuracy."
    )
verdicts = pd.DataFrame(grown, columns=["data set", "way", "verdict"]).groupby(["data set", "verdict"], sort=False)["way"].agg("; ".join)
verdicts = ". ".join(f"{plots.dataset_title(name)}: {verdict} ({ways})" for (name, verdict), ways in verdicts.items())
said.append(f"Does performance first rise, then fall as the network grows? {verdicts or 'Fewer than three sizes are available'}.")
at_the_top.fill(*said)

# %% [markdown]
# ## What this means

# %% tags=["hide-input"]
for name in datasets:
    part = results[(results["dataset"] == name) & tested]
    sure = part[(part["change_low"] > 0) | (part["change_high"] < 0)]
    most = part.loc[part["change"].idxmin()]
    networks = part[part["factor"] == "backbone"]
    apart = networks[(networks["change_low"] > 0) | (networks["change_high"] < 0)]
    text = (
        f"**{plots.dataset_title(name)}**: {len(sure)} of {len(part)} differences have an interval without zero. The lowest is that of "
        f"*{most['variant'].replace('_', ' ')}*, {report.with_interval(*most[['change', 'change_low', 'change_high']], digits=3)}. "
    )
    if len(networks):
        text += f"Of {len(networks)} other networks in place of the reference {len(apart)} differ from it by an interval without zero. "
    report.prose(text)

# %% [markdown]
# Read [the figure of differences](#fig-variant-differences) from zero outward. What lies far to the left of zero matters; whatever has
# zero inside its interval may matter or not, and this many patients cannot tell. Where a baseline that knows only colours or texture
# comes near the networks, part of what the networks know may be colour or texture too.
#
# ## What could be wrong
#
# - One factor at a time misses interactions; only network and input size were crossed ([as here](#table-growth)).
# - Networks whose pretrained weights were not available are missing; few sizes can hardly show a rise and a fall.
# - The hidden head is fitted without class weights, which the linear one has.
# - Fine-tuning differs from the reference in its input size too, and training from scratch for so few epochs on so few
#   pictures is under-trained: it shows what these data can teach alone, not what the architecture could learn. Fine-tuning may be
#   under-trained, too: no fine-tuning of all layers, on larger images or for longer, is in the record.
# - Many comparisons were made: the p values are corrected for that, the intervals are not.
# - Latency and memory are of one machine; their order carries over, their size does not.
# - The best models on MSLD v1.0 learn from MSID too, where a second photograph of a tested patient, which nobody could find, would
#   flatter them. And they were chosen among a few that we thought of, by a loss that counts every picture alike, where models are
#   fitted with class weights.
#
# ## Take-aways
#
# - Change one thing, keep the folds, and read the interval of the difference. Two intervals side by side do not answer the question.
# - A baseline that does not know what a lesion is belongs beside every network ([as here](#table-board)).
# - Many comparisons find something. Correct for their number, and say how many there were.
# - The best of many is too good ([by how much](#table-optimism)). Choose inside the training groups, and report what the choice gives.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("05")

# %% [markdown]
# ## Exercises
#
# With blanks to be filled in: `notebooks/exercises/05_ablation.ipynb`. Here each exercise is followed by a solution, folded
# in the book. Try first.
#
# Five variants are enough for them.

# %% tags=["exercise-setup", "hide-input"]
few = {
    "reference": reference,
    "random weights": reference.with_(weights="random"),
    "support vectors": reference.with_(regime="svm"),
    "nearest neighbour": reference.with_(regime="nearest_neighbour"),
    "colour histogram": reference.with_(backbone="colour_histogram"),
}
few_predictions = {
    (name, word): cross_validate(
        store, data, HONEST_PROTOCOL.get(name, "source"), model, n_folds=N_FOLDS, n_repeats=N_REPEATS, seed=SEED
    )
    for name, data in datasets.items()
    for word, model in few.items()
}

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Which of the variants in `few_predictions` costs the most accuracy against the reference? Is it the one that costs the most AUROC
# for Mpox? (`mpox.stats.metrics.replicates` gives the bootstrap replicates of every metric; with the same seed the same groups are drawn.)

# %% tags=["solution"]
from mpox.stats.metrics import replicates

rows = []
for name in datasets:
    drawn = {word: replicates(few_predictions[name, word], seed=SEED) for word in few}
    lost = {}
    for metric, label in (("accuracy", "all"), ("auroc", "Mpox")):
        changes = {word: drawn[word][metric, label] - drawn["reference"][metric, label] for word in few if word != "reference"}
        lost[metric] = min(changes, key=lambda word: changes[word].estimate)
        for word, values in changes.items():
            rows.append((plots.dataset_title(name), word, metric, report.with_interval(*values.row().values(), digits=3)))
    report.prose(f"{plots.dataset_title(name)}: most accuracy is lost with {lost['accuracy']}, most AUROC with {lost['auroc']}.")
changes = pd.DataFrame(rows, columns=["data set", "variant", "metric", "minus the reference"])
report.show(changes.pivot(index=["data set", "variant"], columns="metric", values="minus the reference").rename_axis(columns=None))

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Average the reference with the support vectors by `mpox.stats.selection.ensemble`. Does the interval of the difference in AUROC leave out
# zero?

# %% tags=["solution"]
from mpox.stats.metrics import difference

for name in datasets:
    alone = few_predictions[name, "reference"]
    change = difference(ensemble([alone, few_predictions[name, "support vectors"]]), alone, "auroc", "Mpox")
    contains = "contains" if change[1] <= 0 <= change[2] else "leaves out"
    report.prose(
        f"{plots.dataset_title(name)}: the average minus the reference in AUROC for Mpox: {report.with_interval(*change, digits=3)}, "
        f"an interval that {contains} zero."
    )

# %% [markdown] tags=["solution"]
# Two classifiers on the same features err on much the same pictures, so that averaging them has little to average out.
# Ensembles gain where members are good and differ: other backbones, other input sizes, other training sets.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (medium)
#
# How much does luck alone add when the best of k configurations is reported? Simulate k configurations that are all as good as the
# reference, each tested on as many pictures as the data set has, and take the best, for k = 1, 5, 20 and 100.

# %% tags=["solution"]
import numpy as np

rng = np.random.default_rng(SEED)
rows = []
for name, data in datasets.items():
    found = evaluate(few_predictions[name, "reference"], n_bootstrap=0)
    accuracy = found.loc[found["metric"] == "accuracy", "estimate"].iloc[0]
    for k in (1, 5, 20, 100):
        best = rng.binomial(len(data.manifest), accuracy, size=(5000, k)).max(axis=1) / len(data.manifest)
        rows.append((plots.dataset_title(name), k, 100 * (best.mean() - accuracy)))
report.show(pd.DataFrame(rows, columns=["data set", "configurations", "points of accuracy by luck"]), digits=1)

# %% [markdown] tags=["solution"]
# The simulated configurations err independently. Real ones err on the same pictures, so that less is gained by choosing among them;
# on the other hand pictures of one patient err together, which makes every figure noisier than here. The table of optimism above is
# the measurement, this is the mechanism. Note how slowly luck grows with k, and how early it starts.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 (open)
#
# What does the network not know yet? Join the colour histogram with the frozen features, by averaging the two models' answers, or
# by a logistic regression on both feature vectors together (`mpox.models.features.features`; this needs the pictures).

# %% tags=["solution"]
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mpox.models.features import features
from mpox.protocols.splits import make_splits


def logistic_on(vectors, data, split):
    """Out-of-fold predictions of a logistic regression with one penalty for all folds."""
    parts = []
    for fold, rows in split.groupby("fold"):
        train, test = ((rows["role"] == role).to_numpy() for role in ("train", "test"))
        labels = data.manifest["label"].to_numpy()
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(vectors[train], labels[train])
        scores = pd.DataFrame(fitted.predict_proba(vectors[test]), columns=[f"p_{label}" for label in fitted.classes_])
        images = data.manifest.loc[test, ["image_id", "label"]].reset_index(drop=True)
        parts.append(images.join(scores).assign(repeat=0, fold=fold))
    table = pd.concat(parts, ignore_index=True).sort_values("image_id", ignore_index=True)
    return table.assign(group_id=table["image_id"].map(data.groups))


for name, data in datasets.items():
    alone, colours = few_predictions[name, "reference"], few_predictions[name, "colour histogram"]
    change = difference(ensemble([alone, colours]), alone, "auroc", "Mpox")
    report.prose(
        f"{plots.dataset_title(name)}: answers averaged with those of the histogram, minus the reference, AUROC for Mpox: "
        f"{report.with_interval(*change, digits=3)}."
    )
    if not data.has_pictures:
        report.prose(f"*Joining the vectors needs the pictures of {name}, which are not here (`mpox data fetch {name}`).*")
        continue
    deep, coloured = (features(data.manifest, few[word]) for word in ("reference", "colour histogram"))
    split = make_splits(data.manifest, HONEST_PROTOCOL.get(name, "source"), n_folds=N_FOLDS, seed=SEED)
    with_both, with_deep = (logistic_on(vectors, data, split) for vectors in (np.hstack([deep, coloured]), deep))
    change = difference(with_both, with_deep, "auroc", "Mpox")
    report.prose(
        f"{plots.dataset_title(name)}: both vectors minus the frozen features alone, one penalty for all: "
        f"{report.with_interval(*change, digits=3)}."
    )

# %% [markdown] tags=["solution"]
# *A model answer.* A difference around zero says that what the histogram knows, the features know already, or that a linear head
# with one penalty cannot use it. A gain would not be good news by itself: it would say that colour carries more of the class
# than the network reads, and colour is also light, camera and skin. A loss is possible as well, since many more numbers
# are to be weighed with the same few patients. What would settle it is not a better joint model but a test in which colour is
# made uninformative: the same pictures in grey, or with their colours exchanged between classes.

# %% [markdown]
# ## What to read next
#
# [Chapter 6](06_error_analysis.ipynb) looks at the pictures behind the figures; [the verdict](10_verdict.ipynb) uses this
# chapter's test of growth. On comparing several classifiers: Demšar {cite}`demsar2006`; on what choosing does to a figure: Cawley
# and Talbot {cite}`cawley2010`.

# %% tags=["hide-input"]
report.provenance("05_ablation", store, list(datasets.values()), device=DEVICE)
