"""Can deep learning really recognize Mpox? The package behind the notebooks.

Data flows one way, and each step is a module::

    data folder -> manifest -> audit -> groups -> splits -> runs -> predictions -> metrics -> figures -> notebook -> book
    datasets       manifest    audit    groups    splits    experiment (config,   metrics    figures    execution   book
    download       pictures                       leakage   features, probe,      (below)    report     record
    phantom        patients                       views     training, store,                            adoption
                                                  mixing    scheduling)

What is asked of predictions: `metrics` and `intervals` with groups resampled, `delong`, `curves`; two models on the same folds in
`comparison` (its tests are in `foldtests`), several in `ensembling` and `selection`; what a study could show in `power`,
`learning_curve` and `variance`; whether the methods hold in `coverage` and `simulation`; what a model costs in `costs` and
`pareto`; and the paper's claims in `verdict`.

Whom a model is wrong about: `errortable`, `slices` and `slice_finder`; doubtful labels in `label_problems`; the map of the
pictures in `embedding`; heat maps in `explain` and `explanations`, tested in `saliency_checks`. What it reads instead of the
disease: `lesionmap`, `alterations` and `corruptions` make pictures, `altered` makes data sets of them, `altered_runs` asks models
about them; `shortcut_predictors`, `shortcut_cells` and `tone_strata` look for other reasons of a score. Other data: `external`,
`shift`, `discrepancy` and `remedies`. What it would be good for: `nested` gives predictions of held-out training images, on which
`calibration`, `thresholds`, `conformal` and `novelty` are fitted; `reliability`, `decision_curve`, `prevalence` and
`screening_cost` judge. `predictor` makes a run ready for new pictures, and `onnx_export` for other programs.

A notebook needs five names: `open_store` for where runs live, the store's ``dataset`` for the data, `ModelConfig` for what is
fitted, `cross_validate` for the out-of-fold predictions, and `evaluate` for metrics with intervals.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("mpox")
__all__ = ["ModelConfig", "MpoxError", "Training", "cross_validate", "evaluate", "open_store"]

_HOME = {
    "ModelConfig": "config",
    "MpoxError": "errors",
    "Training": "config",
    "cross_validate": "experiment",
    "evaluate": "metrics",
    "open_store": "store",
}


def __getattr__(name: str):
    """Import on first use: a process that compares pictures needs no torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'mpox' has no attribute '{name}'")
    return getattr(import_module(f"mpox.{_HOME[name]}"), name)
