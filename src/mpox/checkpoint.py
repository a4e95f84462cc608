"""The state of a training between two epochs: whole or absent on the disk, and checked when it is taken up."""

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from mpox.errors import MpoxError
from mpox.paths import atomic_write

if TYPE_CHECKING:
    import torch

#: The small file that makes a state valid, and the files of tensors.
STATE = "state.json"
STATE_FILES = "epoch*.safetensors"


def save(
    folder: Path,
    model: "torch.nn.Module",
    best: dict[str, "torch.Tensor"],
    optimizer: "torch.optim.Optimizer",
    history: list[dict],
) -> None:
    """Keep the state after an epoch; the one before is removed when this one is on the disk.

    Parameters
    ----------
    folder : Path
        Holds one state, in ``epoch<n>.safetensors`` and ``state.json``.
    model : Module
    best : dict
        State dict of the best epoch so far.
    optimizer : Optimizer
    history : list of dict
        One JSON-able entry an epoch.

    Raises
    ------
    MpoxError
        If the folder cannot be written; then the state before is still there.
    """
    from safetensors import torch as safetensors

    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    data = safetensors.save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})
    name = f"epoch{len(history)}.safetensors"
    atomic_write(folder / name, data)
    about = {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "history": history}
    atomic_write(folder / STATE, json.dumps(about))
    for old in folder.glob(STATE_FILES):
        if old.name != name:
            old.unlink()


def load(
    folder: Path, model: "torch.nn.Module", optimizer: "torch.optim.Optimizer"
) -> tuple[dict[str, "torch.Tensor"], list[dict]] | None:
    """Put a saved state into a model and its optimizer.

    One that is damaged, or another model's, is removed with a note on stderr: the training starts over.

    Returns
    -------
    (dict, list of dict) or None
        The best epoch's state dict and the history; ``None`` if there is no state, and nothing has been changed.

    Raises
    ------
    MpoxError
        If the files are there and this user or machine cannot read them.
    """
    if not (folder / STATE).is_file():
        return None
    try:
        history, parts, moments = _read(folder)
        _check(parts, moments, model, optimizer)
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | TypeError) else error
        tqdm.write(f"The state saved in {folder} is damaged ({found}): this training starts over.", file=sys.stderr)
        for file in [folder / STATE, *folder.glob(STATE_FILES)]:
            file.unlink(missing_ok=True)
        return None
    except OSError as error:
        raise MpoxError(
            f"The state saved in {folder} cannot be read ({error.strerror}): make it readable, or remove it to start over."
        ) from error
    model.load_state_dict(parts["model"])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in moments.items():  # in the memory format of their parameter: the fused step goes through both in step
        like = parameters[index].detach()
        moments[index] = {key: like.clone().copy_(value) if value.shape == like.shape else value for key, value in values.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in parts["best"].items()}, history


def _read(folder: Path) -> tuple[list[dict], dict[str, dict], dict[int, dict]]:
    from safetensors import torch as safetensors

    about = json.loads((folder / STATE).read_bytes())
    data = (folder / about["file"]).read_bytes()
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise ValueError(f"{about['file']} is not what was written")
    parts: dict[str, dict] = {"model": {}, "best": {}}
    moments: dict[int, dict] = {}
    for name, value in safetensors.load(data).items():
        part, _, rest = name.partition(".")
        if part == "optimizer":
            index, _, key = rest.partition(".")
            moments.setdefault(int(index), {})[key] = value
        else:
            parts[part][rest] = value
    return about["history"], parts, moments


def _check(parts: dict, moments: dict, model: "torch.nn.Module", optimizer: "torch.optim.Optimizer") -> None:
    expected = {name: value.shape for name, value in model.state_dict().items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    fits = all({name: value.shape for name, value in part.items()} == expected for part in parts.values())
    for index, values in moments.items():
        fits &= index < len(parameters) and all(v.shape in ((), parameters[index].shape) for v in values.values())
    if not fits:
        raise ValueError("its tensors are another model's")
