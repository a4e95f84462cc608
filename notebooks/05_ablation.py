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
# # What matters and what does not

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# What the network learnt on ImageNet matters most: random weights in its place change the AUROC by {{ ablation_msld_random }} on
# MSLD and by {{ ablation_msid_random }} on MSID. No change of its size, the input size, the classifier or the training is shown
# to be a gain, and texture alone, without any network, reaches {{ ablation_msld_texture }} and {{ ablation_msid_texture }}. The
# one gain shown is on MSLD: a choice among {{ best_msld_candidates }} candidates that never looks at test images always took one
# that learns from MSID, too, and its AUROC is higher than the probe's by {{ gain_msld_auroc }}.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# On the phantom only the lesions, and a mark in the corner of most Mpox images, carry the class: skin, light and camera are
# alike. Random weights change the AUROC by {{ ablation_phantom_random }}, an interval from three folds that leaves much open;
# texture alone reaches {{ ablation_phantom_texture }}, for it sees spots and mark too. The best of {{ best_phantom_candidates }}
# candidates by test accuracy differs from the choice that never looks at test images by {{ optimism_phantom_accuracy }}.
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
MIXED = []
TAIL_CANDIDATE = []
STAGED = []
N_FOLDS = 3
N_REPEATS = 1
MARGIN = 0.02
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import pandas as pd

import mpox
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.stats import metrics, selection
from mpox.studies import ablation, external

check_parameters("05_ablation", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = {data.name: data for data in store.datasets(DATASETS, data_dir=DATA_DIR or None)}
honest = {name: HONEST_PROTOCOL.get(name, "source") for name in datasets}
folds = {"n_folds": N_FOLDS, "n_repeats": N_REPEATS, "seed": SEED}
variants = ablation.variants(globals())
models = variants.set_index("variant")["model"]
reference = models["reference"]

# %% tags=["hide-input"]
predictions, parts = {}, {}
for name, data in datasets.items():
    asked = variants if name in TRAINED_DATASETS else variants[~variants["trained"]]
    predictions[name] = ablation.predict_variants(store, data, honest[name], asked, **folds)
    parts[name] = ablation.differences(predictions[name], asked, MARGIN)
results = pd.concat(parts, names=["dataset"]).reset_index(0)
changes = results[results["p"].notna()]

# %% mystnb={"image": {"alt": "Paired differences in AUROC between each variant and the reference, with 95 percent intervals, the data sets side by side, zero marked. Random weights, and features without a network, lie far to the left of zero; most others lie about it."}, "figure": {"name": "variant-differences", "caption": "What each change does to the AUROC for Mpox, with groups kept apart: the variant minus the reference (training from scratch: minus fine-tuning) on the same folds, with 95 % intervals from the folds, corrected for the training images that they share. An interval that crosses zero leaves open which of the two is better."}}
shown = changes[~changes["factor"].str.startswith("tail-tun") & ~changes["level"].str.contains(", support")]
look = {"x": "change", "low": "change_low", "high": "change_high", "hue": "dataset", "reference": {"no difference": 0.0}}
figure = plots.forest(shown, "variant", xlabel="difference in AUROC (Mpox)", width=5.0, **look)

# %% [markdown]
# **Question.** Which part of the recipe carries the result, would something simpler have done, and what is the best that can
# honestly be had? The paper's abstract says that as the network grows, its performance first increases and then decreases; here
# we test what can be tested of that.
#
# After this chapter you can
#
# - read a paired difference rather than two numbers;
# - say why a model that knows only texture belongs beside every network;
# - say what it takes to show a rise and a fall;
# - choose a model without looking at test images, and say how much luck there is in choosing on them.
#
# ## What is varied
#
# The reference is [chapter 2](02_transfer_learning.ipynb)'s linear probe: cheap, without a schedule to tune. A variant has one
# thing changed. Here are five; [the table](#table-variants) has all, [appendix D](D_costs.ipynb) all their numbers.

# %% tags=["exercise-setup"]
few = {
    "reference": reference,
    "random weights": reference.with_(weights="random"),
    "support vectors": reference.with_(regime="svm"),
    "nearest neighbour": reference.with_(regime="nearest_neighbour"),
    "texture": reference.with_(backbone="lbp"),
}

# %% tags=["nbval-check-output"]
found = {variant for tables in predictions.values() for variant in tables}
levels = variants[1:].assign(absent=variants["level"].mask(variants["variant"].isin(found), ""))
levels = levels[~levels["factor"].str.startswith("tail-tuning, ")]
levels = levels.groupby("factor", sort=False)[["level", "absent"]].agg(lambda names: "; ".join(filter(None, names))).reset_index()
levels.columns = ["what is changed", "to", "not run: no weights"]
caption = "What is changed. Training from scratch is compared with fine-tuning, all else with the reference. Sizes are averaged, too."
report.show(levels, name="variants", caption=caption)

# %% [markdown]
# Features without a network are the histogram of an image's colours, its edges {cite}`dalal2005` and its texture, the local
# patterns of light and dark {cite}`ojala2002`. Another network comes with its own input size, and networks that are trained have
# a smaller one of their own, in which they differ from the reference too. Tail-tuning is varied by itself as well: augmentation,
# label smoothing, class weights, views, frozen stages.
#
# ## The differences
#
# Two models that are tested on the same people err on the same people. The difference, fold by fold, drops what they share, so
# that it can be sure where the two intervals overlap. [Chapter 4](04_power.ipynb) has the corrected t-test, which allows for
# training images that the folds share. A mean over folds is not the difference of one AUROC from all folds ([chapter
# 2](02_transfer_learning.ipynb)), where images of different folds are compared too: random weights lose more there.

# %% tags=["exercise-setup"]
few_predictions = {
    (name, word): mpox.cross_validate(store, data, honest[name], model, **folds)
    for name, data in datasets.items() for word, model in few.items()
}  # fmt: skip

# %%
pair = [few_predictions[next(iter(datasets)), word] for word in ("random weights", "reference")]
random, usual = (metrics.fold_metrics(table, [("auroc", "Mpox")]).groupby("fold")["estimate"].mean() for table in pair)
(random - usual).round(2)

# %% tags=["show"]
sure = changes["p_holm"] < 0.05
counts = changes.assign(variants=1, worse=sure & (changes["change"] < 0), better=sure & (changes["change"] > 0))
counts = counts.groupby("dataset", sort=False)[["variants", "worse", "better", "equivalent"]].sum().astype(int)
caption = f"Variants shown to be worse, better or equivalent within {MARGIN}: corrected t-tests, p by Holm; repeats: {N_REPEATS}."
report.show(counts.reset_index(), name="counts", caption=caption)

# %%
for name, part in results.groupby("dataset"):
    key, rows = f"ablation_{report.short_name(name)}", part.set_index("variant")
    report.finding(f"{key}_random", report.with_interval(*rows.loc["weights: random", ["change", "change_low", "change_high"]]))
    if "no network: texture, logistic" in rows.index:
        texture = rows.loc["no network: texture, logistic", ["auroc", "auroc_low", "auroc_high"]]
        report.finding(f"{key}_texture", report.with_interval(*texture))
    report.finding(f"{key}_better", f"{counts.loc[name, 'better']} of {counts.loc[name, 'variants']}")

# %% tags=["guard"]
if report.is_study(datasets):
    for name, part in changes.groupby("dataset"):
        rows = part.set_index("variant")
        report.guard(f"{name}: random weights are worse", rows.loc["weights: random", "change_high"] < 0)
        report.guard(f"{name}: no variant is shown to be better", counts.loc[name, "better"] == 0)
        small = (rows["change_low"] < 0.03) & (rows["change_high"] > -0.03)
        report.guard(f"{name}: most intervals leave room for a few hundredths", small.mean() > 0.5)
        texture = results[results["dataset"] == name].set_index("variant").loc["no network: texture, logistic"]
        report.guard(f"{name}: texture alone is better than chance", texture["auroc_low"] > 0.5)
    change = changes.set_index(["dataset", "variant"])["change"].loc["msld-v1"].filter(like="training: ")
    report.guard("MSLD: training from scratch does not make up for ImageNet", change.filter(like="scratch").max() < -0.1)
    report.guard("MSLD: further training changes little", change.filter(like="-tuning").abs().max() < 0.1)

# %% [markdown] tags=["study"]
# {{ ablation_msld_better }} variants on MSLD and {{ ablation_msid_better }} on MSID are shown to be better than what they are
# compared with. That is not to say that the others are equal: a difference of a few hundredths of AUROC lies within most of these
# intervals.
#
# Texture deserves a second look. The local patterns know nothing of lesions or of the shape of anything; they are counted over
# the whole image, rash, skin, background and compression alike. What they reach, a network can reach in the same way. [Chapter
# 7](07_shortcuts.ipynb) asks where in the image that information is.

# %% [markdown]
# ## What tail-tuning and random weights show
#
# *Tail-tuning* trains only the last stages of the network, on a fixed set of augmented views whose features are computed once. It
# is cheap, and [the loss on the inner validation images](#table-tails) says what it gives up against fine-tuning: negative is
# better. The cut was chosen by this loss on MSLD, so that tail-tuning may be flattered a little there: the validation images of
# one fold are test images of others.

# %%
tails, part = [], variants[variants["factor"].isin(["training", "tail-tuning, views", "tail-tuning, frozen stages"])]
wanted = part.loc[~part["level"].str.contains("scratch"), "variant"]
for name in [name for name in datasets if name in TRAINED_DATASETS]:
    once = {variant: predictions[name][variant].drop_duplicates(["repeat", "fold"]) for variant in wanted}
    runs = pd.DataFrame({variant: table.set_index(["repeat", "fold"])["run_id"] for variant, table in once.items()})
    loss = runs.map(lambda run: store.history(run)["validation_loss"].min())
    change = loss.sub(loss["training: fine-tuning"], axis=0)
    table = pd.DataFrame({"loss (nats)": loss.mean(), "minus fine-tuning": change.mean(), "SD over folds": change.std()})
    tails.append(table.rename_axis("variant").reset_index().assign(dataset=name))
caption = "The least loss on the inner validation images, and its difference from fine-tuning fold by fold."
report.show(pd.concat(tails or [pd.DataFrame()], ignore_index=True), digits=3, name="tails", caption=caption)

# %% [markdown]
# Random weights are not without information: a random network still passes on colour and coarse texture. How far they fall below
# the reference is what ImageNet taught.

# %% [markdown] tags=["study"]
# A network that is trained from scratch on MSLD has to learn that from 228 images, and does not. Fine-tuning and tail-tuning
# start from ImageNet; what they change beyond the frozen features is small beside what the features give.

# %% [markdown]
# ## Does it rise, then fall?
#
# The networks grow in width and depth, and each was made for an input size of its own. We compare them at that size and at one
# size for all. To rise and fall means that a network in between is better than the smallest and the largest, both. We resample
# the same groups for all sizes: the claim is *shown* if both differences are, *contradicted* if no network in between is as good
# as both ends, and otherwise these sizes are too few to tell.

# %%
tail = models["training: tail-tuning"]
ways = [(reference, size, BACKBONES) for size in (0, *(FACTORIAL_SIZES or [reference.image_size]))]
tuned = [backbone for backbone in BACKBONES if backbone in (BACKBONE, *TRAINED_BACKBONES)]
ways += [(tail, tail.image_size, tuned)] if TRAINED_BACKBONES else []
grown = []
for name, data in datasets.items():
    for model, size, backbones in ways:
        if not (tested := ablation.grow(store, data, honest[name], model, backbones, size, **folds)):
            continue
        row = {"dataset": name, "fitted, input size": f"{plots.WORDS[model.regime]}, {f'{size} px' if size else 'own'}"}
        row["AUROC, smallest first"] = ", ".join(f"{value:.2f}" for value in tested.estimates)
        over = tested.over_better_end, tested.over_better_end_low, tested.over_better_end_high
        row["in between minus better end"] = report.with_interval(*over, digits=3)
        grown.append(row | {"p (rises and falls)": tested.p_rise_and_fall, "verdict": tested.verdict})
        report.finding(f"growth_{report.short_name(name)}_{model.regime}_{size or 'own'}", tested.verdict)
report.show(pd.DataFrame(grown), name="growth", caption="AUROC by size of the network, and the test of a rise and a fall.")

# %% tags=["guard"]
if report.is_study(datasets):
    report.guard("three sizes are too few to tell", all(row["verdict"] == "undecided" for row in grown))

# %% [markdown] tags=["study"]
# Three sizes are too few, and the data too small, to tell. A rise and a fall like that of the paper can come about by chance:
# among three equal models the middle one is best one time in three.

# %% [markdown]
# ## The best honest model
#
# How good can a network of 4.14 M parameters be, with anything on top? We fixed a list of candidates before this record was made
# (what it holds owes something to earlier ones, see below): the probe; its probabilities averaged over all input sizes; support
# vectors likewise; both together.

# %%
probes = [reference.with_(image_size=size) for size in sorted({*IMAGE_SIZES, reference.image_size})]
vectors = [model.with_(regime="svm") for model in probes]
recipes = {"probe": [reference], "probe, all sizes": probes}
recipes |= {"support vectors, all sizes": vectors, "both, all sizes": probes + vectors}
recipes |= {"both, stage means": [model.with_(stages=3) for model in probes + vectors], "tail-tuning": [tail]}

# %% [markdown]
# *Stage means* put the means of the last three feature maps beside the pooled features; *with* a collection means that its images
# are trained on too, all but those that share a person or a photograph with this one.
#
# The choice is nested. In each fold, every candidate is fitted inside the training groups and scored on training images that it
# has not seen. The candidate with the lowest loss there is fitted anew and tested; the test images have no part in the choice.

# %%
limited = {"both, stage means": STAGED, "tail-tuning": TAIL_CANDIDATE}
candidates, losses = {}, {}
for name, data in datasets.items():
    mixed = {f", with {other}": external.external_pair(store, other, name, study=DATASETS, data_dir=DATA_DIR or None)[0]
             for target, other in MIXED if target == name}  # fmt: skip
    asked = {f"{word}{more}": (both, recipe) for more, both in {"": None, **mixed}.items()
             for word, recipe in recipes.items() if name in limited.get(word, datasets)}  # fmt: skip
    candidates[name] = {word: ablation.predict_candidate(store, data, honest[name], one, **folds) for word, one in asked.items()}
    losses[name] = ablation.losses(store, data, honest[name], asked, **folds)

# %%
found = {name: selection.choose_nested(candidates[name], losses[name]) for name in datasets}
chosen, choices = ({name: pair[side] for name, pair in found.items()} for side in (0, 1))

# %%
AIMS = {("msld-v1", "accuracy"): (0.84, 0.88), ("msld-v1", "auroc"): (0.90, 0.93)}
AIMS |= {("msid", "f1"): (0.87, 0.90), ("msid", "auroc"): (0.98, 0.985)}
rows, listed, gains = [], {}, {}
for name in datasets:
    short, found = report.short_name(name), mpox.evaluate(chosen[name]).set_index(["metric", "class"])
    report.finding(f"best_{short}_candidates", str(len(candidates[name])))
    counted, title = choices[name]["candidate"].value_counts(), plots.dataset_title(name)
    for word, table in candidates[name].items():
        line = listed.setdefault(word, {})
        line[f"{title}: chosen"] = f"{counted.get(word, 0)} of {len(choices[name])}"
        line[f"{title}: AUROC"] = report.estimate(mpox.evaluate(table), "auroc", "Mpox")
    for metric, key in ablation.MEASURES.items():
        value, *ends = found.loc[key, ["estimate", "low", "high"]]
        luck = selection.optimism(candidates[name], losses[name], *key).set_index("rule").loc[selection.BEST_ON_TEST]
        aims = [f"{aim} {'reached' if value >= aim else 'missed'}" for aim in AIMS.get((name, metric), ())]
        row = {"dataset": name, "measure": metric, "chosen inside": report.with_interval(value, *ends, digits=3)}
        gains[name, metric] = metrics.difference(chosen[name], candidates[name]["probe"], *key)
        row |= {"minus the probe": (gain := report.with_interval(*gains[name, metric], digits=3))}
        luck = report.with_interval(*luck[["optimism", "optimism_low", "optimism_high"]], digits=3)
        rows.append(row | {"best on test images minus it": luck, "aims": "; ".join(aims)})
        for kind, text in {"best": row["chosen inside"], "optimism": luck, "gain": gain}.items():
            report.finding(f"{kind}_{short}_{metric}", text)
caption = f"The candidates, in how many folds each was chosen, and its AUROC on the test images; repeats: {N_REPEATS}."
report.show(pd.DataFrame(listed).T.fillna("").rename_axis("candidate"), name="choices", caption=caption)
caption = "The choice inside the training groups, and how the best of the same candidates on the test images differs from it."
report.show(pd.DataFrame(rows).replace({"measure": {"f1": "macro F1", "auroc": "AUROC"}}), name="best", caption=caption)

# %% tags=["guard"]
if report.is_study(datasets):
    report.guard("none of the aims is reached", not any("reached" in row["aims"] for row in rows))
    report.guard("MSLD: every fold chose a candidate with MSID", choices["msld-v1"]["candidate"].str.endswith("with msid").all())
    report.guard("MSLD: the choice has a higher AUROC than the probe", gains["msld-v1", "auroc"][1] > 0)

# %% [markdown] tags=["study"]
# The aims in [the last column](#table-best) were set beforehand, from what others report with patients kept apart (the nearer)
# and from what would change practice (the farther). None is reached.
#
# {{ best_msld_candidates }} candidates were compared on MSLD. The nested choice has an accuracy of {{ best_msld_accuracy }}. Who
# reports the best of the same candidates on the test images reports a value that differs by {{ optimism_msld_accuracy }}; on
# MSID, with {{ best_msid_candidates }} candidates, by {{ optimism_msid_accuracy }}.
#
# One thing did help. On MSLD every fold chose a candidate that also learns from MSID, and the choice gains {{ gain_msld_auroc }}
# in AUROC over the probe: more images of other people, not another network.

# %% [markdown]
# To report the best of what one has tried on the images on which one has tried it is common, and too good
# {cite}`varma2006,cawley2010`: the largest of several noisy numbers owes part of its lead to noise. The difference in the table
# also holds what the nested choice lost, because it chooses fold by fold, by a loss, and with less data. The two cannot be
# separated here.
#
# ## What could be wrong
#
# [One page](../book/limitations.md) has what bounds the whole book. Of this chapter:
#
# - One change at a time misses interactions; only the sizes of network and image were crossed.
# - Networks whose pretrained weights were not available are missing.
# - Training from scratch for so few epochs on so few images is under-trained, and fine-tuning may be: all layers, larger images
#   and longer schedules were not tried. The hidden layer is fitted without class weights, which the linear one has.
# - P values are corrected for their number, intervals are not.
# - The list of candidates is not innocent: that averages and the other collection might help was seen on these data, with other
#   folds. Stage means see texture and frame, so that what they gain may be a [shortcut](07_shortcuts.ipynb).
# - Candidates that learn from both collections would be flattered by a second photograph of a tested patient that the audit
#   missed.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("05")

# %% [markdown]
# ## Exercises
#
# With blanks: `notebooks/exercises/05_ablation.ipynb`. Solutions are folded here; try first.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Which of the five models in `few_predictions` loses the most accuracy against the reference, and does the same one lose the most
# AUROC? *Hint*: `metrics.difference(first, second, metric, label)` returns the paired difference with the ends of its interval;
# measures are `"accuracy", "all"` and `"auroc", "Mpox"`.

# %% tags=["solution"]
worst = {}
for name in datasets:
    for word, key in {"accuracy": ("accuracy", "all"), "AUROC": ("auroc", "Mpox")}.items():
        pairs = {one: (few_predictions[name, one], few_predictions[name, "reference"]) for one in few if one != "reference"}
        lost = {one: metrics.difference(*pair, *key) for one, pair in pairs.items()}
        worst[name, word] = min(lost, key=lost.get)
        said = report.with_interval(*lost[worst[name, word]])
        report.prose(f"{plots.dataset_title(name)}: most {word} is lost with {worst[name, word]}, {said}.")
assert "reference" not in worst.values(), "compare each variant with the reference, not the reference with itself"

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# How much does luck alone add when the best of k models is reported? Simulate k models that are all as good as the reference,
# each tested on as many images as the data set has, and take the best, for k = 1, 5, 20 and 100. *Hint*: `scipy.stats.binom(n,
# p).rvs((5000, k))` returns the number of right answers of k models in 5,000 studies.

# %% tags=["solution"]
from scipy.stats import binom

luck = {}
for name, data in datasets.items():
    found = mpox.evaluate(few_predictions[name, "reference"], n_bootstrap=0).set_index(["metric", "class"])
    n, accuracy = len(data.manifest), found.loc[("accuracy", "all"), "estimate"]
    for k in (1, 5, 20, 100):
        best = binom(n, accuracy).rvs((5000, k), random_state=SEED).max(axis=1) / n
        luck[name, k] = 100 * (best.mean() - accuracy)
report.show(pd.Series(luck, name="points of accuracy by luck").rename_axis(["data set", "models"]).reset_index(), digits=1)
assert all(abs(luck[name, 1]) < 0.5 < luck[name, 20] for name in datasets), "one model has no luck: average over studies"

# %% [markdown] tags=["solution"]
# Luck starts early and grows slowly with k. Real models err on the same images, so that choosing among them gains less than here;
# images of one patient err together, so that every number is noisier than here. The table of the best model is the measurement,
# this is the mechanism.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (open)
#
# Does texture know something that the network does not? Average the probabilities of both and compare with the network alone.
# Then say what a gain would mean, what it would not mean, and which experiment would settle it. *Hint*:
# `selection.ensemble(tables)` returns a table of predictions.

# %% tags=["solution"]
for name in datasets:
    alone, texture = few_predictions[name, "reference"], few_predictions[name, "texture"]
    gain = metrics.difference(selection.ensemble([alone, texture]), alone, "auroc", "Mpox")
    said = f"network and texture averaged, minus the network alone: {report.with_interval(*gain, digits=3)}."
    report.prose(f"{plots.dataset_title(name)}: {said}")
assert gain[1] <= gain[0] <= gain[2], "the estimate lies within its interval"

# %% [markdown] tags=["solution"]
# *A model answer.* A difference about zero says that the network knows already what texture knows, or that an average with equal
# weights cannot use it. A gain would not be good news by itself: texture is also camera, compression and skin. What would settle
# it is not a better joint model but a test in which texture is made uninformative: the same images, all saved anew at one size
# and quality, or taken with one camera.

# %% [markdown]
# ## What to read next
#
# On choosing and what it does to a result: Cawley and Talbot {cite}`cawley2010`. What the variants cost is in [appendix
# D](D_costs.ipynb); [chapter 6](06_error_analysis.ipynb) looks at the images behind the numbers.

# %% tags=["hide-input"]
report.provenance("05_ablation", store, list(datasets.values()), device=DEVICE)
