"""What models cost: counts against the model itself, and measurements that depend on the model and on nothing else."""

import numpy as np
import pytest
import torch

from mpox import MpoxError
from mpox.models import costs
from mpox.models.backbones import describe_model
from mpox.models.costs import latency, measure_costs, measure_one
from mpox.models.features import EXTRACTORS

SMALL = "lcnet_035"


@pytest.fixture(autouse=True)
def own_threads():
    """A measurement is meant for a process of its own: it leaves torch with one thread."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_counts_are_the_models_and_time_and_memory_grow_with_the_image():
    table = measure_costs([(SMALL, "linear", 64), (SMALL, "hidden", 512)], n_classes=4, rounds=3)
    for row, head, size in ((0, "linear", 64), (1, "hidden", 512)):
        found, card = table.iloc[row], describe_model(SMALL, head, 4, image_size=size)
        assert (found["parameters"], found["multiply_adds"]) == (card.parameters, card.multiply_adds)
        assert (found["backbone"], found["head"], found["image_size"]) == (SMALL, head, size)
        assert found["file_mib"] == pytest.approx(4 * card.parameters / 2**20, rel=0.02)
    small, large = table.iloc[0], table.iloc[1]
    assert large["median_ms_16"] > 2 * small["median_ms_16"]  # 64 times the work; alone, an image has other costs
    assert (table["p95_ms_1"] >= table["median_ms_1"]).all() and (table["p95_ms_16"] >= table["median_ms_16"]).all()
    assert 0.5 * small["file_mib"] < small["peak_mib"] < 60
    assert large["peak_mib"] > small["peak_mib"] + 3 * 512**2 * 4 / 2**20  # the image alone
    assert "1 threads" in small["device"]


def test_hand_crafted_features_and_ensembles_cost_what_they_are_made_of():
    n_features = len(EXTRACTORS["lbp"](np.zeros((64, 64, 3), dtype=np.uint8)))
    cases = (("linear", 2, n_features + 1), ("linear", 4, 4 * (n_features + 1)), ("hidden", 4, (n_features + 1) * 100 + 101 * 4))
    for head, n_classes, parameters in cases:
        row = measure_one("lbp", head, 64, n_classes=n_classes, rounds=1)
        assert row["parameters"] == parameters and row["multiply_adds"] is None and row["median_ms_1"] > 0
    one, other, both = (measure_one(name, "linear", 64, 2, 1) for name in (SMALL, "lcnet_050", f"{SMALL} + lcnet_050"))
    for column in ("parameters", "multiply_adds", "file_mib"):
        assert both[column] == pytest.approx(one[column] + other[column])


def test_a_latency_is_of_one_thread_and_leaves_torch_its_own():
    torch.set_num_threads(2)
    threads = []
    median, tail = latency(lambda: threads.append(torch.get_num_threads()), images=4, rounds=5)
    assert set(threads) == {1} and len(threads) == 5 + costs.WARM_UP and 0 <= median <= tail and torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("backbone", "head", "said"),
    [("vgg99", "linear", "timm has no model 'vgg99'"), (SMALL, "deep", "Unknown head 'deep'"),
     (f"lbp + {SMALL}", "linear", "have no network"), (SMALL, "linear", f"The costs of {SMALL} could not be measured")],
)  # fmt: skip
def test_what_cannot_be_measured_is_an_error(backbone, head, said, monkeypatch):
    monkeypatch.setattr(costs.sys, "executable", "/bin/false")
    with pytest.raises(MpoxError, match=said):
        measure_costs([(backbone, head, 64)])
