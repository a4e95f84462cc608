"""How much of each picture the lesion map covers, and, where the truth is known, how well it finds the lesions."""

import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm.auto import tqdm

from mpox.alterations import lesion_boxes
from mpox.altered import has_true_masks, true_mask, true_mask_paths
from mpox.images import load_pixels
from mpox.lesionmap import lesion_map
from mpox.manifest import build_manifest
from mpox.phantom import PhantomSpec, ensure_phantom, read_truths
from mpox.store import Dataset

#: Share of a lesion's pixels from which it counts as found.
FOUND = 0.5


def lesion_table(data: Dataset, size: int) -> pd.DataFrame:
    """The lesion map of every picture in numbers.

    Parameters
    ----------
    data : Dataset
    size : int
        Side in pixels to which the pictures are squashed first.

    Returns
    -------
    DataFrame
        One row an image, in the manifest's order: ``image_id``, ``label``, ``covered`` (share of the picture, 0 to 1), ``boxed``
        (the same for the boxes over it), ``boxes`` (how many). Where the true masks are at hand also ``lesion`` (true share),
        ``hit`` (share of the picture that is lesion and covered), ``lesions`` (connected pieces of the true mask) and ``found``
        (those covered by half at least).

    Raises
    ------
    MpoxError
        If the pictures are not on this machine.
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
    """The lesion map of every picture of a phantom, against the truth: `lesion_table`, with ``fitzpatrick`` (skin type, 1 to 6).

    Parameters
    ----------
    spec : PhantomSpec
        Another one than that on which the map's constants were set (`mpox.lesionmap.SET_ON`).
    size : int
    """
    root = ensure_phantom(spec)
    manifest = build_manifest(str(root))
    groups = pd.Series(manifest["image_id"].to_numpy(), index=manifest["image_id"].to_numpy())
    table = lesion_table(Dataset("phantom", manifest, groups, is_phantom=True, has_pictures=True), size)
    return table.merge(read_truths(root)[["image_id", "fitzpatrick"]], on="image_id", validate="1:1")


def _against(found: np.ndarray, truth: np.ndarray) -> dict:
    pieces, n_pieces = ndimage.label(truth, np.ones((3, 3)))
    covered = ndimage.mean(found, pieces, np.arange(1, n_pieces + 1)) if n_pieces else np.empty(0)
    hit = (found & truth).mean()
    return {"lesion": truth.mean(), "hit": hit, "lesions": n_pieces, "found": int((covered >= FOUND).sum())}


def map_accuracy(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """How well the map finds the true lesions, pixels and lesions counted over all pictures of a kind.

    Parameters
    ----------
    table : DataFrame
        From `lesion_table`, with the truth.
    by : str
        Column whose values are the kinds; a row ``all`` is added.

    Returns
    -------
    DataFrame
        ``by``, ``images``, ``recall`` (share of lesion pixels that are covered), ``healthy covered`` (share of all other pixels
        that are), ``iou`` (of map and truth), ``lesions found`` (share of the lesions covered by half at least), ``covered`` and
        ``lesion`` (mean shares of the picture). NaN where there is no lesion.
    """
    rows = []
    for kind, part in [*table.groupby(by), ("all", table)]:
        covered, lesion, hit = (part[name].sum() for name in ("covered", "lesion", "hit"))
        rows.append(
            {
                by: kind,
                "images": len(part),
                "recall": hit / lesion if lesion else np.nan,
                "healthy covered": (covered - hit) / (len(part) - lesion),
                "iou": hit / (covered + lesion - hit) if lesion else np.nan,
                "lesions found": part["found"].sum() / part["lesions"].sum() if lesion else np.nan,
                "covered": covered / len(part),
                "lesion": lesion / len(part),
            }
        )
    return pd.DataFrame(rows)
