"""What models cost: counts against the model itself, and measurements that depend on the model and on nothing else."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from mpox import MpoxError
from mpox.models import costs
from mpox.models.backbones import build_model, describe_model
from mpox.models.costs import COLUMNS, measure_costs
from mpox.models.features import EXTRACTORS

SMALL = "lcnet_035"


@pytest.fixture(scope="module")
def measured():
    ballast = np.ones(2**25)  # 256 MiB in this process must not count in the other one
    table = measure_costs([(SMALL, "linear", 64), (SMALL, "hidden", 512)], n_classes=4, rounds=3)
    assert ballast.sum() == 2**25
    return table


def test_counts_are_the_models(measured):
    assert list(measured) == COLUMNS and len(measured) == 2
    for row, head, size in ((0, "linear", 64), (1, "hidden", 512)):
        found, card = measured.iloc[row], describe_model(SMALL, head, 4, image_size=size)
        assert (found["parameters"], found["multiply_adds"]) == (card.parameters, card.multiply_adds)
        assert (found["backbone"], found["head"], found["image_size"]) == (SMALL, head, size)
    state = save(build_model(SMALL, "linear", 4, weights="random").state_dict())
    assert measured.loc[0, "file_mib"] == pytest.approx(len(state) / 2**20)
    assert sum(part.numel() * part.element_size() for part in load(state).values()) == pytest.approx(len(state), rel=0.02)


def test_time_and_memory_grow_with_the_picture(measured):
    small, large = measured.iloc[0], measured.iloc[1]
    times = ["median_ms_1", "median_ms_16"]
    assert (large[times] > 2 * small[times]).all()  # 64 times the multiply-adds
    assert (measured["p95_ms_1"] >= measured["median_ms_1"]).all() and (measured["p95_ms_16"] >= measured["median_ms_16"]).all()
    weights = 4 * small["parameters"] / 2**20
    assert 0.5 * weights < small["peak_mib"] < 60
    assert large["peak_mib"] > small["peak_mib"] + 3 * 512**2 * 4 / 2**20  # the picture alone
    assert measured["device"].nunique() == 1 and "1 threads" in small["device"]


@pytest.fixture
def own_threads():
    """The measurement is meant for a process of its own: it leaves torch with one thread."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_hand_crafted_features_cost_their_extraction(own_threads):
    n_features = len(EXTRACTORS["lbp"](np.zeros((64, 64, 3), dtype=np.uint8)))
    two, four, hidden = (
        costs._handcrafted_row("lbp", head, 64, n_classes=classes, rounds=1)
        for head, classes in (("linear", 2), ("linear", 4), ("hidden", 4))
    )
    assert two["parameters"] == n_features + 1 and four["parameters"] == 4 * (n_features + 1)
    assert hidden["parameters"] == (n_features + 1) * 100 + 101 * 4
    assert list(two) == COLUMNS and two["multiply_adds"] is None and two["peak_mib"] >= 0
    assert two["file_mib"] == pytest.approx(4 * (n_features + 1) / 2**20)
    assert 0.1 < two["median_ms_1"] < 1000


def test_an_ensemble_costs_what_its_networks_cost_together(own_threads):
    one, other, both = (
        costs._network_row(name, "linear", 64, n_classes=2, rounds=1)
        for name in ("lcnet_035", "lcnet_050", "lcnet_035 + lcnet_050")
    )
    for column in ("parameters", "multiply_adds", "file_mib"):
        assert both[column] == pytest.approx(one[column] + other[column])


def test_what_cannot_be_measured_is_an_error(monkeypatch):
    with pytest.raises(MpoxError, match="timm has no model 'vgg99'"):
        measure_costs([("vgg99", "linear", 64)])
    with pytest.raises(MpoxError, match="Unknown head 'deep'"):
        measure_costs([(SMALL, "deep", 64)])
    with pytest.raises(MpoxError, match="lbp has no network"):
        measure_costs([(f"lbp + {SMALL}", "linear", 64)])
    monkeypatch.setattr(costs.sys, "executable", "/bin/false")
    with pytest.raises(MpoxError, match=f"The costs of {SMALL} could not be measured"):
        measure_costs([(SMALL, "linear", 64)])
