"""Can deep learning really recognize Mpox? The package behind the notebooks.

Data flows one way, and each step is a module::

    data folder -> manifest -> groups -> splits -> runs -> predictions -> metrics -> figures -> notebook -> book
    datasets       manifest    groups    splits    experiment (config,   metrics    figures    execution   book
    download                                       features, probe,                 report     record
    phantom                                        training, store)

A notebook needs five names: `open_store` for where runs live, the store's ``dataset`` for the data, `ModelConfig` for what is
fitted, `cross_validate` for the out-of-fold predictions, and `evaluate` for metrics with intervals.
"""

from importlib.metadata import version

from mpox.config import ModelConfig, Training
from mpox.errors import MpoxError
from mpox.experiment import cross_validate
from mpox.metrics import evaluate
from mpox.store import open_store

__version__ = version("mpox")
__all__ = ["ModelConfig", "MpoxError", "Training", "cross_validate", "evaluate", "open_store"]
