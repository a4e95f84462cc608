"""To read the recorded study loads none of the libraries that train networks and decode images."""

import subprocess
import sys

import pytest

from mpox.models.config import INPUT_SIZES, pretrained_cfg

READ = """
import sys
import mpox
from mpox import *

store = open_store("recorded")
data = store.dataset("msld-v1")
predictions = cross_validate(store, data, "source", ModelConfig(image_size=224))
assert len(predictions) == len(data.manifest)
evaluate(predictions, n_bootstrap=20)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_reading_recorded_predictions_loads_no_torch(loaded):
    assert {"mpox", "pandas"} <= loaded
    assert not loaded & {"torch", "torchvision", "timm", "cv2", "captum", "safetensors", "skimage", "matplotlib"}


def test_known_input_sizes_are_those_of_timm():
    assert {name: int(pretrained_cfg(name)["input_size"][-1]) for name in INPUT_SIZES} == INPUT_SIZES
