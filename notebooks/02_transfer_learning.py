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
# # A borrowed network

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
# A network that learnt to name everyday objects, and was never trained on skin, describes images well enough for a simple linear
# classifier to reach an AUROC (area under the ROC curve) for Mpox of {{ cv_msld_source_auroc }} on MSLD and
# {{ cv_msid_source_auroc }} on MSID, on photographs and patients that it has not met. What it borrowed matters: with random
# weights in place of the learnt ones the AUROC is lower by {{ imagenet_minus_random_msld }} and {{ imagenet_minus_random_msid }}.
# Training the network further on these images showed no gain: the AUROC changed by {{ fine_tune_minus_probe_msld }} and
# {{ fine_tune_minus_probe_msid }}.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
# The phantom's lesions were drawn so that a network has something to find, and a linear classifier on borrowed features finds it:
# its AUROC (area under the ROC curve) for Mpox is {{ cv_phantom_source_auroc }} on patients that it has not met. With random
# weights in place of those learnt on ImageNet the AUROC is lower by {{ imagenet_minus_random_phantom }}, so the comparison can
# show what was borrowed. A short training of the whole network changes it by {{ fine_tune_minus_probe_phantom }}: this page
# trains for a few epochs, to show how it is done and not how good it can get.
# :::

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
import pandas as pd
import skimage
import timm

import mpox
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.data.pixels import to_batch
from mpox.models import backbones
from mpox.stats import metrics

check_parameters("02_transfer_learning", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = store.datasets(DATASETS, data_dir=DATA_DIR or None)

# %%
if "fine_tune" not in REPEATS:
    raise mpox.MpoxError("REPEATS must have linear_probe and fine_tune, the two regimes that this chapter compares.")
probe = mpox.ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
tuned = probe.with_(regime="fine_tune", image_size=TRAINED_IMAGE_SIZE, training=TRAINING)
models = {"random weights": probe.with_(weights="random"), "linear_probe": probe, "fine_tune": tuned}


# %%
def out_of_fold(data, name):
    """Predictions of every image by a model that saw nothing of its group."""
    rule = {"n_folds": N_FOLDS, "n_repeats": REPEATS.get(name, REPEATS["fine_tune"]), "seed": SEED}
    return mpox.cross_validate(store, data, HONEST_PROTOCOL.get(data.name, "source"), models[name], **rule)


predictions = {(data.name, name): out_of_fold(data, name) for data in datasets for name in models}

# %% mystnb={"image": {"alt": "AUROC for Mpox with 95 percent intervals of a probe on random weights, a probe on ImageNet weights and a fine-tuned network, one panel a data set."}, "figure": {"name": "two-regimes", "caption": "AUROC for Mpox on held-out groups, with 95 % intervals from resampling groups, the models held fixed. A probe is a linear classifier on features that stay as they are; a fine-tuned network is trained further."}}
rows = []
for (name, model), table in predictions.items():
    found = mpox.evaluate(table).query("metric == 'auroc' and `class` == 'Mpox'")
    rows.append(found.assign(dataset=name, model=model))
areas = pd.concat(rows, ignore_index=True)
titles = {"random weights": "probe, random weights", "linear_probe": "probe, ImageNet weights", "fine_tune": "fine-tuned"}
look = {"values": "{:.2f}", "legend": False, "xlabel": "AUROC (Mpox), with 95 % interval"}
figure = plots.forest(
    areas.assign(line=areas["model"].map(titles)), "line", hue="model", row="dataset", reference={"chance": 0.5}, **look
)

# %% [markdown]
# **Question.** What does a network that has learnt everyday objects know about skin, and how is it taught the rest?
#
# A few hundred images cannot train a network of millions of parameters. The way out is *transfer*: take a backbone whose filters
# were learnt on the million images of ImageNet {cite}`deng2009`, put a small head on it, and train as much of the two as the data
# allow. The paper did this with an EfficientNet {cite}`tan2019`, and so does this book.
#
# **After this chapter you can**
#
# - infer which networks fit a published number of parameters, and say how far that inference carries;
# - check that pretrained weights are what they claim to be;
# - explain frozen features, and the two ways of using them: a linear probe and fine-tuning;
# - compare two models on the same folds by a difference with an interval.
#
# **You need** [chapter 1](01_data_exploration.ipynb), and an idea of what a convolutional network is.
#
# ## Which network has 4.14 M parameters?
#
# The abstract of the paper names a family of networks and a size, not a member. So we count. Each candidate is built from its
# definition in timm {cite}`wightman2019`, without weights, and its parameters are counted for two, four and six classes.

# %% tags=["exercise-setup"]
PUBLISHED_SIZE = 4.14  # million parameters
candidates = [(f"tf_efficientnet_lite{k}", "linear") for k in range(5)]
candidates += [(f"efficientnet_b{k}", head) for k in range(2) for head in ("linear", "hidden")]
cards = {(*one, n): backbones.describe_model(*one, n) for one in candidates for n in (2, 4, 6)}
size = {key: card.parameters / 1e6 for key, card in cards.items()}

# %% tags=["nbval-check-output"]
fitting = [one for one in candidates if {round(size[*one, n], 2) for n in (2, 4, 6)} == {PUBLISHED_SIZE}]
fitting

# %% tags=["nbval-check-output"]
sizes = [{f"{n} classes (M)": round(size[*one, n], 2) for n in (2, 4, 6)} for one in candidates]
work = [round(cards[*one, 2].multiply_adds / 1e6) for one in candidates]
candidate_table = pd.DataFrame(candidates, columns=["network", "head"]).join(pd.DataFrame(sizes)).assign(work=work)
report.show(
    candidate_table.rename(columns={"work": "multiply-adds (M)"}),
    digits=2,
    name="candidates",
    caption="EfficientNets and their parameters for two, four and six classes; a hidden head has a layer of 100 units.",
)
for n in (2, 4, 6):
    report.finding(f"params_{n}", report.millions(cards["tf_efficientnet_lite1", "linear", n].parameters))
report.finding("params_b0_hidden", report.millions(cards["efficientnet_b0", "hidden", 2].parameters))

# %% [markdown]
# Two of [the nine candidates](#table-candidates) round to 4.14 M whatever the number of classes: EfficientNet-Lite1 with a plain
# linear head ({{ params_2 }} for two classes, {{ params_4 }} for four, {{ params_6 }} for six) and EfficientNet-B0 with a hidden
# layer of 100 units ({{ params_b0_hidden }}).
#
# That is an inference from one number, and this book treats it as one. Its reference model is EfficientNet-Lite1 with a linear
# head, because a plain head is what "transfer" usually means and nothing had to be adjusted to make it fit. The rival reading
# stays in view: [chapter 5](05_ablation.ipynb) puts such a hidden layer on the reference.
#
# ## Are the weights real?
#
# A study of transfer stands or falls with the weights that it transfers. Code that quietly falls back to random weights would
# still run, and only its scores would be lower. So we test for something that random weights cannot do: name a cat.

# %% tags=["exercise-setup"]
pretrained = backbones.load_pretrained(BACKBONE)
network = timm.create_model(BACKBONE, pretrained=False).eval()
network.load_state_dict(pretrained.state)
words = timm.data.ImageNetInfo().index_to_description


# %% tags=["exercise-setup"]
def name_it(image):
    """The five best guesses of the network, among the 1000 classes of ImageNet."""
    small = skimage.transform.resize(image, (240, 240), anti_aliasing=True, preserve_range=True).round().astype("uint8")
    mean, std = backbones.normalisation(BACKBONE)
    best = network(to_batch(small[None], mean=mean, std=std)).softmax(dim=1)[0].detach().topk(5)
    return pd.DataFrame({"guess": [words(int(k)) for k in best.indices], "probability": best.values.numpy()})


cat = skimage.data.chelsea()[:, 75:375]  # its middle, 300 x 300 pixels

# %%
report.show(name_it(cat), digits=2, name="cat", caption="What the network takes the cat for.")
report.prose(f"The weights come from {pretrained.origin}.")

# %% mystnb={"image": {"alt": "A photograph of the face of a tabby cat."}, "figure": {"name": "chelsea", "caption": "Chelsea, the cat of scikit-image (photograph by Stéfan van der Walt, CC0)."}}
figure = plots.sheet([cat], [""], columns=1)

# %% [markdown]
# A checksum shows that a file is the right file. It does not show that its numbers went into the right layers, or that images are
# scaled as they were in training. [The guesses](#table-cat) show all three at once: a network with random weights knows no breeds
# of cat.
#
# ## What frozen features see
#
# Without its classifier the network turns every image into a list of numbers, its *features*. Nothing in them was trained on
# skin. A **linear probe** leaves the backbone as it is and fits a logistic regression to its features. How strongly the
# regression is penalised is chosen by log loss on inner folds, inside the training groups.
#
# What did ImageNet contribute? The same probe on the same folds, with random weights in the backbone, is the comparison that
# answers. Random filters still pass on colour and coarse texture, so chance is the wrong baseline. Both models predict the same
# images, and the interval of their difference comes from resampling the same groups for both.


# %%
def auroc_gain(name, model, baseline):
    """AUROC of a model minus that of a baseline, on the repeats that both have; estimate, low, high."""
    one, other = predictions[name, model], predictions[name, baseline]
    both = set(one["repeat"]) & set(other["repeat"])
    return metrics.difference(one[one["repeat"].isin(both)], other[other["repeat"].isin(both)], "auroc", "Mpox")


# %%
compared = {
    "ImageNet weights minus random weights": ("linear_probe", "random weights", "imagenet_minus_random"),
    "fine-tuning minus linear probe": ("fine_tune", "linear_probe", "fine_tune_minus_probe"),
}
gains, texts = {}, {}
for data in datasets:
    for title, (model, baseline, key) in compared.items():
        gain = gains[data.name, key] = auroc_gain(data.name, model, baseline)
        texts.setdefault(plots.dataset_title(data.name), {})[title] = text = report.with_interval(*gain, digits=3)
        report.finding(f"{key}_{report.short_name(data.name)}", text)
    area = areas[(areas["dataset"] == data.name) & (areas["model"] == "random weights")]
    report.finding(f"random_weights_{report.short_name(data.name)}_auroc", report.estimate(area, "auroc", "Mpox"))
report.show(
    pd.DataFrame(texts).rename_axis("difference in AUROC (Mpox)"),
    name="gains",
    caption="What the borrowed weights and what further training add, on the same folds, with 95 % intervals from resampling groups.",
)

# %% [markdown]
# [The first line](#table-gains) is what was borrowed, [the second](#table-gains) what further training adds. The differences use
# the repeats of the cross-validation that both models have; the probe's own AUROC, from all of its repeats, is that of [chapter
# 3](03_cross_validation.ipynb).

# %% [markdown] tags=["study"]
# On MSLD most of what the probe knows beyond chance was learnt on ImageNet. On MSID random filters alone reach an AUROC of
# {{ random_weights_msid_auroc }}: colour and coarse texture go a long way there, not least because MSID contains healthy skin.

# %% tags=["guard"]
if report.is_study(data.name for data in datasets):
    for name in ("msld-v1", "msid"):
        report.guard(f"{name}: ImageNet's weights are better than random ones", gains[name, "imagenet_minus_random"][1] > 0)
        report.guard(f"{name}: further training showed no gain", gains[name, "fine_tune_minus_probe"][1] <= 0)
    auroc = areas.set_index(["dataset", "model"])
    known = auroc.loc[("msld-v1", "linear_probe"), "estimate"] - 0.5
    report.guard("MSLD: most of what the probe knows was borrowed", gains["msld-v1", "imagenet_minus_random"][0] > known / 2)
    report.guard("MSID: random filters alone go a long way", auroc.loc[("msid", "random weights"), "low"] > 0.65)

# %% [markdown]
# ## Two ways to learn from here
#
# **Fine-tuning** goes further than the probe. It first trains the head on frozen features {cite}`kumar2022`, then opens the
# backbone, early stages more slowly than late ones, on images that are mirrored and cropped anew at every epoch. One inner fold
# decides when to stop. The statistics of batch norm stay those of ImageNet: a batch of a few images, several of them of one arm,
# is too small to estimate them.
#
# Neither way looks at the test fold for any choice: penalty and stopping come from inner folds of the training groups. Both are
# tested with groups kept apart, so that no patient and no photograph of the test is in training ([chapter
# 3](03_cross_validation.ipynb) shows what happens otherwise).

# %% [markdown] tags=["study"]
# That opening the backbone pays is not shown. On MSLD a loss of five points of AUROC fits the data as well as a gain of two; on MSID
# fine-tuning is a little worse than the probe, by {{ fine_tune_minus_probe_msid }} with models held fixed; the corrected test of
# [chapter 4](04_power.ipynb) is the stricter judge. The probe costs seconds and fine-tuning costs minutes, so the probe is the model that most
# chapters judge. What is trained further has to beat the probe, not chance, and with an interval.

# %% tags=["guard"]
if report.is_study(data.name for data in datasets):
    _, low, high = gains["msld-v1", "fine_tune_minus_probe"]
    report.guard("MSLD: a loss of five points fits the data as well as a gain of two", -0.06 < low < -0.04 and 0.01 < high < 0.03)
    report.guard("MSID: fine-tuning is a little worse than the probe", -0.05 < gains["msid", "fine_tune_minus_probe"][2] < 0)

# %% [markdown]
# ## What could be wrong
#
# - The constants of schedule, augmentation and stopping were settled by a few trial runs on MSLD, by the loss on inner validation
#   folds. That loss was never a test fold's, but the images of one fold's inner validation are tested in another, so this choice
#   was not fully nested.
# - Fine-tuning on a laptop means few epochs, a smaller input and first stages left frozen. A longer schedule may do better.
# - That features separate the classes does not say by what: light, background and skin are in them too ([chapter
#   7](07_shortcuts.ipynb)). [One page](../book/limitations.md) lists what limits every chapter.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("02")

# %% [markdown]
# ## Exercises
#
# With blanks to fill in: `notebooks/exercises/02_transfer_learning.ipynb`. Here each exercise is followed by a solution, folded
# in the book. Try first.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# What does the network take `skimage.data.coffee()` for? Would you call the check passed?
#
# *Hint.* `name_it(image)` takes an image as an array of shape (height, width, 3) and returns a table with its five best guesses.

# %% tags=["solution"]
guesses = name_it(skimage.data.coffee())
report.show(guesses, digits=2)
assert guesses["guess"][0] == "espresso", "The first guess should be a drink: is the image in RGB, with values from 0 to 255?"

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# EfficientNet-B0 ends in 1280 features. With a hidden layer of h units before the output it has more parameters than with a plain
# linear head. For which h does it round to 4.14 M with two classes? What does that say about the inference from one number?
#
# *Hint.* `backbones.describe_model("efficientnet_b0", "linear", 2).parameters` is the number with a plain linear head. A layer
# from a to b units has (a + 1) times b parameters.

# %% tags=["solution"]
plain = backbones.describe_model("efficientnet_b0", "linear", 2).parameters - 1281 * 2
hidden = {h: plain + 1281 * h + (h + 1) * 2 for h in range(1, 513)}
widths = [h for h, parameters in hidden.items() if round(parameters / 1e6, 2) == PUBLISHED_SIZE]
report.prose(f"B0 rounds to 4.14 M with {widths[0]} to {widths[-1]} hidden units.")
assert hidden[100] == cards["efficientnet_b0", "hidden", 2].parameters, (
    "Count again: each layer has a bias for each of its outputs."
)

# %% [markdown] tags=["solution"]
# Several widths fit, a round one among them, so B0 with a hidden layer cannot be excluded by counting. What speaks for the plain
# head of EfficientNet-Lite1 is that nothing had to be adjusted to make it fit, and that it fits for any number of classes. That
# is an argument from simplicity, not a proof.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (open)
#
# A colleague reads [the table](#table-gains) and says: "Fine-tuning is useless on skin." What is wrong with that sentence, and
# which experiment would test it fairly? Say what you would change, what you would keep, and what result would convince you.
#
# *Hint.* `auroc_gain(name, model, baseline)` returns the estimate and the two ends of its interval; an interval is a statement
# about these images and this training.

# %% [markdown] tags=["solution"]
# *A model answer.* Look first whether the interval contains zero, and whether it contains gains that would matter. It speaks of one schedule, a small
# input and a few hundred images, not of skin. A fair test would keep the images, the folds and the probe, and would change one
# thing at a time: a larger input, a longer schedule, all stages open. Every choice comes from inner folds. Before looking, say
# which gain would be worth the cost; the interval then shows a gain (its lower end above zero), shows that there is none worth
# having (its upper end below that gain), or leaves the question open. If it stays open, the remedy is more patients, and [chapter
# 4](04_power.ipynb) says how many.

# %% [markdown]
# ## What to read next
#
# [Chapter 3](03_cross_validation.ipynb) tests these models under rules from lax to strict. On why fine-tuning can spoil good
# features: Kumar et al. {cite}`kumar2022`; on the family of networks: Tan and Le {cite}`tan2019`.

# %% tags=["hide-input"]
report.provenance("02_transfer_learning", store, datasets, device=DEVICE)
