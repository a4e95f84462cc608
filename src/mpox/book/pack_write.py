"""Writing a pack: what a profile needs, gathered where pictures and weights are, into one file that is whole or absent."""

import hashlib
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, BinaryIO

import cv2
import numpy as np
import pandas as pd
import PIL
from safetensors.torch import save
from tqdm.auto import tqdm

from mpox._core import MpoxError, WeightsMissing, hash_of, replacing
from mpox.audit import accuracy, quality
from mpox.audit.result import hash_of_decisions, read_overrides
from mpox.book.run import declared_parameters, list_notebooks, load_profile, resolve_parameters
from mpox.data import skintone
from mpox.data.dataset import Dataset
from mpox.data.manifest import manifest_hash
from mpox.data.pack_read import AUDIT_FILES, CONTENTS, FORMAT, FORMAT_VERSION, SUFFIX, Contents, PackedAudit, PackedDataset
from mpox.data.pixels import load_pixels
from mpox.models.backbones import load_pretrained, weights_origin
from mpox.models.config import HANDCRAFTED, ModelConfig, default_image_size
from mpox.models.hardware import environment
from mpox.runs.store import RECORDED, RunStore, store_folder

#: The backbone of chapter 4's rival reading of the paper, which the chapter does without where there are no weights.
RIVAL = "efficientnet_b0"


@dataclass(frozen=True)
class Needs:
    """What goes into a pack.

    Parameters
    ----------
    datasets : list of str
        Registered names or folders.
    sizes : list of int
        Sides of the pictures in pixels.
    backbones : list of str
        Whose ImageNet weights must be there.
    welcome : list of str
        Whose weights are taken along if they are to be had.
    """

    datasets: list[str]
    sizes: list[int]
    backbones: list[str]
    welcome: list[str]


def needs_of_profile(name_or_file: str | Path) -> Needs:
    """What the notebooks ask for when they are run with a profile.

    The phantom is not among the data sets: it needs neither network nor patients, and is generated where it is asked for.

    Parameters
    ----------
    name_or_file : str or path
        See `mpox.book.run.load_profile`.

    Raises
    ------
    MpoxError
        If the profile is not in order, or reads the recorded study.
    """
    profile = load_profile(name_or_file)
    resolved = resolve_parameters(list_notebooks(), profile.parameters, {})
    datasets, sizes, backbones, welcome = set(), set(), set(), set()
    for notebook, values in resolved.items():
        values = declared_parameters(notebook) | values
        if values.get("RUN_STORE") == RECORDED:
            raise MpoxError(f"The profile {profile.name} reads the recorded study, which needs no pack: name another profile.")
        datasets |= set(values.get("DATASETS", []))
        sizes |= {values["TRAINED_IMAGE_SIZE"]} if "TRAINED_IMAGE_SIZE" in values else set()
        sizes |= set(values.get("IMAGE_SIZES", []))
        backbones |= {values["BACKBONE"]} if "BACKBONE" in values else set()
        backbones |= {*values.get("BACKBONES", []), *values.get("TRAINED_BACKBONES", [])} - set(HANDCRAFTED)
        if "IMAGE_SIZE" in values:
            sizes.add(ModelConfig(backbone=values["BACKBONE"], image_size=values["IMAGE_SIZE"]).image_size)
        if "BACKBONES" in values:  # chapter 4 shows every other backbone pictures of the size it was trained on
            welcome.add(RIVAL)
            others = {*values["BACKBONES"], RIVAL} - {values["BACKBONE"], *HANDCRAFTED}
            sizes |= {default_image_size(name) for name in others}
        sizes |= {ModelConfig(backbone=name).image_size for name in values.get("BASELINES", [])}
    return Needs(sorted(datasets - {"phantom"}), sorted(sizes), sorted(backbones), sorted(welcome - backbones))


def picture_tables(data: Dataset) -> list[tuple[str, dict, Callable[[], pd.DataFrame]]]:
    """The tables of chapter 1 that can be computed only from the files, as `mpox.runs.store.RunStore.table` takes them."""
    about = {"data": data.hash, "version": accuracy.VERSION, "hamming": accuracy.HAMMING}
    return [
        ("hash-pairs", about, lambda: accuracy.hash_pairs(data.manifest)),
        ("image-quality", {"data": data.hash, "version": quality.QUALITY_VERSION}, lambda: quality.image_quality(data.manifest)),
        ("skin-tone", {"data": data.hash, "version": skintone.SKIN_TONE_VERSION}, lambda: quality.skin_tone(data.manifest)),
    ]


def write_pack(
    out: str | os.PathLike,
    needs: Needs,
    *,
    store: RunStore | None = None,
    data_dir: str | os.PathLike | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Contents:
    """Write a pack: manifests, audits, decoded pictures, weights and versions, in one file that is whole or not there.

    The same needs give the same bytes, whenever they are packed.

    Parameters
    ----------
    out : path
        Ends in ``.mpoxpack``.
    needs : Needs
    store : RunStore, optional
        Where audits and tables are kept; the default one if not given.
    data_dir : path, optional
        Where the data sets lie.
    force : bool
        Write over a file that exists.
    say : callable
        Is told what was done.

    Returns
    -------
    Contents

    Raises
    ------
    MpoxError
        If there is nothing to pack, the file exists or cannot be written, a data set or weights are missing.
    """
    out = Path(out).expanduser()
    _check(out, needs, force)
    store = store or RunStore(store_folder())
    with replacing(out) as stream:
        return _write(stream, needs, store, data_dir, say)


def _write(
    stream: BinaryIO, needs: Needs, store: RunStore, data_dir: str | os.PathLike | None, say: Callable[[str], None]
) -> Contents:
    with closing(_Writer(stream)) as writer:
        backbones = _add_weights(writer, needs, say)
        datasets = {name: store.dataset(name, data_dir=data_dir) for name in needs.datasets}
        contents = Contents(
            environment=environment("cpu", 0)["versions"] | {"pillow": PIL.__version__, "opencv": cv2.__version__},
            decisions=hash_of_decisions(read_overrides()),
            sizes=needs.sizes if datasets else [],
            datasets=[_add_dataset(writer, number, data, needs.sizes) for number, data in enumerate(datasets.values())],
            audits=_add_audits(writer, store, datasets, data_dir),
            tables=_add_tables(writer, store, list(datasets.values())),
            backbones=backbones,
            members=writer.members,
        )
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(contents)}
        writer.add(CONTENTS, json.dumps(about, indent=1, sort_keys=True).encode())
    return contents


def _check(out: Path, needs: Needs, force: bool) -> None:
    if not needs.datasets and not needs.backbones:
        raise MpoxError("There is nothing to pack: name data sets, --backbones, or a --profile.")
    if needs.datasets and not needs.sizes:
        raise MpoxError("At which sizes are the pictures needed? Name them with --sizes, for instance --sizes 160,224.")
    if any(size < 1 for size in needs.sizes):
        raise MpoxError(f"A size is a number of pixels, at least 1, not {min(needs.sizes)}: correct --sizes.")
    if out.suffix != SUFFIX:
        raise MpoxError(
            f"A pack's name ends in {SUFFIX}, so that git leaves it alone: write --out {out.with_suffix(SUFFIX).name}."
        )
    if out.is_dir() or (out.exists() and not force):
        raise MpoxError(f"{out} exists: name another --out, or write over it with --force.")
    if os.environ.get("MPOX_PACK") and out.exists() and out.samefile(Path(os.environ["MPOX_PACK"]).expanduser()):
        raise MpoxError(f"{out} is the pack that MPOX_PACK names, and would be made of itself: name another --out.")


class _Writer:
    """Adds members to an archive, uncompressed and with a fixed date, and notes size and sha256 of each."""

    def __init__(self, stream: BinaryIO):
        self._archive = zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED)
        self.members: dict[str, tuple[str, int]] = {}

    def add(self, name: str, content: bytes | np.ndarray) -> None:
        info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        info.external_attr = 0o644 << 16
        size = len(content) if isinstance(content, bytes) else content.nbytes
        with (
            self._archive.open(info, "w", force_zip64=True) as member,
            tqdm(total=size, desc=f"pack {name}", unit="B", unit_scale=True, delay=3, leave=False) as bar,
        ):
            noted = _Noted(member, bar)
            if isinstance(content, bytes):
                noted.write(content)
            else:
                np.lib.format.write_array(noted, content, allow_pickle=False)
        if name != CONTENTS:
            self.members[name] = (noted.digest.hexdigest(), noted.size)

    def close(self) -> None:
        self._archive.close()


class _Noted:
    """A stream that hashes and counts what is written to it."""

    def __init__(self, stream: IO[bytes], bar: tqdm):
        self._stream, self._bar = stream, bar
        self.digest, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self._stream.write(data)
        self.digest.update(data)
        self.size += len(data)
        self._bar.update(len(data))
        return len(data)


def _add_weights(writer: _Writer, needs: Needs, say: Callable[[str], None]) -> dict[str, str]:
    origins = {}
    for backbone in dict.fromkeys([*needs.backbones, *needs.welcome]):
        try:
            state = load_pretrained(backbone).state
        except WeightsMissing as error:
            if backbone in needs.backbones:
                raise
            say(f"without {backbone}, whose weights are not to be had here: {error}")
            continue
        writer.add(f"weights/{backbone}.safetensors", save({name: value.contiguous() for name, value in state.items()}))
        origins[backbone] = weights_origin(backbone)
    return origins


def _add_dataset(writer: _Writer, number: int, data: Dataset, sizes: Iterable[int]) -> PackedDataset:
    folder = f"datasets/{number}"
    manifest = data.manifest.drop(columns=["path", "group_id"])
    writer.add(f"{folder}/manifest.csv", manifest.to_csv(index=False, lineterminator="\n").encode())
    for size in sizes:
        writer.add(f"{folder}/pixels-{size}.npy", np.asarray(load_pixels(data.manifest, size)))
    classes = {str(label): int(count) for label, count in manifest["label"].value_counts().sort_index().items()}
    return PackedDataset(data.name, folder, data.is_phantom, len(manifest), classes, manifest_hash(manifest))


def _add_audits(
    writer: _Writer, store: RunStore, datasets: dict[str, Dataset], data_dir: str | os.PathLike | None
) -> list[PackedAudit]:
    """Each data set's audit, that of each pair (for external validation), and that of all together."""
    audits: list[PackedAudit] = []
    several = {number for number in (1, 2, len(datasets)) if 1 <= number <= len(datasets)}
    for given in itertools.chain.from_iterable(itertools.combinations(datasets, number) for number in sorted(several)):
        titles = [datasets[name].name for name in sorted(given)]
        store.audit(list(given), data_dir)
        audit = PackedAudit(titles, f"audits/{len(audits)}", store.used_audits["+".join(titles)])
        for name in AUDIT_FILES:
            writer.add(f"{audit.folder}/{name}", (store.root / "audits" / audit.key / name).read_bytes())
        audits.append(audit)
    return audits


def _add_tables(writer: _Writer, store: RunStore, datasets: list[Dataset]) -> list[str]:
    keys = []
    for name, spec, compute in itertools.chain.from_iterable(map(picture_tables, datasets)):
        store.table(name, spec, compute)
        keys.append(key := f"{name}-{hash_of(spec)}")
        writer.add(f"tables/{key}.csv", (store.root / "tables" / f"{key}.csv").read_bytes())
    return keys
