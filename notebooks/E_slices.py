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
# # E. Slices and labels

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# Of {{ slices_msld_searched }} slices searched on MSLD {{ slices_msld_found }} stand out after correction for the whole search,
# and on MSID {{ slices_msid_found }} of {{ slices_msid_searched }}; on both the finder names a failure that was planted, and
# nothing where there is nothing to find. {{ labels_msld_suspected }} labels of MSLD and {{ labels_msid_suspected }} of MSID are
# doubtful, among them {{ labels_msid_conflicts }} that the audit found filed under two labels on MSID. The method misses about a
# third of the wrong labels that we plant ourselves ({{ labels_msld_planted }} and {{ labels_msid_planted }} are found), and most
# of what it then suspects are labels that we left as they were.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# No slice of the phantom was drawn to fail, and of {{ slices_phantom_searched }} slices searched {{ slices_phantom_found }}
# stands out. When a failure is planted on a pair of conditions, the finder names that pair. Of the wrong labels that we plant
# ourselves the method suspects {{ labels_phantom_planted }}, and {{ labels_phantom_precision }} of all that it suspects are
# ours.
# :::

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
HONEST_PROTOCOL = {"phantom": "source", "msld-v1": "source", "msid": "source"}
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 0
N_FOLDS = 3
REPEATS = {"linear_probe": 2, "tail_tune": 1}
N_WORST = 12
N_CLUSTERS = 8
PLANTED_SHARE = 0.05
SEED = 0
DEVICE = "cpu"

# %%
from functools import partial

import pandas as pd

import mpox
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.stats import slices
from mpox.studies import errors, labels

check_parameters("E_slices", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = {data.name: data for data in store.datasets(DATASETS, data_dir=DATA_DIR or None)}
protocol = {name: HONEST_PROTOCOL.get(name, "source") for name in datasets}
folds = {"n_folds": N_FOLDS, "n_repeats": REPEATS["linear_probe"], "seed": SEED}
model = mpox.ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
predictions = {name: mpox.cross_validate(store, data, protocol[name], model, **folds) for name, data in datasets.items()}
mistakes = {name: errors.error_table(table) for name, table in predictions.items()}
metadata = errors.all_metadata(store, list(datasets.values()), model, n_clusters=N_CLUSTERS, seed=SEED)


def side_by_side(tables):
    """The first rows of a table of each data set, one below the other, as they are shown."""
    n = N_WORST // len(tables)
    parts = [table.head(n).assign(dataset=plots.dataset_title(name)) for name, table in tables.items()]
    table = pd.concat(parts, ignore_index=True)
    for column, low, high in (("error_rate", "low", "high"), ("difference", "difference_low", "difference_high")):
        table[column] = [report.with_interval(*row) for row in table[[column, low, high]].itertuples(index=False)]
    return table


# %% [markdown]
# This appendix has the slices of [chapter 6](06_error_analysis.ipynb) in full, searches for others, and asks which labels are
# doubtful. The model and its predictions are those of that chapter: the linear probe, groups kept apart.
#
# ## Slices set by hand
#
# Each slice is tested against the rest by permutations in which whole groups exchange their mistakes, with Holm's correction for
# all slices of a data set. [The table](#table-slices) has those with the smallest p values; the files at the end have all.

# %%
tested = {name: slices.slice_errors(mistakes[name], metadata[name], seed=SEED) for name in datasets}

# %% tags=["nbval-check-output"]
first = side_by_side({name: table.sort_values("p", kind="stable") for name, table in tested.items()})
first["slice"] = first["column"] + ": " + first["slice"]
columns = ["dataset", "slice", "n_groups", "error_rate", "difference", "p_corrected"]
caption = "Slices with the smallest p values: error rate, and difference to the rest, with 95 % intervals from resampling groups."
report.show(first[columns], name="slices", caption=caption)

# %% [markdown]
# ## Slices found by search
#
# What nobody thought of is in no list. The finder examines every condition and every pair of conditions that at least eight
# groups meet, after Slice Finder {cite}`chung2019` and SliceLine {cite}`sagadeeva2021`. It ranks them by how far their error
# rate is above that of the rest, in standard deviations under permutation. The correction is for the whole search: each
# permutation is searched just as thoroughly, and a slice counts as found if its score beats the *best* score of 95 % of these
# searches {cite}`westfall1993` ([the best](#table-searched)). The rate of a slice that was chosen for being high is too high on
# average: confirm it on other patients.

# %%
searched = {name: slices.find_slices(mistakes[name], metadata[name], seed=SEED) for name in datasets}

# %% tags=["nbval-check-output"]
columns = ["dataset", "slice", "n_groups", "error_rate", "rest", "p_corrected"]
caption = "Slices with the highest scores: error rate with its 95 % interval, and error rate of the rest."
report.show(side_by_side(searched)[columns], digits=2, name="searched", caption=caption)
for name, table in searched.items():
    key, hits = report.short_name(name), table[table["p_corrected"] < 0.05]
    report.finding(f"slices_{key}_searched", f"{table['examined'].max() if len(table) else 0}")
    report.finding(f"slices_{key}_found", f"{len(hits) or 'none'}")
    if len(table):
        best = table.iloc[0]
        report.finding(f"slices_{key}_first_rate", report.with_interval(best["error_rate"], best["low"], best["high"]))

# %% tags=["guard"]
if report.is_study(datasets):
    for name, table in searched.items():
        report.guard(f"{name}: slices are found by search", (table["p_corrected"] < 0.05).any())
    best = searched["msld-v1"]["slice"].iloc[0]
    report.guard("MSLD: the clearest slice is Mpox of low contrast", "class: Mpox" in best and "contrast" in best)
    hits = searched["msld-v1"].query("p_corrected < 0.05")["slice"]
    report.guard("MSLD: all slices found are of Mpox images", hits.str.contains("class: Mpox").all())
    report.guard("MSLD: Mpox on very light skin is found", hits.str.contains("skin tone: very light").any())

# %% [markdown]
# ### Can the finder be trusted?
#
# We give the images mistakes whose cause is known, and see what the finder says ([results](#table-finder)). First the model's
# own mistakes, exchanged between groups: there is nothing to find, and the corrected p value should be large. Then mistakes
# planted on one pair of conditions: on nine in ten of its images, and on one in ten of the others.

# %%
checked = {name: slices.check_finder(mistakes[name], metadata[name], seed=SEED) for name in datasets}

# %% tags=["nbval-check-output"]
shown = pd.concat([table.assign(dataset=plots.dataset_title(name)) for name, table in checked.items()], ignore_index=True)
shown["mistakes"] = shown["mistakes"].replace({"dealt": "exchanged"})
columns = ["dataset", "mistakes", "planted on", "first found", "p_corrected"]
caption = "What the finder says where nothing is to be found, and where a slice was planted."
report.show(shown[columns], name="finder", caption=caption)

# %% tags=["guard"]
if report.is_study(datasets):
    for name, table in checked.items():
        nothing, planted = table.set_index("mistakes").loc[["dealt", "planted"]].itertuples(index=False)
        report.guard(f"{name}: nothing is found where nothing is", nothing.p_corrected > 0.05)
        report.guard(f"{name}: the planted slice is named", planted[0] == planted[1] and planted.p_corrected < 0.05)

# %% [markdown]
# ## Doubtful labels
#
# Labels come from web pages, and some are wrong. Confident learning {cite}`northcutt2021` suspects a label when the image's
# probability for another class is as high as it usually is for images that bear that class's label. It knows nothing but the
# probabilities. The audit of [chapter 1](01_data_exploration.ipynb) knows something else: photographs that are filed under two
# labels.
#
# How many wrong labels does the method find? We give a few groups, drawn at random, another label, train and test the probe on
# these labels, and count ([both checks](#table-suspects)).

# %%
doubts = {name: labels.label_problems(table, datasets[name].audit.conflicts) for name, table in predictions.items()}
rows = []
for name, data in datasets.items():
    known = labels.suspicion_by(doubts[name], doubts[name].set_index("image_id")["in_conflict"])
    spec = {"data": data.hash, "protocol": protocol[name], "backbone": BACKBONE, "size": model.image_size, "share": PLANTED_SHARE,
            "folds": N_FOLDS, "seed": SEED, "version": labels.VERSION}  # fmt: skip
    asked = {"share": PLANTED_SHARE, "n_folds": N_FOLDS, "seed": SEED}
    compute = partial(labels.check_suspicion, data, protocol[name], model, **asked)
    planted = store.table("planted-labels", spec, compute)
    rows.append({"dataset": name, "doubtful": "two labels, by the audit", **known})
    rows.append({"dataset": name, "doubtful": "wrong, planted by us", **planted.iloc[0]})
checks = pd.DataFrame(rows).astype({column: int for column in ("wrong", "suspected", "found")})

# %% tags=["nbval-check-output"]
shown = checks.assign(
    AUROC=[report.with_interval(row.auroc, row.low, row.high) for row in checks.itertuples()],
    dataset=checks["dataset"].map(plots.dataset_title),
).rename(columns={"wrong": "known", "doubtful": "what is known of the labels"})
columns = ["dataset", "what is known of the labels", "known", "suspected", "found", "AUROC"]
caption = "Suspected labels against labels known to be doubtful. Found: both; AUROC: of a low probability of the given label."
report.show(shown[columns], name="suspects", caption=caption)
for name, table in doubts.items():
    key = report.short_name(name)
    report.finding(f"labels_{key}_suspected", f"{table['suspected'].sum()}")
    audit, ours = checks[checks["dataset"] == name].itertuples()
    if audit.wrong:
        report.finding(f"labels_{key}_conflicts", f"{audit.found} of the {audit.wrong}")
    report.finding(f"labels_{key}_planted", f"{ours.found} of {ours.wrong}")
    report.finding(f"labels_{key}_precision", f"{ours.precision:.0%}")

# %% tags=["guard"]
if report.is_study(datasets):
    audit, ours = (part.set_index("dataset") for _, part in checks.groupby("doubtful"))
    report.guard("MSID: suspects are among the photographs filed under two labels", audit.loc["msid", "found"] > 0)
    report.guard("about a third of the planted labels is missed", ours["recall"].between(0.5, 0.8).all())
    report.guard("most of what is suspected was left as it was", (ours["precision"] < 0.5).all())

# %% [markdown]
# A suspected label is a reason to look at an image, not a correction. A model that has learnt a shortcut vouches for wrong
# labels that share it: on the phantom an image filed under Mpox by mistake gets Mpox's corner mark too.
#
# ## The long tables
#
# All slices tested, the ten slices of the search with the highest scores, and all doubtful labels.

# %%
for name in datasets:
    report.download(tested[name], f"slices-{name}")
    report.download(searched[name], f"slices-found-{name}")
    suspects = doubts[name].query("suspected or in_conflict").drop(columns="group_id")
    report.download(suspects, f"doubtful-labels-{name}")

# %% [markdown]
# ## What could be wrong
#
# - Slices overlap, and so do the conditions of a pair; a slice is a place, not a cause.
# - A pair that fewer than eight groups meet is not examined, however bad it is.
# - The planted failure is coarse. A weaker one, or one on fewer groups, would be missed.
# - The planted labels are drawn at random. Real mistakes fall on images that are hard, which are harder to find.
# - An image that the audit found under two labels need not be the wrong one of the two.
# - Confident learning trusts the probabilities of the probe, which are not calibrated here ([chapter 9](09_use.ipynb) does
#   that).

# %% tags=["hide-input"]
report.provenance("E_slices", store, list(datasets.values()), device=DEVICE)
