"""What else may be behind a score: covered lesions, single facts, single places, corruptions."""

from functools import partial

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from mpox._core import MpoxError
from mpox.data.changes import GRID, SET_ON, UNTOUCHED, change, lesion_boxes, lesion_map, to_lab, true_mask
from mpox.data.dataset import Dataset
from mpox.data.manifest import build_manifest
from mpox.data.phantom import PhantomSpec, ensure_phantom, read_truths
from mpox.data.pictures import read_rgb
from mpox.data.pixels import load_pixels
from mpox.models.config import ModelConfig
from mpox.protocols.copies import altered, copies_in_test, copies_in_training, has_true_masks, true_mask_paths, with_copies
from mpox.runs.cross_validation import predict_splits
from mpox.runs.recorded import Store
from mpox.stats.metrics import OVERALL, behind, check_paired, groups_of, matched_repeats, weighted_auroc, weighted_metrics
from mpox.stats.resample import Replicates, bootstrap, weighted_mean

#: Protocols: trained and tested on one alteration; trained on originals and tested on alterations or on corruptions; trained with
#: copies of another tone and tested on originals.
ALTERED, ALTERED_TEST, CORRUPTED, TONE_AUGMENTED = "altered", "altered_test", "corrupted", "tone_augmented"


def train_and_test(store: Store, data: Dataset, split: pd.DataFrame, model: ModelConfig, recipe: str) -> pd.DataFrame:
    """Predictions of altered images by models trained on images altered alike; ``data`` and ``split`` are the originals'."""
    return predict_splits(store, altered(data, recipe), ALTERED, split, model).assign(recipe=recipe)


def only_tested(
    store: Store, data: Dataset, split: pd.DataFrame, model: ModelConfig, recipes: list[str], *, protocol: str = ALTERED_TEST
) -> pd.DataFrame:
    """Predictions of the untouched and the altered test images by models trained on untouched ones; one fit a fold for all.

    As `mpox.cross_validate` under the name ``protocol``, with ``recipe`` (`UNTOUCHED` for the images as they are), and the
    original's ``image_id`` and ``group_id`` in every row, so that each recipe's rows are predictions of the same images.
    """
    both = with_copies(data, recipes)
    table = predict_splits(store, both, protocol, copies_in_test(split, both.manifest), model)
    about = both.manifest.set_index("image_id")
    return table.assign(recipe=table["image_id"].map(about["recipe"]), image_id=table["image_id"].map(about["original_id"]))


def train_with_copies(store: Store, data: Dataset, split: pd.DataFrame, model: ModelConfig, recipes: list[str]) -> pd.DataFrame:
    """As `only_tested`, but the copies are learnt from, in the inner fold of their original, and untouched images are tested."""
    both = with_copies(data, recipes)
    return predict_splits(store, both, TONE_AUGMENTED, copies_in_training(split, both.manifest), model)


def recipe_replicates(predictions: pd.DataFrame, *, positive: str = "Mpox", **resampling) -> dict[str, dict[str, Replicates]]:
    """Recipe to ``auroc`` and ``accuracy``, averaged over the repeats and paired between the recipes."""
    tables = dict(iter(predictions.groupby("recipe", sort=False)))
    repeats = {recipe: matched_repeats(table, positive)[1] for recipe, table in tables.items()}
    for table in tables.values():
        check_paired(table, next(iter(tables.values())))
    keys = {"auroc": ("auroc", positive), "accuracy": ("accuracy", OVERALL)}

    def scores(weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        found = {
            recipe: weighted_metrics(parts, weights, positive=positive, keys=keys.values()) for recipe, parts in repeats.items()
        }
        return {(recipe, metric): of_recipe[keys[metric]] for recipe, of_recipe in found.items() for metric in MEASURES}

    images = {recipe: behind(parts, positive) for recipe, parts in repeats.items()}
    among = {(recipe, metric): images[recipe][keys[metric]] for recipe in tables for metric in MEASURES}
    found = bootstrap(scores, groups_of(next(iter(repeats.values()))[0]), among=among, **resampling)
    return {recipe: {metric: found[recipe, metric] for metric in MEASURES} for recipe in tables}


def _in_three(**measures: Replicates) -> dict[str, float]:
    """Each measure as three columns: ``name``, ``name_low``, ``name_high``."""
    rows = {name: values.row() for name, values in measures.items()}
    return {
        name + end: row[key] for name, row in rows.items() for end, key in (("", "estimate"), ("_low", "low"), ("_high", "high"))
    }


def survival(predictions: pd.DataFrame, untouched: pd.DataFrame, *, positive: str = "Mpox", **resampling) -> pd.DataFrame:
    """How much of the AUROC survives each recipe; parameters as in `mpox.evaluate`, ``predictions`` with ``recipe``.

    ``untouched`` are predictions of the same images as they are, by the model trained on them as they are. One row a recipe,
    `UNTOUCHED` first: ``recipe``; ``estimate``, ``low``, ``high`` of the AUROC; ``change`` and its ends, the paired difference to
    the untouched images; ``survives`` and its ends, the part of the AUROC above 0.5 that is left (1 all, 0 none; NaN where the
    untouched AUROC is not above 0.5).
    """
    table = predictions[predictions["recipe"] != UNTOUCHED]
    both = pd.concat([untouched.assign(recipe=UNTOUCHED), table], ignore_index=True)
    areas = {name: found["auroc"] for name, found in recipe_replicates(both, positive=positive, **resampling).items()}
    reference = areas[UNTOUCHED]
    above = Replicates.of(np.where(reference > 0.5, reference - 0.5, np.nan))
    rows = [
        {"recipe": recipe, **area.row(), **_in_three(change=area - reference, survives=(area - 0.5) / above)}
        for recipe, area in areas.items()
    ]
    return pd.DataFrame(rows)


#: Raised by one whenever the numbers of an unchanged table change.
FACTS_VERSION = 1
N_BINS = 8
#: Fact to what it is, for people. All come from `mpox.audit.quality` and the manifest.
FACTS = {
    "file_bytes": "file size",
    "bytes_per_pixel": "bytes per pixel",
    "jpeg_quality": "JPEG quality",
    "width": "width",
    "height": "height",
    "aspect": "width over height",
    "sharpness": "sharpness",
    "blur": "blur",
    "lightness": "lightness",
    "contrast": "contrast",
    "chroma": "chroma",
    "text_lines": "lines of text",
    "border": "border",
    "ita": "skin tone (angle)",
}
ALL_BAYES, ALL_TREES = "all together, rates", "all together, boosted trees"


def fact_table(manifest: pd.DataFrame, quality: pd.DataFrame, tones: pd.DataFrame) -> pd.DataFrame:
    """``image_id``, ``label`` and the columns of `FACTS` (float; missing where there is none), in the manifest's order.

    ``quality`` and ``tones`` are `mpox.audit.quality.image_quality` and `skin_tone` of the same images.
    """
    table = manifest[["image_id", "label", "width", "height"]].assign(aspect=manifest["width"] / manifest["height"])
    table = table.merge(quality.drop(columns=["dataset", "label"]), on="image_id", validate="1:1")
    table = table.merge(tones[["image_id", "ita"]], on="image_id", validate="1:1")
    return table[["image_id", "label", *FACTS]].astype(dict.fromkeys(FACTS, float))


def measured_facts(store: Store, data: Dataset) -> pd.DataFrame:
    """`fact_table` of a data set, from the tables of chapter 1, computed where missing; skin tone is its column ``ita``."""
    from mpox.audit import quality
    from mpox.data import skintone

    measures = {
        "image-quality": (quality.QUALITY_VERSION, quality.image_quality),
        "skin-tone": (skintone.SKIN_TONE_VERSION, quality.skin_tone),
    }
    tables = [
        store.table(name, {"data": data.hash, "version": version}, partial(compute, data.manifest))
        for name, (version, compute) in measures.items()
    ]
    return fact_table(data.manifest, *tables)


def rate_scores(values: np.ndarray, positive: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Out-of-fold scores of facts by the rates of their bins in training: naive Bayes on `N_BINS` bins of equal mass.

    ``values`` are facts, float of shape (n, f), which add up (NaN is missing); ``positive`` labels in p versions, bool of shape
    (n, p); ``fold`` says where each image is tested. The logarithm of the ratio of likelihoods, float64 of shape (n, p).
    """
    scores = np.zeros(positive.shape)
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        y = positive[train].astype(float)
        for column in values.T:
            known = column[train][~np.isnan(column[train])]
            edges = np.unique(np.quantile(known, np.linspace(0, 1, N_BINS + 1)[1:-1])) if len(known) else np.empty(0)
            bins = np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="right"))
            one_hot = np.eye(len(edges) + 2)[bins[train]]
            hits, others = one_hot.T @ y, one_hot.T @ (1 - y)
            rate = np.log((hits + 1) / (y.sum(axis=0) + len(hits))) - np.log((others + 1) / ((1 - y).sum(axis=0) + len(hits)))
            scores[test] += rate[bins[test]]
    return scores


def tree_scores(values: np.ndarray, positive: np.ndarray, fold: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Out-of-fold scores of boosted trees on all facts, float64 of shape (n,); arguments as for `rate_scores`, one label each."""
    trees = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=6, min_samples_leaf=8, class_weight="balanced", random_state=seed
    )
    lost = [np.isnan(values[fold != one]).all(axis=0) for one in np.unique(fold)]
    values = np.where(np.any(lost, axis=0), 0, values)  # a fact that no training image has: scikit-learn cannot bin it
    with threadpool_limits(1):
        return cross_val_predict(trees, values, positive, cv=PredefinedSplit(fold), method="predict_proba")[:, 1]


def dealt_labels(positive: np.ndarray, groups: np.ndarray, n_deals: int, seed: int) -> np.ndarray:
    """Labels permuted over whole groups (a group's label is that of most of its images): bool, shape (n, n_deals)."""
    _, codes = np.unique(groups, return_inverse=True)
    of_group = np.bincount(codes, weights=positive) > np.bincount(codes) / 2
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(of_group)[codes] for _ in range(n_deals)], axis=1)


def columnwise_auroc(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUROC of each column, shape (p,), of labels and scores of shape (n, p); ties count one half."""
    ranks = rankdata(scores, axis=0)
    n_positive = positive.sum(axis=0)
    wins = (ranks * positive).sum(axis=0) - n_positive * (n_positive + 1) / 2
    return wins / np.maximum(n_positive * (len(positive) - n_positive), 1)


def _areas(scores: dict, positive: np.ndarray, groups: np.ndarray, **resampling) -> dict:
    """The AUROC of several scores of the same images, and their replicates."""
    return bootstrap(
        lambda weights: {name: weighted_auroc(positive, score, weights) for name, score in scores.items()}, groups, **resampling
    )


def predictor_table(
    facts: dict[str, np.ndarray],
    positive: np.ndarray,
    groups: np.ndarray,
    fold: np.ndarray,
    *,
    n_deals: int = 200,
    seed: int = 0,
    **resampling,
) -> pd.DataFrame:
    """Out-of-fold AUROC of each fact, or set of facts, by itself, with intervals and against what the best reaches by chance."""
    if not facts or np.unique(positive).size < 2:
        raise MpoxError("Single facts can be judged only where there are facts, and images of two kinds.")
    labels = np.column_stack([positive, dealt_labels(positive, groups, n_deals, seed)])
    scores = {name: rate_scores(values, labels, fold) for name, values in facts.items()}
    best = np.max([columnwise_auroc(labels[:, 1:], of_fact[:, 1:]) for of_fact in scores.values()], axis=0)
    found = _areas({name: of_fact[:, 0] for name, of_fact in scores.items()}, positive, groups, seed=seed, **resampling)
    table = pd.DataFrame([{"fact": name, **area.row()} for name, area in found.items()])
    table["chance"] = np.quantile(best, 0.95)
    table["p"] = [(1 + (best >= estimate).sum()) / (1 + n_deals) for estimate in table["estimate"]]
    return table


def single_facts(
    table: pd.DataFrame, groups: pd.Series, split: pd.DataFrame, *, positive: str = "Mpox", n_deals: int = 200, seed: int = 0
) -> pd.DataFrame:
    """`predictor_table` of every fact of `fact_table` that differs between images, and of all together.

    ``groups`` are honest groups by ``image_id``; of ``split`` the first repeat is used. Boosted trees have no ``p`` (NaN): they
    are not refitted on permuted labels.
    """
    is_positive = (table["label"] == positive).to_numpy()
    ids = table["image_id"].map(groups).to_numpy(dtype=str)
    fold = fold_of(split, table["image_id"])
    differing = [name for name in FACTS if table[name].nunique(dropna=False) > 1]
    facts = {name: table[[name]].to_numpy() for name in differing} | {ALL_BAYES: table[differing].to_numpy()}
    found = predictor_table(facts, is_positive, ids, fold, n_deals=n_deals, seed=seed)
    trees = {ALL_TREES: tree_scores(facts[ALL_BAYES], is_positive, fold, seed=seed)}
    area = _areas(trees, is_positive, ids, seed=seed)[ALL_TREES].row()
    return pd.concat([found, pd.DataFrame([{"fact": ALL_TREES, **area, "chance": found["chance"].iloc[0]}])], ignore_index=True)


def fold_of(split: pd.DataFrame, image_ids: pd.Series) -> np.ndarray:
    """The fold in which each image is tested, in the first repeat of a split table: int64."""
    tested = split[(split["role"] == "test") & (split["repeat"] == split["repeat"].min())].set_index("image_id")["fold"]
    return image_ids.map(tested).to_numpy(dtype=np.int64)


#: Raised by one whenever the numbers of an unchanged data set change.
CELLS_VERSION = 1
#: Of the bound that holds for all cells at once: stricter than usual, because a flag is an alarm that somebody must look into.
LEVEL = 0.99
#: A cell that stands out by less than this is no finding, however sure.
LEAST = 0.05


def cell_colours(data: Dataset, size: int) -> np.ndarray:
    """Mean and standard deviation of L*, a*, b* in each cell of the images at ``size`` pixels, float64 of shape (n, cells, 6)."""
    pixels = load_pixels(data.manifest, size)
    edges = np.round(np.linspace(0, size, GRID + 1)).astype(int)
    rows = []
    for row in tqdm(range(len(data.manifest)), desc="colours of cells", delay=3, leave=False):
        lab = to_lab(np.asarray(pixels[row])).astype(float)
        cells = [lab[edges[i] : edges[i + 1], edges[j] : edges[j + 1]].reshape(-1, 3) for i, j in np.ndindex(GRID, GRID)]
        rows.append([np.concatenate([cell.mean(axis=0), cell.std(axis=0)]) for cell in cells])
    return np.array(rows)


def cells_alone(data: Dataset, split: pd.DataFrame, size: int, **resampling) -> pd.DataFrame:
    """What each cell tells by its `cell_colours` alone, out-of-fold: `against_others` of the cells' AUROC."""
    colours, ids = cell_colours(data, size), data.manifest["image_id"]
    positive = (data.manifest["label"] == data.positive).to_numpy()
    fold = fold_of(split, ids)
    scores = {cell: rate_scores(colours[:, cell], positive[:, None], fold)[:, 0] for cell in range(colours.shape[1])}
    return against_others(list(_areas(scores, positive, ids.map(data.groups).to_numpy(dtype=str), **resampling).values()))


def cells_blanked(predictions: pd.DataFrame, **options) -> pd.DataFrame:
    """What each cell costs when it is blanked in the test images: `against_others` of the loss of AUROC.

    ``predictions`` come from `only_tested` with `mpox.data.changes.cell_recipes`; parameters as in `mpox.evaluate`.
    """
    found = recipe_replicates(predictions, **options)
    names = [f"cell-{row}-{column}" for row, column in np.ndindex(GRID, GRID)]
    return against_others([found[UNTOUCHED]["auroc"] - found[name]["auroc"] for name in names])


def against_others(cells: list[Replicates]) -> pd.DataFrame:
    """Each cell by itself, and against the median of the other cells."""
    values = np.array(cells)
    others = np.stack([np.median(np.delete(values, cell, axis=0), axis=0) for cell in range(len(values))])
    more = values - others
    spread = np.maximum(np.nanstd(more[:, 1:], axis=1), 1e-9)
    largest = ((more[:, 1:] - more[:, :1]) / spread[:, None]).max(axis=0)
    at_least = more[:, 0] - np.nanquantile(largest, LEVEL) * spread
    row, column = np.divmod(np.arange(len(values)), GRID)
    table = pd.DataFrame({"row": row, "column": column}).join(pd.DataFrame([cell.row() for cell in cells]))
    return table.assign(more=more[:, 0], at_least=at_least, flagged=(at_least > 0) & (more[:, 0] >= LEAST))


def cell_name(row: int, column: int) -> str:
    """A cell in words, for instance ``row 1, column 4 (upper right)``."""
    vertical, horizontal = {0: "upper", GRID - 1: "lower"}.get(row), {0: "left", GRID - 1: "right"}.get(column)
    words = f"row {row + 1}, column {column + 1}"
    return f"{words} ({vertical} {horizontal})" if vertical and horizontal else words


def drawn_forms(recipes: list[str], *, size: int = 224) -> list[np.ndarray]:
    """One drawn image of Mpox (a phantom, not a patient) under each recipe, RGB of uint8; `UNTOUCHED` is the image as it is.

    Lesions are taken to be where `mpox.data.changes.lesion_map` finds them.
    """
    root = ensure_phantom(PhantomSpec(n_patients=4, size=size, copies=0, label_conflicts=0))
    picture = np.asarray(read_rgb(sorted((root / "Mpox").glob("*.png"))[0]))
    mask = lesion_map(picture)
    return [picture if recipe == UNTOUCHED else change(picture, recipe, mask=mask) for recipe in recipes]


#: The phantom on which the lesion map is checked: another than that on which its constants were set.
CHECKED_ON = PhantomSpec(seed=SET_ON + 1, n_patients=36, size=160, copies=0, label_conflicts=0, corner_mark=False)
#: Share of a lesion's pixels from which it counts as found.
FOUND = 0.5


def lesion_table(data: Dataset, size: int) -> pd.DataFrame:
    """The lesion map of every image, squashed to ``size`` pixels, in numbers.

    ``image_id``, ``label``, ``covered`` (share of the image, 0 to 1), ``boxed`` (the same for the boxes over it), ``boxes`` (how
    many). Where the true masks are available also ``lesion`` (true share), ``hit`` (share of the image that is lesion and
    covered), ``lesions`` (connected pieces of the true mask) and ``found`` (those covered by half at least).
    """
    pixels = load_pixels(data.manifest, size)
    truths = true_mask_paths(data.manifest) if has_true_masks(data) else [None] * len(data.manifest)
    rows = []
    for row, path in enumerate(tqdm(truths, desc="lesion maps", delay=3, leave=False)):
        found = lesion_map(np.asarray(pixels[row]))
        boxes = lesion_boxes(found)
        boxed = np.zeros_like(found)
        for top, left, bottom, right in boxes:
            boxed[top:bottom, left:right] = True
        values = {"covered": found.mean(), "boxed": boxed.mean(), "boxes": len(boxes)}
        rows.append(values | (_against(found, true_mask(path, size)) if path else {}))
    table = pd.DataFrame(rows).round(5)
    return pd.concat([data.manifest[["image_id", "label"]].reset_index(drop=True), table], axis=1)


def phantom_lesions(spec: PhantomSpec, size: int) -> pd.DataFrame:
    """`lesion_table` of a phantom, with the truth and ``fitzpatrick`` (skin type, 1 to 6).

    ``spec`` is another one than that on which the map's constants were set, for instance `CHECKED_ON`.
    """
    root = ensure_phantom(spec)
    manifest = build_manifest(str(root))
    groups = manifest.set_index("image_id", drop=False)["image_id"]
    table = lesion_table(Dataset("phantom", manifest, groups, is_phantom=True, has_pictures=True), size)
    return table.merge(read_truths(root)[["image_id", "fitzpatrick"]], on="image_id", validate="1:1")


def _against(found: np.ndarray, truth: np.ndarray) -> dict:
    pieces, n_pieces = ndimage.label(truth, np.ones((3, 3)))
    covered = ndimage.mean(found, pieces, np.arange(1, n_pieces + 1)) if n_pieces else np.empty(0)
    hit = (found & truth).mean()
    return {"lesion": truth.mean(), "hit": hit, "lesions": n_pieces, "found": int((covered >= FOUND).sum())}


def map_accuracy(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """How well the map finds the true lesions, counted over all images of a kind (a value of the column ``by``), and ``all``.

    ``by``, ``images``, ``recall`` (share of lesion pixels that are covered), ``healthy covered`` (share of all other pixels that
    are), ``iou`` (of map and truth), ``lesions found`` (share of the lesions covered by half at least), ``covered`` and
    ``lesion`` (mean shares of the image). NaN where there is no lesion.
    """
    rows = []
    for kind, part in [*table.groupby(by), ("all", table)]:
        n = len(part)
        covered, lesion, hit, lesions, found = (part[name].sum() for name in ("covered", "lesion", "hit", "lesions", "found"))
        shares = (hit / lesion, hit / (covered + lesion - hit), found / lesions) if lesion else (np.nan,) * 3
        rows.append((kind, n, shares[0], (covered - hit) / (n - lesion), *shares[1:], covered / n, lesion / n))
    return pd.DataFrame(rows, columns=[by, "images", "recall", "healthy covered", "iou", "lesions found", "covered", "lesion"])


EVERY = "all families"
MEASURES = ("auroc", "accuracy")


def robustness(predictions: pd.DataFrame, **options) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AUROC and accuracy at each strength of each family, and averaged over strengths; parameters as in `mpox.evaluate`.

    ``predictions`` come from `only_tested` with `mpox.data.changes.corruption_recipes`; other recipes are not looked at. Two
    tables: ``family``, ``strength`` (0 is untouched), ``metric`` (``auroc``, ``accuracy``), ``estimate``, ``low``, ``high``; and
    ``family`` (last `EVERY`), ``metric``, ``estimate``, ``low``, ``high`` of the mean over the strengths (the complement of the
    mean corruption error of Hendrycks and Dietterich 2019, without their division by a reference network's error), and
    ``change``, ``change_low``, ``change_high``, its paired difference to untouched.
    """
    found = recipe_replicates(predictions, **options) if len(predictions) else {}
    families: dict[str, dict[int, dict[str, Replicates]]] = {}
    for recipe, scores in found.items():
        family, _, strength = recipe.rpartition("-")
        if family and strength.isdecimal():
            families.setdefault(family, {})[int(strength)] = scores
    if not families or UNTOUCHED not in found:
        raise MpoxError("Robustness needs predictions of untouched and corrupted images: see `only_tested`.")
    strengths, means = [], []
    for metric in MEASURES:
        untouched, of_family = found[UNTOUCHED][metric], {}
        for family, recipes in families.items():
            curve = {strength: recipes[strength][metric] for strength in sorted(recipes)}
            about = {"family": family, "metric": metric}
            strengths += [{**about, "strength": strength, **one.row()} for strength, one in ((0, untouched), *curve.items())]
            of_family[family] = Replicates.of(np.mean(list(curve.values()), axis=0))
        of_family[EVERY] = Replicates.of(np.mean(list(of_family.values()), axis=0))
        for family, mean in of_family.items():
            means.append({"family": family, "metric": metric, **mean.row(), **_in_three(change=mean - untouched)})
    columns = ["family", "strength", "metric", "estimate", "low", "high"]
    return pd.DataFrame(strengths, columns=columns), pd.DataFrame(means)


def consistency(predictions: pd.DataFrame, recipes: list[str], *, positive: str = "Mpox", **resampling) -> pd.DataFrame:
    """How often the predicted class changes when the same image is shown otherwise, and by how much the probability does.

    One row a recipe: ``recipe``; ``changed``, ``changed_low``, ``changed_high`` (share of images whose most probable class
    changes, 0 to 1); ``moved``, ``moved_low``, ``moved_high`` (mean absolute change of the positive class's probability).
    """
    classes, before = matched_repeats(predictions[predictions["recipe"] == UNTOUCHED], positive)
    columns = [f"p_{label}" for label in classes]
    rows = []
    for recipe in recipes:
        _, after = matched_repeats(predictions[predictions["recipe"] == recipe], positive)
        pairs = [(one[columns].to_numpy(), other[columns].to_numpy()) for one, other in zip(before, after, strict=True)]
        changed = [one.argmax(axis=1) != other.argmax(axis=1) for one, other in pairs]
        moved = [np.abs(one - other)[:, classes.index(positive)] for one, other in pairs]
        means = [
            bootstrap(partial(weighted_mean, np.mean(values, axis=0)), groups_of(before[0]), **resampling)
            for values in (changed, moved)
        ]
        rows.append({"recipe": recipe, **_in_three(changed=means[0], moved=means[1])})
    return pd.DataFrame(rows)
