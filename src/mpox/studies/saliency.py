"""Whether heat maps can be believed: pointing, deletion, randomisation."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from mpox._core import MpoxError
from mpox.data.dataset import Dataset
from mpox.data.phantom import corner_box, read_truths
from mpox.data.pixels import load_pixels
from mpox.models import explain
from mpox.models.backbones import Classifier, build_backbone
from mpox.models.config import ModelConfig
from mpox.models.explain import BATCH, as_batch
from mpox.protocols.splits import make_splits
from mpox.runs.cross_validation import fitted_network, split_runs
from mpox.runs.parallel import Task
from mpox.runs.recorded import Store
from mpox.stats.metrics import groups_of
from mpox.stats.resample import bootstrap, weighted_mean


@dataclass(frozen=True)
class Case:
    """Images of one test fold, with the network that was tested on them."""

    network: Classifier
    backbone: str
    pixels: np.ndarray  #: uint8, shape (n, size, size, 3)
    target: np.ndarray  #: int, shape (n,): the predicted class of each image
    images: pd.DataFrame  #: ``image_id``, ``group_id``; n rows


def choose_images(errors: pd.DataFrame, n: int, *, seed: int = 0) -> pd.DataFrame:
    """At most n rows of an `error_table` to be explained: correctly recognised images, the classes in turn, one a group."""
    right = errors[~errors["wrong"]].sort_values("image_id").sample(frac=1, random_state=seed).drop_duplicates("group_id")
    right = right.assign(turn=right.groupby("label").cumcount()).sort_values(["turn", "label"], kind="stable")
    return right.head(n).drop(columns="turn").reset_index(drop=True)


def heat_maps(cases: list[Case], method: str) -> dict[str, np.ndarray]:
    """Heat map of every image by its id, float32 of shape (size, size) from 0 to 1; see `mpox.models.explain.METHODS`."""
    function = explain.get_method(method)
    found: dict[str, np.ndarray] = {}
    with tqdm(total=sum(len(case.images) for case in cases), desc=method.replace("_", " "), delay=3, leave=False) as bar:
        for case in cases:
            for start in range(0, len(case.images), explain.BATCH):
                rows = slice(start, start + explain.BATCH)
                maps = function(case.network, case.backbone, case.pixels[rows], case.target[rows])
                found |= dict(zip(case.images["image_id"][rows], maps, strict=True))
                bar.update(len(maps))
    return found


class Explanations:
    """Chosen images of a cross-validation; networks and heat maps are made when they are first asked for.

    Parameters as in `mpox.cross_validate`, of which the runs of the first repeat are explained; ``chosen`` are rows of
    `mpox.studies.errors.error_table`, for instance from `choose_images`, ``methods`` some of `mpox.models.explain.METHODS`.
    """

    def __init__(
        self,
        store: Store,
        data: Dataset,
        protocol: str,
        model: ModelConfig,
        chosen: pd.DataFrame,
        methods: list[str],
        **folds: int,
    ):
        self.store, self.data, self.protocol, self.model = store, data, protocol, model
        self.chosen, self.methods, self.folds = chosen, list(methods), folds

    @cached_property
    def runs(self) -> list[Task]:
        """The runs of the first repeat, with their rows of the split table."""
        split = make_splits(self.data.manifest, self.protocol, **self.folds)
        return split_runs(self.data, self.protocol, split[split["repeat"] == 0], self.model)

    @cached_property
    def cases(self) -> list[Case]:
        """Each chosen image with the network that was tested on it, fold by fold."""
        data, cases = self.data, []
        pixels = load_pixels(data.manifest, self.model.image_size)
        for config, part in self.runs:
            rows = self.chosen[self.chosen["fold"] == config.fold]
            if rows.empty:
                continue
            network = fitted_network(self.store, data, config, part)
            if network is None:
                raise MpoxError(f"The network of the run {config.id} was not kept: run the chapter where the study is trained.")
            where = data.manifest["image_id"].searchsorted(rows["image_id"])
            target = np.array([data.classes.index(label) for label in rows["predicted"]])
            images = rows[["image_id", "group_id"]].reset_index(drop=True)
            cases.append(Case(network, self.model.backbone, np.array(pixels[where]), target, images))
        return cases

    @cached_property
    def maps(self) -> dict[str, dict[str, np.ndarray]]:
        """Method to heat maps by image id."""
        return {method: heat_maps(self.cases, method) for method in self.methods}

    def table(self, name: str, version: int, compute: Callable[["Explanations"], pd.DataFrame]) -> pd.DataFrame:
        """A check of the heat maps as a derived table of the store: computed once, and read where the images are not.

        Raise ``version`` whenever ``compute`` gives something else.
        """
        spec = {
            "runs": [config.id for config, _ in self.runs],
            "images": self.chosen["image_id"].tolist(),
            "methods": self.methods,
            "versions": [explain.VERSION, version],
            "seed": self.folds.get("seed", 0),
        }
        return self.store.table(name, spec, lambda: compute(self))


def lesion_regions(images_folder: str | Path, image_ids: list[str], size: int) -> dict[str, np.ndarray]:
    """Planted lesions in a phantom (its folder ``images``) at ``size`` pixels, by image id: bool of shape (size, size)."""
    folder = Path(images_folder).parent / "truth" / "masks"
    return {
        name: np.asarray(Image.open(folder / name).resize((size, size), Image.Resampling.BILINEAR)) > 127 for name in image_ids
    }


def mark_regions(images_folder: str | Path, image_ids: list[str], size: int) -> dict[str, np.ndarray]:
    """The corner that bears the planted mark, of those images that have one; see `lesion_regions`."""
    truths = read_truths(images_folder).set_index("image_id")
    regions = {}
    for name in image_ids:
        if truths.loc[name, "corner_mark"]:
            with Image.open(Path(images_folder) / name) as picture:
                width, height = picture.size
            left, _, _, bottom = corner_box(width, height)
            region = np.zeros((size, size), dtype=bool)
            region[: round(bottom * size / height), round(left * size / width) :] = True
            regions[name] = region
    return regions


#: Raised by one whenever the checks of unchanged maps change.
VERSION = 1
CELLS = 28  # side to which maps are averaged before they are compared
STEPS = 6
RANDOMISED = ("head", "everything")
OTHER = "another picture"


def randomised(network: Classifier, backbone: str, what: str, pixels: np.ndarray, *, seed: int = 0) -> Classifier:
    """A copy of a network with weights drawn anew.

    Of the ``head`` alone (normal, with the spread that its weights had), or of ``everything``: the whole backbone too, as timm
    starts it, its batch-norm statistics taken from ``pixels`` (at least two images, uint8).
    """
    if what not in RANDOMISED:
        raise MpoxError(f"What is randomised must be one of {', '.join(RANDOMISED)}, not '{what}'.")
    copy = deepcopy(network)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in copy.head.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, float(module.weight.std()))
    if what == "everything":
        copy.backbone = build_backbone(backbone, weights="random", seed=seed)
        norms = [module for module in copy.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
        with torch.no_grad():
            copy.backbone.train()(as_batch(backbone, pixels))
    return copy.eval()


def randomisation(cases: list[Case], maps: dict[str, dict[str, np.ndarray]], *, seed: int = 0) -> pd.DataFrame:
    """Parameter randomisation (Adebayo et al. 2018): how alike are the maps of the network and of one with random weights?

    A method whose maps stay as they were shows edges and the middle of the image, not what the network learnt. For comparison:
    the map of the same network for another image, which shares nothing with the first but the method's habits. ``maps`` are by
    method and image id, from `heat_maps`. ``image_id``, ``group_id``, ``method``, ``compared`` (`RANDOMISED` or `OTHER`),
    ``spearman`` (rank correlation, -1 to 1; missing where a map is all 0) and ``ssim`` (structural similarity, -1 to 1), both of
    maps averaged to 28 x 28 cells.
    """
    rows = []
    for what in RANDOMISED:
        changed = [replace(case, network=randomised(case.network, case.backbone, what, case.pixels, seed=seed)) for case in cases]
        for method, real in maps.items():
            other = heat_maps(changed, method)
            rows += [(name, method, what, *_alike(real[name], other[name])) for name in real]
    for method, real in maps.items():
        next_names = [*list(real)[1:], next(iter(real))]
        rows += [(one, method, OTHER, *_alike(real[one], real[two])) for one, two in zip(real, next_names, strict=True)]
    return _with_groups(pd.DataFrame(rows, columns=["image_id", "method", "compared", "spearman", "ssim"]), cases)


def _alike(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    first, second = (F.adaptive_avg_pool2d(torch.from_numpy(one)[None], CELLS)[0].numpy() for one in (first, second))
    constant = np.ptp(first) == 0 or np.ptp(second) == 0
    rank = np.nan if constant else float(spearmanr(first.ravel(), second.ravel()).statistic)
    return rank, float(structural_similarity(first, second, data_range=1.0))


def pointing(cases: list[Case], maps: dict[str, dict[str, np.ndarray]], regions: dict[str, np.ndarray]) -> pd.DataFrame:
    """The pointing game (Zhang et al. 2018): does a map's maximum lie within its region (bool, shape (size, size))?

    ``image_id``, ``group_id``, ``method``, ``hit`` (0 or 1; where several pixels share the maximum, the share of them within the
    region), ``chance`` (the region's share of the image), ``centre`` (0 or 1: whether the middle lies in it). Images without a
    region, or with an empty one, are left out.
    """
    rows = []
    for method, found in maps.items():
        for name, heat in found.items():
            region = regions.get(name)
            if region is not None and region.any():
                middle = region[region.shape[0] // 2, region.shape[1] // 2]
                rows.append((name, method, region[heat == heat.max()].mean(), region.mean(), float(middle)))
    table = pd.DataFrame(rows, columns=["image_id", "method", "hit", "chance", "centre"])
    return _with_groups(table, cases)


def deletion_insertion(
    cases: list[Case], maps: dict[str, dict[str, np.ndarray]], *, n_steps: int = STEPS, seed: int = 0
) -> pd.DataFrame:
    """Deletion and insertion (Petsiuk et al. 2018), against maps that know nothing of the image.

    In ``n_steps`` equal shares pixels are taken away in the order of the map, the hottest first, and replaced by the image's mean
    colour; or they are put into a blurred image in this order. The area under the probability of the class over the share of
    pixels is low for a good map where pixels are deleted, high where they are inserted. ``random`` is a map of random cells as
    coarse as Grad-CAM's, and ``centre`` a Gaussian in the middle of the image.

    ``image_id``, ``group_id``, ``method`` (with ``random`` and ``centre``), ``kind`` (``deletion`` or ``insertion``), ``area``
    (0 to 1).
    """
    import cv2

    rng = np.random.default_rng(seed)
    names = [name for case in cases for name in case.images["image_id"]]
    size = cases[0].pixels.shape[1]
    line = np.exp(-(((np.arange(size) - (size - 1) / 2) / (size / 4)) ** 2) / 2)
    centre = dict.fromkeys(names, np.outer(line, line).astype(np.float32))
    known = {**maps, "random": {name: _random_map(size, rng) for name in names}, "centre": centre}
    ties = rng.permutation(size * size)
    rows = []
    for case in tqdm(cases, desc="deletion and insertion", delay=3, leave=False):
        mean = np.broadcast_to(case.pixels.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8), case.pixels.shape)
        blurred = np.stack([cv2.GaussianBlur(image, (0, 0), size / 16) for image in case.pixels])
        ends = {"deletion": (case.pixels, mean), "insertion": (blurred, case.pixels)}
        outer = {kind: [_probability(case, pixels) for pixels in pair] for kind, pair in ends.items()}
        for method, found in known.items():
            order = np.stack([np.lexsort((ties, -found[name].ravel())) for name in case.images["image_id"]])
            for kind, pair in ends.items():
                inner = [_probability(case, _mixed(*pair, order, k / n_steps)) for k in range(1, n_steps)]
                areas = np.trapezoid(np.stack([outer[kind][0], *inner, outer[kind][1]]), dx=1 / n_steps, axis=0)
                rows += [(name, method, kind, area) for name, area in zip(case.images["image_id"], areas, strict=True)]
    return _with_groups(pd.DataFrame(rows, columns=["image_id", "method", "kind", "area"]), cases)


def _mixed(start: np.ndarray, end: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
    """Images of ``start`` whose first pixels in the order, a share of them, are those of ``end``."""
    chosen = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(chosen, order[:, : round(share * order.shape[1])], True, axis=1)
    return np.where(chosen.reshape(*start.shape[:3], 1), end, start)


def _probability(case: Case, pixels: np.ndarray) -> np.ndarray:
    parts = [as_batch(case.backbone, pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
    with torch.inference_mode():
        found = np.concatenate([case.network(part).softmax(dim=1).numpy() for part in parts])
    return found[np.arange(len(pixels)), case.target]


def _random_map(size: int, rng: np.random.Generator) -> np.ndarray:
    cells = torch.from_numpy(rng.random((1, 1, 8, 8), dtype=np.float32))
    return F.interpolate(cells, size=(size, size), mode="bilinear", align_corners=False)[0, 0].numpy()


def _with_groups(table: pd.DataFrame, cases: list[Case]) -> pd.DataFrame:
    images = pd.concat([case.images for case in cases], ignore_index=True).set_index("image_id")["group_id"]
    table.insert(1, "group_id", table["image_id"].map(images))
    return table.round(4)


def summarise(table: pd.DataFrame, by: list[str], values: list[str], **resampling) -> pd.DataFrame:
    """Means of the columns ``values`` of a check, a row for each value of ``by``, with 95 % intervals from resampling groups.

    ``by``, ``measure`` (a name of ``values``), ``images``, ``estimate``, ``low``, ``high``; missing values are left out.
    """
    rows, nothing = [], {"estimate": np.nan, "low": np.nan, "high": np.nan}
    for key, part in table.groupby(by, sort=False):
        for name in values:
            known = part.dropna(subset=name)
            mean = partial(weighted_mean, known[name].to_numpy(float))
            drawn = bootstrap(mean, groups_of(known), **resampling).row() if len(known) else nothing
            rows.append({**dict(zip(by, key, strict=True)), "measure": name, "images": len(known), **drawn})
    return pd.DataFrame(rows, columns=[*by, "measure", "images", "estimate", "low", "high"])


def gain_over(table: pd.DataFrame, baseline: str, **resampling) -> pd.DataFrame:
    """Area of each method of `deletion_insertion` less that of the map ``random`` or ``centre``: `summarise`, paired."""
    wide = table.pivot(index=["image_id", "group_id", "kind"], columns="method", values="area")
    gain = wide.sub(wide[baseline], axis=0).drop(columns=["random", "centre"]).reset_index()
    long = gain.melt(["image_id", "group_id", "kind"], var_name="method", value_name=f"gain over {baseline}")
    return summarise(long, ["kind", "method"], [f"gain over {baseline}"], **resampling)
