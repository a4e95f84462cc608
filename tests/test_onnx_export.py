"""An ONNX file gives the probabilities of torch, says what it is, and its 8-bit form is measured."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from mpox import MpoxError
from mpox.cli import main
from mpox.runs import export
from mpox.runs.export import export_onnx, run_onnx, session
from mpox.runs.predict import NOTICE, build_predictor, outputs
from mpox.stats.calibration import probabilities_of
from mpox.studies import deployment
from mpox.studies.deployment import FORMS, latencies, losses, run_forms

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def forms(use_study):
    return run_forms(use_study.store, use_study.run_id, use_study.folder)


@pytest.fixture
def invoke(use_study):
    words = ["--store", str(use_study.store.root), "--data-dir", use_study.folder]
    return lambda *more: CliRunner().invoke(main, ["export", *map(str, more), *words])


def test_onnx_runtime_gives_the_probabilities_of_torch_for_any_number_of_pictures(forms):
    size = forms.predictor.model.image_size
    pixels = np.random.default_rng(1).integers(0, 256, (5, size, size, 3), dtype=np.uint8)
    network = forms.predictor.network
    calibrated = deployment._with_temperature(forms.predictor, forms.predictor.temperature)
    assert forms.predictor.temperature != pytest.approx(1, abs=0.02) and network.temperature == 1
    ready = session(forms.exported.model)
    for n in (1, 2, 5):
        np.testing.assert_allclose(run_onnx(ready, pixels[:n]), outputs(calibrated, pixels[:n])[1], atol=1e-4)
    assert forms.exported.difference <= 1e-4
    plain = forms.predictor.predict(pixels)[[f"p_{label}" for label in forms.predictor.classes]]
    np.testing.assert_allclose(run_onnx(ready, pixels), plain, atol=1e-4)


def test_the_file_says_what_it_is(forms, use_study):
    model = onnx.load_from_string(forms.exported.model)
    onnx.checker.check_model(model)
    about = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(about["classes"]) == use_study.data.classes and about["run_id"] == use_study.run_id
    assert about["data_hash"] == use_study.data.hash and about["image_size"] == "96"
    assert NOTICE in about["notice"] and "phantom, not patients" in about["notice"] and "MIT" in about["licence"]
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == export.OPSET
    int8 = {prop.key: prop.value for prop in onnx.load_from_string(forms.int8).metadata_props}
    assert int8 == about | {"precision": "int8"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_8_bits_are_smaller_and_their_loss_is_of_the_test_fold(forms, use_study):
    assert len(forms.int8) < 0.4 * len(forms.exported.model)
    assert any(part.data_type == onnx.TensorProto.INT8 for part in onnx.load_from_string(forms.int8).graph.initializer)
    rows = use_study.predictions[use_study.predictions["run_id"] == use_study.run_id]
    assert sorted(forms.predictions["torch"]["image_id"]) == sorted(rows["image_id"])
    table = losses(forms.predictions, n_bootstrap=200).set_index("form")
    assert list(table.index) == list(FORMS) and (table["images"] == len(rows)).all()
    accuracy = (probabilities_of(rows).argmax(axis=1) == rows["label"].map(use_study.data.classes.index)).mean()
    assert table.loc["torch", "accuracy"] == pytest.approx(accuracy)
    assert table.loc["torch", ["accuracy_loss", "auroc_loss", "max_abs_difference"]].tolist() == [0, 0, 0]
    assert table.loc["onnx", "max_abs_difference"] <= 1e-4 and table.loc["onnx", "accuracy_loss"] == 0
    assert 1e-4 < table.loc["onnx int8", "max_abs_difference"] < 0.5
    assert (table["accuracy_loss_low"] <= table["accuracy_loss"]).all()
    assert (table["accuracy_loss"] <= table["accuracy_loss_high"]).all()
    assert table.loc["onnx int8", "auroc"] == pytest.approx(table.loc["torch", "auroc"] - table.loc["onnx int8", "auroc_loss"])


def test_a_loss_is_the_first_form_minus_the_other(use_study):
    right = use_study.predictions
    wrong = right.copy()
    columns = [f"p_{label}" for label in use_study.data.classes]
    wrong.loc[wrong["fold"] == 0, columns] = np.roll(wrong.loc[wrong["fold"] == 0, columns], 1, axis=1)
    row = losses({"good": right, "bad": wrong}, n_bootstrap=200).set_index("form").loc["bad"]
    assert row["accuracy_loss"] > 0.1 and row["accuracy_loss_low"] > 0


def test_the_table_is_kept_and_read(forms, use_study, monkeypatch):
    monkeypatch.setattr(deployment, "run_forms", lambda *_, **__: forms)
    table = deployment.deployment(use_study.store, [use_study.run_id], rounds=2)
    assert table["form"].tolist() == list(FORMS)
    sizes = table.set_index("form")["size_mb"]
    assert sizes["onnx int8"] == len(forms.int8) / 1e6 and sizes["torch"] == pytest.approx(sizes["onnx"], rel=0.05)
    times = table[[column for column in table if column.startswith("latency")]].to_numpy()
    assert (times > 0).all() and (table["latency_p95_ms_1"] >= table["latency_ms_1"]).all()
    monkeypatch.setattr(deployment, "run_forms", None)
    again = deployment.deployment(use_study.store, [use_study.run_id], rounds=2)
    assert again.equals(table) and any(key.startswith("latency-deployment-") for key in use_study.store.used_tables)
    with pytest.raises(MpoxError, match="needs a run"):
        deployment.deployment(use_study.store, [])


def test_timing_leaves_torch_its_threads_and_the_predictor_its_network(forms):
    import torch

    threads = torch.get_num_threads()
    before = {name: part.clone() for name, part in forms.predictor.network.state_dict().items()}
    latencies(forms, rounds=1)
    assert torch.get_num_threads() == threads
    after = forms.predictor.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "forward" not in vars(next(m for m in forms.predictor.network.modules() if isinstance(m, torch.nn.Conv2d)))


def test_a_file_that_differs_from_torch_is_not_written(invoke, use_study, forms, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "run_onnx", lambda ready, pixels: np.full((len(pixels), 4), 0.25))
    monkeypatch.setattr(export.torch.onnx, "export", lambda *_, **__: Kept(forms.exported.model))
    done = invoke("--run", use_study.run_id, "--out", tmp_path / "m.onnx")
    assert done.exit_code == 1 and "differ from torch's" in done.stderr and not list(tmp_path.iterdir())


class Kept:
    """What the exporter gives, made once for several tests: it takes seconds."""

    def __init__(self, model: bytes):
        self.model_proto = onnx.load_from_string(model)


def test_the_command_writes_the_file_and_says_what_was_checked(invoke, use_study, forms, tmp_path, monkeypatch):
    monkeypatch.setattr(export.torch.onnx, "export", lambda *_, **__: Kept(forms.exported.model))
    out = tmp_path / "m.onnx"
    done = invoke("--run", use_study.run_id[:8], "--format", "onnx", "--out", out)
    assert done.exit_code == 0, done.output
    assert "opset 18" in done.stdout and "pictures of the run's test fold" in done.stdout and NOTICE in done.stderr
    assert session(out.read_bytes()).get_inputs()[0].shape[1:] == [3, 96, 96]
    again = invoke("--run", use_study.run_id, "--out", out)
    assert again.exit_code == 1 and "exists already" in again.stderr
    assert invoke("--run", use_study.run_id, "--out", out, "--force").exit_code == 0
    monkeypatch.setattr("mpox.runs.listing.training_data", missing)
    done = invoke("--run", use_study.run_id, "--out", tmp_path / "other.onnx")
    assert done.exit_code == 0 and "random pictures" in done.stdout


def missing(*_, **__):
    raise MpoxError("not here")


def test_the_command_tells_the_loss_of_8_bits(invoke, use_study, forms, tmp_path, monkeypatch):
    monkeypatch.setattr(deployment, "run_forms", lambda *_, **__: forms)
    out = tmp_path / "m.onnx"
    done = invoke("--run", use_study.run_id, "--out", out, "--int8")
    assert done.exit_code == 0, done.output
    assert "accuracy in 8 bits 0." in done.stdout and "AUROC (Mpox)" in done.stdout and ", loss " in done.stdout
    assert "95 % CI" in done.stdout and f"the {len(forms.predictions['torch'])} pictures of the run's test fold" in done.stdout
    assert out.read_bytes() == forms.int8


def test_a_missing_extra_is_one_sentence(invoke, use_study, tmp_path, monkeypatch):
    real = export.importlib.import_module

    def without(name):
        if name == "onnxscript":
            raise ImportError("No module named 'onnxscript'")
        return real(name)

    monkeypatch.setattr(export.importlib, "import_module", without)
    done = invoke("--run", use_study.run_id, "--out", tmp_path / "m.onnx")
    assert done.exit_code == 1 and 'pip install "mpox[onnx]"' in done.stderr


def test_a_network_that_cannot_be_exported_is_one_sentence(use_study, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(export.torch.onnx, "export", fail)
    made = build_predictor(use_study.store, use_study.run_id, use_study.folder)
    with pytest.raises(MpoxError, match=r"cannot export tf_efficientnet_lite0 to ONNX \(no such operator\)"):
        export_onnx(made, np.zeros((1, 96, 96, 3), np.uint8))
