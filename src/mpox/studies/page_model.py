"""The model that a reader can try in the page: a recorded linear probe, small enough for a browser, and what is known of it.

The head is that of one recorded run, and so are temperature, threshold and conformal scores (`mpox.runs.predict`). Its warning
of strange images is the Mahalanobis one of `mpox.stats.novelty` with few directions, which unlike the distance to the training
images needs no vector of any of them. Numbers only; no image can be got back from them.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.data.registry import REGISTRY
from mpox.models.config import ModelConfig
from mpox.models.features import features
from mpox.runs.cross_validation import cross_validate, fold_configs, fold_parts
from mpox.runs.predict import build_predictor
from mpox.runs.store import RunStore
from mpox.stats.novelty import N_HELD_OUT, Novelty, fit_novelty, novelty_score
from mpox.studies.unfamiliar import draw_oddities, picture_features

#: The name of both files in the record: a row a feature, and the rest.
NAME = "page_model"
#: Directions of the features' covariance that the warning knows.
DIRECTIONS = 32
#: What no reader would take for skin.
NO_SKIN = ("document", "plain wall", "landscape", "noise", "cat", "thing")


@dataclass(frozen=True, eq=False)
class PageModel:
    """Of one data set: ``columns``, a row a feature (``weight LABEL``, ``mean LABEL``, ``direction K``), and ``facts``."""

    columns: pd.DataFrame
    facts: dict[str, Any]


def fit_page_model(
    store: RunStore, data: Dataset, other: Dataset, model: ModelConfig, *, n_folds: int, data_dir: str | None = None
) -> PageModel:
    """The probe of the first fold of ``source``, and how often its warning is raised, as a mean over the folds.

    ``other`` is a second collection, loaded with `data`: the warning is tried on those of its images that share no group.
    """
    cross_validate(store, data, "source", model, n_folds=n_folds)
    split, configs = fold_configs(data, "source", model, n_folds=n_folds)
    predictor = build_predictor(store, configs[0].id, data_dir)
    head = dict(predictor.network.network.head.named_parameters())
    x, groups = features(data.manifest, model), data.manifest["image_id"].map(data.groups).to_numpy(dtype=str)
    elsewhere = other.manifest[~other.manifest["image_id"].map(other.groups).isin(set(groups))]
    drawn = [one.picture for one in draw_oddities(model.image_size) if one.kind in NO_SKIN]
    strange = {"elsewhere": features(elsewhere, model), "no skin": picture_features(drawn, model)}
    warned: dict[str, list[float]] = {"own": [], "elsewhere": [], "no skin": []}
    fitted = []
    for _, rows in split.groupby("fold"):
        y, train, test, _ = fold_parts(data, rows)
        fitted.append(_warning(x[train], y[train], groups[train]))
        for name, shown in {"own": x[test], **strange}.items():
            warned[name].append(float((novelty_score(fitted[-1], shown) > fitted[-1].threshold).mean()))
    first = fitted[0]
    columns = {f"weight {label}": row for label, row in zip(data.classes, head["1.weight"].detach().numpy(), strict=True)}
    columns |= {f"mean {label}": row for label, row in zip(data.classes, first.reference, strict=True)}
    columns |= {f"direction {k}": row for k, row in enumerate(first.directions.T)}
    facts = {
        "dataset": data.name, "classes": list(data.classes), "positive": data.positive, "image_size": model.image_size,
        "backbone": model.backbone, "intercepts": head["1.bias"].tolist(), "temperature": predictor.temperature,
        "threshold": predictor.threshold, "conformal": [list(part) for part in predictor.conformal.scores],
        "novelty_scale": first.scale, "novelty_threshold": first.threshold,
        "warned": {name: float(np.mean(shares)) for name, shares in warned.items()},
        "images": {"own": len(x), "elsewhere": len(elsewhere), "no skin": len(drawn)},
        **{name: predictor.provenance[name] for name in ("run_id", "trained_on_images", "trained_on_groups")},
        "licence": f"derived from images under {REGISTRY[data.name].licence}",
    }  # fmt: skip
    return PageModel(pd.DataFrame(columns).astype(np.float32), facts)


def _warning(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Novelty:
    """The Mahalanobis warning with the first `DIRECTIONS` alone; its threshold is from training images held out by group."""

    def learnt(rows: np.ndarray) -> Novelty:
        whole = fit_novelty(x[rows], y[rows], groups=groups[rows], method="mahalanobis")
        return replace(whole, directions=whole.directions[:, :DIRECTIONS])

    held_out = np.empty(len(x))
    for train, out in GroupKFold(N_HELD_OUT).split(x, groups=groups):
        held_out[out] = novelty_score(learnt(train), x[out])
    whole = learnt(np.arange(len(x)))
    return replace(whole, threshold=float(np.quantile(held_out, whole.quantile, method="higher")))


def write_page_models(results: Path, models: list[PageModel]) -> None:
    """Write ``page_model.parquet`` and ``page_model.json`` into a record."""
    named = [model.columns.add_prefix(f"{model.facts['dataset']} ") for model in models]
    table = pd.concat(named, axis=1)
    table.to_parquet(results / f"{NAME}.parquet", index=False, compression="zstd", use_dictionary=False)
    (results / f"{NAME}.json").write_text(json.dumps([model.facts for model in models], indent=1) + "\n")


def read_page_models(results: Path) -> list[PageModel]:
    """What `write_page_models` has written; an `MpoxError` says how to make it where it is not."""
    if not (results / f"{NAME}.json").is_file():
        raise MpoxError(f"{results} has no model for the page: run `mpox record` where the images are.")
    table, facts = pd.read_parquet(results / f"{NAME}.parquet"), json.loads((results / f"{NAME}.json").read_text())
    models = []
    for one in facts:
        start = f"{one['dataset']} "
        columns = {name.removeprefix(start): table[name] for name in table if name.startswith(start)}
        models.append(PageModel(pd.DataFrame(columns), one))
    return models
