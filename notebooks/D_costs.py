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
# # D. Costs and exported networks

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# The reference has {{ costs_reference_parameters }} parameters and takes {{ costs_reference_ms }} for an image on one thread of
# an ordinary processor; no other network is shown to have a higher AUROC. Saved for other programs with 8-bit convolutions it is
# {{ int8_smaller }} times as small. What it loses of the AUROC by that is {{ int8_loss_msld }} on MSLD and {{ int8_loss_msid }}
# on MSID.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# The costs are those of the real networks, and hold on any images: the reference has {{ costs_reference_parameters }} parameters
# and takes {{ costs_reference_ms }} for an image. What they buy is measured on the phantom here, which is drawn, and says nothing
# about patients. No network is exported in this edition.
# :::

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
N_FOLDS = 3
N_REPEATS = 1
MARGIN = 0.02
SEED = 0
DEVICE = "cpu"

# %% tags=["hide-input"]
import pandas as pd

import mpox
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.models.costs import measure_costs
from mpox.runs import export
from mpox.stats import growth
from mpox.studies import ablation, verdict

check_parameters("D_costs", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = {data.name: data for data in store.datasets(DATASETS, data_dir=DATA_DIR or None)}
honest = {name: HONEST_PROTOCOL.get(name, "source") for name in datasets}
folds = {"n_folds": N_FOLDS, "n_repeats": N_REPEATS, "seed": SEED}
variants = ablation.variants(globals())
models = variants.set_index("variant")["model"]
predictions, parts, configs = {}, {}, []
for name, data in datasets.items():
    asked = variants if name in TRAINED_DATASETS else variants[~variants["trained"]]
    predictions[name] = ablation.predict_variants(store, data, honest[name], asked, **folds)
    parts[name] = ablation.differences(predictions[name], asked, MARGIN)
    configs += [(models[one].backbone, models[one].head, models[one].image_size) for one in predictions[name] if one in models]
results = pd.concat(parts, names=["dataset"]).reset_index(0)
configs = list(dict.fromkeys(configs))
spec = {"configs": [list(config) for config in configs], "rounds": TIMED_ROUNDS}
costs = store.table("costs", spec, lambda: measure_costs(configs, rounds=TIMED_ROUNDS))
costs = costs.assign(parameters=costs["parameters"] / 1e6, multiply_adds=costs["multiply_adds"] / 1e6)
about = [(one, model.backbone, model.head, model.image_size) for one, model in models.items()]
priced = results.merge(pd.DataFrame(about, columns=["variant", "backbone", "head", "image_size"])).merge(costs)

# %% mystnb={"image": {"alt": "AUROC with intervals over multiply-adds and over latency, the Pareto front as a step line, a row of panels for each cost, a marker for each data set."}, "figure": {"name": "costs", "caption": "What a network costs and what it gives: AUROC for Mpox with groups kept apart, with 95 % intervals from the folds, for the reference, other networks and other input sizes. The line joins those that no other beats in both."}}
prices = {"multiply_adds": "multiply-adds for an image (millions)", "median_ms_1": "time for an image (ms, one thread)"}
shown = priced[priced["factor"].isin(["reference", "network size", "other network", "input size"])]
shown = shown.melt(["dataset", "auroc", "auroc_low", "auroc_high"], list(prices), "cost", "price").dropna(subset="price")
ends = {"y": "auroc", "low": "auroc_low", "high": "auroc_high", "xlabel": prices, "ylabel": "AUROC (Mpox)"}
look = {"intervals": "bars", "join": False, "sharex": "row", "width": 4.8, "height": 2.6}
figure = plots.bands(shown, "price", hue="dataset", row="cost", **ends, **look)
for (cost, _), part in shown.groupby(["cost", "dataset"], sort=False):
    front = part[growth.pareto_front(part, "price", "auroc")].sort_values("price")
    figure.axes[list(prices).index(cost)].step(front["price"], front["auroc"], "k", where="post", linewidth=1, zorder=0)

# %% [markdown]
# [Chapter 5](05_ablation.ipynb) changes one thing at a time and asks what it does to the AUROC. Here are the prices, the
# reference as a file for other programs, and every number behind that chapter.
#
# ## What it costs
#
# Time is measured on one thread, warm, for one image by itself and in batches of sixteen: the median of many rounds, because a
# clock on a shared machine errs in one direction only. Times compare within this table, where each network was measured shortly
# after the one before, not with those of other machines.

# %%
names = costs["backbone"].map(ablation.short) + ", " + costs["image_size"].astype(str) + " px"
named = costs.assign(network=names.mask(costs["head"] == "hidden", names + ", hidden layer"))
kept = ["network", "parameters", "multiply_adds", "file_mib", "median_ms_1", "median_ms_16"]
table = named.loc[named["multiply_adds"].notna(), kept].reset_index(drop=True).round({"multiply_adds": 0})
table.columns = ["network", "parameters (M)", "multiply-adds (M)", "file (MiB)", "ms, one image", "ms, batches of 16"]
where = report.device_words(costs["device"].iloc[0])
caption = f"What each network costs, measured on {where}; the file is float32, times are for an image."
report.show(table, digits=2, name="costs", caption=caption)
report.download(named, "costs")
first = named.iloc[0]
report.finding("costs_reference_parameters", report.millions(1e6 * first["parameters"]))
report.finding("costs_reference_ms", f"{first['median_ms_1']:.0f} ms")

# %% [markdown]
# ## Outside this package
#
# `mpox export` writes a run as an ONNX file, which needs neither this package nor torch. The file is the whole predictor: the
# image *and its mirror image* go through the network, so that it takes twice the time of the table above. The 8-bit form rounds
# the convolutions; what that loses is measured on the test images of the first repeat, paired, with intervals from resampling
# groups.

# %%
forms = []
how = {"data_dir": DATA_DIR or None, "rounds": TIMED_ROUNDS}
for name in datasets if EXPORTED_FOLDS else ():
    table = predictions[name]["reference"]
    ids = list(dict.fromkeys(table.loc[table["repeat"] == 0, "run_id"]))[:EXPORTED_FOLDS]
    spec = {"runs": ids, "rounds": TIMED_ROUNDS, "version": 1}
    found = store.table("latency-deployment", spec, lambda ids=ids: export.compare_forms(store, ids, **how))
    lost = [report.with_interval(*one, digits=3) for one in found[["auroc_loss", "auroc_loss_low", "auroc_loss_high"]].to_numpy()]
    forms.append(found.assign(dataset=name, lost=lost))
    report.finding(f"int8_loss_{report.short_name(name)}", lost[-1])
if forms:
    report.finding("int8_smaller", f"{found['size_mb'].iloc[0] / found['size_mb'].iloc[-1]:.1f}")
    table = pd.concat(forms, ignore_index=True).assign(size=lambda table: table["size_mb"] * 1e6 / 2**20)
    table = table[["dataset", "form", "size", "latency_ms_1", "max_abs_difference", "lost"]]
    table.columns = ["data set", "form", "file (MiB)", "ms, one image", "largest change of a probability", "AUROC lost"]
    report.show(table, digits=1, name="exported", caption="The reference as torch and as ONNX files; the loss is against torch.")
else:
    report.prose("*Not computed on this page (the parameter `EXPORTED_FOLDS`); it needs the extra `onnx`.*")

# %% tags=["guard"]
if report.is_study(datasets):
    better = results["factor"].isin(["network size", "other network"]) & (results["p_holm"] < 0.05) & (results["change"] > 0)
    report.guard("no other network is shown to have a higher AUROC", not better.any())

# %% [markdown]
# ## Every variant
#
# Each variant by itself, with intervals from the folds, and its difference in AUROC from what it is compared with; p is that of
# the corrected t-test, adjusted for all rows (Holm).

# %%
for name, part in results.groupby("dataset", sort=False):
    table = part[["variant"]].reset_index(drop=True)
    for key, word in {"accuracy": "accuracy", "f1": "macro F1", "auroc": "AUROC", "change": "difference"}.items():
        ends = part[[key, f"{key}_low", f"{key}_high"]].to_numpy()
        table[word] = [report.with_interval(*one, digits=2 + (key == "change")) for one in ends]
    table = table.replace("not defined", "").assign(**{"p (Holm)": part["p_holm"].to_numpy()})
    report.sortable(table, caption=f"{plots.dataset_title(name)}: every variant; repeats: {N_REPEATS}.")
report.download(results, "variants")

# %% [markdown]
# ## Everything on one board
#
# Published figures {cite}`zhao2025,ali2022,ali2024,thieme2023` beside the reference, with the way each was tested. *Leaks* says
# whether that way is known to leak. Rows of different data or tests cannot be compared by their numbers, which is what the
# columns are for. The file has all variants too, with what each costs.

# %%
published, measured = verdict.literature(), []
for name in datasets:
    for one, table in predictions[name].items():
        if one in models:
            about = {key: getattr(models[one], key) for key in ("regime", "backbone", "head", "image_size")}
            about |= {"dataset": name, "method": one, "protocol": honest[name]}
            measured.append(mpox.evaluate(table).assign(**about))
priced = costs.assign(parameters=costs["parameters"] * 1e6)
board = verdict.leaderboard(pd.concat(measured, ignore_index=True), priced, published[published["doi"].notna()])
short = board[(board["kind"] == "literature") | (board["method"] == "reference")].reset_index(drop=True)
columns = ["method", "data", "protocol", "leaks", "accuracy", "AUROC"]
caption = "Published figures, and the reference of this book with 95 % intervals."
report.show(verdict.as_text(short)[columns], name="board", caption=caption)
report.download(board, "board")

# %% [markdown]
# ## What could be wrong
#
# - Time and memory are of one machine: their order carries over, their size does not.
# - The costs are of a prediction. Training, data and people cost more, and are not here.
# - A rule of fronts takes estimates for truths; their intervals overlap.

# %% tags=["hide-input"]
report.provenance("D_costs", store, list(datasets.values()), device=DEVICE)
