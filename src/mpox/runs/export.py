"""A run as one network for other programs: torch, ONNX, ONNX in 8 bits."""

import importlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mpox._core import MpoxError
from mpox.data.pixels import RenderedPixels
from mpox.data.registry import REGISTRY
from mpox.models.backbones import Deployable
from mpox.runs.predict import NOTICE, Predictor, outputs
from mpox.stats.calibration import apply_temperature

#: Version of ONNX's set of operators.
OPSET = 18
#: The largest difference of a probability between ONNX Runtime and torch that is let through.
TOLERANCE = 1e-4
INPUT, OUTPUT = "pictures", "probabilities"
#: What is computed in 8 bits; the head, softmax and normalisation stay in float32.
QUANTISED = ["Conv", "Clip", "Relu", "Add"]
BATCH = 16
#: Pictures that calibrate an 8-bit model, at most.
CALIBRATION = 128


@dataclass(frozen=True)
class Exported:
    """An ONNX model and what is known about it.

    Parameters
    ----------
    model : bytes
        The file's content.
    opset : int
    calibrated : bool
        Whether the temperature is in it.
    difference : float
        Largest absolute difference of a probability, from torch.
    """

    model: bytes
    opset: int
    calibrated: bool
    difference: float


def require_onnx() -> None:
    """Raise an `MpoxError` if the extra ``onnx`` is not installed."""
    try:
        for name in ("onnx", "onnxruntime", "onnxscript"):
            importlib.import_module(name)
    except ImportError as error:
        raise MpoxError(f'An ONNX file needs extra packages ({error}): run `pip install "mpox[onnx]"`.') from error


def export_onnx(predictor: Predictor, pixels: np.ndarray | RenderedPixels, *, calibrated: bool = True) -> Exported:
    """The whole way from pixels to probabilities as one float32 ONNX model, held against torch.

    Its input ``pictures`` is float32 of shape (n, 3, size, size), RGB from 0 to 255, with any n; its output ``probabilities`` has
    shape (n, classes). Normalisation, the mirror image, softmax and temperature are inside; what it is of stands in its metadata.

    Parameters
    ----------
    predictor : Predictor
    pixels : ndarray of uint8, shape (n, size, size, 3)
        Pictures on which ONNX Runtime and torch are compared, all at once and the first by itself; at least one.
    calibrated : bool
        Put the predictor's temperature in.

    Raises
    ------
    MpoxError
        If the extra ``onnx`` is missing, the exporter fails, or a probability differs by more than `TOLERANCE`.
    """
    require_onnx()
    import onnx

    plain, temperature = predictor.network, predictor.temperature if calibrated else 1.0
    network = Deployable(
        plain.network, predictor.model.backbone, mirror=plain.mirror, average=plain.average, temperature=temperature
    )
    size = predictor.model.image_size
    try:
        program = torch.onnx.export(
            network.cpu().eval(),
            (torch.zeros(3, 3, size, size),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
    except Exception as error:  # the exporter raises many types
        reason = str(error).strip().splitlines()[0]
        raise MpoxError(f"torch cannot export {predictor.model.backbone} to ONNX ({reason}): name another run.") from error
    assert program is not None, "with dynamo=True torch returns the program"
    proto = program.model_proto
    onnx.helper.set_model_props(proto, _metadata(predictor, calibrated))
    proto.doc_string = NOTICE
    model = proto.SerializeToString()
    _, expected = outputs(plain, pixels)
    expected = apply_temperature(expected, temperature) if calibrated else expected
    ready = session(model)
    found = run_onnx(ready, pixels), run_onnx(ready, pixels[:1])
    apart = max(float(np.abs(part - expected[: len(part)]).max()) for part in found)
    if not apart <= TOLERANCE:
        raise MpoxError(
            f"ONNX Runtime's probabilities differ from torch's by up to {apart:.2g}, more than {TOLERANCE:g}: nothing was "
            "written; try another version of onnxruntime."
        )
    return Exported(model, OPSET, calibrated, apart)


def _metadata(predictor: Predictor, calibrated: bool) -> dict[str, str]:
    about = predictor.provenance
    spec = REGISTRY.get(about["dataset"])
    licence = f"data: {spec.licence if spec else 'of their owner'}; package: MIT; pretrained weights: of their authors"
    return {
        "notice": NOTICE + (" It learnt from a phantom, not patients." if about["phantom"] else ""),
        "classes": json.dumps(predictor.classes),
        "input": "float32 (n, 3, size, size), RGB from 0 to 255, the whole picture squashed to a square (bicubic)",
        "image_size": str(about["image_size"]),
        "temperature": repr(predictor.temperature) if calibrated else "none",
        "licence": licence,
        **{name: str(about[name]) for name in ("run_id", "dataset", "data_hash", "protocol", "fold", "regime", "backbone")},
        "package": f"mpox {about['package']}",
    }


def quantise(exported: Exported, pixels: np.ndarray) -> bytes:
    """A model with 8-bit convolutions, calibrated on pictures (static quantisation in QDQ form; Jacob et al. 2018).

    Weights are signed, one scale an output channel; activations are unsigned, between the least and the greatest value that the
    pictures give. On x86 processors without 8-bit dot products (VNNI) sums of products can saturate: what the form loses has to
    be measured on the kind of processor on which it will run.

    Parameters
    ----------
    exported : Exported
    pixels : ndarray of uint8, shape (n, size, size, 3)
        Of the training part, never of the test fold; the first `CALIBRATION` are taken.

    Returns
    -------
    bytes
        The file's content.
    """
    require_onnx()
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):
        def __init__(self):
            self.batches = ({INPUT: as_input(part)} for part in _batches(pixels[:CALIBRATION]))

        def get_next(self) -> dict | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory(prefix="mpox-onnx-") as folder:
        source, ready, target = (Path(folder) / name for name in ("float.onnx", "ready.onnx", "int8.onnx"))
        source.write_bytes(exported.model)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            target,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=QUANTISED,
            nodes_to_exclude=_before_the_network(onnx.load(ready).graph),
        )
        model = onnx.load(target)
    original = onnx.load_from_string(exported.model)
    onnx.helper.set_model_props(model, {prop.key: prop.value for prop in original.metadata_props} | {"precision": "int8"})
    model.doc_string = NOTICE
    return model.SerializeToString()


def _before_the_network(graph) -> list[str]:
    """The nodes in front of the first convolution: the normalisation, which 8 bits would coarsen for nothing."""
    names = []
    for node in graph.node:  # in topological order
        if node.op_type == "Conv":
            break
        names.append(node.name)
    return names


def session(model: bytes, *, threads: int = 0):
    """An ONNX Runtime session on the CPU; 0 threads means as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def as_input(pixels: np.ndarray) -> np.ndarray:
    """Pictures of shape (n, size, size, 3), uint8, as the model's input."""
    return np.ascontiguousarray(np.asarray(pixels).transpose(0, 3, 1, 2), dtype=np.float32)


def run_onnx(ready, pixels: np.ndarray | RenderedPixels) -> np.ndarray:
    """Probabilities, float64 of shape (n, classes), of uint8 pictures, by a `session`."""
    return np.concatenate([ready.run([OUTPUT], {INPUT: as_input(part)})[0] for part in _batches(pixels)]).astype(float)


def _batches(pixels: np.ndarray | RenderedPixels) -> list[np.ndarray]:
    return [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
