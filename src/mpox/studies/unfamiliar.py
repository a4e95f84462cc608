"""What a model says to images that it should not be asked about, and whether its novelty score would have warned."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.data.phantom.oddities import Oddity, draw_oddities
from mpox.models import heads
from mpox.models.backbones import build_backbone
from mpox.models.config import HANDCRAFTED, ModelConfig
from mpox.models.features import EXTRACTORS, features, network_features
from mpox.runs.cross_validation import fold_parts
from mpox.runs.recorded import Store
from mpox.stats.conformal import fit_conformal, predict_sets
from mpox.stats.metrics import N_BOOTSTRAP, codes_of, group_weights, probabilities_of, weighted_auroc
from mpox.stats.novelty import METHODS, fit_novelty, novelty_score
from mpox.stats.resample import bootstrap

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
) -> pd.DataFrame:
    """Show every image to the linear probe of each fold, and ask its novelty scores."""
    if model.regime != "linear_probe" or split["repeat"].nunique() != 1:
        raise MpoxError("What a model says to unfamiliar images is asked of a linear probe, in one repeat.")
    x = features(data.manifest, model)
    parts = [picture_features([oddity.picture for oddity in oddities], model)]
    about = [(oddity.kind, oddity.name) for oddity in oddities]
    if elsewhere is not None:
        parts.append(features(elsewhere, model))
        about += [(ELSEWHERE, name) for name in elsewhere["image_id"]]
    strange, columns = np.concatenate(parts), [f"p_{label}" for label in data.classes]
    groups = data.groups.reindex(data.manifest["image_id"]).to_numpy(dtype=str)
    own, others = [], []
    for fold, rows in tqdm(list(split.groupby("fold")), desc=f"unfamiliar images, {data.name}", delay=3, leave=False):
        y, train, test, inner = fold_parts(data, rows)
        shown = np.concatenate([x[test], strange])
        known = (x[train], y[train], inner[train], shown)
        p, _ = heads.predict_by_probe(*known, n_classes=len(columns), head=model.head, seed=model.seed)
        inside = nested[nested["fold"] == fold]
        certain = predict_sets(fit_conformal(probabilities_of(inside), codes_of(inside)), p, CONFIDENCE).sum(axis=1) == 1
        found = pd.DataFrame(p, columns=columns).assign(certain=certain.astype(float))
        for method in METHODS:
            fitted = fit_novelty(x[train], y[train], groups=groups[train], method=method)
            found[method] = novelty_score(fitted, shown) / fitted.threshold
        found["warned"] = (found["neighbours"] > 1).astype(float)
        own.append(found.iloc[: len(test)].assign(kind=OWN, name=data.manifest["image_id"].to_numpy()[test]))
        others.append(found.iloc[len(test) :].reset_index(drop=True))
    averaged = pd.concat(others).groupby(level=0).mean()
    averaged[["kind", "name"]] = about
    whole = pd.concat([*own, averaged], ignore_index=True)
    whole = whole.assign(
        p=whole[f"p_{data.positive}"], top=whole[columns].max(axis=1), named=whole[columns].idxmax(axis=1).str.removeprefix("p_")
    )
    return whole[["kind", "name", "p", "top", "named", "certain", *METHODS, "warned"]].round(_DIGITS)


def from_elsewhere(data: Dataset, other: Dataset, *, n: int = 40, seed: int = 0) -> pd.DataFrame:
    """At most n rows of ``other.manifest``, none of which shares a photograph or a person with ``data``, loaded with it."""
    rows = other.manifest[~other.manifest["group_id"].isin(set(data.groups))]
    return rows.sample(min(n, len(rows)), random_state=seed).sort_values("image_id", ignore_index=True)


def novelty_measures(table: pd.DataFrame, groups: pd.Series, *, n_bootstrap: int = N_BOOTSTRAP, seed: int = 0) -> pd.DataFrame:
    """How well each score tells a kind of image of `unfamiliar_table` from the model's own test images, with intervals.

    ``kind``, ``score`` (`SCORES`), ``images``, ``estimate``, ``low``, ``high``: AUROC, 0.5 if the score says nothing. Honest
    ``groups`` of the data set are resampled, and the strange images each by itself.
    """
    table = table.assign(unsure=-table["top"])
    own, rows = table[table["kind"] == OWN], []
    for kind, strange in table[table["kind"] != OWN].groupby("kind", sort=False):
        by_itself = group_weights(np.arange(len(strange)), n_bootstrap, seed + 1)
        areas = partial(_areas, pd.concat([own, strange]), by_itself)
        found = bootstrap(areas, own["name"].map(groups).to_numpy(dtype=str), n_bootstrap=n_bootstrap, seed=seed)
        rows += [{"kind": kind, "score": score, "pictures": len(strange), **area.row()} for score, area in found.items()]
    return pd.DataFrame(rows, columns=["kind", "score", "pictures", "estimate", "low", "high"])


def _areas(shown: pd.DataFrame, by_itself: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """AUROC of each score, for weights of the model's own images, and of the strange ones, which are below them."""
    is_strange, whole = (shown["kind"] != OWN).to_numpy(), np.hstack([weights, by_itself])
    return {score: weighted_auroc(is_strange, shown[score].to_numpy(), whole) for score in SCORES}


def kept_table(
    store: Store,
    data: Dataset,
    split: pd.DataFrame,
    nested: pd.DataFrame,
    model: ModelConfig,
    other: Dataset | None = None,
    *,
    protocol: str,
    n_folds: int,
    seed: int,
    n_oddities: int,
) -> pd.DataFrame:
    """`unfamiliar_table` of `draw_oddities` and, `from_elsewhere`, of images of ``other``; computed once and kept in the store.

    ``protocol``, ``n_folds`` and ``seed`` are what ``split`` was made with, ``n_oddities`` how many of each kind are drawn.
    """
    elsewhere = None if other is None else from_elsewhere(data, other, seed=seed)
    besides = {name: getattr(model, name) for name in ("head", "weights", "mirror", "seed", "device")}
    about = {
        "data": data.hash, "protocol": protocol, "n_folds": n_folds, "seed": seed, "backbone": model.backbone,
        "oddities": n_oddities, "image_size": model.image_size,
        **{name: value for name, value in besides.items() if value != getattr(_PLAIN, name)},
        "elsewhere": [] if elsewhere is None else elsewhere["image_id"].tolist(), "version": 1,
    }  # fmt: skip

    def compute() -> pd.DataFrame:
        oddities = draw_oddities(model.image_size, n=n_oddities, seed=seed)
        return unfamiliar_table(data, split, nested, model, oddities, elsewhere)

    return store.table(f"unfamiliar-{data.name}", about, compute)
