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
# # Transfer learning
#
# **Question.** What does a network that has learnt everyday objects know about skin, and how is it taught the rest?
#
# A few hundred pictures do not suffice to train a network of millions of parameters. The way out is *transfer*: take a
# backbone whose filters were learnt on ImageNet {cite}`deng2009`, put a small head on it, and teach the
# two together as much as the data allow. The paper did this with an EfficientNet {cite}`tan2019`; so do we.
#
# **After this chapter you can**
#
# - infer which networks fit a published number of parameters, and say how far that inference carries;
# - check that pretrained weights are what they claim to be;
# - explain frozen features, and the two ways of using them: a linear probe and fine-tuning;
# - compare the two on the same folds by a difference with an interval.
#
# **You need** [chapter 1](01_data_exploration.ipynb), and an idea of what a convolutional network is.

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
HONEST_PROTOCOL = {"phantom": "source", "msld-v1": "source", "msid": "source"}
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 0
TRAINED_IMAGE_SIZE = 128
TRAINING = {"epochs": 3, "frozen_stages": 3}
N_FOLDS = 3
REPEATS = {"linear_probe": 1, "fine_tune": 1}
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import matplotlib.pyplot as plt
import pandas as pd

from mpox import ModelConfig, MpoxError, cross_validate, evaluate, open_store
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.models.backbones import describe_model

check_parameters("02_transfer_learning", globals())
plots.use_style()
store = open_store(RUN_STORE)
datasets = store.datasets(DATASETS, data_dir=DATA_DIR or None)

# %%
if "fine_tune" not in REPEATS:
    raise MpoxError("REPEATS must have linear_probe and fine_tune, the two regimes that this chapter compares.")
at_the_top = report.key_findings()

# %% [markdown]
# ## Which network has 4.14 M parameters?
#
# The abstract names a family and a size, not a member. So we count. Each row is built from its definition in timm
# {cite}`wightman2019`, without weights; parameters and multiply-adds are counted on it, not copied from a paper
# ([the candidates](#table-candidates)).

# %% tags=["nbval-check-output"]
from mpox.studies.verdict import read_paper

published_size = read_paper().claims["size"].published
candidates = [(f"tf_efficientnet_lite{k}", "linear") for k in range(5)]
candidates += [(f"efficientnet_b{k}", head) for k in range(2) for head in ("linear", "hidden")]
rows = []
for backbone, head in candidates:
    cards = {n: describe_model(backbone, head, n) for n in (2, 4, 6)}
    sizes = {f"{n} classes (M)": card.parameters / 1e6 for n, card in cards.items()}
    fits = all(round(size, 2) == published_size for size in sizes.values())
    rows.append(
        {
            "backbone": backbone,
            "head": head,
            "input (px)": cards[2].image_size,
            "multiply-adds (M)": cards[2].multiply_adds / 1e6,
            **sizes,
            "rounds to 4.14 M": "yes" if fits else "",
        }
    )
candidate_table = pd.DataFrame(rows)
report.show(candidate_table, name="candidates", caption="EfficientNets, their size for two, four and six classes, and which of them round to 4.14 M.")

# %%
for n in (2, 4, 6):
    report.finding(f"params_{n}", report.millions(describe_model("tf_efficientnet_lite1", "linear", n).parameters))
report.finding("params_b0_hidden", report.millions(describe_model("efficientnet_b0", "hidden", 2).parameters))
fitting = candidate_table.loc[candidate_table["rounds to 4.14 M"] == "yes", ["backbone", "head"]]
report.prose(
    f"Of these {len(candidate_table)} candidates, {len(fitting)} round to 4.14 M for two, four and six classes alike: "
    + ", ".join(f"**{row.backbone}** with a {row.head} head" for row in fitting.itertuples())
    + "."
)

# %% [markdown]
# That is an inference from one number, and this book treats it as one. Where several readings fit, the reference model is
# EfficientNet-Lite1 with a plain linear head, because a plain head is what "transfer" usually means; the rival reading is
# B0 with a hidden layer of 100 units. [Chapter 5](05_ablation.ipynb) puts such a layer on the reference; B0 itself is in its list, and
# is run only where its weights are available.
#
# ## Are the weights real?
#
# A study of transfer stands or falls with the weights it transfers, and code that quietly falls back to random ones would
# still run. A check that cannot be fooled: show the network a photograph of a cat that ships with scikit-image, and read
# its five best guesses among the 1000 classes of ImageNet ([the guesses](#table-cat)).
#
# :::{margin} Why a cat?
# A checksum says that a file is the file. It does not say that the file was read into the right layers, nor that the picture was
# scaled as in training. A network with random weights knows no breed of cat; one whose colours were exchanged soon knows fewer.
# :::

# %% tags=["exercise-setup"]
import numpy as np
import timm
import torch
from PIL import Image
from skimage.data import chelsea
from timm.data import ImageNetInfo

from mpox.data.pixels import to_batch
from mpox.models.backbones import load_pretrained, normalisation

pretrained = load_pretrained(BACKBONE)
network = timm.create_model(BACKBONE, pretrained=False).eval()
network.load_state_dict(pretrained.state)
cat = np.asarray(Image.fromarray(chelsea()).resize((240, 240)))
mean, std = normalisation(BACKBONE)
with torch.inference_mode():
    guesses = torch.softmax(network(to_batch(cat[None], mean=mean, std=std)), dim=1)[0].topk(5)
describe = ImageNetInfo().index_to_description
report.show(
    pd.DataFrame({"guess": [describe(int(k)) for k in guesses.indices], "probability": guesses.values.numpy()}),
    digits=2,
    name="cat",
    caption="What the network takes the cat for: its five best guesses among 1000 classes.",
)
report.prose(f"The weights come from {pretrained.origin}.")

# %% [markdown]
# ## What frozen features see
#
# Cut off the classifier, and the network turns every picture into a vector of features. Nothing of it has been trained
# on skin. The plane of the two largest principal components ([the map](#fig-feature-map)) shows how the pictures lie before any learning.

# %% tags=["exercise-setup"]
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mpox.models.features import features


def principal_plane(data):
    """Two standardised principal components of the frozen features of every picture."""
    vectors = StandardScaler().fit_transform(features(data.manifest, probe))
    plane = PCA(2, random_state=0).fit(vectors)
    points = StandardScaler().fit_transform(plane.transform(vectors)).round(4)
    table = data.manifest[["image_id", "label"]].assign(pc1=points[:, 0], pc2=points[:, 1])
    return table.assign(explained=plane.explained_variance_ratio_.sum().round(4))


probe = ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
plane = pd.concat(
    [
        store.table(
            "feature-map",
            {"data": data.hash, "backbone": BACKBONE, "size": probe.image_size},
            lambda data=data: principal_plane(data),
        ).assign(dataset=data.name)
        for data in datasets
    ],
    ignore_index=True,
)

# %% mystnb={"image": {"alt": "Scatter plots of all pictures in the plane of two principal components, coloured and shaped by class."}, "figure": {"name": "feature-map", "caption": "Frozen ImageNet features of every picture in the plane of their first two principal components, in standard deviations. No label was used to find the plane."}}
components = {"xlabel": "first principal component", "ylabel": "second principal component"}
plots.points(plane, "pc1", "pc2", hue="label", col="dataset", sharex=False, sharey=False, **components)
plt.show()

# %%
for name, part in plane.groupby("dataset"):
    report.prose(
        f"For {plots.dataset_title(name)} the plane shows {part['explained'].iloc[0]:.0%} of the variance of the features."
    )

# %% [markdown]
# ## Two ways to learn from here
#
# - The **linear probe** leaves the backbone alone and fits a logistic regression to the features. The strength of its
#   penalty is chosen by log loss on the inner folds, which lie inside the training groups.
# - **Fine-tuning** first trains the head on frozen features {cite}`kumar2022`, then opens the backbone, early stages more
#   slowly than late ones, on images that are mirrored and cropped anew at every epoch. One inner fold decides when
#   to stop. Batch-norm statistics stay those of ImageNet, because our batches are small.
#
# Both are run here under the honest protocol of each data set. The test fold is never looked at for a choice. How training went, epoch
# by epoch, is in [the loss curves](#fig-histories); what it came to, in [the comparison](#fig-two-regimes) behind them.
#
# :::{margin} Why batch norm stays
# In training a batch-norm layer estimates mean and spread from the batch. From a handful of pictures, several of them of one arm, that is a
# guess; ImageNet's estimate rests on a million. So it is kept, and only what the layers do with it is learnt.
# :::

# %%
models = {
    "linear_probe": probe,
    "fine_tune": ModelConfig(
        regime="fine_tune", backbone=BACKBONE, image_size=TRAINED_IMAGE_SIZE, seed=SEED, device=DEVICE, training=TRAINING
    ),
}
predictions = {
    (data.name, regime): cross_validate(
        store, data, HONEST_PROTOCOL.get(data.name, "source"), models[regime], n_folds=N_FOLDS, n_repeats=repeats, seed=SEED
    )
    for data in datasets
    for regime, repeats in REPEATS.items()
    if regime in models
}

# %%
from mpox.runs.cross_validation import fold_configs

histories = []
for data in datasets:
    _, configs = fold_configs(
        data,
        HONEST_PROTOCOL.get(data.name, "source"),
        models["fine_tune"],
        n_folds=N_FOLDS,
        n_repeats=REPEATS["fine_tune"],
        seed=SEED,
    )
    for config in configs:
        history = store.get(config).history
        histories.append(history.assign(dataset=data.name, repeat=config.repeat, fold=config.fold))
history = pd.concat(histories, ignore_index=True)

# %% mystnb={"image": {"alt": "Line charts of training and inner validation loss by epoch, one line a fold, with the chosen epoch marked."}, "figure": {"name": "histories", "caption": "Fine-tuning, fold by fold; black: the chosen epoch. Training loss includes label smoothing and class weights, validation loss does not, so their levels are not comparable; their shapes are."}}
losses = {"train_loss": "training", "validation_loss": "inner validation"}
lines = history.assign(epoch=history["epoch"] + 1, line=10 * history["repeat"] + history["fold"]).rename(columns=losses)
lines = lines.melt(["dataset", "line", "epoch"], list(losses.values()), "of", "loss")
figure = plots.bands(
    lines, "epoch", y="loss", hue="of", units="line", col="dataset", sharey=False, xlabel="epoch", ylabel="loss (nats)"
)
for axis, (_, ends) in zip(figure.axes, history[history["chosen"]].groupby("dataset", sort=False), strict=True):
    axis.scatter(ends["epoch"] + 1, ends["validation_loss"], color="black", zorder=3)
plt.show()

# %%
chosen = history[history["chosen"]].groupby("dataset").agg(epoch=("epoch", "median"), seconds=("seconds", "median"))
for name, row in chosen.iterrows():
    report.prose(
        f"On {plots.dataset_title(name)} the median chosen epoch is {row['epoch'] + 1:.0f}, and an epoch took "
        f"{row['seconds']:.1f} s on the device that trained it."
    )

# %%
rows = []
for (name, regime), table in predictions.items():
    metrics = evaluate(table)
    for metric, label, title in (
        ("accuracy", "all", "accuracy"),
        ("f1", "macro", "macro F1"),
        ("auroc", "Mpox", "AUROC (Mpox)"),
    ):
        row = metrics[(metrics["metric"] == metric) & (metrics["class"] == label)].iloc[0]
        rows.append({"dataset": name, "regime": regime, "metric": title, **row[["estimate", "low", "high"]]})
comparison = pd.DataFrame(rows)

# %% mystnb={"image": {"alt": "Points with 95 percent intervals for accuracy, macro F1 and AUROC of the two regimes, one panel a data set."}, "figure": {"name": "two-regimes", "caption": "The two regimes under the honest protocol, trained on all classes of the data set, out-of-fold and averaged over the repeats, with 95 % intervals from resampling groups."}}
plots.forest(comparison, "metric", hue="regime", row="dataset")
plt.show()

# %%
times = ", ".join(f"{regime.replace('_', ' ')} {repeats}" for regime, repeats in REPEATS.items() if regime in models)
report.prose(
    f"How many times the cross-validation was repeated, each time with the folds assigned anew: {times}. The same model has a slightly "
    "different figure wherever it is averaged over another number of deals, or tested on one deal alone; this book says each time over "
    "how many, and compares two models on the deals that both have. Such differences are small beside the intervals."
)

# %%
from mpox.stats.metrics import difference, repeat_spread

gained = {}
for data in datasets:
    first, second = (predictions[data.name, regime] for regime in ("fine_tune", "linear_probe"))
    common = set(first["repeat"]) & set(second["repeat"])
    first, second = (part[part["repeat"].isin(common)] for part in (first, second))
    change = gained[data.name] = difference(first, second, "auroc", "Mpox")
    better = "fine-tuning" if change[0] > 0 else "the linear probe"
    better += "" if change[1] > 0 or change[2] < 0 else ", but the interval contains zero: they cannot be told apart"
    report.prose(
        f"{plots.dataset_title(data.name)}: fine-tuning minus probe in AUROC for Mpox, on the same folds: "
        f"{report.with_interval(*change, digits=3)}. "
        f"The higher estimate is that of {better}. Over the {len(common)} repeats of fine-tuning alone its AUROC has a standard deviation of "
        f"{repeat_spread(first, 'auroc', 'Mpox'):.3f}."
    )
    report.finding(f"fine_tune_minus_probe_{report.short_name(data.name)}", report.with_interval(*change, digits=3))

# %% tags=["hide-input"]
said = [
    f"{len(fitting)} of {len(candidate_table)} candidates round to 4.14 M parameters whatever the number of classes: "
    + ", ".join(f"{row.backbone} with a {row.head} head" for row in fitting.itertuples()) + "; the first is the reference of this book."
]  # fmt: skip
for data in datasets:
    row = comparison[(comparison["dataset"] == data.name) & (comparison["metric"] == "AUROC (Mpox)")].set_index("regime").loc["linear_probe"]
    change = gained[data.name]
    told = "the two cannot be told apart" if change[1] <= 0 <= change[2] else "the interval excludes zero"
    said.append(
        f"**{plots.dataset_title(data.name)}**: a linear probe on frozen features of everyday objects has an AUROC for Mpox of "
        f"{report.with_interval(*row[['estimate', 'low', 'high']], digits=3)} on groups it has not met. Fine-tuning changes it by "
        f"{report.with_interval(*change, digits=3)}: {told}."
    )
at_the_top.fill(*said)

# %% [markdown]
# ## What this means

# %% tags=["hide-input"]
for data in datasets:
    row = comparison[(comparison["dataset"] == data.name) & (comparison["metric"] == "AUROC (Mpox)")].set_index("regime").loc["linear_probe"]
    change = gained[data.name]
    known = "more" if row["low"] > 0.5 else "not demonstrably more"
    if change[1] > 0:
        told = "opening the backbone has paid"
    elif change[2] < 0:
        told = "opening the backbone has not paid with so few pictures and so short a training; it has cost"
    else:
        told = (
            f"whether opening the backbone pays is open: a gain of up to {max(change[2], 0):.3f} and a loss of up to "
            f"{max(-change[1], 0):.3f} fit these patients"
        )
    report.prose(
        f"**{plots.dataset_title(data.name)}**: filters learnt on everyday objects know {known} of the classes than chance: the probe's "
        f"AUROC is {report.with_interval(*row[['estimate', 'low', 'high']], digits=3)} on groups it has not met. Fine-tuning minus "
        f"probe is {report.with_interval(*change, digits=3)} on the same folds: {told} ([the two side by side](#fig-two-regimes))."
    )

# %% [markdown]
# What the probe reads is in the features already; a network that is trained further has to beat that figure, not 0.5.
#
# ## What could be wrong
#
# - The constants of schedule, augmentation and stopping were
#   settled by a few trial runs on MSLD v1, by the loss on inner validation folds. That loss was never a test fold's, but
#   the images of one fold's inner validation are tested in another, so this choice was not fully nested.
# - Fine-tuning on a laptop means few epochs, a smaller picture and first stages left frozen. A longer schedule may do better.
# - That features separate the classes does not say by what: light, background and skin are in them too.
#   [One page](../book/limitations.md) has what bounds every chapter.
#
# ## Take-aways
#
# - A number of parameters excludes most networks and proves none ([the candidates](#table-candidates)). Say which reading you took, and
#   keep the rival.
# - Test that weights are there by what only they can do. A program that fell back to random ones would still run.
# - Frozen features and a linear head are a strong baseline that costs seconds. Whatever is trained beyond has to beat it, with an
#   interval.
# - Nothing is chosen on the test fold: penalty and stopping come from inner folds. The constants were settled in trial runs on MSLD v1.0.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("02")

# %% [markdown]
# ## Exercises
#
# With blanks to be filled in: `notebooks/exercises/02_transfer_learning.ipynb`. Here each exercise is followed by a solution, folded
# in the book. Try first.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Replace the cat by `skimage.data.coffee` and read the five guesses.

# %% tags=["solution"]
from skimage.data import coffee

cup = np.asarray(Image.fromarray(coffee()).resize((240, 240)))
with torch.inference_mode():
    seen = torch.softmax(network(to_batch(cup[None], mean=mean, std=std)), dim=1)[0].topk(5)
report.show(pd.DataFrame({"guess": [describe(int(k)) for k in seen.indices], "probability": seen.values.numpy()}), digits=2)

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# EfficientNet-B0 ends in 1280 features. With a hidden layer of h units before the output it has more parameters than with a plain
# linear head. For which h does it round to 4.14 M with two classes? What does that say about the inference from one number?

# %% tags=["solution"]
features_of_b0, n_classes = 1280, 2
without_head = describe_model("efficientnet_b0", "linear", n_classes).parameters - (features_of_b0 + 1) * n_classes
sizes = {h: without_head + (features_of_b0 + 1) * h + (h + 1) * n_classes for h in range(1, 513)}
assert sizes[100] == describe_model("efficientnet_b0", "hidden", n_classes).parameters
fitting_widths = [h for h, size in sizes.items() if round(size / 1e6, 2) == 4.14]
report.prose(f"B0 rounds to 4.14 M with {fitting_widths[0]} to {fitting_widths[-1]} hidden units.")

# %% [markdown] tags=["solution"]
# Several widths fit, a round one among them, so that B0 with a hidden layer cannot be excluded by counting. What speaks
# for the plain head of EfficientNet-Lite1 is that nothing had to be tuned to make it fit, and that it fits for any number of
# classes. That is an argument from simplicity, not a proof.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (medium)
#
# Give the probe random weights, `probe.with_(weights="random")`, and repeat the cross-validation. How much of the AUROC for Mpox
# was learnt on ImageNet? Use `mpox.stats.metrics.difference`.

# %% tags=["solution"]
from mpox.stats.metrics import difference

for data in datasets:
    pair = [
        cross_validate(store, data, HONEST_PROTOCOL.get(data.name, "source"), model, n_folds=N_FOLDS, seed=SEED)
        for model in (probe, probe.with_(weights="random"))
    ]
    areas = [report.estimate(evaluate(table), "auroc", "Mpox", digits=3) for table in pair]
    report.prose(
        f"{plots.dataset_title(data.name)}, one repeat: AUROC {areas[0]} with ImageNet's weights, {areas[1]} with random ones; difference "
        f"{report.with_interval(*difference(*pair, 'auroc', 'Mpox'), digits=3)}."
    )

# %% [markdown] tags=["solution"]
# Random filters are not blind: they still pass on colours and coarse texture, and a linear head can use these. That is why the
# figure may lie above 0.5, and why a chance of 0.5 is the wrong baseline for a network. Chapter 5 has a better one, a histogram
# of colours.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 (open)
#
# Colour the feature map by patient or by lightness. What does the first component measure? (`mpox.audit.quality.image_quality`
# measures the pictures; chapter 1 keeps its table in the store.)

# %% tags=["solution"]
from mpox.audit import quality

measures = ["lightness", "contrast", "chroma", "blur"]
seen = []
for data in datasets:
    spec = {"data": data.hash, "version": quality.QUALITY_VERSION}
    measured = store.table("image-quality", spec, lambda data=data: quality.image_quality(data.manifest))
    seen.append(plane[plane["dataset"] == data.name].merge(measured[["image_id", *measures]], on="image_id"))
    correlation = seen[-1][["pc1", "pc2", *measures]].corr("spearman").loc[measures, ["pc1", "pc2"]]
    report.prose(f"**{plots.dataset_title(data.name)}**: rank correlation of the two components with what chapter 1 measures")
    report.show(correlation.rename_axis("statistic"), digits=2)

# %% tags=["solution"] mystnb={"image": {"alt": "Scatter plots of all pictures in the plane of two principal components, shaded by lightness, one panel a data set."}, "figure": {"name": "feature-map-lightness", "caption": "The feature map shaded by the lightness of the picture (CIELAB L*)."}}
_, axes = plt.subplots(1, len(seen), figsize=(4.5 * len(seen), 3.6), squeeze=False)
for axis, part in zip(axes[0], seen, strict=True):
    dots = axis.scatter(part["pc1"], part["pc2"], c=part["lightness"], cmap="cividis", s=14)
    axis.set(xlabel="first component (SD)", ylabel="second component (SD)", title=plots.dataset_title(part["dataset"].iloc[0]))
    plt.colorbar(dots, label="lightness (L*)")
plt.show()

# %% [markdown] tags=["solution"]
# *A model answer.* Principal components are the directions in which pictures differ most, and nobody asked for them to be about
# disease. Where a component goes with lightness, chroma or blur, a good part of what the features tell apart is the photograph.
# That does not make the features useless, because a head may weigh other directions; it warns that the easiest differences to
# learn are not the medical ones. To colour by patient, keep patients with several pictures: their dots lie closer together
# than chance would have it, which is what makes siblings in training dangerous. A correlation with one component is a hint
# only. The plane holds a small part of the variance, as the sentence below the map says.

# %% [markdown]
# ## What to read next
#
# [Chapter 3](03_cross_validation.ipynb) tests these models under rules from lax to strict, [chapter 5](05_ablation.ipynb)
# varies what was fixed here. On why fine-tuning can spoil good features: Kumar et al. {cite}`kumar2022`; on the family of
# networks: Tan and Le {cite}`tan2019`.

# %% tags=["hide-input"]
report.provenance("02_transfer_learning", store, datasets, device=DEVICE)
