"""`mpox data freeze`: what a profile asks for, gathered where images and weights are."""

import ast
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import PIL
import sklearn
import timm
from safetensors.torch import save

from mpox._core import MpoxError, WeightsMissing, csv_text, expanded
from mpox.audit.result import hash_of_decisions, read_overrides
from mpox.book.run import declared_parameters, list_notebooks, load_profile, read_notebook, resolve_parameters
from mpox.data.dataset import Dataset
from mpox.data.frozen import Frozen, Source, write_frozen
from mpox.data.manifest import PATIENTS_FILE, patients_table
from mpox.data.registry import LABEL_ALIASES, REGISTRY, get_spec, locate, refuse_inside
from mpox.models.backbones import load_pretrained
from mpox.models.weights import find_weights, weights_origin
from mpox.runs.store import RECORDED, RunStore, store_folder


def asked_for(
    profile: str | Path, overrides: Mapping[str, Any] | None = None, data_dir: str | os.PathLike | None = None
) -> tuple[list[str], list[str]]:
    """The data sets and the backbones that the notebooks can ask for when they are run with a profile: what any text names."""
    resolved = resolve_parameters(list_notebooks(), load_profile(profile).parameters, overrides or {})
    values: set[str] = set()
    words: set[str] = set()
    for notebook, given in resolved.items():
        given = declared_parameters(notebook) | given
        if given.get("RUN_STORE") == RECORDED:
            raise MpoxError("The recorded study needs no images and no weights: name another profile.")
        for name in given.get("DATASETS", []):
            get_spec(name, data_dir=data_dir)  # a misspelt one must not be passed over
        values.update(_texts(given))
        for cell in read_notebook(notebook).cells:
            if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
                constants = (node.value for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Constant))
                words.update(value for value in constants if isinstance(value, str))
    return sorted(text for text in values if _is_dataset(text, data_dir)), sorted(filter(timm.is_model, values | words))


def _texts(value: Any) -> Iterator[str]:
    """The texts in a parameter's value; the keys of a mapping name something else."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        yield from itertools.chain.from_iterable(map(_texts, value.values() if isinstance(value, dict) else value))


def _is_dataset(text: str, data_dir: str | os.PathLike | None) -> bool:
    if text in REGISTRY:
        return not REGISTRY[text].is_phantom
    try:
        labels = [child.name for child in locate(text, data_dir=data_dir).iterdir() if child.is_dir()]
    except (MpoxError, OSError):
        return False
    return "Mpox" in {LABEL_ALIASES.get(label.lower(), label) for label in labels}


def freeze(
    out: str | os.PathLike,
    profile: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    data_dir: str | os.PathLike | None = None,
    store: RunStore | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Frozen:
    """Write the images, audits and weights that a run of a profile needs into the new folder `out`, a data root anywhere.

    `store` keeps the audits (the default store if not given); `say` is told the size before anything is written, and which
    weights are not available. `MpoxError` if there is nothing to freeze, a data set is missing, or `out` exists.
    """
    out, store = expanded(out).resolve(), store or RunStore(store_folder())
    if out.exists():
        raise MpoxError(f"{out} exists: remove it, or name another --out.")
    names, backbones = asked_for(profile, overrides, data_dir)
    refuse_inside(out, names, data_dir=data_dir)
    datasets = {name: store.dataset(name, data_dir=data_dir) for name in names}
    files: dict[str, Source] = {}
    for name, data in datasets.items():
        files |= _images(name, data, locate(name, data_dir=data_dir), files)
    weights = {backbone: found for backbone in backbones if (found := _weights(backbone))}
    files |= {file: source for file, source in weights.values()}
    if not files:
        raise MpoxError("There is nothing to freeze: no data set is named, and no weights are available.")
    images, size = sum(len(data.manifest) for data in datasets.values()), sum(size for size, _ in files.values())
    say(f"{out}: {images} images of {len(datasets)} data sets and the weights of {len(weights)} backbones, {size / 1e6:,.1f} MB.")
    if lacking := [backbone for backbone in backbones if backbone not in weights]:
        say(f"Not available here, so not frozen: the weights of {', '.join(lacking)}. A chapter that needs them will say so.")
    if size > (free := shutil.disk_usage(next(folder for folder in out.parents if folder.is_dir())).free):
        raise MpoxError(f"{size / 1e6:,.0f} MB are needed for {out}, {free / 1e6:,.0f} MB are free: free space.")
    audits = {}
    for number in {1, 2, len(datasets)} & set(range(1, len(datasets) + 1)):  # each, each pair (external validation), and all
        for chosen in itertools.combinations(datasets, number):
            store.audit(list(chosen), data_dir)
            titles = [datasets[name].name for name in chosen]
            audits["+".join(sorted(titles))] = key = store.used_audits["+".join(titles)]
            files |= {f"audits/{key}/{path.name}": _file(path) for path in sorted((store.root / "audits" / key).glob("*.csv"))}
    frozen = Frozen(
        datasets={data.name: data.hash for data in datasets.values()},
        audits=audits,
        weights={backbone: weights_origin(backbone) for backbone in weights},
        decisions=hash_of_decisions(read_overrides()),
        versions={"pillow": PIL.__version__, "opencv": cv2.__version__, "scikit-learn": sklearn.__version__},
        root=out,
    )
    write_frozen(frozen, files)
    return frozen


def _file(path: Path) -> Source:
    return path.stat().st_size, path.read_bytes


def _images(name: str, data: Dataset, root: Path, taken: Iterable[str]) -> dict[str, Source]:
    """The images that the manifest lists, under the name that the data set's folder has in a data root."""
    folder = get_spec(name).folder if name in REGISTRY else root.resolve().name
    if data.is_phantom:
        raise MpoxError(f"{root} is a phantom, and can be drawn where it is asked for: leave it out.")
    if folder in {"weights", "audits", *(file.split("/")[0] for file in taken)}:
        raise MpoxError(f"Another folder of a frozen folder is called '{folder}': rename {root}.")
    files = {f"{folder}/{row.image_id}": _file(Path(row.path)) for row in data.manifest.itertuples()}
    if patients_table(root):  # it may also name files that could not be used, which stay behind
        known = data.manifest.dropna(subset=["patient_id"])[["image_id", "patient_id"]]
        table = csv_text(known).encode()
        files[f"{folder}/{PATIENTS_FILE}"] = len(table), lambda: table
    return files


def _weights(backbone: str) -> tuple[str, Source] | None:
    """The file of a backbone's weights; ``None`` if they are not available here."""
    if path := find_weights(backbone):
        return f"weights/{backbone}{path.suffix}", _file(path)
    try:
        size = sum(tensor.nbytes for tensor in load_pretrained(backbone).state.values())
    except WeightsMissing:
        return None
    return f"weights/{backbone}.safetensors", (size, partial(_serialised, backbone))


def _serialised(backbone: str) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in load_pretrained(backbone).state.items()})
