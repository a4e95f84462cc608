"""An ONNX file gives the probabilities of torch, says what it is, and its 8-bit form is held against torch."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from mpox import MpoxError
from mpox.cli import main
from mpox.runs import export
from mpox.runs.export import asking, compare_forms, export_run
from mpox.runs.predict import NOTICE

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def exported(use_study):
    return export_run(use_study.store, use_study.run_id, use_study.folder, int8=True)


@pytest.fixture
def invoke(use_study, exported, monkeypatch):
    """The command, with what the exporter gives made once: it takes seconds."""
    kept = type("Program", (), {"model_proto": onnx.load_from_string(exported.models["onnx"])})
    monkeypatch.setattr(export.torch.onnx, "export", lambda *_, **__: kept)
    words = ["--run", use_study.run_id[:8], "--store", str(use_study.store.root), "--data-dir", use_study.folder]
    return lambda *more: CliRunner().invoke(main, ["export", *words, *map(str, more)])


def test_an_input_from_0_to_1_is_noticed_and_what_the_caller_must_do_is_said(exported, invoke, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    for model in exported.models.values():
        found = asking(model)(np.concatenate([pixels / 255, pixels]))
        assert np.isnan(found[:3]).all() and np.isfinite(found[3:]).all()
        loaded = onnx.load_from_string(model)
        said = {prop.key: prop.value for prop in loaded.metadata_props}["input"]
        for text in (said, loaded.doc_string, CliRunner().invoke(main, ["export", "--help"]).output.split("\n\n")[1]):
            assert "0 to 255" in text and "EXIF" in text and "caller" in text


@pytest.mark.slow
def test_onnx_runtime_gives_the_probabilities_of_torch_for_any_number_of_images(exported):
    predictor = exported.predictor
    pixels = np.random.default_rng(1).integers(0, 256, (5, 96, 96, 3), dtype=np.uint8)
    assert predictor.temperature != pytest.approx(1, abs=0.02) and exported.difference <= 1e-4
    plain = predictor.predict(pixels)[[f"p_{label}" for label in predictor.classes]]
    for n in (1, 2, 5):
        np.testing.assert_allclose(asking(exported.models["onnx"])(pixels[:n]), plain[:n], atol=1e-4)


def test_the_files_say_what_they_are(exported, use_study):
    model, small = (onnx.load_from_string(exported.models[form]) for form in ("onnx", "onnx int8"))
    onnx.checker.check_model(model)
    about, other = ({prop.key: prop.value for prop in one.metadata_props} for one in (model, small))
    assert json.loads(about["classes"]) == use_study.data.classes and about["run_id"] == use_study.run_id
    assert about["data_hash"] == use_study.data.hash and about["image_size"] == "96" and "MIT" in about["licence"]
    assert NOTICE in about["notice"] and "phantom, not patients" in about["notice"] and other == about | {"precision": "int8"}
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == export.OPSET
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert any(part.data_type == onnx.TensorProto.INT8 for part in small.graph.initializer)
    assert len(exported.models["onnx int8"]) < 0.4 * len(exported.models["onnx"])


def test_every_form_is_asked_about_the_test_fold(exported, use_study):
    rows = use_study.predictions[use_study.predictions["run_id"] == use_study.run_id].sort_values("image_id")
    columns = [f"p_{label}" for label in use_study.data.classes]
    apart = {}
    for form, table in exported.predictions.items():
        assert table["image_id"].tolist() == rows["image_id"].tolist() and table["group_id"].notna().all()
        apart[form] = np.abs(table[columns] - exported.predictions["torch"][columns]).to_numpy().max()
    assert apart["torch"] == 0 and apart["onnx"] <= 1e-4 < apart["onnx int8"] < 0.5


def test_forms_are_compared_with_torch_and_the_8_bit_one_is_the_smallest(exported, use_study, monkeypatch):
    monkeypatch.setattr(export, "export_run", lambda *_, **__: exported)
    table = compare_forms(use_study.store, [use_study.run_id], use_study.folder, rounds=1).set_index("form")
    assert list(table.index) == ["torch", "onnx", "onnx int8"] and (table["images"] == len(exported.predictions["torch"])).all()
    assert table["size_mb"].idxmin() == "onnx int8" and (table.filter(regex="latency") > 0).all(axis=None)
    assert table.loc["torch", ["max_abs_difference", "accuracy_loss", "auroc_loss"]].tolist() == [0, 0, 0]
    assert 1e-4 < table.loc["onnx int8", "max_abs_difference"] < 0.5
    assert (table["auroc"] + table["auroc_loss"]).to_numpy() == pytest.approx(table.loc["torch", "auroc"])


def test_the_command_writes_the_file_and_says_what_was_checked(invoke, exported, tmp_path, monkeypatch):
    out = tmp_path / "m.onnx"
    done = invoke("--out", out)
    assert done.exit_code == 0, done.output
    assert "opset 18" in done.stdout and "images of the run's test fold" in done.stdout and NOTICE in done.stderr
    again = invoke("--out", out)
    assert again.exit_code == 1 and "exists already" in again.stderr
    done = invoke("--out", out, "--force", "--int8")
    assert (
        done.exit_code == 0 and "auroc (Mpox) lost in 8 bits" in done.stdout and re.search(r"\(-?0\.\d+ to 0\.\d+\)", done.stdout)
    )
    assert out.read_bytes() == exported.models["onnx int8"]
    monkeypatch.setattr(export, "training_data", missing)
    assert "random images" in invoke("--out", tmp_path / "other.onnx").stdout
    assert invoke("--out", tmp_path / "small.onnx", "--int8").exit_code == 1


def missing(*_, **__):
    raise MpoxError("not here")


def test_what_cannot_be_exported_is_one_sentence_and_writes_nothing(invoke, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(export, "asking", lambda model: lambda pixels: np.full((len(pixels), 4), 0.25))
        assert "differ from torch's" in invoke("--out", tmp_path / "m.onnx").stderr
    with monkeypatch.context() as patch:
        patch.setitem(export.importlib.sys.modules, "onnxscript", None)
        assert 'pip install "mpox[onnx]"' in invoke("--out", tmp_path / "m.onnx").stderr

    def fail(*_, **__):
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(export.torch.onnx, "export", fail)
    assert "cannot export tf_efficientnet_lite0 to ONNX (no such operator)" in invoke("--out", tmp_path / "m.onnx").stderr
    assert not list(tmp_path.iterdir())
