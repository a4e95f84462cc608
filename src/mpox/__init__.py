"""Can deep learning really recognize Mpox? The package behind the notebooks.

Data flows one way, and each step is a module::

    data folder -> manifest -> audit -> groups -> splits -> runs -> predictions -> metrics -> figures -> notebook -> book
    datasets       manifest    audit    groups    splits    experiment (config,   metrics    figures    execution   book
    download       pictures                       combine   features, probe,      intervals  figures_*  kernels     book_*
    phantom        patients                       views     training, store,      (below)    report     record      checklists
    pack                                          mixing    scheduling)                                 adoption    exercises

Splits that are experiments: `leakage` puts siblings of test pictures back into training, `learning_curve` takes pictures away,
and `nested` predicts training pictures by models that have not seen them. `altered` makes data sets of changed pictures, which
`alterations`, `corruptions` and `tone_transfer` draw and `lesionmap` guides; `altered_runs` asks models about them.

What is asked of predictions: `metrics` and `intervals` with groups resampled, `delong`, `curves`; two models on the same folds in
`comparison` (its tests are in `foldtests`), several in `ensembling` and `selection`; what a study could show in `power` and
`variance`; whether the methods hold in `coverage` and `simulation`; what a model costs in `costs` and `pareto`; and the paper's
claims in `verdict`, `findings` and `answer`.

Whom a model is wrong about: `errortable`, `slices` and `slice_finder`; doubtful labels in `label_problems`; the map of the
pictures in `embedding`; heat maps in `explain` and `explanations`, tested in `saliency_checks`. What else may be behind a score:
`shortcut_predictors`, `shortcut_cells`, `tone_strata`, `robustness`. Other data: `external`, `shift`, `discrepancy`, `remedies`.

What it would be good for: on nested predictions `foldwise` fits `calibration` and `conformal`; `thresholds` and `novelty` say
where to act and when to warn; `reliability`, `decision_curve`, `prevalence`, `screening_cost` and `unfamiliar` judge. `predictor`
makes a run ready for new pictures, `deployable` and `onnx_export` for other programs.

What a reader works with in the page: `sortable`, `roc_explorer`, `mapview`, `screening_widget`, `quiz`.

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
