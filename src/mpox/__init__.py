"""Can deep learning really recognize Mpox? The package behind the notebooks.

Data flows one way, and each step is a room of the house; a room imports only from those below it::

    data folder -> manifest -> audit -> groups -> splits -> runs -> predictions -> metrics -> figures -> notebook -> book

    mpox.cli         the command `mpox`
    mpox.book        what a reader sees: figures, tables, executed notebooks, the book
    mpox.studies     one module a question: leakage, other data, shortcuts, skin tone, errors, heat maps, the verdict
    mpox.runs        computed once, kept, read again: the store, the recorded study, cross-validation
    mpox.protocols   who may be trained on, and who is tested: split tables
    mpox.models      what is fitted: configurations, networks, features, heads, training
    mpox.audit       which images show one photograph, and what their files tell
    mpox.data        a folder of images becomes a data set; the phantom
    mpox.stats       predictions in, tables out: metrics, intervals, comparisons, decisions

A notebook needs few names: `open_store` for where runs live, the store's ``dataset`` for the data, `ModelConfig` for what is
fitted, `cross_validate` for the out-of-fold predictions, and `evaluate` for metrics with intervals. What is chosen or fitted on
held-out training images takes `make_splits` and `predict_nested`, a test on other data `validate_externally`.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("mpox")
__all__ = [
    "ModelConfig", "MpoxError", "Training", "cross_validate", "evaluate", "make_splits", "open_store", "predict_nested",
    "validate_externally",
]  # fmt: skip

_HOME = {
    "ModelConfig": "models.config",
    "MpoxError": "_core",
    "Training": "models.config",
    "cross_validate": "runs.cross_validation",
    "evaluate": "stats.metrics",
    "make_splits": "protocols.splits",
    "open_store": "runs.recorded",
    "predict_nested": "runs.cross_validation",
    "validate_externally": "runs.cross_validation",
}


def __getattr__(name: str):
    """Import on first use: a process that compares images needs no torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'mpox' has no attribute '{name}'")
    return getattr(import_module(f"mpox.{_HOME[name]}"), name)
