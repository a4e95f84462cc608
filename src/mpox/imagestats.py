"""Plain statistics of pictures: how bright, how contrasted, how colourful, how sharp."""

import numpy as np
import pandas as pd
from skimage.color import rgb2gray, rgb2lab
from skimage.filters import laplace

from mpox.images import load_pixels
from mpox.store import Dataset

SIZE = 224


def image_statistics(data: Dataset) -> pd.DataFrame:
    """Statistics of every picture of a data set, squashed to 224 x 224 pixels.

    Returns
    -------
    DataFrame
        ``dataset``, ``image_id``, ``label``; ``lightness`` (mean CIELAB L*, 0 to 100), ``contrast`` (standard deviation of L*),
        ``chroma`` (mean CIELAB chroma, 0 to about 130), ``sharpness`` (standard deviation of the Laplacian of the grey picture,
        grey from 0 to 1).
    """
    rows = []
    for picture, row in zip(load_pixels(data.manifest, SIZE), data.manifest.itertuples(), strict=True):
        lab = rgb2lab(np.asarray(picture))
        rows.append(
            {
                "dataset": data.name,
                "image_id": row.image_id,
                "label": row.label,
                "lightness": lab[..., 0].mean(),
                "contrast": lab[..., 0].std(),
                "chroma": np.hypot(lab[..., 1], lab[..., 2]).mean(),
                "sharpness": laplace(rgb2gray(np.asarray(picture))).std(),
            }
        )
    return pd.DataFrame(rows).round(4)
