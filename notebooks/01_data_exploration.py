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
# # The images: who is in them, and how often twice

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# A third of each collection is duplicated: {{ data_msld_copies_share }} of the images of MSLD and {{ data_msid_copies_share }}
# of those of MSID show a photograph that the collection contains more than once, and of the {{ data_msid_pairs }} pairs within
# MSID only {{ data_msid_exact_pairs }} have the same pixels. When images are assigned to folds one by one, {{
# data_msld_siblings_random_image }} and {{ data_msid_siblings_random_image }} of the test images have a sibling in the training
# set, an image of the same person or the same photograph. The collections also share photographs: {{ data_msld_in_msid }}
# images of MSLD are in MSID too, so that neither is an independent test of the other.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
#
# In this edition the images are drawn and the copies planted: {{ data_phantom_copies }} of {{ data_phantom_images }} images
# belong to a photograph that was filed twice, and the audit finds {{ audit_phantom_found }} planted copies. When images are
# assigned to folds one by one, {{ data_phantom_siblings_random_image }} of the test images have a sibling in the training set,
# an image of the same person or the same photograph. Light, camera and skin were drawn without regard to the class, and no
# single number should separate the classes: the AUROC of lightness is {{ data_phantom_lightness_auroc }}.
# :::

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
N_FOLDS = 3
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 0
REPEATS = {"linear_probe": 2}
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import pandas as pd

import mpox
from mpox.book import plots, report, run
from mpox.protocols import splits
from mpox.stats import metrics
from mpox.studies import external

run.check_parameters("01_data_exploration", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
datasets = store.datasets(DATASETS, data_dir=DATA_DIR or None)
together = store.audit(DATASETS, data_dir=DATA_DIR or None)


def with_copy(data):
    """Whether each image shows a photograph that its set has once more."""
    pairs = data.audit.pairs
    return data.manifest["image_id"].isin([*pairs["image_id_a"], *pairs["image_id_b"]])


# %% mystnb={"image": {"alt": "Stacked bars of the images of each class, one panel a data set: those whose photograph the set has once, and those whose photograph it has more than once."}, "figure": {"name": "copies-by-class", "caption": "Images of each class by whether their data set has the same photograph more than once."}}
copies = pd.concat([data.manifest.assign(dataset=data.name, copied=with_copy(data)) for data in datasets])
copies["photograph"] = copies["copied"].map({False: "once", True: "more than once"})
counts = copies.groupby(["dataset", "label", "photograph"], sort=False).size().reset_index(name="images")
counts = counts.sort_values(["dataset", "label", "photograph"], ascending=[False, True, False])
figure = plots.bars(counts, "images", "label", hue="photograph", row="dataset", xlabel="images")

# %% tags=["guard"]
if report.is_study(DATASETS):
    for name, part in copies.groupby("dataset"):
        share, exact = part.groupby("label")["copied"].mean(), together.pairs["method"].isin(["file", "pixels"])
        report.guard(f"{name}: a third of the images are copies", 0.3 <= part["copied"].mean() < 0.4)
        report.guard(f"{name}: no class is copied as often as Mpox", share["Mpox"] > 1.5 * share.drop("Mpox").max())
        report.guard(f"{name}: few copies have the same pixels", exact.mean() < 0.05)

# %% [markdown]
# **Question.** How many people and photographs do these images show, and what besides the disease differs between the classes?
# A score is only as good as the division of the data into training and test set, so we count before a network is trained.
#
# **After this chapter you can**
#
# - explain why an image is not an independent observation;
# - say what a group is, and how copies of a photograph are found;
# - measure a leak before anything is trained;
# - say how far a single number such as lightness separates the classes;
# - say what a typology angle says about skin, and what it does not.
#
# **You need** no more Python than reading it takes, and [how to read this book](../book/how_to_read.md).

# %% [markdown]
# ## What the sets are

# %% [markdown] tags=["study"]
# We use two public collections. *MSLD* (here always MSLD v1.0) {cite}`ali2022` has Mpox and *Others*, which are chickenpox and
# measles. *MSID* {cite}`bala2023` has Mpox, chickenpox, measles and healthy skin (*Normal*). Both were gathered from the web,
# and a label is what a web page said.

# %% [markdown] tags=["instruments"]
# The *phantom* is drawn by this package. Who is in an image, which images are copies and how dark the skin is are known, so
# that each instrument can be tested. It has the four classes of MSID and says nothing about disease.

# %% [markdown]
# All that follows starts from one table, the *manifest*, with a row for each image. The patient number comes from the file
# name. Where the name gives none the cell stays empty; nobody guesses. The *group* is added by the audit below.

# %%
manifest = pd.concat([data.manifest.assign(source=data.name) for data in datasets], ignore_index=True)
manifest.groupby("source")[["source", "image_id", "label", "patient_id", "group_id"]].head(2)

# %% tags=["nbval-check-output"]
summary = pd.concat([data.audit.summary for data in datasets], ignore_index=True)
overview = summary.drop(columns=["data set", "label conflicts", "patient conflicts"])
overview = overview.set_axis(summary["data set"].map(plots.dataset_title)).T.rename_axis("count").rename_axis(None, axis=1)
report.show(overview, name="sets", caption="What the audit counts in each data set.")
rejected = pd.concat([data.audit.rejected for data in datasets], ignore_index=True)
if len(rejected):
    report.show(rejected, caption="Files that could not be used, and why.")

# %% mystnb={"image": {"alt": "Example images, up to three of each class."}, "figure": {"caption": "Three images of each class (all, where there are fewer), drawn at random with a fixed seed."}}
for data in datasets:
    if data.has_pictures:
        sample = data.manifest.sample(frac=1, random_state=SEED).groupby("label").head(3).sort_values("label", kind="stable")
        plots.sheet(sample["image_id"].tolist(), sample["label"].tolist(), data=data)

# %% [markdown]
# ## Patients
#
# Images of one person share skin, light, camera and background. A person with five images counts five times in a score over
# images, and a network tested on the fifth may recognise the other four.

# %% tags=["nbval-check-output"]
rows = []
for data in datasets:
    for label, part in data.manifest.dropna(subset="patient_id").groupby("label"):
        sizes = part["patient_id"].value_counts()
        rows.append((plots.dataset_title(data.name), label, len(part), len(sizes), sizes.mean(), sizes.max()))
patients = pd.DataFrame(rows, columns=["data set", "class", "images", "patients", "images a patient", "most of one patient"])
report.show(patients, digits=2, name="patients", caption="Patients by class, where file names number them.")

# %% [markdown] tags=["study"]
# MSLD has about two images a patient for Mpox and fewer for the others. MSID numbers nobody: whether two of its photographs
# show one person can be seen only by looking.

# %% [markdown]
# ## The same photograph twice
#
# A *copy* is another image of one photograph: the same file, the same pixels, or a crop, a mirrored, turned, squashed, grey,
# re-coloured, captioned or framed version. The *audit* searches for them:
#
# 1. Images that share rare local features (SIFT {cite}`lowe2004`), or whose thumbnails agree, become candidate pairs.
# 2. For each pair it fits the affine map that carries one image, or its mirror image, onto the other.
# 3. It correlates the two where they overlap. The score runs from 0 to 1: from 0.5 a pair is accepted, from 0.1 it is
#    *doubtful*. Doubtful pairs are listed and link nothing.
#
# A person who looks at a pair can overrule the score (*confirmed*). Here are the five accepted pairs with the lowest scores:

# %%
evidence = ["image_id_a", "image_id_b", "score", "correlation", "decision"]
together.pairs.sort_values("score", kind="stable")[evidence].head(5).round(2)

# %% [markdown]
# A *group* joins the images of one person or one photograph, found with all data sets together. This book keeps groups together
# when it divides the data, and resamples them for an interval. [Appendix A](A_audit.ipynb) measures how well the search works.

# %% [markdown] tags=["study"]
# Copies are not spread evenly. [The figure](#fig-copies-by-class) shows that Mpox is copied far more often than any other
# class, probably because the web had few photographs of it in 2022. A leak therefore helps the class of interest most. The
# largest group of MSID has {{ data_msid_largest_group }} images.

# %% [markdown]
# ### What does not fit
#
# One photograph with two labels, or one photograph or person under two patient numbers: usually one of the entries is wrong.
# Between data sets a label counts as a conflict only where one says Mpox and the other does not. [Appendix A](A_audit.ipynb)
# has the list.

# %% tags=["nbval-check-output"]
conflicts = together.conflicts
sides = [conflicts[f"dataset_{side}"].map(plots.dataset_title) for side in "ab"]
place = sides[0].where(sides[0] == sides[1], "between data sets")
found = pd.crosstab(conflicts["kind"].map({"label": "two labels", "patient": "two patient numbers"}), place)
found = found.rename_axis("one photograph under", axis=0).rename_axis(None, axis=1)
report.show(found, name="conflicts", caption="Pairs of images that contradict each other, by where they are.")

# %% [markdown]
# ## Between the sets
#
# Collections gathered from the same web share photographs. A network trained on one and tested on the other has then seen part
# of its test. Here all data sets are audited together, as in the rest of the book; in [the table](#table-sets) each is audited by
# itself, lacks the pairs that come to light only through another collection, and so counts a few groups more.

# %% mystnb={"image": {"alt": "Stacked bars, one for each ordered pair of data sets: how many images of the first have a copy in the second."}, "figure": {"name": "overlap", "caption": "Images of a data set by whether their photograph is in the other one too."}}
sizes = together.images["dataset"].value_counts()
cells = together.overlap.rename_axis(index="of", columns="in").stack().reset_index(name="shared").query("of != `in`")
if len(cells):
    cells = cells.assign(pair=cells["of"] + ", in " + cells["in"], **{"not shared": cells["of"].map(sizes) - cells["shared"]})
    cells = cells.melt("pair", ["shared", "not shared"], "photograph", "images")
    figure = plots.bars(cells, "images", "pair", hue="photograph", xlabel="images")
else:
    report.prose("Not computed on this page, because it has one data set.")

# %% [markdown] tags=["study"]
# Nearly half of MSLD is in MSID. 'External validation' of one on the other is partly a test on the training set; [chapter
# 8](08_other_data.ipynb) leaves the shared photographs out.

# %% [markdown]
# ## What a random division does
#
# Assign the images to folds one by one. How many test images then have a *sibling*, another image of their group, in the
# training set? Nothing is trained for this; it is counting.


# %% tags=["exercise-setup"]
def leak(data, protocol, n_folds=N_FOLDS):
    """The share of test images that have a sibling in training."""
    split = splits.make_splits(data.manifest, protocol, n_folds=n_folds, seed=SEED)
    return splits.siblings_in_training(split, data.groups)


# %%
round(leak(datasets[0], "random_image"), 2), leak(datasets[0], "source")

# %% tags=["nbval-check-output"]
rules = {"random_image": "image by image", "patient": "patients kept apart", "source": "groups kept apart"}
numbered = [data.name for data in datasets if data.manifest["patient_id"].notna().any()]
rows = [(name, data, leak(data, name)) for data in datasets for name in rules if name != "patient" or data.name in numbered]
shares = {(data.name, name): share for name, data, share in rows}
siblings = pd.Series(shares).unstack(0).reindex(index=list(rules), columns=[data.name for data in datasets])
siblings = siblings.rename(index=rules, columns=plots.dataset_title).rename_axis("how images are assigned to folds")
report.show(siblings, digits=2, name="siblings-by-rule", caption="Share of test images with a sibling in training.")

# %% [markdown]
# Keeping patients apart is not enough where a photograph is filed under two numbers, and impossible where nobody is numbered.
# With groups kept apart no sibling is left. [Chapter 3](03_cross_validation.ipynb) measures how much accuracy siblings are
# worth.

# %% tags=["guard"]
if report.is_study(DATASETS):
    for data in datasets:
        report.guard(f"{data.name}: a third of the test images have siblings", shares[data.name, "random_image"] > 1 / 3)
        report.guard(f"{data.name}: with groups kept apart nothing leaks", shares[data.name, "source"] == 0)
    report.guard("Keeping patients apart leaves siblings in MSLD", shares["msld-v1", "patient"] > 0.05)
    report.guard("Nearly half of MSLD is in MSID", 0.4 < together.overlap.loc["msld-v1", "msid"] / sizes["msld-v1"] < 0.5)

# %% [markdown]
# ## One number against the network
#
# A network uses whatever separates the classes, and light may do so as well as lesions. We take single numbers of an image and
# ask how well each, alone, separates Mpox from the rest. The measure is the AUROC, the area under the ROC curve: 0.5 is chance,
# 1 is perfect. Blur is the measure of Crété et al. {cite}`crete2007`; groups are resampled for the interval.

# %%
facts = pd.concat([external.collection_facts(store, data).assign(source=data.name) for data in datasets], ignore_index=True)
facts = facts.merge(manifest[["source", "image_id", "label"]], on=["source", "image_id"])


def separation(data, number):
    known = facts[facts["source"] == data.name].dropna(subset=number)
    groups, is_mpox = known["image_id"].map(data.groups), known["label"] == "Mpox"
    return metrics.auroc_of_number(known[number].to_numpy(float), is_mpox.to_numpy(), groups.to_numpy(str), seed=SEED)


# %% mystnb={"image": {"alt": "AUROC for Mpox with intervals, one line for each single number and one for the network, by data set."}, "figure": {"name": "single-numbers", "caption": "AUROC for Mpox of single numbers of an image and, in the last line, of the linear probe of chapter 3 with groups kept apart; 95 % intervals from resampling groups."}}
names = {word: word for word in ("lightness", "contrast", "chroma", "blur")}
names |= {"bytes_per_pixel": "bytes per pixel", "ita": "skin tone (angle)"}
probe = mpox.ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
rows = []
for data in datasets:
    rows += [(data.name, words, *separation(data, number)) for number, words in names.items()]
    folds = {"n_folds": N_FOLDS, "n_repeats": REPEATS["linear_probe"], "seed": SEED}
    found = mpox.evaluate(mpox.cross_validate(store, data, "source", probe, **folds))
    found = found[(found["metric"] == "auroc") & (found["class"] == "Mpox")].iloc[0]
    rows.append((data.name, "a network (chapter 3)", *found[["estimate", "low", "high"]]))
single = pd.DataFrame(rows, columns=["data set", "number", "estimate", "low", "high"])
about = {"xlabel": "AUROC for Mpox, with 95 % interval", "reference": {"chance": 0.5}}
figure = plots.forest(single, "number", hue="data set", **about)

# %% [markdown]
# Each number is taken in whichever direction is larger, so that its estimate cannot fall below 0.5, and chance lifts it a
# little.

# %% [markdown] tags=["study"]
# Lightness alone reaches {{ data_msld_lightness_auroc }} on MSLD and {{ data_msid_lightness_auroc }} on MSID, and knows nothing
# of lesions. The network reaches {{ cv_msld_source_auroc }} and {{ cv_msid_source_auroc }}. How much of the network's score
# comes from such shortcuts is the question of [chapter 7](07_shortcuts.ipynb).

# %% [markdown] tags=["instruments"]
# All single numbers lie near chance, as they should. The network reaches {{ cv_phantom_source_auroc }}: it must have used the
# lesions or the mark planted in a corner, because nothing else goes with the class.

# %% tags=["guard"]
if report.is_study(DATASETS):
    for name, part in single.groupby("data set"):
        part = part.set_index("number")
        numbers = part.loc[list(names.values())]
        report.guard(f"{name}: lightness is the best single number", numbers["estimate"].idxmax() == "lightness")
        report.guard(f"{name}: lightness separates Mpox from the rest", part.loc["lightness", "low"] > 0.5)
        report.guard(f"{name}: the network is better than lightness", part["estimate"].idxmax() not in names.values())

# %% [markdown]
# ## Skin tone
#
# The individual typology angle {cite}`chardon1991` orders skin from dark to light: the arctangent of (L* - 50) / b* in CIELAB,
# here of the median healthy skin of an image. Pixels that are darker, lighter or redder than most of the skin are dropped, and
# lesions with them. Where less than a tenth of an image is left there is no angle.

# %%
facts.groupby(["source", "label"], as_index=False)["ita"].agg(["size", "count", "median"]).round(0)

# %% mystnb={"image": {"alt": "Box plots with points of the typology angle by class, one panel for each data set."}, "figure": {"name": "skin-tone", "caption": "Individual typology angle of the healthy skin by class. A point is an image; boxes are quartiles, whiskers reach at most 1.5 times their width."}}
angle = "individual typology angle, degrees (left: darker)"
figure = plots.points(facts, "ita", "label", hue="label", row="source", box=True, xlabel=angle)

# %% [markdown] tags=["study"]
# In both collections skin is darkest in the Mpox images: a network that reads skin tone scores above chance ({{
# data_msld_ita_auroc }} on MSLD, {{ data_msid_ita_auroc }} on MSID). Such a network would be wrong about a child with dark skin
# and chickenpox. [Chapter 7](07_shortcuts.ipynb) asks whether errors depend on skin tone.

# %% [markdown]
# The angle compares classes. It cannot tell a person's skin: light, white balance, camera and compression move it by ten
# degrees and more. It is neither ethnicity nor the Fitzpatrick type.

# %% tags=["guard"]
if report.is_study(DATASETS):
    for name, part in facts.groupby("source"):
        report.guard(f"{name}: skin is darkest in Mpox images", part.groupby("label")["ita"].median().idxmin() == "Mpox")

# %%
for data, row in zip(datasets, summary.to_dict("records"), strict=True):
    key = report.short_name(data.name)
    for word in ("images", "pairs", "groups"):
        report.finding(f"data_{key}_{word}", f"{row[word]}")
    for word in ("exact pairs", "largest group", "label conflicts", "patient conflicts"):
        report.finding(f"data_{key}_{word.replace(' ', '_')}", f"{row[word]}")
    report.finding(f"data_{key}_patients", f"{data.manifest['patient_id'].nunique()}")
    report.finding(f"data_{key}_copies", f"{row['images with a copy']}")
    report.finding(f"data_{key}_copies_share", f"{row['images with a copy'] / row['images']:.0%}")
    report.finding(f"data_{key}_siblings_random_image", f"{shares[data.name, 'random_image']:.0%}")
    areas = single[single["data set"] == data.name].set_index("number")[["estimate", "low", "high"]]
    report.finding(f"data_{key}_ita_auroc", f"{report.with_interval(*areas.loc['skin tone (angle)'])}")
    report.finding(f"data_{key}_lightness_auroc", f"{report.with_interval(*areas.loc['lightness'])}")
    for other in [other for other in datasets if other.name != data.name]:
        report.finding(f"data_{key}_in_{report.short_name(other.name)}", f"{together.overlap.loc[data.name, other.name]}")

# %% [markdown]
# ## What could be wrong
#
# - **Some copies go unseen, and a few pairs are wrong.** [Appendix A](A_audit.ipynb) measures both.
# - **Two photographs of one person are not copies.** Without patient numbers they stay apart where nobody recognised the
#   person. Where there are numbers, they are the makers' belief.
# - **The best of several single numbers** is lifted by the choice, and no interval here is corrected for it.
# - **The statistics describe files.** Cameras, compression and web pages had a hand in all of them. What files cannot tell,
#   consent and diagnosis among it, is in the [data sheets](../book/data_sheet.md).
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("01")

# %% [markdown]
# ## Exercises
#
# With blanks to fill in: `notebooks/exercises/01_data_exploration.ipynb`. Here a solution is folded behind each exercise.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Which class has the most images a group?
#
# *Hint.* `data.manifest["image_id"].map(data.groups)` gives the group of each image, and `nunique` counts distinct values.

# %% tags=["solution"]
for data in datasets:
    groups = data.manifest["image_id"].map(data.groups)
    per_class = groups.groupby(data.manifest["label"]).agg(["size", "nunique"]).set_axis(["images", "groups"], axis=1)
    per_class["images a group"] = per_class["images"] / per_class["groups"]
    report.show(per_class, digits=2, caption=f"{plots.dataset_title(data.name)}: most in {per_class['images a group'].idxmax()}.")
    assert per_class["images"].sum() == len(data.manifest), "Each image counts once: did you drop rows in map or groupby?"
    assert (per_class["groups"] < per_class["images"]).any(), "No class has two images of a group: count with nunique, not size."

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Repeat the count of siblings for images assigned one by one, with ten folds. Why does the share change?
#
# *Hint.* `leak(data, "random_image", n_folds=10)` returns the share of test images with a sibling. A class with fewer than ten
# images allows fewer folds.

# %% tags=["solution"]
rows = []
for data in datasets:
    most = min(10, data.manifest["label"].value_counts().min())
    rows.append((plots.dataset_title(data.name), leak(data, "random_image"), leak(data, "random_image", n_folds=most)))
answer = pd.DataFrame(rows, columns=["data set", f"{N_FOLDS} folds", "10 folds"])
report.show(answer, digits=2, caption="Share of test images with a sibling in training.")
assert answer.iloc[:, 1:].stack().between(0, 1).all(), "A share lies between 0 and 1: divide by the number of test images."

# %% [markdown] tags=["solution"]
# With k folds the training set has (k - 1)/k of the images. An image with one sibling meets it with about that probability, so
# the share rises with k. More folds look more careful; under a random division they leak more.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (open)
#
# Audit a folder of your own: `mpox audit FOLDER --out REPORT --review`, then open `REPORT/review.html`. If you have none, make
# one of `skimage.data.chelsea()` and `skimage.data.coffee()`: of each the original, its mirror image, a grey version, the
# middle half and a small corner. Which versions are found, and how small may the corner be?
#
# *Hint.* `mpox.data.manifest.scan(folder)` returns a manifest, `mpox.audit.run_audit([manifest], jobs=1)` an audit whose
# `pairs` is a table.

# %% tags=["solution"]
import tempfile

import skimage

with tempfile.TemporaryDirectory() as folder:
    for subject, image in (("cat", skimage.data.chelsea()), ("cup", skimage.data.coffee())):
        height, width = image.shape[0] // 4, image.shape[1] // 4
        middle, corner = image[height:-height, width:-width], image[: height // 2, : width // 2]
        versions = {"original": image, "mirrored": image[:, ::-1], "grey": image.mean(axis=2).astype("uint8")}
        for version, pixels in {**versions, "middle": middle, "corner": corner}.items():
            skimage.io.imsave(f"{folder}/{subject} {version}.png", pixels, check_contrast=False)
    mine = mpox.audit.run_audit([mpox.data.manifest.scan(folder)], jobs=1, progress=False)
report.show(mine.pairs[["image_id_a", "image_id_b", "method", "score"]], digits=2, caption="Pairs that the audit accepts.")
unlinked = sorted(set(mine.images["image_id"]) - {*mine.pairs["image_id_a"], *mine.pairs["image_id_b"]})
report.prose(f"In no pair: {', '.join(unlinked) or 'none'}.")
assert {"cat mirrored.png", "cup mirrored.png"}.isdisjoint(unlinked), "A mirror image should be found: is it of the same size?"

# %% [markdown]
# ## What to read next
#
# [Chapter 2](02_transfer_learning.ipynb) shows what a network makes of these images. On how common such leaks are: Kapoor and
# Narayanan {cite}`kapoor2023`; on how to describe a data set: Gebru et al. {cite}`gebru2021`.

# %% tags=["hide-input"]
report.provenance("01_data_exploration", store, datasets)
