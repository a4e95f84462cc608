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
# **Question.** What are these pictures, how many people do they show, which of them are the same photograph, and what
# besides the disease tells one class from another?
#
# A figure of accuracy is only as good as the division of the data it was measured on. Before any network is trained we
# therefore count: images, patients, photographs that occur twice, within a set and between sets. A program compares the
# pictures and proposes pairs; how far it can be trusted is measured, on the phantom where the copies are known, and by
# hand on samples of real pairs.
#
# **After this chapter you can**
#
# - say what a manifest is, and why an image is not an independent observation;
# - find the copies of a photograph in a folder of pictures, and say how often the search errs;
# - count how many test pictures of a random division have a sibling in training;
# - say what a typology angle tells about skin, and what it does not.
#
# **You need** no more Python than reading it takes, and [how to read this book](../book/how_to_read.md).

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
N_FOLDS = 3
REVIEW_PAIRS = 12
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 0
REPEATS = {"linear_probe": 2}
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import matplotlib.pyplot as plt
import pandas as pd

from mpox import open_store
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.protocols import splits

check_parameters("01_data_exploration", globals())
plots.use_style()
store = open_store(RUN_STORE)
datasets = store.datasets(DATASETS, data_dir=DATA_DIR or None)
together = store.audit(DATASETS, data_dir=DATA_DIR or None)

# %%
at_the_top = report.key_findings()

# %% [markdown]
# ## What the sets are
#
# Everything downstream takes one table, the manifest. The patient comes from the file name where the data set puts it
# there; where it does not, the field stays empty and is not guessed. [The next table](#table-sets) sums up each set, and
# [the figure of classes](#fig-images-by-class) says how many images each class has.

# %%
manifest = pd.concat([data.manifest for data in datasets], ignore_index=True)
report.show(manifest.groupby("source").head(3).drop(columns=["path", "sha256", "pixel_sha256"]).reset_index(drop=True))

# %% tags=["nbval-check-output"]
summary = pd.concat([data.audit.summary for data in datasets], ignore_index=True)
overview = summary.assign(**{"data set": summary["data set"].map(plots.dataset_title)}).set_index("data set").T
report.show(overview, name="sets", caption="What the audit counts in each data set.")

# %% [markdown]
# A *copy* is another picture of the same photograph: the same file, the same pixels, or a crop, a mirrored, turned,
# squashed, grey, re-coloured, captioned or framed version. A *group* holds the images that show the same person or the same
# photograph, found with all sets of the study together. It is the unit that this book keeps together when it divides the data honestly, and the unit it resamples when
# it states uncertainty. *Doubtful* pairs are reported and link nothing, so that a chain of weak links cannot swallow a set.
#
# Files that could not be used are not dropped in silence; here they are, with the reason.
#
# :::{margin} What is a source?
# A *source* is the photograph from which an image was made. One source may be in a set as itself, as a crop and as a mirror image, under
# three file names. The protocol `source` is named after it: whatever goes back to one photograph stays on one side.
# :::

# %% tags=["nbval-check-output"]
for data in datasets:
    rejected = data.audit.rejected
    report.prose(f"{plots.dataset_title(data.name)}: {len(rejected)} files rejected.")
    if len(rejected):
        report.show(rejected)

# %% mystnb={"image": {"alt": "Bar charts of the number of images in each class, one panel for each data set."}, "figure": {"name": "images-by-class", "caption": "Images in each class. A model that always names the largest class sets the lowest bar for accuracy."}}
counts = [data.manifest["label"].value_counts().sort_index().reset_index(name="images") for data in datasets]
counts = pd.concat([table.assign(dataset=data.name) for data, table in zip(datasets, counts, strict=True)])
plots.bars(counts, "images", "label", hue="label", col="dataset", xlabel="images")
plt.show()

# %% tags=["nbval-check-output"]
for data in datasets:
    counts = data.manifest["label"].value_counts()
    share = counts.max() / counts.sum()
    report.prose(
        f"In {plots.dataset_title(data.name)} the largest class is {counts.idxmax()} with {counts.max()} of "
        f"{counts.sum()} images: always naming it would be right in {share:.0%} of cases."
    )

# %% mystnb={"image": {"alt": "Sheets of example pictures, up to three of each class."}, "figure": {"name": "examples", "caption": "Three pictures of each class (all, where it has fewer), drawn at random with a fixed seed."}}
for data in datasets:
    sample = data.manifest.sample(frac=1, random_state=SEED).groupby("label").head(3).sort_values("label", kind="stable")
    plots.sheet(sample["image_id"].tolist(), sample["label"].tolist(), data=data)
plt.show()

# %% [markdown]
# ## Patients
#
# The name of a file is all that tells who is on a picture, where it tells anything. One patient with many pictures weighs
# more than one with a single picture, unless groups are resampled. (Three pictures of each class are in
# [the sheet above](#fig-examples), where the pictures are available.)

# %% tags=["nbval-check-output"]
rows = []
for data in datasets:
    if data.manifest["patient_id"].isna().all():
        report.prose(f"{plots.dataset_title(data.name)} does not number its patients.")
        continue
    for label, part in data.manifest.groupby("label"):
        sizes = part["patient_id"].value_counts()
        rows.append((plots.dataset_title(data.name), label, len(part), len(sizes), sizes.mean(), sizes.max()))
patients = pd.DataFrame(rows, columns=["data set", "class", "images", "patients", "images a patient", "most of one patient"])
if len(patients):
    report.show(patients, digits=2, name="patients", caption="Patients by class, as far as file names number them.")

# %% [markdown]
# ## The same photograph twice
#
# Candidates are pairs of images that share rare local features (SIFT {cite}`lowe2004`), or whose thumbnails agree. For each
# we fit the affine map that lays the first picture on the second, or its mirror image, and correlate the two where they overlap. A
# score from 0 to 1 sums up how well they agree and how many features speak for it: from 0.5 a pair is accepted, from 0.1 it is
# doubtful. What was found by the same file or the same pixels needs no such judgement. [The bars](#fig-pairs-by-method) tell by which of
# these ways the pairs of this page were found.

# %%
rows = []
for names, found in together.pairs.groupby(["dataset_a", "dataset_b", "method"]).size().items():
    place = names[0] if names[0] == names[1] else f"{names[0]} and {names[1]}"
    rows.append((place, names[2], found))
by_method = pd.DataFrame(rows, columns=["dataset", "method", "pairs"])

# %% mystnb={"image": {"alt": "Stacked bars of the number of pairs, by the method that found them, for each data set and between data sets."}, "figure": {"name": "pairs-by-method", "caption": "Pairs of the same photograph. *file*: the same file; *pixels*: other files, the same decoded pixels; *geometric*: one lies on the other after a shift, scaling, squashing, turn or mirroring; *override*: confirmed by a person only. All sets of this page audited together; a set by itself, counted below, lacks the pairs that only a picture of another set brings to light."}}
if len(by_method):
    plots.bars(by_method, "pairs", "dataset", hue="method", xlabel="pairs of the same photograph")
    plt.show()
else:
    report.prose("No photograph was found twice.")

# %% tags=["nbval-check-output"]
for row in summary.itertuples(index=False):
    name, images, copies = row[0], row[1], row[summary.columns.get_loc("images with a copy")]
    exact, pairs = row[summary.columns.get_loc("exact pairs")], row[summary.columns.get_loc("pairs")]
    report.prose(
        f"In {plots.dataset_title(name)} **{copies} of {images} images ({copies / images:.0%}) have a copy in the set**: {pairs} "
        f"pairs, {exact} of them exact."
    )

# %% [markdown]
# Copies are not spread evenly ([by class](#table-copies-by-class)). Where one class is copied more than the others, a leak lifts that
# class, and a figure over all classes dilutes it. Nor are groups of one size: [the next figure](#fig-group-sizes) has a long tail where
# one photograph, or one patient, was taken many times.

# %% tags=["nbval-check-output"]
rows = []
for data in datasets:
    ends = data.audit.pairs[["image_id_a", "image_id_b"]].to_numpy().ravel()
    copied = data.manifest["image_id"].isin(ends).groupby(data.manifest["label"]).agg(["size", "sum"])
    rows += [(plots.dataset_title(data.name), label, n, k, k / n) for label, n, k in copied.itertuples()]
by_class = pd.DataFrame(rows, columns=["data set", "class", "images", "with a copy in the set", "share"])
report.show(by_class, digits=2, name="copies-by-class", caption="Images that have a copy in their own set, by class.")

# %% mystnb={"image": {"alt": "Bar charts of group sizes: how many groups have one image, two images, and so on, on a logarithmic scale."}, "figure": {"name": "group-sizes", "caption": "How many groups have how many images, on a logarithmic scale; the last bar is the largest group. Patient and photograph together."}}
sizes = [data.groups.value_counts().rename("size").value_counts().sort_index().reset_index(name="groups") for data in datasets]
sizes = pd.concat([table.assign(dataset=data.name) for data, table in zip(datasets, sizes, strict=True)])
plots.bars(sizes, "groups", "size", col="dataset", log="x", xlabel="groups", ylabel="images in the group")
plt.show()

# %% [markdown]
# ### How far the search can be trusted
#
# Where copies were planted the search can be marked. The generator of the phantom filed photographs a second time and wrote down
# which and how. There a copy counts as found when the accepted pairs link it to its original; a pair is right when both pictures
# come from one photograph.

# %% tags=["nbval-check-output"]
from pathlib import Path

from mpox.audit.accuracy import accuracy_by_kind, hand_checked, hash_pairs
from mpox.data.phantom import read_truths
from mpox.stats.resample import wilson

planted = [data for data in datasets if data.is_phantom and data.has_pictures]
truths = {data.name: read_truths(Path(data.manifest["path"].iloc[0]).parents[1]) for data in planted}
unknown = " and ".join(data.name for data in datasets if data.name not in truths)
if unknown:
    report.prose(
        f"How many copies {unknown} really have is not known here. What the search finds of planted copies, kind by kind, is measured in "
        "the same section of the edition *instruments*; what can be said of real pictures comes next."
    )
for data in [data for data in datasets if data.name in truths]:
    kinds = accuracy_by_kind(data.audit.pairs, truths[data.name])
    report.show(kinds.set_index("kind"), digits=2)
    every = kinds.set_index("kind").loc["all"]
    found = wilson(every["found"], int(every["copies"]))
    report.prose(
        f"{plots.dataset_title(data.name)}: {every['found']:.0f} of {every['copies']:.0f} planted copies are found "
        f"({report.with_interval(*found)}), and {every['right']:.0f} of {every['pairs']:.0f} pairs are right. "
        "Pixel by pixel one would have found "
        f"{data.audit.pairs['method'].isin(['file', 'pixels']).sum()}."
    )

# %% [markdown]
# ### By eye and by brute force, on the real sets
#
# For real pictures nobody knows the truth, so pairs were looked at, as the program had found them and before anyone's decision was
# entered. The intervals are Wilson's {cite}`wilson1927`; where all pairs of a kind were looked at there is no sampling, and the
# interval speaks of other pairs like these. The score's constants were settled while looking at these same sets, which makes this
# precision optimistic; and precision says nothing of copies that were never found. For recall every pair of distinct pictures was
# compared by the same verifier, without any search for candidates, and those that it accepts were looked for in the audit (in that
# row, *right* means found there, whether the pair shows one photograph or not); what the
# verifier itself does not recognise is not in this figure. The constants of the search were settled on these sets, too. The pairs
# missed that are right are among the decisions that come with the package, so that the tables of this chapter have them. What a
# hash finds and the audit does not was looked at, too. [The table](#table-checked-by-hand) has all samples.

# %% tags=["nbval-check-output"]
checked = hand_checked()
names = {data.name for data in datasets}
checked = checked[[set(name.split("+")) <= names for name in checked["dataset"]]]
if len(checked):
    report.show(
        checked.drop(columns="measures").rename(columns={"by_method": "found by"}).reset_index(drop=True),
        name="checked-by-hand",
        caption="Pairs that were looked at, and how many of them were right, with Wilson's interval.",
    )
    meanings = {
        "precision": "show the same photograph, precision",
        "recall": "are accepted by the audit too, recall against all comparisons",
        "missed": "show the same photograph, share",
    }
    for row in checked.itertuples():
        report.prose(
            f"{row.dataset}, {row.sample} ({row.by_method}): {row.right} of {row.checked} pairs {meanings[row.measures]} "
            f"{report.with_interval(row.share, row.low, row.high)}."
        )
else:
    report.prose("No sample of these sets has been looked at by hand.")

# %% [markdown]
# ### Against hashes
#
# The usual tools compare hashes. A hash of the file finds identical files; perceptual hashes {cite}`zauner2010` describe the
# whole picture in 64 bits and find what was re-sized or re-coloured a little. Crops, mirrored and framed copies look different as
# wholes, and two unlike photographs of plain skin look alike. [The figure](#fig-hashes) puts the ways of looking side by side.
#
# :::{margin} Why not a threshold on hashes?
# A hash of 64 bits forgets where things are as soon as the frame moves. Allow more bits to differ, and plain skin begins to look like
# plain skin; allow fewer, and a crop is lost. The bars with hatching are the price on one side, the low bars that on the other.
# :::

# %%
from mpox.audit import accuracy

rows = []
for data in datasets:
    accepted = set(zip(data.audit.pairs["image_id_a"], data.audit.pairs["image_id_b"], strict=True))
    exact = data.audit.pairs["method"].isin(["file", "pixels"]).sum()
    similar = store.table(
        "hash-pairs",
        {"data": data.hash, "version": accuracy.VERSION, "hamming": accuracy.HAMMING},
        lambda data=data: hash_pairs(data.manifest),
    )
    agreed = sum(pair in accepted for pair in zip(similar["image_id_a"], similar["image_id_b"], strict=True))
    rows += [
        (data.name, "hash of the pixels", exact, 0),
        (data.name, "perceptual hashes", agreed, len(similar) - agreed),
        (data.name, "this audit", len(accepted), 0),
    ]
ways = pd.DataFrame(rows, columns=["dataset", "way", "agreed", "other"])

# %% mystnb={"image": {"alt": "Bars of the number of pairs found by a hash of the pixels, by perceptual hashes and by the audit, one panel for each data set; hatched are the pairs that the audit does not accept."}, "figure": {"name": "hashes", "caption": "Pairs by way of looking, within each set. Perceptual hashes: dHash or pHash, at most 8 of 64 bits apart. Hatched: pairs that the audit does not accept."}}
judged = ways.rename(columns={"agreed": "accepted", "other": "not accepted"})
judged = judged.melt(["dataset", "way"], var_name="the audit", value_name="pairs")
plots.bars(judged, "pairs", "way", hue="the audit", col="dataset", xlabel="pairs")
plt.show()

# %%
for name, part in ways.set_index("way").groupby("dataset", sort=False):
    hashed, accepted = part.loc["perceptual hashes"], part.loc["this audit", "agreed"]
    if accepted:
        report.prose(
            f"In {plots.dataset_title(name)} perceptual hashes find {hashed['agreed']} of the {accepted} pairs that the audit "
            f"accepts ({hashed['agreed'] / accepted:.0%}), and {hashed['other']} pairs that it does not."
        )

# %% [markdown]
# ## Between the sets
#
# Sets that were gathered from the same web share photographs. A network trained on one and tested on the other has then seen
# part of its test; [the matrix](#fig-overlap) counts how much. Here, in the list of what does not fit and under the protocol `source`, the sets are
# audited together. The tables of single sets and the data sheets rest on the audit of each set alone, which lacks the pairs that come to
# light only through a picture of the other set, so that the counts within a set may differ by a few.

# %% mystnb={"image": {"alt": "A matrix of counts: how many images of each data set have a copy in each data set."}, "figure": {"name": "overlap", "caption": "How many images of the row's set have a copy in the column's; in the diagonal: a further copy in the same set. Below the count: the share of the row's set. The sets are audited together here, so that the diagonal can be a few above the count of a set by itself."}}
sizes = together.images["dataset"].value_counts()
if len(sizes) > 1:
    cells = together.overlap.rename_axis(index="of", columns="in").stack().reset_index(name="images")
    cells["share"] = cells["images"] / cells["of"].map(sizes)
    cells["text"] = [f"{row.images}\n{row.share:.0%}" for row in cells.itertuples()]
    plots.matrix(cells, "in", "of", "share", text="text", limits=(0, 1), xlabel="have a copy in", ylabel="images of")
    plt.show()
else:
    report.prose("There is only one set here.")

# %% tags=["nbval-check-output"]
for one in together.datasets:
    for other in together.datasets:
        if one != other:
            shared = together.overlap.loc[one, other]
            report.prose(f"{shared} of {sizes[one]} images of {one} ({shared / sizes[one]:.0%}) are also in {other}.")

# %% [markdown]
# ## What does not fit
#
# One photograph with two labels, or one photograph or person under two patients. Usually one of the entries is wrong; a collage of two diseases, or two people
# on one picture, is the exception. Between sets a label counts as a conflict only where one says Mpox and the other does not.

# %%
conflicts = together.conflicts
if len(conflicts):
    a, b = (conflicts[f"dataset_{side}"] + ": " + conflicts[f"image_id_{side}"] for side in "ab")
    entries = {side: conflicts[f"label_{side}"] + (" / " + conflicts[f"patient_id_{side}"]).fillna("") for side in "ab"}
    listed = pd.DataFrame(
        {
            "kind": conflicts["kind"],
            "first": a,
            "says": entries["a"],
            "second": b,
            "says otherwise": entries["b"],
            "score": conflicts["score"],
        }
    )
    report.show(listed.head(20), digits=2)
    if len(listed) > 20:
        report.prose(f"{len(listed) - 20} more are in the file `conflicts.csv` that `mpox audit` writes.")
counts = conflicts["kind"].value_counts()
report.prose(
    f"Pairs that show one photograph under two labels: **{counts.get('label', 0)}**; under two patients: "
    f"**{counts.get('patient', 0)}**. People who looked saw one person on two photographs in {len(together.persons)} further pairs: they "
    "link, and count as no copies."
)

# %% [markdown]
# ## What a random division does
#
# Deal the images to folds one by one, as `random_image` does. How many test images then have a sibling, another picture
# of the same group, in the training set? Nothing has been trained yet; this is counting, and [the table](#table-siblings) has the result.

# %% tags=["nbval-check-output"]
rows = []
for data in datasets:
    known = [] if data.manifest["patient_id"].isna().all() else ["patient"]
    for protocol in [splits.PROTOCOLS[name] for name in ("random_image", *known, "source")]:
        split = splits.make_splits(data.manifest, protocol.name, n_folds=N_FOLDS, seed=SEED)
        share = splits.siblings_in_training(split, data.groups)
        rows.append((plots.dataset_title(data.name), protocol.name, share, protocol.meaning))
siblings = pd.DataFrame(rows, columns=["data set", "protocol", "test images with a sibling in training", "meaning"])
report.show(siblings, name="siblings", caption="Share of test images with a sibling in training, by the rule of the division; one deal into folds.")

# %%
for name, part in siblings.groupby("data set", sort=False):
    share = part.set_index("protocol")["test images with a sibling in training"]
    report.prose(
        f"Under a random division of {name}, **{share['random_image']:.0%} of the test images** have a sibling in training; "
        f"under `source` it is {share['source']:.0%}."
        + (f" Keeping patients together alone leaves {share['patient']:.0%}." if "patient" in share else "")
    )

# %% [markdown]
# What that is worth to a network, in accuracy, is measured in chapter 3, over several deals; from deal to deal the shares differ a little.
#
# ## What else differs between the classes: the pictures
#
# A network uses whatever separates the classes, and light or sharpness may do so as well as lesions. Blur is the measure of
# Crété et al. {cite}`crete2007`: how little a further blur changes a picture. Boxes that part in [the figure](#fig-statistics-by-class) are
# an offer to the network.

# %% tags=["exercise-setup"]
from mpox.audit import quality

measures = [
    store.table(
        "image-quality", {"data": data.hash, "version": quality.QUALITY_VERSION}, lambda data=data: quality.image_quality(data.manifest)
    ).assign(dataset=data.name)
    for data in datasets
]
pictures = pd.concat(measures, ignore_index=True)
columns = {
    "lightness": "lightness (CIELAB L*, 0-100)",
    "contrast": "contrast (SD of L*)",
    "chroma": "chroma (CIELAB C*)",
    "blur": "blur (0 sharp, 1 blurred)",
}

# %% mystnb={"image": {"alt": "Points and box plots of lightness, contrast, chroma and blur for each class, one row a statistic, data sets side by side."}, "figure": {"name": "statistics-by-class", "caption": "Statistics of the pictures by class. A point is a picture; boxes are quartiles, whiskers reach at most 1.5 times their width."}}
statistics = pictures.melt(["dataset", "label"], list(columns), "statistic")
plots.points(statistics, "value", "label", hue="label", row="statistic", col="dataset", box=True, xlabel=columns, sharex="row")
plt.show()

# %% [markdown]
# Borders, text and clipping are what is left of the page a picture was taken from. A border is a plain strip that ends in a
# straight edge; text is a line of five or more letters, found as stable regions {cite}`matas2002` and not read.

# %% tags=["nbval-check-output"]
marks = pictures.assign(
    border=pictures["border"] > 0,
    text=pictures["text_lines"] > 0,
    clipped=pictures[["clipped_dark", "clipped_bright"]].max(axis=1) > 0.05,
)
marks = marks.groupby(["dataset", "label"])[["border", "text", "clipped"]].mean().reset_index()
marks["dataset"] = marks["dataset"].map(plots.dataset_title)
names = {
    "dataset": "data set",
    "label": "class",
    "border": "with a border",
    "text": "with text",
    "clipped": "over 5 % black or white",
}
report.show(marks.rename(columns=names), name="page-marks", caption="Share of pictures with a border, with text, and with clipped light, by class.")
for data in datasets:
    if data.name in truths:
        about = pictures[pictures["dataset"] == data.name].merge(truths[data.name][["image_id", "copy_kind"]], on="image_id")
        captioned, plain = about[about["copy_kind"] == "caption"], about[about["copy_kind"].isna()]
        report.prose(
            f"{plots.dataset_title(data.name)}: text is found on {(captioned['text_lines'] > 0).sum()} of {len(captioned)} captioned "
            f"copies, and on {(plain['text_lines'] > 0).sum()} of {len(plain)} photographs, which bear none."
        )

# %% [markdown]
# ## Skin tone
#
# The individual typology angle {cite}`chardon1991` orders skin from dark to light: the arctangent of (L* - 50) / b* in CIELAB
# (D65), here of the median healthy skin of a picture. Skin is what has the hue of skin; what is darker, lighter or redder than
# most of it is dropped, three times over, and lesions with it. Where less than a tenth of a picture is left, there is no angle.
#
# It can tell whether the classes of one set differ. It cannot tell a person's skin: light, white balance, camera and
# compression move the angle by ten degrees and more. It is neither ethnicity nor the Fitzpatrick type. [The figure](#fig-skin-tone)
# shows it by class.

# %%
from mpox.audit import quality
from mpox.data import skintone

tones = pd.concat(
    [
        store.table(
            "skin-tone", {"data": data.hash, "version": skintone.SKIN_TONE_VERSION}, lambda data=data: quality.skin_tone(data.manifest)
        ).assign(dataset=data.name)
        for data in datasets
    ],
    ignore_index=True,
)

# %% mystnb={"image": {"alt": "Box plots with points of the typology angle by class, one panel for each data set; dotted lines part the classes of skin from dark to very light."}, "figure": {"name": "skin-tone", "caption": "Individual typology angle of the healthy skin by class. A point is a picture; boxes are quartiles. Dotted lines: the classes of Del Bino and Bernerd."}}
angle = "individual typology angle, degrees (left: darker)"
figure = plots.points(tones, "ita", "label", hue="label", row="dataset", box=True, xlabel=angle)
limits = [90, *(max(limit, -90) for limit in skintone.CLASSES.values())]
middles = [(upper + lower) / 2 for upper, lower in zip(limits[:-1], limits[1:], strict=True)]
names = [name.replace(" ", "\n").replace("rm", "r-\nm") for name in skintone.CLASSES]
for axis in figure.axes:
    axis.vlines(limits[1:-1], *axis.get_ylim(), color="black", linestyle=":", linewidth=0.8)
    axis.secondary_xaxis("top").set_xticks(middles, names, fontsize=7)
plt.show()

# %% tags=["nbval-check-output"]
for name, part in tones.groupby("dataset", sort=False):
    medians = part.groupby("label")["ita"].median().dropna().sort_values()
    medians = ", ".join(f"{label} {angle:.0f}" for label, angle in medians.items()) or "none"
    report.prose(
        f"{plots.dataset_title(name)}: an angle for {part['ita'].notna().sum()} of {len(part)} pictures; medians in degrees, darkest "
        f"first: {medians}."
    )

# %% [markdown]
# Where the skin's true angle is known, the measurement can be held against it ([the comparison](#fig-skin-tone-truth)).

# %% mystnb={"image": {"alt": "Measured against planted typology angle with the line of equality; re-coloured copies have a marker of their own."}, "figure": {"name": "skin-tone-truth", "caption": "Measured against planted angle on the phantom. The pictures' light, white balance and exposure vary; the planted angle is that of the skin under white light."}}
against = [
    tones[tones["dataset"] == name].merge(table[["image_id", "ita_degrees", "copy_kind"]], on="image_id").dropna(subset="ita")
    for name, table in truths.items()
]
if against:
    against = pd.concat(against).assign(altered=lambda table: table["copy_kind"].isin(["recolour", "combined"]))
    against["copy"] = against["altered"].map({False: "pictures", True: "re-coloured copies"})
    planted = {"xlabel": "planted angle, degrees", "ylabel": "measured angle, degrees"}
    plots.points(against, "ita_degrees", "ita", hue="copy", diagonal=True, **planted)
    plt.show()
    plain = against[~against["altered"]]
    error = plain["ita"] - plain["ita_degrees"]
    report.prose(
        f"Without re-coloured copies the angle is off by {error.abs().median():.0f} degrees in the median (bias {error.mean():+.0f}); its "
        f"correlation with the truth is {plain['ita'].corr(plain['ita_degrees']):.2f}. Enough to order a set, not to judge a picture."
    )
else:
    report.prose("The true angle of these pictures is not known; on the phantom it is (this chapter of the edition *instruments*).")

# %% [markdown]
# ### One number against the network
#
# How well does each of these numbers, alone, tell Mpox from the rest? [The table](#table-single-numbers) has an AUROC for each, and in
# its last row that of a network: the linear probe of [chapter 3](03_cross_validation.ipynb), from the same runs, on groups that it has not met.

# %%
from mpox import ModelConfig, cross_validate, evaluate
from mpox.stats.metrics import auroc_of_number

numbers = pictures.merge(tones[["dataset", "image_id", "ita"]], on=["dataset", "image_id"])
rows = []
for name, part in numbers.groupby("dataset", sort=False):
    groups = next(data.groups for data in datasets if data.name == name)
    for column in [*columns, "bytes_per_pixel", "ita"]:
        known = part.dropna(subset=column)
        found = auroc_of_number(
            known[column].to_numpy(float),
            (known["label"] == "Mpox").to_numpy(),
            known["image_id"].map(groups).to_numpy(str),
            seed=SEED,
        )
        rows.append((plots.dataset_title(name), column, *found))
separation = pd.DataFrame(rows, columns=["data set", "statistic", "AUROC", "low", "high"])
probe = ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
network = []
for data in datasets:
    found = evaluate(cross_validate(store, data, "source", probe, n_folds=N_FOLDS, n_repeats=REPEATS["linear_probe"], seed=SEED))
    area = found[(found["metric"] == "auroc") & (found["class"] == "Mpox")].iloc[0]
    network.append((plots.dataset_title(data.name), "network", *area[["estimate", "low", "high"]]))
network = pd.DataFrame(network, columns=separation.columns)
short = {**{column: column for column in columns}, "bytes_per_pixel": "bytes per pixel", "ita": "skin tone (angle)", "network": "linear probe, source (chapter 3)"}
cells = pd.concat([separation, network], ignore_index=True)
cells = cells.assign(text=[report.with_interval(row.AUROC, row.low, row.high) for row in cells.itertuples()])
wide = cells.pivot(index="statistic", columns="data set", values="text").loc[list(short), list(network["data set"])].rename(index=short)
report.show(
    wide.rename_axis(columns=None).reset_index(),
    name="single-numbers",
    caption="AUROC for Mpox of single numbers of a picture and of a network, with 95 % intervals from resampling groups.",
)

# %% [markdown]
# An AUROC of 0.5 would mean that the statistic tells nothing of the class. Each is taken in whichever direction is larger, so the
# estimate cannot fall below 0.5, though its interval can, and chance alone lifts it a little; the best of several is lifted more. Intervals are from resampling groups.

# %%
for name, part in separation.groupby("data set", sort=False):
    areas = part.set_index("statistic")
    best, tone = areas.loc[areas["AUROC"].idxmax()], areas.loc["ita"]
    probed = network.set_index("data set").loc[name]
    report.prose(
        f"In {name} the best single number is {short[best.name]}, with an AUROC for Mpox of "
        f"{report.with_interval(best['AUROC'], best['low'], best['high'])}; skin tone reaches "
        f"{report.with_interval(tone['AUROC'], tone['low'], tone['high'])}. Neither knows what a lesion is. The linear probe reaches "
        f"{report.with_interval(probed['AUROC'], probed['low'], probed['high'])} on groups that it has not met: between 0.5 and that lies "
        "what has to be explained, and the single number is the part that takes no network."
    )

# %% [markdown]
# ## Data sheets
#
# The seven sections of *Datasheets for Datasets* {cite}`gebru2021` for each set, filled in from the tables above and from what
# the authors wrote. [One page](../book/data_sheet.md) gathers them.

# %%
from mpox.audit.pages import datasheet

for data in datasets:
    sheet = datasheet(data.audit, data.name, quality=pictures, tone=tones, overlap=together.overlap, heading=0)
    report.prose(f"**{plots.dataset_title(data.name)}**\n\n{sheet}")
    report.finding(f"sheet_{report.short_name(data.name)}", sheet)

# %%
for data, row in zip(datasets, summary.to_dict("records"), strict=True):
    key = report.short_name(data.name)
    report.finding(f"data_{key}_images", f"{row['images']}")
    report.finding(f"data_{key}_patients", f"{data.manifest['patient_id'].nunique()}")
    report.finding(f"data_{key}_exact_pairs", f"{row['exact pairs']}")
    report.finding(f"data_{key}_pairs", f"{row['pairs']}")
    report.finding(f"data_{key}_copies", f"{row['images with a copy']}")
    report.finding(f"data_{key}_copies_share", f"{row['images with a copy'] / row['images']:.0%}")
    report.finding(f"data_{key}_groups", f"{row['groups']}")
    report.finding(f"data_{key}_largest_group", f"{row['largest group']}")
    report.finding(f"data_{key}_label_conflicts", f"{row['label conflicts']}")
    report.finding(f"data_{key}_patient_conflicts", f"{row['patient conflicts']}")
    area = separation[(separation["data set"] == plots.dataset_title(data.name)) & (separation["statistic"] == "ita")]
    report.finding(f"data_{key}_ita_auroc", f"{report.with_interval(*area[['AUROC', 'low', 'high']].iloc[0])}")
    for other in datasets:
        if other.name != data.name:
            shared = together.overlap.loc[data.name, other.name]
            report.finding(f"data_{key}_in_{report.short_name(other.name)}", f"{shared}")

# %% tags=["hide-input"]
said = []
for data, row in zip(datasets, summary.to_dict("records"), strict=True):
    title, people = plots.dataset_title(data.name), data.manifest["patient_id"].nunique()
    share = siblings[siblings["data set"] == title].set_index("protocol")["test images with a sibling in training"]
    single = separation[separation["data set"] == title]
    best = single.nlargest(1, "AUROC").iloc[0]
    told = "tells Mpox from the rest" if best["low"] > 0.5 else "is not shown to tell Mpox from the rest"
    said.append(
        f"**{title}**: {row['images']} images of {f'{people} patients' if people else 'people whom nobody numbered'}. "
        f"{row['images with a copy']} of them ({row['images with a copy'] / row['images']:.0%}) have a copy in the set; of {row['pairs']} "
        f"pairs {row['exact pairs']} are the same pixels. A random division leaves {share['random_image']:.0%} of the test images with a "
        f"sibling in training, `source` {share['source']:.0%}. The best of {len(single)} single numbers, {short[best['statistic']]}, {told}: an AUROC of "
        f"{report.with_interval(best['AUROC'], best['low'], best['high'])}, not corrected for the choice."
    )
shared = [
    f"{together.overlap.loc[one, other]} of {sizes[one]} images of {one} are also in {other}"
    for one in together.datasets
    for other in together.datasets
    if one < other
]
if shared:
    said.append(f"**Between the sets**: {'; '.join(shared)} ([all counts](#fig-overlap)).")
said.append(f"Pairs that show one photograph under two labels: {counts.get('label', 0)}; under two patients: {counts.get('patient', 0)}.")
at_the_top.fill(*said)

# %% [markdown]
# ## What this means
#
# - An image is not an independent observation. Pictures of one person share skin, light, camera and background, and a
#   random division lets a network be tested on people, and on photographs, that it has met.
# - Copies are mostly not exact. A comparison of files or of hashes leaves most of them in place ([the comparison](#fig-hashes)).
# - The sets are not independent of each other. 'External validation' on a set that shares photographs is partly internal.
# - Classes differ in more than the disease. A network that reads light or skin tone scores above chance on such sets, and the
#   score does not tell.
#
# ## What could be wrong
#
# - **Some copies go unseen.** Small crops of plain skin, heavy blur and drawings made after photographs leave too little to
#   match. Two photographs of one person are not copies; without patient ids they stay apart where nobody recognised the person.
# - **Some pairs are wrong.** The shares that were right are given above, with the size of the samples; below, the pairs can be
#   looked at one by one. The people who looked were those who wrote the program.
# - The phantom's copies are as various as we made them. The web is more inventive.
# - Watermarks were not looked for, and the detector of text misses small and slanted lettering.
# - The statistics describe files, not skin: cameras, compression and web pages had a hand in all of them.
#
# ## Take-aways
#
# - Count people and photographs before you count images. The group, not the image, is the unit of everything that follows.
# - Look for copies with a method that survives cropping and mirroring, and say how it was checked.
# - A leak can be measured before anything is trained: by counting the test images that have a sibling in training
#   ([the count](#table-siblings)).
# - Before a network is credited with medicine, see what a single number can do.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("01")

# %% [markdown]
# ## Exercises
#
# With blanks to be filled in: `notebooks/exercises/01_data_exploration.ipynb`. Here each exercise is followed by a solution, folded
# in the book. Try first.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# Which class has the most images a group? Use `data.groups` and the manifest.

# %% tags=["solution"]
for data in datasets:
    groups = data.manifest["image_id"].map(data.groups)
    sizes_of = groups.groupby(data.manifest["label"]).agg(["size", "nunique"])
    sizes_of["images a group"] = sizes_of["size"] / sizes_of["nunique"]
    report.prose(f"**{plots.dataset_title(data.name)}**: most images a group in {sizes_of['images a group'].idxmax()}")
    report.show(sizes_of.rename(columns={"size": "images", "nunique": "groups"}), digits=2)

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Repeat the count of siblings under `random_image` with 10 folds. Why does the share go up?

# %% tags=["solution"]
rows = []
for data in datasets:
    for n_folds in (N_FOLDS, min(10, data.manifest["label"].value_counts().min())):  # ten, or as many as the rarest class allows
        split = splits.make_splits(data.manifest, "random_image", n_folds=n_folds, seed=SEED)
        rows.append((plots.dataset_title(data.name), n_folds, splits.siblings_in_training(split, data.groups)))
report.show(pd.DataFrame(rows, columns=["data set", "folds", "test images with a sibling in training"]))

# %% [markdown] tags=["solution"]
# With k folds a training set holds (k - 1)/k of the images. The larger k, the more likely it is that a given sibling is among
# them: an image with a single sibling meets it with that very probability. Ten folds look more careful than three, because
# each model learns from more; under a random division they also leak more.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (medium)
#
# Audit a folder of your own with `mpox audit FOLDER --out REPORT --review`, and open `REPORT/review.html`. If you have none, make
# one of two images that come with scikit-image (`skimage.data.chelsea` and `coffee`): of each the original, its mirror image, a
# grey version, the middle half and a small corner. Which versions are found?

# %% tags=["solution"]
import tempfile
from pathlib import Path

from PIL import Image, ImageOps
from skimage.data import chelsea, coffee

from mpox.audit import run_audit
from mpox.data.manifest import build_manifest

with tempfile.TemporaryDirectory() as folder:
    for subject, pixels in (("cat", chelsea()), ("cup", coffee())):
        original = Image.fromarray(pixels)
        width, height = original.size
        versions = {
            "original": original,
            "mirrored": ImageOps.mirror(original),
            "grey": ImageOps.grayscale(original),
            "middle": original.crop((width // 4, height // 4, 3 * width // 4, 3 * height // 4)),
            "corner": original.crop((0, 0, width // 8, height // 8)),
        }
        place = Path(folder) / "my pictures" / subject
        place.mkdir(parents=True)
        for version, picture in versions.items():
            picture.save(place / f"{version}.png")
    mine = run_audit([build_manifest(Path(folder) / "my pictures")], jobs=1, progress=False)
report.show(mine.pairs[["image_id_a", "image_id_b", "method", "score"]].reset_index(drop=True), digits=2)
unlinked = sorted(set(mine.images["image_id"]) - set(mine.pairs["image_id_a"]) - set(mine.pairs["image_id_b"]))
report.prose(f"In no pair: {', '.join(unlinked) or 'none'}.")

# %% [markdown] tags=["exercise"]
# ### Exercise 4 (open)
#
# Train a classifier on the statistics of this chapter alone (the table `pictures`), under `random_image` and under `source`. What
# does the result say about a network's figure on the same pictures?

# %% tags=["solution"]
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mpox import evaluate

numbers = ["lightness", "contrast", "chroma", "blur", "clipped_dark", "clipped_bright", "border", "text_lines"]
rows = []
for data in datasets:
    statistics = pictures[pictures["dataset"] == data.name]
    for protocol in ("random_image", "source"):
        split = splits.make_splits(data.manifest, protocol, n_folds=N_FOLDS, seed=SEED)
        parts = []
        for fold, part in split.groupby("fold"):
            train, test = (
                statistics[statistics["image_id"].isin(part.loc[part["role"] == role, "image_id"])] for role in ("train", "test")
            )
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
            model.fit(train[numbers], train["label"])
            scores = pd.DataFrame(model.predict_proba(test[numbers]), columns=[f"p_{label}" for label in model.classes_])
            parts.append(test[["image_id", "label"]].reset_index(drop=True).join(scores).assign(repeat=0, fold=fold))
        found = pd.concat(parts, ignore_index=True)
        found = evaluate(found.assign(group_id=found["image_id"].map(data.groups)), seed=SEED)
        estimates = [report.estimate(found, *what) for what in (("accuracy", "all"), ("auroc", "Mpox"))]
        rows.append((plots.dataset_title(data.name), protocol, *estimates))
report.show(pd.DataFrame(rows, columns=["data set", "protocol", "accuracy", "AUROC (Mpox)"]))

# %% [markdown] tags=["solution"]
# *A model answer.* None of these numbers knows what a lesion is. What they reach together under `source` is a floor: a network on
# the same pictures may reach as much without any medicine, and only what it adds can be credited to lesions, if to anything. A
# gap between the two protocols says that even so poor a description recognises siblings: pictures from one sitting share light
# and sharpness. What the answer cannot say is whether the network *does* use light. For that the pictures must be changed, or
# tested where light and class do not go together. The phantom is such a place: its light and camera were drawn without regard to
# the class, and there these numbers should do no better than chance.

# %% [markdown]
# ## What to read next
#
# [Chapter 2](02_transfer_learning.ipynb) shows what a network makes of these pictures before it has learnt from any of them;
# [chapter 3](03_cross_validation.ipynb) measures what siblings in training are worth. On how common such leaks are: Kapoor and
# Narayanan {cite}`kapoor2023`; on how to describe a data set: Gebru et al. {cite}`gebru2021`.
#
# ## Review of the pairs
#
# Where the pictures are on the machine that runs this page every pair can be looked at, strongest doubt first: first those whose
# score lies nearest to the line between yes and no. Where they are not, a short list says which pairs come first.

# %% tags=["hide-input"]
from mpox.audit.pages import Review

with_pictures = all(data.has_pictures for data in datasets)
Review(together, limit=REVIEW_PAIRS if with_pictures else 8, with_pictures=with_pictures)

# %% tags=["hide-input"]
report.provenance("01_data_exploration", store, datasets)
