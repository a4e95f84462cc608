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
# # Data exploration
#
# **Question.** What are these pictures, how many people do they show, and which of them belong together?
#
# A figure of accuracy is only as good as the division of the data it was measured on. Before any network is trained we
# therefore count: images, patients, photographs that occur twice; and we look at what else, besides the disease, tells
# one class from another.
#
# *You need:* nothing but Python. *You will learn:* what a {term}`manifest` is, why an image is not an independent
# observation, and what a test fold can know about its training set.

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
N_FOLDS = 3
SEED = 0

# %%
import matplotlib.pyplot as plt
import pandas as pd

from mpox import figures, groups, open_store, report, splits

figures.use_style()
store = open_store(RUN_STORE)
datasets = [store.dataset(name, data_dir=DATA_DIR or None) for name in DATASETS]

# %% [markdown]
# ## One row an image
#
# Everything downstream takes one table, the manifest. The patient comes from the file name where the data set puts it
# there; where it does not, the field stays empty and is not guessed.

# %%
manifest = pd.concat([data.manifest for data in datasets], ignore_index=True)
report.show(manifest.groupby("source").head(3).drop(columns=["path", "sha256", "pixel_sha256"]).reset_index(drop=True))

# %% tags=["nbval-check-output"]
overview = pd.DataFrame(
    {
        "images": [len(data.manifest) for data in datasets],
        "patients": [data.manifest["patient_id"].nunique() or pd.NA for data in datasets],
        "groups": [data.groups.nunique() for data in datasets],
        "largest group": [data.groups.value_counts().max() for data in datasets],
        "exact pairs": [len(groups.exact_pairs(data.manifest)) for data in datasets],
    },
    index=pd.Index([figures.dataset_title(data.name) for data in datasets], name="data set"),
)
report.show(overview)

# %% [markdown]
# Files that could not be used are not dropped in silence; here they are, with the reason.

# %% tags=["nbval-check-output"]
for data in datasets:
    rejected = store.table(
        "rejected",
        {"data": data.hash},
        lambda data=data: pd.DataFrame(data.manifest.attrs["rejected"], columns=["image_id", "reason"]),
    )
    report.prose(f"{figures.dataset_title(data.name)}: {len(rejected)} files rejected.")
    if len(rejected):
        report.show(rejected)

# %% [markdown]
# A *group* holds the images that show the same patient or are the same photograph, pixel by pixel. It is the unit that
# this book keeps together when it divides the data honestly, and the unit it resamples when it states uncertainty.

# %% mystnb={"image": {"alt": "Bar charts of the number of images in each class, one panel for each data set."}, "figure": {"caption": "Images in each class. A model that always names the largest class sets the lowest bar for accuracy."}}
figures.class_counts(datasets)
plt.show()

# %% tags=["nbval-check-output"]
for data in datasets:
    counts = data.manifest["label"].value_counts()
    share = counts.max() / counts.sum()
    report.prose(
        f"In {figures.dataset_title(data.name)} the largest class is {counts.idxmax()} with {counts.max()} of "
        f"{counts.sum()} images: always naming it would be right in {share:.0%} of cases."
    )

# %% [markdown]
# ## Some of the pictures

# %% mystnb={"image": {"alt": "Sheets of example pictures, three of each class."}, "figure": {"caption": "Three pictures of each class, drawn at random with a fixed seed."}}
for data in datasets:
    sample = data.manifest.groupby("label").sample(3, random_state=SEED)
    figures.pictures(data, sample["image_id"].tolist(), sample["label"].tolist())
plt.show()

# %% [markdown]
# ## Who is shown more than once

# %% mystnb={"image": {"alt": "Bar charts of group sizes: how many groups have one image, two images, and so on."}, "figure": {"caption": "Sizes of the groups. Where names tell nothing of patients, a group is only what is an exact copy."}}
figures.group_sizes(datasets)
plt.show()

# %% [markdown]
# Exact copies are the ones that need no judgement: the decoded pixels are identical. Each line below is a photograph that
# the data set counts twice; where the two patients differ, one of the ids must be wrong.

# %%
for data in datasets:
    pairs = groups.exact_pairs(data.manifest)
    if len(pairs):
        report.show(pairs)
    report.prose(f"{figures.dataset_title(data.name)}: {len(pairs)} exact pairs.")

# %% [markdown]
# Where the truth is known, the count can be held against it. The phantom's generator filed some photographs a second time,
# cropped, mirrored, squashed, in grey or with a caption; how many of these does a comparison of pixels find?

# %% tags=["nbval-check-output"]
from pathlib import Path

from mpox.phantom import read_truths

for data in datasets:
    if not data.is_phantom:
        report.prose(f"{data.name} is not a phantom: how many copies it really has is not known here.")
        continue
    truths = read_truths(Path(data.manifest["path"].iloc[0]).parents[1])
    planted = truths["copy_of"].notna().sum()
    report.prose(
        f"{figures.dataset_title(data.name)}: {planted} copies were planted, {len(groups.exact_pairs(data.manifest))} are found "
        "as exact pairs."
    )

# %% [markdown]
# ## What a random division does
#
# Deal the images to folds one by one, as `random_image` does. How many test images then have a sibling, another picture
# of the same group, in the training set? Nothing has been trained yet; this is counting.

# %% tags=["nbval-check-output"]
rows = []
for data in datasets:
    for protocol in splits.PROTOCOLS.values():
        if protocol.name == "patient" and data.manifest["patient_id"].isna().all():
            continue
        split = splits.make_splits(data.manifest, protocol.name, n_folds=N_FOLDS, seed=SEED)
        share = splits.siblings_in_training(split, data.groups)
        rows.append((figures.dataset_title(data.name), protocol.name, share, protocol.meaning))
siblings = pd.DataFrame(rows, columns=["data set", "protocol", "test images with a sibling in training", "meaning"])
report.show(siblings)

# %%
for name, part in siblings.groupby("data set", sort=False):
    random = part.loc[part["protocol"] == "random_image", "test images with a sibling in training"].iloc[0]
    honest = part.loc[part["protocol"] == "source", "test images with a sibling in training"].iloc[0]
    report.prose(
        f"Under a random division of {name}, **{random:.0%} of the test images** have a sibling in training; "
        f"under `source` it is {honest:.0%}."
    )

# %% [markdown]
# ## What else differs between the classes
#
# A network uses whatever separates the classes, and light or sharpness may do so as well as lesions. Four plain statistics
# of each picture, lesions or not:

# %%
from mpox.imagestats import image_statistics

statistics = pd.concat(
    [store.table("image-statistics", {"data": data.hash}, lambda data=data: image_statistics(data)) for data in datasets],
    ignore_index=True,
)
columns = {
    "lightness": "lightness (CIELAB L*, 0-100)",
    "contrast": "contrast (SD of L*)",
    "chroma": "chroma (CIELAB C*)",
    "sharpness": "sharpness (SD of Laplacian)",
}

# %% mystnb={"image": {"alt": "Box plots of lightness, contrast, chroma and sharpness for each class, data sets in rows."}, "figure": {"caption": "Statistics of the pictures by class. Boxes are quartiles, whiskers reach 1.5 times their height; outliers are left out."}}
figures.statistics_by_class(statistics, columns)
plt.show()

# %%
from sklearn.metrics import roc_auc_score

rows = []
for name, part in statistics.groupby("dataset"):
    for column in columns:
        area = roc_auc_score(part["label"] == "Mpox", part[column])
        rows.append((figures.dataset_title(name), column, max(area, 1 - area)))
separation = pd.DataFrame(rows, columns=["data set", "statistic", "AUROC for Mpox, alone"])
report.show(separation.pivot(index="data set", columns="statistic", values="AUROC for Mpox, alone"), digits=2)

# %% [markdown]
# An area of 0.5 would mean that the statistic tells nothing of the class. Each area is taken in whichever direction is
# larger, so it cannot fall below 0.5, and chance alone lifts it a little.

# %%
for name, part in separation.groupby("data set"):
    best = part.loc[part["AUROC for Mpox, alone"].idxmax()]
    report.prose(
        f"In {name} one number a picture, its {best['statistic']}, already separates Mpox from the rest with an AUROC of "
        f"{best['AUROC for Mpox, alone']:.2f}. It knows nothing of any lesion."
    )

# %%
for data in datasets:
    key = report.short_name(data.name)
    report.finding(f"data_{key}_images", f"{len(data.manifest)}")
    report.finding(f"data_{key}_patients", f"{data.manifest['patient_id'].nunique()}")
    report.finding(f"data_{key}_exact_pairs", f"{len(groups.exact_pairs(data.manifest))}")

# %% [markdown]
# ## What this means
#
# - An image is not an independent observation. Pictures of one person share skin, light, camera and background, and a
#   random division lets a network be tested on people it has met.
# - Where patient ids are missing, exact copies are all that this chapter can keep together.
#
# ## What could be wrong
#
# - **Copies that are not exact go unseen here.** Crops, mirrored, resized or captioned versions of a photograph count as
#   different pictures. The number of groups is therefore an upper limit, and `source` is honest only as far as it sees.
# - A patient id in a file name is what the authors believed; nothing confirms it.
# - The statistics describe files, not skin: cameras, compression and web pages had a hand in all of them.
#
# ## Exercises
#
# 1. *(easy)* Which class has the most images a group? Use `data.groups` and the manifest.
# 2. *(medium)* Repeat the count of siblings with 10 folds in place of the number used here. Why does the share go up?
# 3. *(open)* Train a classifier on the four statistics alone, under `random_image` and under an honest protocol.

# %% tags=["hide-input"]
report.provenance("01_data_exploration", store, datasets)
