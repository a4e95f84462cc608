"""What a model says to images that it should not be asked about, and whether its novelty score would have warned."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.data.phantom.oddities import Oddity
from mpox.models import heads
from mpox.models.backbones import build_backbone
from mpox.models.config import HANDCRAFTED, ModelConfig
from mpox.models.features import EXTRACTORS, features, network_features
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunStore
from mpox.stats.calibration import codes_of, probabilities_of
from mpox.stats.conformal import fit_conformal, predict_sets
from mpox.stats.metrics import N_BOOTSTRAP, group_weights, weighted_auroc
from mpox.stats.novelty import METHODS, fit_novelty, novelty_score
from mpox.stats.resample import with_percentiles

OWN, ELSEWHERE = "its own test pictures", "another collection"
#: Scores by which an image is held to be unfamiliar: distances, and how unsure the model is (Hendrycks and Gimpel 2017).
SCORES = (*METHODS, "unsure")
CONFIDENCE = 0.9
_DIGITS = 4
#: Recorded tables were kept without what is as here.
_PLAIN = ModelConfig(image_size=224)


def picture_features(pixels: Sequence[np.ndarray], model: ModelConfig) -> np.ndarray:
    """Features of images (uint8, any size) that belong to no data set, float32 of shape (n, d), as for those of a data set."""
    size = (model.image_size, model.image_size)
    squashed = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in pixels])
    if model.backbone in HANDCRAFTED:
        return np.stack([EXTRACTORS[model.backbone](one) for one in squashed]).astype(np.float32)
    backbone = build_backbone(model.backbone, weights=model.weights, seed=model.seed)
    return network_features(backbone, model.backbone, squashed, mirror=model.mirror, device=model.device)


def unfamiliar_table(
    data: Dataset,
    split: pd.DataFrame,
    nested: pd.DataFrame,
    model: ModelConfig,
    oddities: Sequence[Oddity],
    elsewhere: pd.DataFrame | None = None,
    *,
    neighbours: int = 5,
    quantile: float = 0.95,
) -> pd.DataFrame:
    """Show every image to the linear probe of each fold, and ask its novelty scores.

    Everything is fitted inside the training groups of a fold: probe, novelty (`fit_novelty`), conformal sets of the
    confidence `CONFIDENCE` (on the nested predictions). A test image meets the model of its own fold, every other image those
    of all folds, and what they say is averaged.

    Parameters
    ----------
    data : Dataset
    split, nested : DataFrame
        The outer folds of one repeat, and `mpox.runs.cross_validation.predict_nested` on it.
    model : ModelConfig
        Of the regime ``linear_probe``.
    oddities : sequence of Oddity
    elsewhere : DataFrame, optional
        Rows of another data set's manifest, of the kind `ELSEWHERE`.
    neighbours, quantile
        See `mpox.stats.novelty.fit_novelty`.

    Returns
    -------
    DataFrame
        One row an image: ``kind`` (`OWN`, `ELSEWHERE` or an oddity's), ``name``, ``p`` (of the positive class), ``top`` (largest
        probability), ``named`` (the class it belongs to, of the averaged probabilities), ``certain`` (share of folds whose
        conformal set has one class), ``neighbours`` and ``mahalanobis`` (score over the threshold), and ``warned`` (share of
        folds in which the score ``neighbours`` is above it).
    """
    if model.regime != "linear_probe" or split["repeat"].nunique() != 1:
        raise MpoxError("What a model says to unfamiliar images is asked of a linear probe, in one repeat.")
    x = features(data.manifest, model)
    parts = [picture_features([oddity.picture for oddity in oddities], model)]
    about = [(oddity.kind, oddity.name) for oddity in oddities]
    if elsewhere is not None:
        parts.append(features(elsewhere, model))
        about += [(ELSEWHERE, name) for name in elsewhere["image_id"]]
    strange = np.concatenate(parts)
    y = pd.Categorical(data.manifest["label"], categories=data.classes).codes.astype(np.int64)
    groups = data.groups.reindex(data.manifest["image_id"]).to_numpy(dtype=str)
    own, others = [], []
    folds = [(fold, rows) for fold, rows in split.groupby("fold")]
    for fold, rows in tqdm(folds, desc=f"unfamiliar pictures, {data.name}", delay=3, leave=False):
        rows = rows.set_index("image_id").reindex(data.manifest["image_id"])
        train, test = (np.flatnonzero(rows["role"] == role) for role in ("train", "test"))
        inner = rows["inner_fold"].to_numpy()[train].astype(np.int64)
        shown = np.concatenate([x[test], strange])
        known = (x[train], y[train], inner, shown)
        p, _ = heads.predict_by_probe(*known, n_classes=len(data.classes), head=model.head, seed=model.seed)
        inside = nested[nested["fold"] == fold]
        certain = predict_sets(fit_conformal(probabilities_of(inside), codes_of(inside)), p, CONFIDENCE).sum(axis=1) == 1
        found = pd.DataFrame(p, columns=[f"p_{label}" for label in data.classes]).assign(certain=certain.astype(float))
        for method in METHODS:
            fitted = fit_novelty(
                x[train], y[train], groups=groups[train], method=method, neighbours=neighbours, quantile=quantile
            )
            found[method] = novelty_score(fitted, shown) / fitted.threshold
        found["warned"] = (found["neighbours"] > 1).astype(float)
        own.append(found.iloc[: len(test)].assign(kind=OWN, name=data.manifest["image_id"].to_numpy()[test]))
        others.append(found.iloc[len(test) :].reset_index(drop=True))
    averaged = pd.concat(others).groupby(level=0).mean()
    averaged[["kind", "name"]] = about
    whole = pd.concat([*own, averaged], ignore_index=True)
    scores = whole[[f"p_{label}" for label in data.classes]]
    whole = whole.assign(
        p=scores[f"p_{data.positive}"], top=scores.max(axis=1), named=scores.idxmax(axis=1).str.removeprefix("p_")
    )
    return whole[["kind", "name", "p", "top", "named", "certain", *METHODS, "warned"]].round(_DIGITS)


def from_elsewhere(data: Dataset, other: Dataset, joint: pd.DataFrame, *, n: int = 40, seed: int = 0) -> pd.DataFrame:
    """At most n rows of ``other.manifest``, none of which shares a photograph or a patient with ``data``.

    ``joint`` has the ``dataset``, ``image_id``, ``group_id`` of both (``store.audit([...]).groups``).
    """
    shared = set(joint.loc[joint["dataset"] == data.name, "group_id"])
    free = joint[(joint["dataset"] == other.name) & ~joint["group_id"].isin(shared)]
    rows = other.manifest[other.manifest["image_id"].isin(free["image_id"])]
    return rows.sample(min(n, len(rows)), random_state=seed).sort_values("image_id", ignore_index=True)


def novelty_measures(table: pd.DataFrame, groups: pd.Series, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """How well each score tells a kind of image of `unfamiliar_table` from the model's own test images, with intervals.

    ``kind``, ``score`` (`SCORES`), ``pictures``, ``estimate``, ``low``, ``high``: AUROC, 0.5 if the score says nothing. Honest
    ``groups`` of the data set are resampled, and the strange images each by itself.
    """
    own = table[table["kind"] == OWN]
    drawn = group_weights(own["name"].map(groups).to_numpy(dtype=str), n_bootstrap, seed)
    rows = []
    for kind in [kind for kind in dict.fromkeys(table["kind"]) if kind != OWN]:
        strange = table[table["kind"] == kind]
        weights = np.hstack([drawn, group_weights(np.arange(len(strange)), n_bootstrap, seed + 1)])
        is_strange = np.arange(weights.shape[1]) >= len(own)
        both = pd.concat([own, strange])
        for score in SCORES:
            values = -both["top"].to_numpy() if score == "unsure" else both[score].to_numpy()
            found = with_percentiles(weighted_auroc(is_strange, values, weights))
            rows.append((kind, score, len(strange), *found))
    return pd.DataFrame(rows, columns=["kind", "score", "pictures", "estimate", "low", "high"])


def kept_table(
    store: RunStore | RecordedStore,
    data: Dataset,
    split: pd.DataFrame,
    nested: pd.DataFrame,
    model: ModelConfig,
    oddities: Sequence[Oddity],
    elsewhere: pd.DataFrame | None = None,
    *,
    protocol: str,
    n_folds: int,
    seed: int,
    n_oddities: int,
) -> pd.DataFrame:
    """`unfamiliar_table`, computed once and kept in the store under what it depends on.

    ``protocol``, ``n_folds`` and ``seed`` are what ``split`` was made with, ``n_oddities`` what `draw_oddities` was asked for.
    """
    besides = {name: getattr(model, name) for name in ("head", "weights", "mirror", "seed", "device")}
    about = {
        "data": data.hash, "protocol": protocol, "n_folds": n_folds, "seed": seed, "backbone": model.backbone,
        "oddities": n_oddities, "image_size": model.image_size,
        **{name: value for name, value in besides.items() if value != getattr(_PLAIN, name)},
        "elsewhere": [] if elsewhere is None else elsewhere["image_id"].tolist(), "version": 1,
    }  # fmt: skip
    return store.table(
        f"unfamiliar-{data.name}", about, lambda: unfamiliar_table(data, split, nested, model, oddities, elsewhere)
    )


def said_to(table: pd.DataFrame) -> pd.DataFrame:
    """What was said to each kind of image of `unfamiliar_table`, on average.

    ``kind``, ``pictures``, ``p`` (mean probability of the positive class), ``p highest``, ``top`` (mean confidence), ``most
    named``, ``certain`` (share of conformal sets with one class), ``warned`` (share of warnings).
    """
    by_kind = table.groupby("kind", sort=False)
    said = {
        "pictures": by_kind.size(),
        "p": by_kind["p"].mean(),
        "p highest": by_kind["p"].max(),
        "top": by_kind["top"].mean(),
        "most named": by_kind["named"].agg(lambda named: named.mode().iloc[0]),
        "certain": by_kind["certain"].mean(),
        "warned": by_kind["warned"].mean(),
    }
    return pd.DataFrame(said).reset_index()
