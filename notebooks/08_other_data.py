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
# # Other people's images

# %% [markdown] tags=["study"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
# Trained on MSLD and tested on the images of MSID that the two do not share, the model reaches an AUROC (area under the ROC
# curve) of {{ external_msld_msid_linear_probe_without_shared_auroc }}, less than a model of MSID's own on the same images (the
# difference is {{ external_msld_msid_gap }}). The other way it reaches {{ external_msid_msld_linear_probe_without_shared_auroc }};
# a model of MSLD's own reaches no more, {{ external_msid_msld_ceiling }}, so that no loss is shown there. A threshold chosen to
# find 95 of 100 Mpox images, carried over, clears {{ external_msld_msid_carried_specificity }} other rashes in MSID, and
# {{ external_msid_msld_carried_specificity }} in MSLD.
# :::

# %% [markdown] tags=["instruments"]
# :::{admonition} In three sentences
# :class: tip mpox-findings
# Two phantoms were drawn alike but for one mark in the corner: the first bears it on Mpox, the second on the other rashes. The
# page finds this: a model that has an AUROC (area under the ROC curve) of {{ external_phantom_phantom_elsewhere_at_home }} at
# home falls to {{ external_phantom_phantom_elsewhere_linear_probe_without_shared_auroc }} on the second phantom,
# where a model of that phantom's own does better (the difference is {{ external_phantom_phantom_elsewhere_gap }}). Re-weighting
# the training images towards the second phantom helps a little, labelled images of it help much.
# :::

# %% tags=["parameters"]
DATASETS = ["phantom"]
DATA_DIR = ""
RUN_STORE = ""
BACKBONE = "tf_efficientnet_lite1"
IMAGE_SIZE = 0
N_FOLDS = 3
EXTERNAL = [["phantom", "phantom-elsewhere"], ["phantom-elsewhere", "phantom"]]
EXTERNAL_FOLDER = ""
EXTERNAL_REPEATS = 1
COLOUR_COPIES = 0
OWN_SHARES = []
SEED = 0
DEVICE = "cpu"

# %% tags=["exercise-setup"]
import pandas as pd

import mpox
from mpox.book import plots, report
from mpox.book.run import check_parameters
from mpox.protocols import splits
from mpox.runs import cross_validation
from mpox.stats import comparison, decisions
from mpox.studies import external

check_parameters("08_other_data", globals())
plots.use_style()
store = mpox.open_store(RUN_STORE)
judged = mpox.ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
pairs, given = {}, {}
for wanted in [*EXTERNAL, *([name, EXTERNAL_FOLDER] for name in DATASETS if EXTERNAL_FOLDER)]:
    if set(wanted) & set(DATASETS):
        both, *names = external.external_pair(store, *wanted, study=DATASETS, data_dir=DATA_DIR or None)
        pairs[tuple(names)], given = both, given | dict(zip(names, wanted, strict=True))
    else:
        report.prose(f"*Passed over, because neither is one of this page's data sets: {' and '.join(wanted)}.*")
if not pairs:
    report.prose("*Not computed on this page: it needs a second collection, named with `EXTERNAL` or `EXTERNAL_FOLDER`.*")
called = {name: {"msld-v1": "MSLD", "msid": "MSID"}.get(name, name) for name in given}
directions = {pair: "trained on {}, tested on {}".format(*map(called.get, pair)) for pair in pairs}
keys = {pair: "_".join(map(report.short_name, pair)).replace("-", "_") for pair in pairs}
there, back = ("msld-v1", "msid"), ("msid", "msld-v1")

# %% tags=["exercise-setup"]
folds = {"n_folds": N_FOLDS, "n_repeats": EXTERNAL_REPEATS, "seed": SEED}
ways, skipped = {}, {}
for pair, both in pairs.items():
    ways[pair], skipped[pair] = external.every_way(store, both, *pair, judged, n_copies=COLOUR_COPIES, **folds)

# %% tags=["exercise-setup"]
unshared = {pair: {way: external.unshared_part(table) for way, table in found.items()} for pair, found in ways.items()}
readable = [pair for pair in pairs if unshared[pair]["no remedy"]["label"].nunique() == 2]
best = "target alone"  # the ceiling: a model of the target's own
two = {pair: {way: unshared[pair][way] for way in (best, "no remedy")} for pair in readable if best in unshared[pair]}
gaps = {pair: external.changes(tables, best).set_index("way") for pair, tables in two.items()}

# %% mystnb={"image": {"alt": "AUROC for Mpox against other rashes with 95 percent intervals, a panel for each direction: on all test images, without the shared ones, on the shared ones only; then two comparisons, the model at home and the ceiling."}, "figure": {"name": "transport", "caption": "AUROC for Mpox against other rashes on the other collection, with 95 % intervals from resampling groups; in brackets the number of test images. *At home*: the same model cross-validated on the collection that it was trained on. *Ceiling*: a model of the target's own, cross-validated and read on the unshared images."}}
rows = []
for pair, both in pairs.items():
    neighbour = external.with_remedy(store, both, *pair, judged.with_(regime="nearest_neighbour"), seed=SEED)
    for model, predictions in (("nearest_neighbour", neighbour), ("linear_probe", ways[pair]["no remedy"])):
        found = external.external_metrics(predictions).query("metric == 'auroc' and `class` == 'Mpox'")
        for row in found.itertuples():
            text = report.with_interval(row.estimate, row.low, row.high, digits=3) + (row.reason and f" ({row.reason})")
            report.finding(f"external_{keys[pair]}_{model}_{row.subset.replace(' ', '_')}_auroc", text)
    rows.append(found.assign(direction=directions[pair]))
    home = external.with_remedy(store, both, pair[1], pair[0], judged, best, **folds)
    for place, predictions in {"at home": home, "ceiling": unshared[pair].get(best)}.items():
        if predictions is not None and pair in readable:
            area = external.auroc_replicates(predictions).row()
            about = {"subset": place, "images": predictions["image_id"].nunique(), "direction": directions[pair], "reason": ""}
            rows.append(pd.DataFrame([{**area, **about}]))
            report.finding(f"external_{keys[pair]}_{place.replace(' ', '_')}", report.with_interval(*area.values(), digits=3))
    if pair in gaps:
        change = gaps[pair].loc["no remedy", ["change", "change_low", "change_high"]]
        report.finding(f"external_{keys[pair]}_gap", report.with_interval(*change, digits=3))
if pairs:
    standing = pd.concat(rows, ignore_index=True)
    lines = standing["subset"] + " (" + standing["images"].astype(str) + ")"
    look = {"values": "{:.2f}", "missing": "reason", "legend": False, "xlabel": "AUROC (Mpox against other rashes)"}
    figure = plots.forest(standing.assign(line=lines), "line", hue="subset", row="direction", **look)

# %% [markdown]
# **Question.** What is the model worth on images that other people gathered, what exactly goes wrong there, and what helps?
#
# The model is trained on all of one collection and tested on all of another, on a task that both can pose: Mpox against the other
# rashes, without healthy skin. A collection of your own joins with one parameter, `EXTERNAL_FOLDER`: a folder with one sub-folder
# a class, one of them called `Mpox` (or `Monkeypox`); the others count as other rashes, and `Normal` or `Healthy` is left out.
#
# **After this chapter you can**
#
# - tell a strange collection from hard images, by a ceiling on the same images;
# - carry a threshold over to another collection, and see what became of its promise;
# - describe a shift before you blame it, and say what each remedy needs to see.
#
# **You need** [chapter 3](03_cross_validation.ipynb) and [the shortcuts](07_shortcuts.ipynb).
#
# ## Another collection
#
# Collections from the web copy from each other. A photograph that is in both was learnt by heart, and its prediction says nothing
# about other data. So a joint audit finds the test images with a sibling in training, the same photograph or another one of the
# same patient, and the same predictions are read three times: on all images, as published studies do; without the shared images;
# on these alone.
#
# Two more lines in [the figure](#fig-transport) are for comparison. *At home* is what the makers of the training collection would
# have reported. The *ceiling* is a model of the target's own, on the same unshared images. Below the ceiling, something that was
# learnt does not travel. A low ceiling says that the images are hard for a model of their own, too.

# %% [markdown] tags=["study"]
# On the images that both collections share, looking them up is enough: a nearest neighbour, which gives each image the class of
# the most similar training image, reaches {{ external_msid_msld_nearest_neighbour_shared_only_auroc }} on those of MSLD, and the
# probe {{ external_msid_msld_linear_probe_shared_only_auroc }}. They lift the probe's AUROC on all of MSLD to
# {{ external_msid_msld_linear_probe_all_images_auroc }}. Without them the AUROC on MSLD is low for a model from elsewhere, but no
# lower than the ceiling: the difference is {{ external_msid_msld_gap }}, so wide an interval that eight points either way remain
# possible. Towards MSID the AUROC is higher, and yet below the ceiling.

# %% tags=["guard"]
if study := report.is_study(DATASETS) and {there, back} <= set(gaps):
    change = {pair: gaps[pair].loc["no remedy", ["change_low", "change_high"]].astype(float) for pair in (there, back)}
    report.guard("MSLD to MSID: below the ceiling", change[there]["change_high"] < 0)
    report.guard("MSID to MSLD: at the ceiling", change[back]["change_low"] < 0 < change[back]["change_high"])
    read = standing.set_index(["direction", "subset"])["estimate"]
    for way in (directions[there], directions[back]):
        lifted = read[way, "shared only"] > read[way, "all images"] > read[way, "without shared"]
        report.guard(f"{way}: the shared images lift the AUROC", lifted)
    report.guard("MSLD's unshared images are hard", read[directions[back], "ceiling"] < read[directions[there], "ceiling"] - 0.05)

# %% [markdown]
# ## The threshold
#
# Someone who uses a model has a threshold, chosen before the new images came. Here it is chosen on *held-out training images*, to
# find at least 95 of 100 Mpox images, and carried over to the other collection as it is.

# %% tags=["exercise-setup"]
aim = decisions.Aim("sensitivity", 0.95)
held_out, carried = {}, {}
for pair in readable:
    split = splits.make_external_split(pairs[pair].manifest, *pair, seed=SEED)
    held_out[pair] = cross_validation.predict_nested(store, pairs[pair], split, judged)
    carried[pair] = decisions.carry_thresholds(unshared[pair]["no remedy"], held_out[pair], aim)

# %% mystnb={"image": {"alt": "Sensitivity and specificity with 95 percent intervals of a threshold: where it was chosen, carried over to the other collection, and chosen anew there; a panel for each direction."}, "figure": {"name": "carried-threshold", "caption": "A threshold for a sensitivity of 0.95 (dashed): where it was chosen, carried over to the unshared images of the other collection, and chosen anew there by cross-fitting (each group's threshold comes from the other groups). 95 % intervals from resampling groups; they take the threshold as given."}}
points, moved = [], {}
for pair in readable:
    target, chosen = unshared[pair]["no remedy"], carried[pair]["threshold"].iloc[0]
    places = {"where it was chosen": held_out[pair].assign(threshold=chosen), "carried over": carried[pair]}
    try:
        places["chosen anew"] = decisions.crossfit_thresholds(target, aim, seed=SEED)
    except mpox.MpoxError as reason:
        report.prose(f"*{pair[1]}: {reason}*")
    for place, table in places.items():
        found = decisions.operating_point(table).query("metric in ('sensitivity', 'specificity')")
        points.append(found.assign(place=place, direction=directions[pair], pair=[pair] * len(found)))
    moved[pair] = external.calibration_shift(held_out[pair], target)
    report.finding(f"external_{keys[pair]}_intercept", report.with_interval(*moved[pair]))
if points:
    points = pd.concat(points, ignore_index=True)
    for row in points[points["place"] == "carried over"].itertuples():
        text = report.of_hundred(row.estimate, row.low, row.high, row.interval)
        report.finding(f"external_{keys[row.pair]}_carried_{row.metric}", text)
    goal = points["metric"].map({"sensitivity": aim.level})
    shown = points.assign(line=points["metric"] + ", " + points["place"], goal=goal).sort_values("metric", kind="stable")
    look = {"goal": "goal", "values": "{:.2f}", "legend": False, "xlabel": "share found (sensitivity), or cleared (specificity)"}
    figure = plots.forest(shown, "line", hue="place", row="direction", **look)

# %% [markdown]
# The *level* of the probabilities can move too. An intercept measures it, what must be added to every log odds for the mean
# prediction to be right: below 0 the model says Mpox too readily {cite}`cox1958`, in part because Mpox is rarer there.

# %% [markdown] tags=["study"]
# The threshold, set to find 95 of 100 Mpox images, finds {{ external_msld_msid_carried_sensitivity }} on MSID and
# {{ external_msid_msld_carried_sensitivity }} on MSLD, and the others pay for it: on MSLD nearly nine of ten images without Mpox
# are flagged. A new threshold changes little, because the order of these images is what is poor. Towards MSLD, where Mpox is
# rarer, the level is lost as well: the intercept moves by {{ external_msid_msld_intercept }}, towards MSID by
# {{ external_msld_msid_intercept }}.

# %% tags=["guard"]
if study:
    at = points.set_index(["direction", "place", "metric"])["estimate"]
    kept = {pair: at[directions[pair], "carried over"] for pair in (there, back)}
    report.guard("on MSLD nearly nine of ten others are flagged", 0.05 < kept[back]["specificity"] < 0.2)
    report.guard("a new threshold changes little", at[directions[back], "chosen anew", "specificity"] < 0.3)
    report.guard("sensitivity is missed by some points", all(0.84 < kept[pair]["sensitivity"] < 0.95 for pair in (there, back)))
    report.guard("towards MSLD the intercept falls", moved[back][2] < 0)

# %% [markdown]
# ## How the collections differ
#
# First, a classifier that says which collection an image comes from: a linear probe on the same features, groups kept apart,
# shared photographs left out. At an AUROC of 0.5 it finds no difference that a model could trip over. Within one class ([the
# table](#table-apart)) the answer cannot come from how common the classes are. A collection can be recognised, by its file
# compression for instance, and be diagnosed all the same. Single facts of the images are compared as standardised differences;
# above 0.1 they are commonly called an imbalance {cite}`austin2009`.

# %%
apart, measured = [], []
for pair, both in {tuple(sorted(pair)): both for pair, both in pairs.items()}.items():
    facts = [external.collection_facts(store, store.dataset(given[name], data_dir=DATA_DIR or None)) for name in pair]
    for label in (None, *both.classes):
        about = {"collections": " and ".join(map(called.get, pair)), "class": label or "all"}
        differences = external.fact_differences(both, pd.concat(facts, ignore_index=True), *pair, label=label, seed=SEED)
        measured.append(differences.assign(**about, pair="{1} minus {0}".format(*map(called.get, pair))))
        try:
            domain = external.predict_domain(store, both, judged, label=label, n_folds=N_FOLDS, seed=SEED)
        except mpox.MpoxError as reason:
            report.prose(f"*{about['collections']}, {about['class']}: {reason}*")
            continue
        text = report.estimate(mpox.evaluate(domain, positive=pair[1]), "auroc", pair[1])
        report.finding(f"apart_{'_'.join(map(report.short_name, pair))}_{label or 'all'}".replace("-", "_"), text)
        apart.append({**about, "images": len(domain), "AUROC of which collection": text})
report.show(pd.DataFrame(apart), name="apart", caption="How well two collections can be distinguished, on unshared images.")

# %% mystnb={"image": {"alt": "Standardised differences of lightness, contrast, chroma, sharpness, blur, skin tone, size and file size between two collections with 95 percent intervals, within each class."}, "figure": {"name": "collections", "caption": "Differences of single facts between the collections within each class, in standard deviations, with 95 % intervals from resampling groups; unshared images. The grey band is from -0.1 to 0.1. A fact that never varies is left out."}}
if measured:
    shown = pd.concat(measured, ignore_index=True).query("`class` != 'all'").replace({"fact": external.FACTS})
    look = {"reference": {"-0.1 to 0.1": (-0.1, 0.1)}, "xlabel": "difference (standard deviations)"}
    figure = plots.forest(shown, "fact", hue="class", row="pair", **look)

# %% [markdown] tags=["study"]
# The two are easily distinguished, with an AUROC of {{ apart_msid_msld_all }}, on Mpox alone less so
# ({{ apart_msid_msld_Mpox }}). MSLD has the lower contrast, and its files are compressed more strongly: part of what sets the two
# apart was done by their makers and not by any skin.

# %% [markdown] tags=["instruments"]
# Here the difference was planted. In the first phantom seven in ten Mpox images bear the mark and one in twenty of the others, in
# the second it is the other way round. So the collections must be easier to distinguish within either class
# ({{ apart_phantom_phantom_elsewhere_Mpox }} and {{ apart_phantom_phantom_elsewhere_Others }}) than in both together
# ({{ apart_phantom_phantom_elsewhere_all }}), where the marks even out.

# %% tags=["guard"]
if study:
    area = {row["class"]: float(row["AUROC of which collection"].split()[0]) for row in apart}
    report.guard("easily distinguished, on Mpox alone less so", area["all"] > 0.8 and area["Mpox"] < area["all"])
    facts = measured[0].set_index("fact")["high"]
    report.guard("MSLD has lower contrast and smaller files", facts["contrast"] < 0 and facts["bytes_per_pixel"] < 0)

# %% [markdown]
# ## What helps
#
# Five remedies, on the same unshared images. What they see of the target differs, and only like can be compared with like:
#
# - *colour copies*: each training image is joined by copies in other colours, as from another camera. This sees nothing of it.
# - *re-weighted*: a training image counts the more, the more it looks like one of the target's {cite}`sugiyama2007,yamada2013`,
#   by the classifier of the last section. The target's images are needed, not their labels.
# - *own scale*: features are standardised by the mean and spread of their own collection. All images of the target are needed
#   before the first one is diagnosed, so it is useless for a single patient at the door.
# - *mixed*: the target's own labelled images, of groups that are not tested, join the training. *Target alone*: only these.

# %%
changes = [external.changes(unshared[pair], "no remedy").dropna().assign(direction=directions[pair]) for pair in readable]
helped = pd.concat(changes, ignore_index=True) if changes else pd.DataFrame(columns=["way", "p", "change"])
helped["p_holm"] = comparison.holm(helped["p"]) if len(helped) else []
helped["sees"] = [external.REMEDIES[way].sees for way in helped["way"]]

# %% mystnb={"image": {"alt": "Paired differences in AUROC of each remedy against no remedy with 95 percent intervals, coloured by what the remedy sees of the target, a panel for each direction."}, "figure": {"name": "remedies", "caption": "What each remedy changes in AUROC on the unshared images of the target, against the same model without it; paired, with 95 % intervals from resampling groups. In brackets the AUROC itself. Coloured by what the remedy sees of the target."}}
if len(helped):
    shown = helped.assign(line=[f"{row.way} ({row.estimate:.2f})" for row in helped.itertuples()], sees="sees " + helped["sees"])
    look = {"x": "change", "low": "change_low", "high": "change_high", "xlabel": "change in AUROC against no remedy"}
    figure = plots.forest(shown, "line", hue="sees", row="direction", reference={"no remedy": 0.0}, **look)
    free = helped[~helped["sees"].str.startswith("labelled")]
    report.finding("external_remedies_better", f"{((free['p_holm'] < 0.05) & (free['change'] > 0)).sum()} of {len(free)}")

# %%
for pair in pairs:
    for way, reason in skipped[pair].items():
        report.prose(f"*Not computed on this page: {directions[pair]}, {way}, because: {reason}*")
    if pair in readable and "re-weighted" in ways[pair]:
        weights = external.target_weights(store, pairs[pair], *pair, judged, n_folds=N_FOLDS, seed=SEED)
        size = external.effective_size(weights.to_numpy())
        report.finding(f"external_{keys[pair]}_effective_size", f"{size:.0f} of {len(weights)}")

# %% [markdown]
# Weights have a price: where collections hardly overlap, a few images carry nearly all of the weight. The *effective sample size*
# says how many evenly weighted images are worth as much.

# %% [markdown] tags=["study"]
# No remedy without labels of the target is shown to be better than none ({{ external_remedies_better }}, after Holm's correction).
# Re-weighting leaves an effective {{ external_msld_msid_effective_size }} training images towards MSID and
# {{ external_msid_msld_effective_size }} towards MSLD. Labelled images of the target are what helps: mixed training raises the
# AUROC in both directions.

# %% [markdown] tags=["instruments"]
# Re-weighting finds the images whose mark is as in the target ({{ external_remedies_better }} trials of a remedy without labels
# are shown to be better than none). It leaves an effective {{ external_phantom_phantom_elsewhere_effective_size }} training images.

# %% tags=["guard"]
if study:
    report.guard("no remedy without labels is better", not ((free["p_holm"] < 0.05) & (free["change"] > 0)).any())
    mixed = helped[helped["way"] == "mixed"]
    report.guard("mixed training raises the AUROC in both directions", len(mixed) == 2 and (mixed["change_low"] > 0).all())

# %% [markdown]
# ## How many images of one's own
#
# The most expensive remedy is the plainest: label some images of the place where the model is to be used. [The
# curves](#fig-own-images) have a share of the target's training groups, with and without the other collection.

# %%
own = {}
for pair in readable:
    own[pair] = external.own_pictures(store, pairs[pair], *pair, judged, fractions=OWN_SHARES, **folds)
    own[pair] |= {(way, 1.0): ways[pair][way] for way in ("mixed", best) if way in ways[pair]}

# %% mystnb={"image": {"alt": "AUROC over the share of the target's training groups that are learnt from, with and without the other collection in training, with 95 percent intervals; a panel for each direction."}, "figure": {"name": "own-images", "caption": "AUROC on the unshared images of the target, over the share of its own training groups that is learnt from; at 0 % only the other collection is. Bars are 95 % intervals from resampling groups; the points of one panel share their images."}}
curve = []
for pair, found in own.items():
    tables = {("mixed", 0.0): ways[pair]["no remedy"], **found}.items()
    areas = {key: external.auroc_replicates(external.unshared_part(table)).row() for key, table in tables}
    for (way, share), area in areas.items():
        with_it = "without the other" if way == best else "with the other collection"
        curve.append({"way": with_it, "share": share, "direction": directions[pair], **area})
    images = (pairs[pair].manifest["source"] == pair[1]).sum() * (1 - 1 / N_FOLDS)
    reached = [key for key in sorted(areas) if key[0] == best and areas[key]["estimate"] >= areas["mixed", 0.0]["estimate"]]
    enough = f"about {reached[0][1] * images:.0f}" if reached else f"more than {images:.0f}"
    report.finding(f"external_{keys[pair]}_own_enough", enough)
if curve:
    look = {"xlabel": "share of the target's groups learnt from", "ylabel": "AUROC (Mpox against others)", "percent": "x"}
    figure = plots.bands(pd.DataFrame(curve), "share", hue="way", row="direction", intervals="bars", width=6, **look)

# %% [markdown] tags=["study"]
# By the estimates {{ external_msld_msid_own_enough }} labelled images of MSID do as much there as the whole of MSLD, and
# {{ external_msid_msld_own_enough }} of MSLD as much as the whole of MSID. The intervals overlap, so fewer or more may be needed.

# %% [markdown]
# ## What could be wrong
#
# - The unshared images are not a random part of a collection and may be harder, hence the ceiling on the same images. It is the
#   ceiling of this kind of model, not of the task.
# - The other rashes are chickenpox and measles in both, in different proportions; part of a fall is a change of the question.
# - Both collections were gathered from the web. A fall between them, or none, says little about a clinic.
# - *At home* and the ceiling use the groups of the joint audit, fewer repeats than chapter 3, and no healthy skin.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("08")

# %% [markdown]
# ## Exercises
#
# With blanks to fill in: `notebooks/exercises/08_other_data.ipynb`. A solution follows each exercise, folded in the book. Try first.

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# In which direction is the promise to find 95 of 100 kept best? Would you have guessed it from the AUROC?
#
# *Hint.* `decisions.operating_point(carried[pair])` returns a table with a row for each `metric`;
# `external.auroc_replicates(table).row()` returns the AUROC with its interval.

# %% tags=["solution"]
rows = []
for pair in readable:
    at = decisions.operating_point(carried[pair]).set_index("metric")["estimate"]
    area = external.auroc_replicates(unshared[pair]["no remedy"]).row()["estimate"]
    rows.append((directions[pair], area, at["sensitivity"], at["specificity"], at["sensitivity"] - aim.level))
kept = pd.DataFrame(rows, columns=["direction", "AUROC", "sensitivity", "specificity", "sensitivity minus 0.95"])
report.show(kept, digits=2)
assert all(carried[pair]["threshold"].nunique() == 1 for pair in readable), "Carry over one threshold, not one a group."

# %% [markdown] tags=["solution"]
# The AUROC does not know: all scores may move up or down together and leave it as it was, while every one of them crosses the
# threshold. A sensitivity above the aim is no success either: look at what the specificity paid for it.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# `external.density_weights` has a parameter `alpha`, which is 0.1 above. Set it to 0, 0.5 and 1, and look at the effective sample
# size. Say beforehand what `alpha=1` must give.
#
# *Hint.* `external.predict_domain(store, pairs[pair], judged, whole=pair[0], n_folds=N_FOLDS, seed=SEED)` predicts the
# collection; `density_weights(predictions, *pair, alpha=...)` returns weights; `effective_size` takes these as an array.

# %% tags=["solution"]
rows = []
for pair in readable:
    domain = external.predict_domain(store, pairs[pair], judged, whole=pair[0], n_folds=N_FOLDS, seed=SEED)
    for alpha in (0, 0.5, 1):
        weights = external.density_weights(domain, *pair, alpha=alpha)
        rows.append((directions[pair], alpha, len(weights), external.effective_size(weights.to_numpy())))
sizes = pd.DataFrame(rows, columns=["direction", "alpha", "training images", "effective size"])
report.show(sizes, digits=1)
even = sizes[sizes["alpha"] == 1]
assert (even["effective size"].round(6) == even["training images"]).all(), "With alpha=1 all weights should be 1."

# %% [markdown] tags=["solution"]
# With `alpha=1` every weight is 1, and the model is the one without a remedy. With 0 a few images dominate where the classifier
# is nearly certain. Which `alpha` is best cannot be read off the AUROC of the target: that would be a choice on the test.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (open)
#
# A hospital with six hundred images of its own, eighty of them of Mpox, wants to know whether it may use the model. Which
# measurements of this page do you repeat there, in which order, and what result would make you say no?
#
# *Hint.* Which of them need labels, and which use up the test?

# %% [markdown] tags=["solution"]
# *A model answer.* First audit their images together with the training collection; shared photographs leave the test. Divide the
# patients into two parts, once, and lock one away. On the open part measure the AUROC, the threshold carried over and the level;
# a sensitivity whose interval lies below the aim is a no to the model *as it is*. Then the ceiling: if a model of their own is no
# better, a remedy has little to win; if it is, try a new threshold, then mixed training. Open the locked part once, with the
# procedure that was chosen: the answer is that interval. Say no, too, if the images show only patients whose diagnosis was sure.

# %% [markdown]
# ## What to read next
#
# [Chapter 9](09_use.ipynb): what thresholds are for. On shift {cite}`sugiyama2007,gretton2012`; on reporting {cite}`collins2024`.

# %% tags=["hide-input"]
names = dict.fromkeys([*DATASETS, *given.values()])
report.provenance("08_other_data", store, [store.dataset(name, data_dir=DATA_DIR or None) for name in names], device=DEVICE)
