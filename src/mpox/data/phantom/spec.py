"""What decides how the phantom looks, and what follows from it: who is photographed, and which copies are filed where."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass

from mpox._core import MpoxError
from mpox.data.phantom.copies import COPY_KINDS
from mpox.data.phantom.lesions import CLASSES
from mpox.data.phantom.skin import Person, draw_person

VERSION = 2
_TONES = 6
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class PhantomSpec:
    """All that decides what the phantom looks like; an `MpoxError` if a value is out of its range."""

    seed: int = 0  # not negative
    n_patients: int = 110  # photographed, 1 to 4 images each; copies may be filed under further patient ids
    size: int = 224  # width and height in pixels, at least 64 (some copies have other sizes)
    corner_mark: bool = True  # a coloured mark in the corner of most images of the `marked` classes and of few others
    copies: int = 33  # patients whose first image is filed a second time under another id; none is copied twice
    copy_kinds: tuple[str, ...] = COPY_KINDS  # taken in turn; none twice
    label_conflicts: int = 1  # photographs of other rashes that are filed again, as crops, under a wrong class
    version: int = VERSION  # of the generator; only the current one can be made
    marked: tuple[str, ...] = ("Mpox",)  # the classes, as filed, whose images bear the corner mark

    def __post_init__(self):
        if self.version != VERSION:
            raise MpoxError(f"This package makes version {VERSION} of the phantom, not version {self.version}.")
        if self.seed < 0 or self.n_patients < 1 or self.size < 64 or self.label_conflicts < 0:
            raise MpoxError("A phantom needs seed >= 0, n_patients >= 1, size >= 64, label_conflicts >= 0.")
        if self.label_conflicts and _misfiled(self.label_conflicts - 1) >= self.n_patients:
            raise MpoxError(f"{self.label_conflicts} label conflicts need more patients than {self.n_patients}: four a conflict.")
        most = self.n_patients - self.label_conflicts
        if type(self.copies) is not int or not 0 <= self.copies <= most:
            raise MpoxError(f"copies is {self.copies!r}; give a whole number from 0 to {most} (patients less label conflicts).")
        if isinstance(self.marked, str) or not set(self.marked) <= set(CLASSES):
            raise MpoxError(f"marked is {self.marked!r}; give a sequence of classes out of {', '.join(CLASSES)}.")
        kinds = [] if isinstance(self.copy_kinds, str) else self.copy_kinds
        if not 0 < len(kinds) == len(set(kinds) & set(COPY_KINDS)):
            raise MpoxError(f"copy_kinds is {self.copy_kinds!r}; name each once, at least one, out of {', '.join(COPY_KINDS)}.")
        object.__setattr__(self, "marked", tuple(self.marked))
        object.__setattr__(self, "copy_kinds", tuple(self.copy_kinds))

    def to_json(self) -> str:
        """The canonical JSON of this specification; what is `marked` is told where it is not the default, so that keys last."""
        told = {name: value for name, value in asdict(self).items() if name != "marked" or value != ("Mpox",)}
        return json.dumps(told, sort_keys=True, separators=(",", ":"))

    def key(self) -> str:
        """A short name that is equal for equal specifications: 10 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Filing:
    """One copy: whose first picture it shows, its kind, and where it is filed. All numbers count from 0."""

    index: int  # the patient it shows
    kind: str
    host: int  # the patient it is filed under
    number: int  # its picture number there
    stream: int  # number of the copy, for its random streams
    wrong: str | None = None  # the class it is filed under by mistake


def person(spec: PhantomSpec, index: int) -> Person:
    """Patient `index`, from 0; the classes take turns."""
    return draw_person(spec.seed, index, CLASSES[index % len(CLASSES)])


def plan_copies(spec: PhantomSpec, n_pictures: list[int]) -> list[Filing]:
    """Which copies there are and where they are filed; `n_pictures` is how many photographs each patient has.

    Every other copy of a kind is filed under the next photographed patient of the same class, the others, and all that
    are filed under a wrong class, under patients of their own.
    """
    filed = list(n_pictures)
    chosen: list[tuple[int, str, str | None]] = [(index, kind, None) for index, kind in _chosen(spec)]
    chosen += [(_misfiled(k), "crop", "Mpox") for k in range(spec.label_conflicts)]
    kinds: Counter[str] = Counter()
    plan = []
    for stream, (index, kind, wrong) in enumerate(chosen):
        host = index + len(CLASSES)
        alone = (kinds[kind] + spec.copy_kinds.index(kind)) % 2 == 0 if not wrong else True
        if alone or host >= spec.n_patients:
            host = len(filed)
            filed.append(0)
        kinds[kind] += 1
        plan.append(Filing(index, kind, host, filed[host], stream, wrong))
        filed[host] += 1
    return plan


def _chosen(spec: PhantomSpec) -> list[tuple[int, str]]:
    """Patients and kinds of copies: each kind meets the classes and the skin tones as evenly as their number allows."""
    n_cells = len(CLASSES) * _TONES
    elsewhere = {_misfiled(k) for k in range(spec.label_conflicts)}
    cells = [[i for i in range(cell, spec.n_patients, n_cells) if i not in elsewhere] for cell in range(n_cells)]
    taken: Counter = Counter()
    met: Counter = Counter()
    order = []
    for k in range(spec.copies):
        kind = spec.copy_kinds[k % len(spec.copy_kinds)]
        free = [cell for cell in range(n_cells) if taken[cell] < len(cells[cell])]

        def how_often(cell: int, kind: str = kind, k: int = k) -> tuple[int, ...]:
            label, tone = cell % len(CLASSES), cell // len(CLASSES)
            return (met[kind, "class", label], met[kind, "tone", tone], taken[cell], (cell - 5 * k) % n_cells)

        cell = min(free, key=how_often)
        taken[cell] += 1
        met[kind, "class", cell % len(CLASSES)] += 1
        met[kind, "tone", cell // len(CLASSES)] += 1
        order.append((cell, kind))
    spread = {
        cell: iter([cells[cell][int((j + _GOLDEN * (cell + 1) % 1) * len(cells[cell]) / n)] for j in range(n)])
        for cell, n in taken.items()
    }
    return [(next(spread[cell]), kind) for cell, kind in order]


def _misfiled(k: int) -> int:
    """The patient, from 0, whose picture is label conflict number `k`: chickenpox and measles in turn."""
    return 4 * k + 1 + k % 2
