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
# # Other data
#
# **Question.** What is the model worth on a collection that other people gathered, what exactly goes wrong there, and what helps?
#
# The model is trained on all of one collection and tested on all of another. The task is one that both can pose: Mpox against the
# other rashes, without healthy skin.
#
# A collection of your own takes this place with one parameter: `EXTERNAL_FOLDER`, a folder with one sub-folder a class, one of
# them called `Mpox` (or `Monkeypox`). Whatever the others are called counts as other rashes, and `Normal` or `Healthy` is left out. Each of
# this page's data sets is then trained on, and your folder is tested.
#
# **After this chapter you can**
#
# - tell a stranger's collection from hard pictures, by a ceiling on the same pictures;
# - carry a threshold over to another collection, and say what became of its promise;
# - describe a shift before you blame it;
# - say what each remedy may look at, and what it is paid for with.
#
# **You need** [chapter 3](03_cross_validation.ipynb) and [the shortcuts](07_shortcuts.ipynb).

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
import matplotlib.pyplot as plt
import pandas as pd

from mpox import ModelConfig, evaluate, open_store
from mpox.book import plots, report
from mpox.book.run import check_parameters

check_parameters("08_other_data", globals())
plots.use_style()
store = open_store(RUN_STORE)

# %%
at_the_top = report.key_findings()

# %% tags=["exercise-setup"]
from mpox._core import TooFewImages
from mpox.protocols.splits import make_external_split
from mpox.runs.cross_validation import predict_nested
from mpox.stats.comparison import holm
from mpox.stats.decisions import YOUDEN, Aim, carry_thresholds, crossfit_thresholds, operating_difference, operating_point
from mpox.stats.resample import with_percentiles
from mpox.studies import external
from mpox.studies.external import (
    auroc_replicates,
    calibration_in_the_large,
    calibration_shift,
    changes,
    external_metrics,
    external_pair,
    unshared_part,
)

judged = ModelConfig(regime="linear_probe", backbone=BACKBONE, image_size=IMAGE_SIZE, seed=SEED, device=DEVICE)
named = [[name, EXTERNAL_FOLDER] for name in DATASETS] if EXTERNAL_FOLDER else EXTERNAL
asked = [pair for pair in named if set(pair) & set(DATASETS)]
pairs = {}
for train_name, test_name in asked:
    both, train_name, test_name = external_pair(store, train_name, test_name, study=DATASETS, data_dir=DATA_DIR or None)
    pairs[train_name, test_name] = both
directions = {pair: f"trained on {pair[0]}, tested on {pair[1]}" for pair in pairs}
if any("phantom-elsewhere" in pair for pair in pairs):
    report.prose(
        "The other collection of this page is a second phantom: other people, drawn by the same program, but with the mark in the corner of "
        "the *other* rashes, as if another publisher had gathered those. A model that leant on the mark must fall there, and a page that "
        "could not show it would be worth nothing."
    )
if not pairs:
    report.prose(
        "*Nothing to show on this page: it needs a second collection. Name a pair of collections, at least one of them of `DATASETS`, with "
        "`EXTERNAL`, or a folder of yours with `EXTERNAL_FOLDER`.*"
    )
if passed_over := [" and ".join(map(str, pair)) for pair in named if pair not in asked]:
    report.prose(f"*Passed over, because neither is one of this page's data sets: {'; '.join(passed_over)}.*")

# %% [markdown]
# ## As published, without shared photographs, and the ceiling
#
# Public collections overlap: they are gathered from the same corners of the web. A photograph that is in both was learnt by heart,
# and its prediction says nothing about other data. So the same predictions are read three times: all pictures, as published studies do;
# without the photographs (and patients) that both hold; and on those alone.
#
# Two more lines are for comparison. *At home* is the same model on the same task, cross-validated within the collection that it was
# trained on: what its makers would have reported. The *ceiling* is the model cross-validated within the target and read on exactly the same
# unshared pictures. A fall has two possible reasons, a stranger's collection or hard pictures, and the ceiling tells them apart; its
# difference to the model from elsewhere is paired. All five lines are in [the figure](#fig-transport).

# %%
ways, skipped, standing = {}, {}, []
folds = {"n_folds": N_FOLDS, "n_repeats": EXTERNAL_REPEATS, "seed": SEED}
for pair, both in pairs.items():
    ways[pair], skipped[pair] = external.every_way(store, both, *pair, judged, n_copies=COLOUR_COPIES, **folds)
    found = external_metrics(ways[pair]["no remedy"])
    rows = found[(found["metric"] == "auroc") & (found["class"] == "Mpox")].rename(columns={"subset": "place"})
    standing.append(rows.assign(direction=directions[pair], line=rows["place"] + " (" + rows["images"].astype(str) + ")"))
standing = pd.concat(standing, ignore_index=True) if standing else pd.DataFrame(columns=["direction", "place", "reason", "images"])
#: The pairs that have enough pictures which are not shared for the rest of this part.
readable = [
    pair
    for pair in pairs
    if standing[(standing["direction"] == directions[pair]) & (standing["place"] == "without shared")]["reason"].eq("").all()
]
unshared = {pair: {way: unshared_part(table) for way, table in ways[pair].items()} for pair in readable}
homes = {pair: external.with_remedy(store, both, pair[1], pair[0], judged, "target alone", **folds) for pair, both in pairs.items()}
gaps = {
    pair: changes({way: unshared[pair][way] for way in ("target alone", "no remedy")}, "target alone").set_index("way")
    for pair in readable
    if "target alone" in unshared[pair]
}
compared = []
for pair in pairs:
    area = dict(zip(("estimate", "low", "high"), with_percentiles(auroc_replicates(homes[pair])), strict=True))
    images = homes[pair]["image_id"].nunique()
    compared.append({**area, "place": "at home", "line": f"at home ({images})", "direction": directions[pair]})
    if pair in gaps:
        ceiling = gaps[pair].loc["target alone", ["estimate", "low", "high"]].to_dict()
        images = unshared[pair]["no remedy"]["image_id"].nunique()
        compared.append({**ceiling, "place": "ceiling", "line": f"ceiling ({images})", "direction": directions[pair]})
standing = pd.concat([standing, pd.DataFrame(compared).assign(reason="")], ignore_index=True) if compared else standing

# %% mystnb={"image": {"alt": "AUROC for Mpox against other rashes with 95 percent intervals, a panel for each direction: on all test pictures, without shared ones, on shared ones only; then at home, the training collection cross-validated by itself, and the ceiling, the target cross-validated by itself on the same pictures."}, "figure": {"name": "transport", "caption": "AUROC for Mpox against other rashes on the other collection, with 95 % intervals from resampling groups; in brackets the number of test pictures. At home and ceiling are cross-validations within one collection: the one trained on, and the one tested on."}}
if len(standing):
    look = {"values": "{:.2f}", "missing": "reason", "legend": False, "xlabel": "AUROC (Mpox against other rashes)"}
    plots.forest(standing, "line", hue="place", row="direction", reference={"a coin": 0.5}, **look)
    plt.show()

# %%
def unshared_count(pair):
    """How many unshared pictures the target has, and how many of Mpox."""
    first = unshared[pair]["no remedy"].drop_duplicates("image_id")
    return f"{len(first)} unshared pictures ({(first['label'] == 'Mpox').sum()} of Mpox)"


def ceiling(pair):
    """The AUROC of a model of the target's own, with its interval."""
    return report.with_interval(*gaps[pair].loc["target alone", ["estimate", "low", "high"]].astype(float), digits=3)


for pair in pairs:
    key = f"external_{report.short_name(pair[0])}_{report.short_name(pair[1])}"
    rows = standing[standing["direction"] == directions[pair]].set_index("place")
    said = [
        f"{place} ({row.images:.0f} pictures) "
        + (f"not defined ({row.reason})" if row.reason else report.with_interval(row.estimate, row.low, row.high, digits=3))
        for place, row in rows.drop(index=["at home", "ceiling"], errors="ignore").iterrows()
    ]
    home = report.with_interval(*rows.loc["at home", ["estimate", "low", "high"]].astype(float), digits=3)
    report.prose(f"Trained on {pair[0]}, tested on {pair[1]}: AUROC {'; '.join(said)}. At home it was {home}.")
    if pair in gaps:
        row = gaps[pair].loc["no remedy"]
        change = report.with_interval(row["change"], row["change_low"], row["change_high"], digits=3)
        report.prose(
            f"On the {unshared_count(pair)} it stands {change} from the ceiling of {ceiling(pair)} (difference in AUROC, paired), an interval that {'contains' if row['change_low'] <= 0 <= row['change_high'] else 'does not contain'} zero."
        )
        report.finding(f"{key}_gap", change)
    for way, reason in skipped[pair].items():
        report.prose(f"*{pair[1]}, {way}: {reason}*")

# %% [markdown]
# Read the line without shared photographs together with the ceiling. Where a model from elsewhere falls *below* the ceiling, something of what it had learnt
# does not travel. Where it stands *at* a low ceiling, it has met hard pictures and no other model of this kind does better on them; to call
# that a failure of transport would be wrong. And the line of shared photographs, usually the best, is what inflates a published "external" test.
#
# ## The threshold
#
# The AUROC compares pictures within one collection. Someone who uses a model has a threshold, and it was chosen before the new pictures
# came. Here it is chosen on predictions of *held-out training pictures*, for two aims: to find at least 95 of 100 Mpox
# pictures, and to make sensitivity and specificity together as large as can be {cite}`youden1950`. It is carried over to the other
# collection as it is. Beside it stands the same aim with a threshold chosen anew on labelled pictures of the target, by
# cross-fitting: the threshold of each group comes from the other groups, so that nothing is chosen on what it is scored on.
# [The figure](#fig-carried-threshold) has the three places side by side, [the table](#table-threshold-moved) the paired differences.
#
# :::{margin} Why held-out training pictures?
# On the pictures it was fitted to a model is too sure, so that a threshold chosen there is too high or too low by as much as the model has
# learnt by heart. Test pictures are not to be had before the test. What is left is to hold out training pictures in turn.
# :::

# %%
aims = [Aim("sensitivity", 0.95), YOUDEN]
aim_names = {aims[0]: "95 of 100", aims[1]: "largest sum"}
points, moved, levels = [], [], []
for pair in readable:
    split = make_external_split(pairs[pair].manifest, *pair, seed=SEED)
    nested, target = predict_nested(store, pairs[pair], split, judged), unshared[pair]["no remedy"]
    level = [calibration_in_the_large(table).assign(where=where) for where, table in ((pair[0], nested), (pair[1], target))]
    levels.append(pd.concat(level).assign(direction=directions[pair]))
    report.finding(
        f"external_{report.short_name(pair[0])}_{report.short_name(pair[1])}_intercept",
        report.with_interval(*calibration_shift(nested, target)),
    )
    for aim in aims:
        carried = carry_thresholds(target, nested, aim)
        places = {"where it was chosen": nested.assign(threshold=carried["threshold"].iloc[0]), "carried over": carried}
        try:
            places["chosen anew"] = crossfit_thresholds(target, aim, seed=SEED)
            change = operating_difference(carried, places["chosen anew"])
            moved.append(change.assign(direction=directions[pair], aim=aim_names[aim]))
        except TooFewImages as reason:
            report.prose(f"*{pair[1]}: {reason}*")
        about = {"direction": directions[pair], "aim": aim_names[aim], "level": aim.level if aim.kind == "sensitivity" else None}
        points += [operating_point(table).assign(**about, place=place, threshold=table["threshold"].mean()) for place, table in places.items()]

# %% mystnb={"image": {"alt": "Sensitivity and specificity with 95 percent intervals for two aims: where the threshold was chosen, carried over to the other collection, and chosen anew there; a row of panels for each direction."}, "figure": {"name": "carried-threshold", "caption": "A threshold for two aims, where it was chosen (held-out training pictures), carried over to the unshared pictures of the other collection, and chosen anew there by cross-fitting. The dashed line is the aim. Intervals resample groups and take the threshold for given."}}
if points:
    points = pd.concat(points, ignore_index=True)
    points["level"] = points["level"].astype(float)
    shown = points[points["metric"].isin(["sensitivity", "specificity"])].assign(line=points["aim"] + ": " + points["place"])
    shown["level"] = shown["level"].where(shown["metric"] == "sensitivity")
    look = {"goal": "level", "values": "{:.2f}", "legend": False, "xlabel": {name: name for name in shown["metric"]}}
    plots.forest(shown, "line", hue="place", row="direction", col="metric", **look)
    plt.show()

# %%
for (direction, aim), part in points.groupby(["direction", "aim"], sort=False) if len(points) else ():
    at = part[part["place"] == "carried over"].set_index("metric")
    sensitivity, specificity = (
        report.with_interval(*at.loc[name, ["estimate", "low", "high"]].astype(float)) for name in ("sensitivity", "specificity")
    )
    report.prose(
        f"{direction[0].upper()}{direction[1:]}; aim: {aim}: the threshold {at['threshold'].iloc[0]:.2f}, carried over, gives a sensitivity of {sensitivity} and "
        f"a specificity of {specificity}; it flags {at.loc['flagged', 'estimate']:.0%} of these pictures."
    )
if moved:
    moved = pd.concat(moved, ignore_index=True)
    shown = moved[moved["metric"].isin(["sensitivity", "specificity"])]
    text = [report.with_interval(*row, digits=3) for row in shown[["estimate", "low", "high"]].to_numpy()]
    wide = shown.assign(text=text).pivot(index=["direction", "aim"], columns="metric", values="text")
    report.show(wide.rename_axis(columns=None).reset_index(), name="threshold-moved", caption="Carried over minus chosen anew, paired.")

# %% [markdown]
# The *level* of the probabilities moves too. The intercept below is what must be added to every log odds for the mean prediction to be
# right: 0 is right, below 0 the model says Mpox too readily {cite}`cox1958`. It depends on how common Mpox is among the pictures (the probe is told
# to treat both classes alike), so that part of a shift is no fault of the model, but it is a fault of whoever reads the number as a
# probability ([the levels](#table-levels)).

# %%
if levels:
    levels = pd.concat(levels, ignore_index=True)
    text = [report.with_interval(*row) for row in levels[["estimate", "low", "high"]].to_numpy()]
    wide = levels.assign(text=text).pivot(index=["direction", "where"], columns="measure", values="text")
    report.show(
        wide[["predicted", "observed", "intercept"]].rename_axis(columns=None).reset_index(),
        name="levels",
        caption="Mean probability of Mpox, observed share, and the intercept between them.",
    )

# %% [markdown]
# ## How the collections differ
#
# First, a classifier that is asked which collection a picture comes from: a linear probe on the same frozen features, with groups kept together and
# shared photographs left out. If it cannot tell (AUROC 0.5), the features hold little that a model could trip over; if it can, they
# differ in something. Within one class the answer cannot come from how common the classes are. A two-sample test of the features such as the maximum mean
# discrepancy {cite}`gretton2012` asks the same without a classifier (exercise 5).
#
# [The table](#table-told-apart) has the answers. A caution: "can be told apart" is not "the model fails". A collection can be recognised by its JPEG quality and be diagnosed all the same.

# %%
told, drawn = [], {tuple(sorted(pair)): both for pair, both in pairs.items()}
for pair, both in drawn.items():
    for label in (None, *both.classes):
        try:
            domain = external.predict_domain(store, both, judged, label=label, n_folds=N_FOLDS, seed=SEED)
        except TooFewImages as reason:
            report.prose(f"*{' and '.join(pair)}, {label or 'all classes'}: {reason}*")
            continue
        area = evaluate(domain, positive=pair[1])
        told.append({
            "collections": " and ".join(pair),
            "class": label or "all",
            "pictures": len(domain),
            "AUROC of which collection": report.estimate(area, "auroc", pair[1]),
        })  # fmt: skip
if told:
    report.show(pd.DataFrame(told), name="told-apart", caption="How well two collections can be told apart, in all pictures and within each class.")
if any("phantom-elsewhere" in pair for pair in pairs):
    report.prose(
        "On phantoms the answer is planted: of the first collection seven in ten Mpox pictures bear the mark and one in twenty of the others, of "
        "the second it is the other way round; everything else was drawn from one law. So the collections should be told apart within "
        "either class, and better than in both together, where the marks even out."
    )

# %% [markdown]
# Second, single facts of the pictures, one by one, as standardised differences; above 0.1 they are commonly called an imbalance
# {cite}`austin2009` ([the grey band](#fig-collections)). And how common Mpox is.

# %%
measured = []
for pair, both in drawn.items():
    names = {store.dataset(name, data_dir=DATA_DIR or None).name: name for name in dict.fromkeys(sum(map(list, asked), []))}
    facts = [external.collection_facts(store, store.dataset(names[name], data_dir=DATA_DIR or None)) for name in pair]
    for label in (None, *both.classes):
        table = external.fact_differences(both, pd.concat(facts, ignore_index=True), *pair, label=label, seed=SEED)
        measured.append(table.assign(pair=f"{pair[1]} minus {pair[0]}", **{"class": label or "all"}))
    shares = external.label_shares(both)
    said = [f"{report.with_interval(row.estimate, row.low, row.high)} in {row.source}" for row in shares.itertuples()]
    report.prose(f"Share of Mpox among the rashes: {' and '.join(said)}.")

# %% mystnb={"image": {"alt": "Standardised differences of lightness, contrast, chroma, sharpness, blur, skin tone, size and file size between two collections with 95 percent intervals, for all pictures and within each class."}, "figure": {"name": "collections", "caption": "Differences of single facts between the collections, in standard deviations with 95 % intervals from resampling groups; shared photographs are left out. The grey band is from -0.1 to 0.1. A fact that never varies is not shown."}}
if measured:
    measured = pd.concat(measured, ignore_index=True)
    look = {"reference": {"-0.1 to 0.1": (-0.1, 0.1)}, "xlabel": "difference (standard deviations)"}
    plots.forest(measured.replace({"fact": external.FACTS}), "fact", hue="class", row="pair", **look)
    plt.show()

# %%
if len(measured):
    for pair, part in measured[measured["class"] == "all"].dropna(subset=["estimate"]).groupby("pair", sort=False):
        of_the_file = part[part["fact"].isin(["side", "bytes_per_pixel"])].set_index("fact")
        part = part[~part["fact"].isin(of_the_file.index)].sort_values("estimate", key=abs, ascending=False)
        sure = part[(part["low"] > 0) | (part["high"] < 0)]
        most = part.iloc[0]
        report.prose(
            f"{pair}: of what the pictures show, the largest difference is in {external.FACTS[most['fact']]}, "
            f"{report.with_interval(most['estimate'], most['low'], most['high'])}; {len(sure)} of {len(part)} intervals exclude zero. "
            + " ".join(
                f"The {external.FACTS[fact]}, a matter of how the files were made and not of what they show, differs by "
                f"{report.with_interval(row['estimate'], row['low'], row['high'])}."
                for fact, row in of_the_file.iterrows()
            )
        )

# %% [markdown]
# ## What helps
#
# Five remedies, each measured on the same unshared pictures of the target. What they may look at differs, and the comparison is not fair
# without that:
#
# - *colour copies*: each training picture is joined by copies in other colours, as another camera in another light might have seen it. Nothing
#   of the target is needed.
# - *re-weighted*: a training picture counts the more, the more it looks like one of the target's {cite}`sugiyama2007`. The weights are relative density
#   ratios {cite}`yamada2013` from the classifier of the last section, each picture's from a model that had not seen its group. The target's pictures are needed, not
#   their labels.
# - *own scale*: the features of each collection are standardised by its own mean and spread. This is *transductive*: all pictures of the target
#   are needed together before the first one is diagnosed, so that it is nothing for a single patient at the door.
# - *mixed*: the target's own labelled pictures, of groups that are not tested, join the training.
# - *target alone*: those without the other collection: the ceiling from above.
#
# [The figure](#fig-remedies) has the changes, [the table](#table-remedies) their numbers. All p values are adjusted together by Holm's
# method.

# %%
said = []
for pair in readable:
    table = changes(unshared[pair], "no remedy").dropna(subset=["change"])
    said.append(table.assign(direction=directions[pair], sees=[external.REMEDIES[way].sees for way in table["way"]]))
helped = pd.concat(said, ignore_index=True) if said else pd.DataFrame(columns=["direction", "p"])
if len(helped):
    helped["p (Holm)"] = holm(helped["p"])

# %% mystnb={"image": {"alt": "Paired differences in AUROC of each remedy against no remedy with 95 percent intervals, coloured by what the remedy sees of the target, a panel for each direction."}, "figure": {"name": "remedies", "caption": "What each remedy changes in AUROC on the unshared pictures of the target, against the same model without it; paired, with 95 % intervals from resampling groups. In brackets the AUROC itself."}}
if len(helped):
    shown = helped.assign(sees="sees " + helped["sees"])
    shown["line"] = [f"{row.way} ({row.estimate:.2f})" for row in shown.itertuples()]
    look = {"x": "change", "low": "change_low", "high": "change_high", "xlabel": "change in AUROC against no remedy"}
    plots.forest(shown, "line", hue="sees", row="direction", reference={"no remedy": 0.0}, **look)
    plt.show()

# %%
if len(helped):
    shown = helped.assign(
        AUROC=[report.with_interval(*row, digits=3) for row in helped[["estimate", "low", "high"]].to_numpy()],
        change=[report.with_interval(*row, digits=3) for row in helped[["change", "change_low", "change_high"]].to_numpy()],
    )
    shown = shown[["direction", "way", "sees", "AUROC", "change", "p (Holm)"]]
    report.show(shown, name="remedies", caption="What each remedy reaches on the unshared pictures, what it changes, and what it sees.")
    free = helped[~helped["sees"].str.startswith("labelled")]
    better, worse = ((free["p (Holm)"] < 0.05) & (free["change"] > 0)).sum(), ((free["p (Holm)"] < 0.05) & (free["change"] < 0)).sum()
    report.prose(
        f"Of {len(free)} trials of a remedy that needs no label of the target, {better} {'is' if better == 1 else 'are'} better than no remedy and "
        f"{worse} worse after Holm's correction (0.05)."
    )
    report.finding("external_remedies_better", f"{better} of {len(free)}")
for pair in readable:
    weights = external.target_weights(store, pairs[pair], *pair, judged, n_folds=N_FOLDS, seed=SEED)
    size = external.effective_size(weights.to_numpy())
    report.prose(f"Re-weighted towards {pair[1]}, the {len(weights)} training pictures of {pair[0]} are worth {size:.0f} (effective sample size; alpha {external.ALPHA:g}).")

# %% [markdown]
# The effective sample size is the price of weights: where the collections hardly overlap, a few pictures carry nearly all of the weight,
# and the model is trained on what amounts to few.
#
# ## How many pictures of one's own replace a stranger's collection?
#
# The most expensive remedy is the plainest: label some pictures of the place where the model is to be used. The curves begin where only a share of the
# target's training groups is labelled, with and without the other collection behind it ([the curves](#fig-own-pictures)).
#
# :::{margin} Effective sample size
# The square of the sum of the weights over the sum of their squares. Equal weights give the number of pictures back; one weight that
# outgrows the others gives one.
# :::

# %%
curve = []
for pair in readable:
    tables = external.own_pictures(store, pairs[pair], *pair, judged, fractions=OWN_SHARES, **folds)
    tables |= {(way, 1.0): ways[pair][way] for way in ("mixed", "target alone") if way in ways[pair]}
    tables |= {("mixed", 0.0): ways[pair]["no remedy"]}
    names = {"mixed": "with the other collection", "target alone": "without it"}
    for (way, fraction), table in tables.items():
        area = dict(zip(("estimate", "low", "high"), with_percentiles(auroc_replicates(unshared_part(table))), strict=True))
        curve.append({"direction": f"{pair[0]} to {pair[1]}", "way": names[way], "fraction": fraction, **area})

# %% mystnb={"image": {"alt": "AUROC over the share of the target's training groups that are learnt from, with and without the other collection in training, with 95 percent intervals; directions side by side."}, "figure": {"name": "own-pictures", "caption": "AUROC on the unshared pictures of the target, over the share of its own training groups that is learnt from. At 0 % only the other collection is. Bars are 95 % intervals from resampling groups; the points of one panel share their pictures."}}
if curve:
    axes_of = {"xlabel": "share of the target's training groups", "ylabel": "AUROC (Mpox against other rashes)"}
    plots.bands(pd.DataFrame(curve), "fraction", hue="way", col="direction", intervals="bars", percent="x", **axes_of)
    plt.show()

# %%
for pair in readable:
    rows = pd.DataFrame(curve).query("direction == @pair[0] + ' to ' + @pair[1]")
    stranger = rows[rows["fraction"] == 0].iloc[0]
    own = rows[rows["way"] == "without it"].sort_values("fraction")
    pictures = (pairs[pair].manifest["source"] == pair[1]).sum() * (1 - 1 / N_FOLDS)
    said = [
        f"{row.fraction:.0%} of the groups (about {row.fraction * pictures:.0f} pictures) {report.with_interval(row.estimate, row.low, row.high)}"
        for row in own.itertuples()
    ]
    enough = own[own["estimate"] >= stranger["estimate"]]
    report.prose(
        f"**{directions[pair][0].upper()}{directions[pair][1:]}**: a stranger's collection alone reaches "
        f"{report.with_interval(stranger['estimate'], stranger['low'], stranger['high'])}; own pictures alone: {'; '.join(said) or 'none were tried'}. "
        + (
            f"By the estimates {'the only share that was tried' if len(own) == 1 else 'the smallest share that was tried and reaches it'}, about "
            f"{enough['fraction'].iloc[0] * pictures:.0f} pictures of one's own, replaces it"
            + (
                "; the two intervals overlap, so that fewer, or more, may be needed."
                if enough["low"].iloc[0] <= stranger["high"]
                else "; the two intervals do not overlap."
            )
            if len(enough)
            else "It was not replaced by as many as were tried."
        )
    )

# %% tags=["hide-input"]
lines = []
for pair in readable:
    rows = standing[standing["direction"] == directions[pair]].set_index("place")
    told = {place: report.with_interval(*rows.loc[place, ["estimate", "low", "high"]].astype(float), digits=3) for place in ("without shared", "at home")}
    line = (
        f"**{directions[pair][0].upper()}{directions[pair][1:]}**: AUROC {told['without shared']} on {unshared_count(pair)}; at home, where it was "
        f"trained, {told['at home']}"
    )
    if pair in gaps:
        line += f"; a model of the target's own reaches {ceiling(pair)} on the same pictures"
    chosen = points[(points["direction"] == directions[pair]) & (points["aim"] == aim_names[aims[0]]) & (points["metric"] == "sensitivity")]
    at = chosen.set_index("place").loc["carried over", ["estimate", "low", "high"]].astype(float)
    line += f" ([all readings](#fig-transport)). A threshold for a sensitivity of {aims[0].level:g}, carried over, reaches {report.with_interval(*at)}"
    lines.append(f"{line}.")
if len(helped):
    better = free[(free["p (Holm)"] < 0.05) & (free["change"] > 0)]
    names = ", ".join(sorted(set(better["way"]))) or "none"
    lines.append(f"Of the remedies that need no label of the target, better than no remedy after Holm's correction: {names}.")
at_the_top.fill(*(lines or ["Nothing could be compared on this page."]))

# %% [markdown]
# ## What this means
#
# An external test is worth what its unshared pictures are worth. Shared photographs lift it, and hard pictures lower it, and neither is what
# one wanted to know; the ceiling on the same pictures tells [the two](#fig-transport) apart. Not only the order of the pictures has to travel, but also the
# number at which one acts: a threshold, a probability, a promise of coverage (chapter 9) belong to the place where they were made, until
# they have been measured elsewhere. A remedy that needs no labels of the new place has to show in the table above that it helps.
#
# ## What could be wrong
#
# - The unshared pictures are not a random part of a collection: they are those that nobody else has taken, and may be harder. That is why
#   the ceiling is read on the same pictures.
# - "Other rashes" are chickenpox and measles in one collection and whatever its makers found in another; a part of the fall
#   is a change of the question.
# - The ceiling and the mixed models learn from the target's shared photographs in other folds; the ceiling is one of this kind of model, not of the task.
# - A frozen network knows few remedies. Colour copies change the features, but the features were not learnt with them.
# - The re-weighting assumes that only the pictures differ and not what they mean; where the label of a photograph differs between collections, no weight mends it.
#
# ## Take-aways
#
# - Leave out what both collections hold before you call a test external. Copies are the part that a model knows by heart.
# - A fall has two reasons, a stranger's collection and hard pictures. A ceiling on the same pictures tells them apart.
# - A threshold is a promise made in one place. Carry it over and count ([as here](#fig-carried-threshold)), before anyone relies on it.
# - A remedy is paid for in what it sees of the target. Compare remedies that see alike, and correct for their number.
#
# ## Check yourself

# %% tags=["hide-input"]
report.quiz("08")

# %% [markdown]
# ## Exercises
#
# With blanks to be filled in: `notebooks/exercises/08_other_data.ipynb`. Here each exercise is followed by a solution, folded in the
# book. Try first.
#
# For each direction they take the predictions of the unshared pictures of the target, and those of held-out training pictures.

# %% tags=["exercise-setup", "hide-input"]
away, at_home = {}, {}
for pair, both in pairs.items():
    unseen = unshared_part(external.with_remedy(store, both, *pair, judged, seed=SEED))
    if unseen["label"].nunique() < 2:
        report.prose(f"*{pair[1]} has not both, Mpox and other rashes, that {pair[0]} does not share: the exercises leave it out.*")
        continue
    away[pair] = unseen
    at_home[pair] = predict_nested(store, both, make_external_split(both.manifest, *pair, seed=SEED), judged)
if not pairs:
    report.prose("*The exercises take two collections: name a pair of them in `EXTERNAL`.*")

# %% [markdown] tags=["exercise"]
# ### Exercise 1 (easy)
#
# In which direction is the threshold for 95 of 100 kept best? Would you have guessed it from the AUROC?

# %% tags=["solution"]
aim, rows = Aim("sensitivity", 0.95), []
for pair in away:
    kept = operating_point(carry_thresholds(away[pair], at_home[pair], aim)).set_index("metric")
    texts = [report.with_interval(*kept.loc[measure, ["estimate", "low", "high"]]) for measure in ("sensitivity", "specificity")]
    area = report.with_interval(*with_percentiles(auroc_replicates(away[pair])))
    rows.append((directions[pair], area, *texts, kept.loc["sensitivity", "estimate"] - aim.level))
kept = pd.DataFrame(rows, columns=["direction", "AUROC", "sensitivity", "specificity", "sensitivity minus 0.95"])
report.show(kept)
if len(kept) > 1:
    closest = kept.loc[kept["sensitivity minus 0.95"].abs().idxmin(), "direction"]
    report.prose(f"The promise is kept best when the model is {closest}.")

# %% [markdown] tags=["solution"]
# The AUROC does not know. It compares pictures of one collection with each other, so that all scores may move up or down together
# and leave it as it was, while every one of them crosses the threshold. A sensitivity above the aim is not a success either: look
# what the specificity paid for it.

# %% [markdown] tags=["exercise"]
# ### Exercise 2 (medium)
#
# Set `alpha` of `mpox.studies.external.density_weights`, which is 0.1 above, to 0, 0.5 and 1, and look at the effective sample size; where models can be trained, also
# at the AUROC with `external.with_remedy`. Say beforehand what `alpha=1` must give.

# %% tags=["solution"]
rows = []
trained_here = any(store.dataset(name, data_dir=DATA_DIR or None).is_phantom for name in DATASETS)
for pair in away:
    domain = external.predict_domain(store, pairs[pair], judged, whole=pair[0], n_folds=N_FOLDS, seed=SEED)
    for alpha in (0, 0.5, 1):
        weights = external.density_weights(domain, *pair, alpha=alpha)
        area = "not trained here"
        if trained_here:
            again = external.with_remedy(store, pairs[pair], *pair, judged, "re-weighted", alpha=alpha, n_folds=N_FOLDS, seed=SEED)
            area = report.with_interval(*with_percentiles(auroc_replicates(unshared_part(again))), digits=3)
        rows.append((directions[pair], alpha, len(weights), external.effective_size(weights.to_numpy()), area))
    plain = report.with_interval(*with_percentiles(auroc_replicates(away[pair])), digits=3)
    report.prose(f"{directions[pair]}, without weights: AUROC {plain}.")
report.show(pd.DataFrame(rows, columns=["direction", "alpha", "training pictures", "effective size", "AUROC"]), digits=1)
if away and not trained_here:
    report.prose("*The models of this exercise are trained on the phantoms only (this page of the edition *instruments*).*")

# %% [markdown] tags=["solution"]
# With `alpha=1` the relative ratio is r / r: every weight is 1, the effective size is the number of pictures, and the model is the
# one without a remedy. With 0 it is the ratio itself, which is unbiased where the classifier is right, and which a few pictures
# can dominate where it is nearly certain. Between the two a little bias buys a lot of variance. Which `alpha` is best cannot be read off
# the AUROC of the target: to choose it there would be a choice on the test.

# %% [markdown] tags=["exercise"]
# ### Exercise 3 (hard)
#
# Give `EXTERNAL_FOLDER` a folder with twenty pictures of a rash that is neither chickenpox nor measles, and some of Mpox. Which of the
# three readings is still defined, and how wide is its interval? If you have no such pictures, find the width by drawing ten groups
# with Mpox and ten without from the predictions of this page, many times; then as many as there are.

# %% tags=["solution"]
import numpy as np

rows, rng = [], np.random.default_rng(SEED)
for pair, table in away.items():
    with_mpox, without = (table.loc[(table["label"] == "Mpox") == has, "group_id"].unique() for has in (True, False))
    for n in (10, 20, 40):
        if n > min(len(with_mpox), len(without)):
            continue
        widths = []
        for _ in range(20):
            chosen = np.concatenate([rng.choice(names, n, replace=False) for names in (with_mpox, without)])
            part = table[table["group_id"].isin(chosen)].groupby("group_id").head(1)
            _, low, high = with_percentiles(auroc_replicates(part, n_bootstrap=500))
            widths.append(high - low)
        rows.append((directions[pair], 2 * n, np.median(widths), np.min(widths), np.max(widths)))
    _, low, high = with_percentiles(auroc_replicates(table))
    rows.append((directions[pair], table["group_id"].nunique(), high - low, np.nan, np.nan))
report.show(pd.DataFrame(rows, columns=["direction", "groups", "width of the interval", "narrowest", "widest"]), digits=2)

# %% [markdown] tags=["solution"]
# Of the three readings, *without shared* is defined, if your pictures are yours. *All pictures* is then the same thing, and *shared
# only* is not defined, because there is nothing to look up. The width falls about with the square root of the number of groups: four
# times as many patients halve it. With twenty pictures an interval is so wide that it can hardly contradict anybody, the page's own
# figure included. Note that the narrowest of the drawn intervals are those of an AUROC near 1: a bootstrap of twenty images that happen
# to be all in order finds no way to be wrong.

# %% [markdown] tags=["exercise"]
# ### Exercise 4 (open)
#
# A hospital with six hundred pictures of its own, eighty of them of Mpox, asks whether it may use the model. Which of the measurements of this
# page do you repeat there, in which order, and what result would make you say no?

# %% [markdown] tags=["solution"]
# *A model answer.*
#
# 1. Audit their pictures together with the training collection. If they share photographs, these leave the test.
# 2. Deal the patients into two parts, once, and lock one of them away for the last step.
# 3. On the open part: the AUROC with its interval, the threshold carried over, and the level of the probabilities. A sensitivity
#    whose interval lies below the aim is a no to the model *as it is*; it does not end the matter.
# 4. The ceiling: a model of their own pictures, cross-validated. If it is no better, a remedy has little to win, and the question is
#    whether such pictures suffice for anybody.
# 5. If it is better, the remedies in the order of what they cost: threshold and level anew on their labels, then mixed training. One
#    of them is chosen on the open part.
# 6. The locked part, once, with the chosen procedure. The answer is this interval, not the best of those before.
#
# Say no, too, if the pictures were not taken of everybody with a suspicious rash but of those whose diagnosis was sure; then no figure
# on them speaks about the patients at the door.

# %% [markdown] tags=["exercise"]
# ### Exercise 5 (open)
#
# The maximum mean discrepancy compares two sets of features without a classifier, by their mean distances within and between the
# collections under a kernel {cite}`gretton2012`. Its p value comes from permutations. What has to be permuted here, and what would the p
# value say if single images were?

# %% [markdown] tags=["solution"]
# *A model answer.* Whole groups, as many of them to either side as there were. Images of one patient resemble each other, so that permuting
# single images breaks up what belongs together: every permuted value then comes out too small, and two collections from one source would
# be "shown" to differ. With groups the test holds its level. What it adds to the classifier is little: with few groups it sees less,
# and it does not say where the difference lies either.

# %% [markdown]
# ## What to read next
#
# [Chapter 9](09_use.ipynb) asks what probabilities and thresholds are good for; [the verdict](10_verdict.ipynb) uses the figures of
# this page. On shift and weights: Sugiyama et al. {cite}`sugiyama2007`; on telling two collections apart: Gretton et al.
# {cite}`gretton2012`; on reports of such tests: Collins et al. {cite}`collins2024`.

# %% tags=["hide-input"]
named = dict.fromkeys(sum(map(list, asked), list(DATASETS)))
report.provenance("08_other_data", store, [store.dataset(name, data_dir=DATA_DIR or None) for name in named], device=DEVICE)
