"""Without the easy class, the rest is what it was."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from mpox import MpoxError, evaluate
from mpox.stats.metrics import without_class


def test_without_a_class_the_others_keep_their_proportions_and_its_images_are_gone():
    rng = np.random.default_rng(5)
    p = rng.dirichlet(np.ones(3), 60)
    table = pd.DataFrame(p, columns=["p_Mpox", "p_Normal", "p_Other"]).assign(
        repeat=0, image_id=[f"i{n:02d}" for n in range(60)], group_id=[f"g{n // 2}" for n in range(60)],
        label=np.repeat(["Mpox", "Normal", "Other"], 20),
    )  # fmt: skip
    left = without_class(table, "Normal")
    assert len(left) == 40 and "p_Normal" not in left
    assert np.allclose(left["p_Mpox"] + left["p_Other"], 1)
    kept = table[table["label"] != "Normal"].reset_index(drop=True)
    assert np.allclose(left["p_Mpox"] / left["p_Other"], kept["p_Mpox"] / kept["p_Other"])
    found = evaluate(left, n_bootstrap=0).set_index(["metric", "class"])["estimate"]
    expected = sk.roc_auc_score(kept["label"] == "Mpox", kept["p_Mpox"] / (kept["p_Mpox"] + kept["p_Other"]))
    assert np.isclose(found["auroc", "Mpox"], expected)
    sure = table.assign(p_Mpox=0.0, p_Normal=1.0, p_Other=0.0)
    assert without_class(sure, "Normal")["p_Mpox"].unique().tolist() == [0.5]
    with pytest.raises(MpoxError, match="no class 'Cowpox'"):
        without_class(table, "Cowpox")
