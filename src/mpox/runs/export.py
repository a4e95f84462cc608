"""A run as one ONNX file, from pixels to probabilities, in float32 or with 8-bit convolutions, checked against torch."""

import importlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mpox._core import MpoxError
from mpox.data.pixels import load_pixels
from mpox.data.registry import REGISTRY
from mpox.models.backbones import Classifier, Deployable, build_backbone, fold_batch_norm
from mpox.models.config import ModelConfig
from mpox.models.costs import latency
from mpox.models.hardware import device_name
from mpox.runs.listing import find_run, training_data
from mpox.runs.predict import BATCH, NOTICE, Predictor, build_predictor, outputs
from mpox.runs.recorded import RecordedStore
from mpox.runs.store import RunStore
from mpox.stats.metrics import difference, evaluate

#: Version of ONNX's set of operators.
OPSET = 18
#: The largest difference of a probability between ONNX Runtime and torch that is let through.
TOLERANCE = 1e-4
INPUT, OUTPUT = "pictures", "probabilities"
INPUT_SAYS = (
    "RGB from 0 to 255 (an image without a value above 1 is taken for one from 0 to 1, and gets NaN), upright (EXIF rotation is "
    "the caller's), the whole image squashed to a square (bicubic)"
)
#: Weights from which a widening convolution of a page's backbone is kept in 8 bits.
LARGE = 60_000
#: Training images that calibrate an 8-bit model, at most.
CALIBRATION = 128


@dataclass(frozen=True, eq=False)
class Exported:
    """A run as ONNX files."""

    predictor: Predictor
    network: Deployable  #: what is in the files
    models: dict[str, bytes]  #: ``onnx`` and ``onnx int8``
    difference: float  #: the largest of a probability, float32 against torch
    predictions: dict[str, pd.DataFrame]  #: of the test images, by ``torch`` and each model; empty where these are not here


def require_onnx() -> None:
    """Raise an `MpoxError` if the extra ``onnx`` is not installed."""
    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            importlib.import_module(name)
    except ImportError as error:
        raise MpoxError(f'An ONNX file needs extra packages ({error}): run `pip install "mpox[onnx]"`.') from error


def export_run(
    store: RunStore | RecordedStore,
    run_id: str,
    data_dir: str | None = None,
    *,
    int8: bool = False,
    calibrated: bool = True,
    tell: Callable[[str], None] = lambda text: None,
) -> Exported:
    """A run as ONNX, held against torch on its test images, or on random ones where its images are not here.

    The input ``images`` is float32 of shape (n, 3, size, size), as `INPUT_SAYS`, with any n; the output ``probabilities`` has
    shape (n, classes). Normalisation, mirror image and softmax are inside, and the temperature if ``calibrated``. ``int8`` adds
    a form with 8-bit convolutions, calibrated on training images, which must be here. For the rest see `build_predictor`.
    """
    require_onnx()
    predictor = build_predictor(store, run_id, data_dir, tell=tell)
    assert isinstance(store, RunStore), "build_predictor has refused the recorded study"
    size, temperature = predictor.model.image_size, predictor.temperature if calibrated else 1.0
    network = Deployable(predictor.network.network, predictor.model, temperature=temperature).eval()
    try:
        config = find_run(store, run_id).config
        data, rows = training_data(store, config, data_dir)
        role = data.manifest["image_id"].map(rows.set_index("image_id")["role"])
        train, test = (data.manifest[role == name].reset_index(drop=True) for name in ("train", "test"))
        pixels = load_pixels(test, size)
        about = test[["image_id", "label"]].assign(group_id=test["image_id"].map(data.groups), repeat=config.repeat)
    except MpoxError:
        if int8:
            raise
        pixels, about = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), dtype=np.uint8), None
    models = {"onnx": _as_onnx(network, predictor, calibrated)}
    ask, expected = asking(models["onnx"]), outputs(network, pixels)[1]
    found = {"torch": expected, "onnx": ask(pixels)}
    apart = max(np.nanmax(np.abs(part - expected[: len(part)])) for part in (found["onnx"], ask(pixels[:1])))
    if not apart <= TOLERANCE:
        raise MpoxError(
            f"ONNX Runtime's probabilities differ from torch's by up to {apart:.2g}, more than {TOLERANCE:g}: nothing was "
            "written; try another version of onnxruntime."
        )
    if int8:
        shown = np.random.default_rng(0).permutation(len(train))[:CALIBRATION]  # of all classes
        models["onnx int8"] = _in_8_bits(models["onnx"], load_pixels(train, size)[shown])
        found["onnx int8"] = asking(models["onnx int8"])(pixels)
    columns = [f"p_{label}" for label in predictor.classes]
    said = {} if about is None else {form: about.join(pd.DataFrame(part, columns=columns)) for form, part in found.items()}
    return Exported(predictor, network, models, float(apart), said)


def compare_forms(
    store: RunStore | RecordedStore, run_ids: list[str], data_dir: str | None = None, *, rounds: int = 20
) -> pd.DataFrame:
    """Torch and both ONNX forms of the runs of a cross-validation: what each costs, and what it loses against torch.

    Parameters
    ----------
    store, data_dir
        As in `export_run`.
    run_ids : list of str
        Runs whose test folds belong together; size and time are of the first.
    rounds : int
        Timed predictions of each batch size.

    Returns
    -------
    DataFrame
        A row a form (``torch``, ``onnx``, ``onnx int8``): ``size_mb``, ``device``, ``images`` (tested), ``max_abs_difference``
        (of a probability), ``latency_ms_1``, ``latency_p95_ms_1`` and the same for batches of 16 (an image, on one thread),
        ``accuracy`` and ``auroc``, and what they lose, ``accuracy_loss`` and ``auroc_loss``, each with ``_low`` and ``_high``
        (paired, over groups).
    """
    runs = [export_run(store, run_id, data_dir, int8=True) for run_id in run_ids]
    network, models, positive = runs[0].network, runs[0].models, runs[0].predictor.positive
    size = runs[0].predictor.model.image_size
    fold_batch_norm(network.network, torch.zeros(1, 3, size, size))
    ways: dict[str, Callable] = {"torch": lambda pixels: outputs(network, pixels)}
    ways |= {form: asking(model, threads=1) for form, model in models.items()}
    sizes = {"torch": sum(part.nbytes for part in network.network.state_dict().values())}
    sizes |= {form: len(model) for form, model in models.items()}
    rows = []
    for form, ask in ways.items():
        first, said = (pd.concat([run.predictions[which] for run in runs], ignore_index=True) for which in ("torch", form))
        row = {"form": form, "size_mb": sizes[form] / 1e6, "device": device_name("cpu", threads=1), "images": len(said)}
        row["max_abs_difference"] = (first.filter(regex="^p_") - said.filter(regex="^p_")).abs().max(axis=None)
        for batch in (1, 16):
            pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
            timed = latency(partial(ask, pixels), images=batch, rounds=rounds)
            row[f"latency_ms_{batch}"], row[f"latency_p95_ms_{batch}"] = timed
        for metric, label in (("accuracy", "all"), ("auroc", positive)):
            found = evaluate(said, positive=positive, n_bootstrap=0).set_index(["metric", "class"])
            row[metric] = found.loc[(metric, label), "estimate"]
            lost = difference(first, said, metric, label, positive=positive)
            row |= dict(zip((f"{metric}_loss{end}" for end in ("", "_low", "_high")), lost, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def _as_onnx(network: Deployable, predictor: Predictor, calibrated: bool) -> bytes:
    import onnx

    about, size = predictor.provenance, predictor.model.image_size
    try:
        program: Any = torch.onnx.export(
            network.cpu(), (torch.zeros(3, 3, size, size),), dynamo=True, opset_version=OPSET, input_names=[INPUT],
            output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("n")},), verbose=False,
        )  # fmt: skip
    except Exception as error:  # the exporter raises many types
        reason = str(error).strip().splitlines()[0]
        raise MpoxError(f"torch cannot export {predictor.model.backbone} to ONNX ({reason}): name another run.") from error
    spec = REGISTRY.get(about["dataset"])
    facts = {
        "notice": NOTICE + (" It learnt from a phantom, not patients." if about["phantom"] else ""),
        "classes": json.dumps(predictor.classes),
        "input": f"float32 (n, 3, {size}, {size}), {INPUT_SAYS}",
        "temperature": repr(predictor.temperature) if calibrated else "none",
        "licence": f"data: {spec.licence if spec else 'of their owner'}; package: MIT; pretrained weights: of their authors",
        **{name: str(value) for name, value in about.items()},
    }
    proto = program.model_proto  # made anew whenever it is asked for
    onnx.helper.set_model_props(proto, facts)
    proto.doc_string = f"{NOTICE} Input: {INPUT_SAYS}."
    return proto.SerializeToString()


class _Features(torch.nn.Module):
    """Pixels from 0 to 255 in, the mean feature vector of an image and its mirror image out."""

    def __init__(self, model: ModelConfig):
        super().__init__()
        network = Classifier(build_backbone(model.backbone, weights=model.weights), torch.nn.Identity())
        self.network = Deployable(network, model)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.network.features(images)
        return found.reshape(2 if self.network.mirror else 1, -1, found.shape[1]).mean(0)


def backbone_as_onnx(model: ModelConfig) -> bytes:
    """A backbone as ONNX, from pixels of shape (1, 3, size, size) to features (1, d), small enough for a page.

    Weights of the large convolutions that widen are kept in 8 bits, a scale a channel; of others, in which 8 bits lose more for
    what they save, in 16. Only weights are rounded: whatever runs the file computes in float32.
    """
    import onnx

    require_onnx()
    network, example = _Features(model).eval(), torch.zeros(1, 3, model.image_size, model.image_size)
    program: Any = torch.onnx.export(
        network, (example,), dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=["features"], verbose=False
    )
    proto = program.model_proto
    for weight in [one for one in proto.graph.initializer if len(one.dims) == 4]:
        values = onnx.numpy_helper.to_array(weight)
        if values.shape[0] > values.shape[1] > 1 and values.size >= LARGE:
            scale = np.maximum(np.abs(values).max(axis=(1, 2, 3)) / 127, 1e-12).astype(np.float32)
            parts = {"bytes": np.rint(values / scale[:, None, None, None]).astype(np.int8), "scale": scale}
            operator: tuple[str, dict] = "DequantizeLinear", {"axis": 0}
        else:
            parts, operator = {"half": values.astype(np.float16)}, ("Cast", {"to": onnx.TensorProto.FLOAT})
        named = {f"{weight.name}.{kind}": part for kind, part in parts.items()}
        proto.graph.initializer.remove(weight)
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(part, name) for name, part in named.items())
        proto.graph.node.insert(0, onnx.helper.make_node(operator[0], list(named), [weight.name], **operator[1]))
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def asking_features(model: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 images, (n, size, size, 3), to the features, (n, d), of a file from `backbone_as_onnx`."""
    import onnxruntime

    ready = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda pixels: np.concatenate([ready.run(None, _input(pixels[k : k + 1]))[0] for k in range(len(pixels))])


def _in_8_bits(model: bytes, pixels: np.ndarray) -> bytes:
    """Convolutions in 8 bits, calibrated on images: static quantisation in QDQ form (Jacob et al. 2018)."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        batches = iter(range(0, len(pixels), BATCH))

        def get_next(self) -> dict | None:
            start = next(self.batches, None)
            return None if start is None else _input(pixels[start : start + BATCH])

    with tempfile.TemporaryDirectory(prefix="mpox-onnx-") as folder:
        source, ready, target = (Path(folder) / name for name in ("float.onnx", "ready.onnx", "int8.onnx"))
        source.write_bytes(model)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        nodes = list(onnx.load(ready).graph.node)  # in topological order
        first = next(number for number, node in enumerate(nodes) if node.op_type == "Conv")
        quantize_static(
            ready, target, Images(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add"],  # the head and softmax stay in float32,
            nodes_to_exclude=[node.name for node in nodes[:first]],  # and the normalisation
        )  # fmt: skip
        small = onnx.load(target)
    facts = {prop.key: prop.value for prop in onnx.load_from_string(model).metadata_props}
    onnx.helper.set_model_props(small, facts | {"precision": "int8"})
    small.doc_string = onnx.load_from_string(model).doc_string
    return small.SerializeToString()


def _input(pixels: np.ndarray) -> dict[str, np.ndarray]:
    return {INPUT: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)}


def asking(model: bytes, *, threads: int = 0) -> Callable[[Any], np.ndarray]:
    """A function from uint8 images to a model's probabilities, float64 of shape (n, classes), by ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    ready = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def ask(pixels: Any) -> np.ndarray:
        parts = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        return np.concatenate([ready.run([OUTPUT], _input(part))[0] for part in parts]).astype(float)

    return ask
