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
# # Error analysis
#
# **Question.** Where does the model err, how sure was it, and what did it look at?
#
# A single figure hides whom it is wrong about. This chapter opens the confusion matrix, lists the confident mistakes, and
# asks Grad-CAM {cite}`selvaraju2017` which part of the picture spoke for the decision.
#
# *You need:* chapter 3. *You will learn:* to read errors by patient, and how little a heat map proves.

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
HONEST_PROTOCOL = {"phantom": "source", "msld-v1": "source", "msid": "source"}
BACKBONE = "tf_efficientnet_lite1"
TRAINED_IMAGE_SIZE = 128
TRAINING = {"epochs": 3, "frozen_stages": 3}
N_FOLDS = 3
N_WORST = 12
SEED = 0
DEVICE = "cpu"

# %%
import matplotlib.pyplot as plt
import pandas as pd

from mpox import ModelConfig, cross_validate, figures, open_store, report
from mpox.errortable import error_table
from mpox.metrics import confusion_matrix

figures.use_style()
store = open_store(RUN_STORE)
loaded = [store.dataset(name, data_dir=DATA_DIR or None) for name in DATASETS]
datasets = {data.name: data for data in loaded}
model = ModelConfig(
    regime="fine_tune", backbone=BACKBONE, image_size=TRAINED_IMAGE_SIZE, seed=SEED, device=DEVICE, training=TRAINING
)
predictions = {
    name: cross_validate(store, data, HONEST_PROTOCOL.get(name, "source"), model, n_folds=N_FOLDS, seed=SEED)
    for name, data in datasets.items()
}

# %% [markdown]
# ## What is taken for what
#
# The model is the fine-tuned network under the honest protocol: every picture was predicted by a network that had not seen
# what the protocol keeps together.

# %% tags=["nbval-check-output"]
for name, table in predictions.items():
    report.prose(f"{figures.dataset_title(name)}: {len(table)} predictions of {table['image_id'].nunique()} images.")


# %% mystnb={"image": {"alt": "Confusion matrices with counts and row percentages, one a data set."}, "figure": {"caption": "Confusion matrices of the fine-tuned network, out-of-fold: counts, and shares of the true class."}}
matrices = {name: confusion_matrix(table) for name, table in predictions.items()}
figures.confusion(matrices)
plt.show()

# %%
for name, matrix in matrices.items():
    cells = matrix.where(matrix.index.to_numpy()[:, None] != matrix.columns.to_numpy()[None, :]).stack()
    if not cells.max():
        report.prose(f"{figures.dataset_title(name)}: no picture was confused.")
        continue
    truth, predicted = cells.idxmax()
    report.prose(
        f"{figures.dataset_title(name)}: the most frequent confusion is {truth} taken for {predicted}, "
        f"{cells.max():.0f} of {matrix.loc[truth].sum():.0f} pictures of {truth}."
    )

# %% [markdown]
# ## The most confident mistakes
#
# Sorted by the probability given to the wrong class. A mistake made with 0.99 is of another kind than one made with 0.51:
# either the picture is misleading, or its label is wrong.

# %%
errors = {name: error_table(table) for name, table in predictions.items()}
for name, table in errors.items():
    wrong = table[table["wrong"]]
    report.show(wrong.head(N_WORST)[["image_id", "label", "predicted", "confidence", "p_true"]].reset_index(drop=True))
    report.prose(
        f"{figures.dataset_title(name)}: {len(wrong)} of {len(table)} pictures are wrong; "
        f"{(wrong['confidence'] > 0.9).sum()} of them with a probability above 0.9."
    )

# %% mystnb={"image": {"alt": "Sheets of the pictures that were misclassified with the highest confidence, with true and predicted class."}, "figure": {"caption": "The most confident mistakes: true class, predicted class, probability given to it."}}
for name, data in datasets.items():
    worst = errors[name][errors[name]["wrong"]].head(N_WORST)
    captions = [f"{row.label}\nas {row.predicted}, {row.confidence:.2f}" for row in worst.itertuples()]
    figures.pictures(data, worst["image_id"].tolist(), captions)
plt.show()

# %% [markdown]
# ## Are mistakes shared by a patient's pictures?
#
# If they were independent, knowing that one picture of a group was wrong would say nothing of the next one. Compare the
# share of wrong pictures among those whose sibling is wrong with the share among those whose sibling is right.

# %%
rows = []
for name, table in errors.items():
    pairs = table.merge(table, on="group_id", suffixes=("", "_sibling"))
    pairs = pairs[pairs["image_id"] != pairs["image_id_sibling"]]
    for sibling_wrong, part in pairs.groupby("wrong_sibling"):
        rows.append(
            {
                "data set": figures.dataset_title(name),
                "a sibling is": "wrong" if sibling_wrong else "right",
                "pairs": len(part),
                "share wrong": part["wrong"].mean(),
            }
        )
if rows:
    report.show(pd.DataFrame(rows), digits=2)

# %% [markdown]
# Where the two shares differ, mistakes come by patient, and an interval that resamples pictures would be too narrow.
#
# ## Where does the network look?
#
# Grad-CAM weighs the last convolutional maps by how much they raise the score of a class. Shown are, for each data set,
# the surest hits and the surest misses for Mpox, with the evidence for the class that was *predicted*.

# %%
import numpy as np

from mpox.experiment import fold_configs, load_model
from mpox.explain import grad_cam
from mpox.images import load_pixels


def heat_maps(data, chosen):
    """Grad-CAM of each chosen picture by the network that was tested on it; None where no network was kept."""
    _, configs = fold_configs(data, HONEST_PROTOCOL.get(data.name, "source"), model, n_folds=N_FOLDS, seed=SEED)
    maps = {}
    for config in configs:
        rows = chosen[chosen["fold"] == config.fold]
        network = load_model(store, config, len(data.classes))
        if network is None:
            return None
        if len(rows):
            where = data.manifest["image_id"].searchsorted(rows["image_id"])
            pixels = load_pixels(data.manifest, model.image_size)[where]
            target = np.array([data.classes.index(label) for label in rows["predicted"]])
            maps |= dict(zip(rows["image_id"], grad_cam(network, BACKBONE, pixels, target), strict=True))
    return [maps[image_id] for image_id in chosen["image_id"]]


# %% mystnb={"image": {"alt": "Pictures of confident hits and misses for Mpox with Grad-CAM heat maps laid over them."}, "figure": {"caption": "Grad-CAM for the predicted class: six confident hits, then six confident misses among pictures of Mpox."}}
for data in datasets.values():
    table = errors[data.name]
    mpox = table[table["label"] == data.positive].sort_values("confidence", ascending=False)
    chosen = pd.concat([mpox[~mpox["wrong"]].head(6), mpox[mpox["wrong"]].head(6)])
    captions = [f"{row.label}\nas {row.predicted}, {row.confidence:.2f}" for row in chosen.itertuples()]
    maps = heat_maps(data, chosen)
    if maps is None:
        report.prose(
            f"*No heat map is drawn for {data.name}: its trained networks are not part of the recorded tables. "
            "They are kept where the study is trained (profile `cpu`).*"
        )
    else:
        figures.pictures(data, chosen["image_id"].tolist(), captions, overlays=maps)
plt.show()

# %% [markdown]
# ## What this means
#
# The two shares above say whether errors come by patient. A confident mistake is the most useful picture in a data set,
# because either the model or the label has something to learn from it.
#
# ## What could be wrong
#
# - A heat map on a lesion does not prove that the lesion was read as a lesion; a heat map beside it does not prove the
#   contrary. It has not been tested here against networks with random weights.
# - The list of mistakes is one repeat of one regime; another seed errs on other pictures.
# - A prediction averages a picture and its mirror image; its heat map is of the picture as it is.
# - Labels come from web pages. Some of the "mistakes" may be the labels'.
#
# ## Exercises
#
# 1. *(easy)* Which class has the highest share of confident mistakes?
# 2. *(medium)* Compute the share of wrong pictures by lightness quartile, using the statistics of chapter 1.
# 3. *(open)* Re-draw the heat maps with a network of random weights. Which of them change, and which do not?

# %% tags=["hide-input"]
report.provenance("05_error_analysis", store, list(datasets.values()), device=DEVICE)
