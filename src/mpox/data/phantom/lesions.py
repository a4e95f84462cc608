"""What grows on the skin: raised lesions of every stage, merging macules, and harmless marks that anyone has.

Every class draws from the same small vocabulary with other parameters; so the classes differ in form, stage and arrangement, and
overlap where a rash is early, faint or old.
"""

from dataclasses import dataclass, replace

import numpy as np

from mpox.data.phantom.skin import Person, Skin, value_noise

CLASSES = ("Mpox", "Chickenpox", "Measles", "Normal")


@dataclass(frozen=True)
class Bump:
    """One raised spot. Lengths in image widths at zoom 1; the shares run from 0 to 1."""

    x: float
    y: float
    radius: float
    dome: float = 0.4  # height over radius
    dimple: float = 0.0  # depth of the central umbilication
    fluid: float = 0.0  # clear content
    pus: float = 0.0  # turbid content
    crust: float = 0.0
    red: float = 0.5  # strength of the reddened base
    reach: float = 0.6  # how far the red base goes beyond the rim, in radii
    ragged: float = 0.05  # irregularity of the outline
    gloss: float = 0.2
    pigment: float = 0.0  # brown instead of red: moles and freckles


@dataclass(frozen=True)
class Rash:
    """How the disease shows in one patient; shared by all of the patient's images."""

    severity: float  # contrast of everything, 0-1
    stage: float  # 0 early, 1 crusted
    size: float  # factor on the radius
    amount: float  # 0 few, 1 many
    hue: float  # shift of the red towards brown


def draw_rash(person: Person) -> Rash:
    """Draw the patient's kind of rash from the patient's own stream."""
    rng = np.random.default_rng(person.rash)
    return Rash(
        severity=float(rng.uniform(0.6, 1.0)),
        stage=float(rng.uniform(0, 1)),
        size=float(np.exp(rng.normal(0, 0.2))),
        amount=float(rng.uniform(0, 1)),
        hue=float(rng.normal(0, 1)),
    )


def draw_lesions(skin: Skin, person: Person, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Draw the lesions of the person's class onto `skin`, in place."""
    extent = np.zeros(skin.body.shape, np.float32)
    if person.label == "Normal":
        return extent, 0
    rash = draw_rash(person)
    if person.label == "Measles":
        return extent, _draw_macules(skin, person, rash, rng, extent)
    bumps = _mpox(skin, rash, rng) if person.label == "Mpox" else _chickenpox(skin, rash, rng)
    _draw_bumps(skin, person, bumps, rash.severity, rash.hue, rng, extent)
    return extent, len(bumps)


def draw_marks(skin: Skin, person: Person, rng: np.random.Generator) -> None:
    """Draw moles, freckles and a few bites or pimples, which have nothing to do with the class, in place."""
    bumps = []
    for _ in range(int(rng.integers(0, person.moles + 1))):
        x, y = _spot(skin, rng)
        bumps.append(Bump(x, y, rng.uniform(0.008, 0.02), dome=0.15, red=0, ragged=0.1, pigment=rng.uniform(0.6, 1)))
    for _ in range(person.freckles):
        x, y = _spot(skin, rng)
        bumps.append(Bump(x, y, rng.uniform(0.004, 0.009), dome=0, red=0, ragged=0.2, pigment=rng.uniform(0.15, 0.4)))
    for _ in range(int(rng.integers(0, person.bites + 1))):
        x, y = _spot(skin, rng)
        radius, dome, red, reach = (rng.uniform(*of) for of in ((0.01, 0.028), (0.1, 0.35), (0.35, 0.9), (0.5, 1.6)))
        bumps.append(Bump(x, y, radius, dome=dome, red=red, reach=reach, ragged=0.1, pus=rng.choice([0, 0, 0.5])))
    _draw_bumps(skin, person, bumps, 0.8, 0.0, rng, np.zeros_like(skin.body))


def _spot(skin: Skin, rng: np.random.Generator) -> tuple[float, float]:
    """A place well on the skin and inside the frame."""
    size = skin.body.shape[0]
    for _ in range(60):
        row, column = rng.integers(int(0.04 * size), int(0.96 * size), 2)
        if skin.body[row, column] == 1 and np.hypot(*skin.bend[:, row, column]) < 0.85:
            break
    return float(skin.x[row, column]), float(skin.y[row, column])


def _mpox(skin: Skin, rash: Rash, rng: np.random.Generator) -> list[Bump]:
    """Firm, round, umbilicated pustules: few, well apart, all at one stage."""
    wanted = int(np.clip(round(3 + 11 * rash.amount + rng.normal(0, 1.5)), 3, 14))
    stage = rash.stage
    pus = float(np.interp(stage, [0.1, 0.35, 0.8, 1], [0, 0.8, 1, 0.5]))
    dimple = float(np.interp(stage, [0.05, 0.3, 1], [0.1, 0.8, 1]))
    bumps: list[Bump] = []
    for _ in range(40 * wanted):
        x, y = _spot(skin, rng)
        radius = 0.032 * rash.size * np.exp(rng.normal(0, 0.14)) * (0.75 + 0.35 * min(stage * 2, 1))
        if all(np.hypot(x - b.x, y - b.y) > 1.5 * (radius + b.radius) for b in bumps):
            crust = float(np.clip((stage - 0.72) / 0.28, 0, 1)) * rng.uniform(0.7, 1)
            bumps.append(
                Bump(
                    x, y, radius, dome=0.55 * rng.uniform(0.85, 1.1), dimple=dimple * rng.uniform(0.75, 1), pus=pus, crust=crust,
                    fluid=0.25 if stage < 0.3 else 0, red=rng.uniform(0.75, 1.0), reach=rng.uniform(0.45, 0.8), ragged=0.03,
                    gloss=0.45 * (1 - crust),
                )
            )  # fmt: skip
        if len(bumps) == wanted:
            break
    return bumps


def _chickenpox(skin: Skin, rash: Rash, rng: np.random.Generator) -> list[Bump]:
    """Crops of small lesions of every age side by side: papules, dew-drop vesicles, pustules, crusts."""
    wanted = int(np.clip(round(8 + 32 * rash.amount + rng.normal(0, 3)), 8, 40))
    centres = [_spot(skin, rng) for _ in range(rng.integers(2, 6))]
    ages = np.array([0.3 - 0.15 * rash.stage, 0.5 - 0.2 * rash.stage, 0.12, 0.08 + 0.35 * rash.stage])
    bumps: list[Bump] = []
    for _ in range(20 * wanted):
        x, y = _spot(skin, rng)
        if rng.random() < 0.7:
            centre = centres[rng.integers(len(centres))]
            x, y = centre[0] + rng.normal(0, 0.1), centre[1] + rng.normal(0, 0.1)
        radius = 0.0205 * rash.size * np.exp(rng.normal(0, 0.3))
        if not _on_body(skin, x, y) or any(np.hypot(x - b.x, y - b.y) < 1.1 * (radius + b.radius) for b in bumps):
            continue
        age = rng.choice(4, p=ages / ages.sum())
        base = Bump(x, y, radius, red=rng.uniform(0.5, 1), reach=rng.uniform(0.5, 1.1), ragged=rng.uniform(0.05, 0.15))
        bumps.append(
            [
                replace(base, radius=0.75 * radius, dome=0.3, gloss=0.1),
                replace(base, dome=0.6, fluid=rng.uniform(0.6, 1), gloss=0.9, dimple=rng.choice([0, 0, 0, 0, 0.5])),
                replace(base, dome=0.5, pus=rng.uniform(0.5, 0.9), gloss=0.4, dimple=rng.choice([0, 0, 0.6])),
                replace(base, dome=0.25, crust=rng.uniform(0.6, 1), gloss=0.05, ragged=0.2, red=0.6 * base.red),
            ][age]
        )
        if len(bumps) == wanted:
            break
    return bumps


def _on_body(skin: Skin, x: float, y: float) -> bool:
    size = skin.body.shape[0]
    column, row = (int(round(c / skin.pixel + (size - 1) / 2)) for c in (x, y))
    return 0 <= row < size and 0 <= column < size and skin.body[row, column] == 1


def _draw_macules(skin: Skin, person: Person, rash: Rash, rng: np.random.Generator, extent: np.ndarray) -> int:
    """Flat red-brown spots that merge into blotches; returns how many spots there are."""
    size = skin.body.shape[0]
    wanted = int(35 + 110 * rash.amount)
    centres = [_spot(skin, rng) for _ in range(rng.integers(2, 5))]
    field = np.zeros((size, size), np.float32)
    count = 0
    for _ in range(wanted):
        x, y = _spot(skin, rng)
        if rng.random() < 0.5:
            centre = centres[rng.integers(len(centres))]
            x, y = centre[0] + rng.normal(0, 0.16), centre[1] + rng.normal(0, 0.16)
        if not _on_body(skin, x, y):
            continue
        radius = 0.02 * rash.size * np.exp(rng.normal(0, 0.4))
        window = _window(skin, x, y, 3 * radius)
        distance = np.hypot(skin.x[window] - x, skin.y[window] - y) / radius
        field[window] += rng.uniform(0.6, 1.1) * np.exp(-(distance**2))
        count += 1
    cells = size * skin.pixel
    edge = 0.14 * value_noise(rng, size, 45 * cells) + 0.1 * value_noise(rng, size, 20 * cells)
    spots = _step(field + edge * np.minimum(1, 3 * field), 0.22, 0.85) * skin.body
    spots *= 0.78 + 0.22 * np.tanh(value_noise(rng, size, 12 * cells))
    np.maximum(extent, spots, out=extent)
    skin.lab += (rash.severity * spots)[..., None] * _red(person, rash.hue + 0.7)
    skin.height += (0.0012 * spots).astype(np.float32)
    return count


def _draw_bumps(
    skin: Skin, person: Person, bumps: list[Bump], severity: float, hue: float, rng: np.random.Generator, extent: np.ndarray
) -> None:
    """Draw the red bases first, then the spots upon them; what they cover is added to `extent`."""
    shapes = []
    base = np.zeros_like(skin.body)
    for bump in bumps:
        window = _window(skin, bump.x, bump.y, bump.radius * (2.2 + 2.5 * bump.reach))
        dx, dy = skin.x[window] - bump.x, skin.y[window] - bump.y
        if not dx.size:
            continue
        theta = np.arctan2(dy, dx)
        plain = np.hypot(dx, dy) / bump.radius
        r = plain * np.clip(1 + 1.2 * bump.ragged * _wobble(theta, rng), 0.7, 1.35)
        beyond = np.maximum(plain * np.clip(1 + 2 * bump.ragged * _wobble(theta, rng), 0.6, 1.5) - 0.8, 0)
        halo = np.exp(-((beyond / bump.reach) ** 2))
        halo = np.clip((halo - 0.03) / 0.97, 0, 1) * bump.red * skin.body[window]
        base[window] = np.maximum(base[window], halo)
        shapes.append((bump, window, r.astype(np.float32)))
    skin.lab += (severity * base)[..., None] * _red(person, hue)
    np.maximum(extent, base, out=extent)
    for bump, window, place in shapes:
        inside = _step(-place, -1.1, -0.88) * skin.body[window]
        np.maximum(extent[window], inside, out=extent[window])
        _draw_top(skin, person, bump, window, place, inside, severity, rng)


def _wobble(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth random function of the angle, of standard deviation about 0.5."""
    slow, middle, fast = (rng.normal() / k * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    return slow + middle + fast


def _draw_top(skin: Skin, person: Person, bump: Bump, window, r: np.ndarray, inside: np.ndarray, severity: float, rng) -> None:
    """Draw one spot's body: colour of its content, crust, pigment, dome, dimple and shine."""
    lab, (light, a, b) = skin.lab[window], person.lab
    pit = np.exp(-((r / 0.3) ** 2))
    pale = [
        (bump.fluid * 0.55 * severity, (light + 9, 0.75 * a, b - 1)),
        (bump.pus * 0.8 * (0.4 + 0.6 * severity), (0.7 * light + 27, 0.5 * a + 1, 0.8 * b + 9)),
    ]
    for share, colour in pale:
        lab += (share * inside * (1 - 0.5 * bump.dimple * pit))[..., None] * (np.array(colour, np.float32) - lab)
    dark = bump.dimple * pit * inside * (0.45 + 0.55 * severity)
    lab += dark[..., None] * np.array([-0.16 * light, 4 * person.redness, 1], np.float32)
    rough = rng.standard_normal(r.shape, dtype=np.float32)
    if bump.crust:
        scab = bump.crust * _step(-r + 0.12 * rough, -0.85, -0.6) * (0.4 + 0.6 * severity)
        lab += scab[..., None] * (np.array([0.42 * light + 2, 9, 10], np.float32) - lab)
        lab[..., 0] += 2.5 * scab * rough
        skin.height[window] += 0.0012 * scab * rough
    if bump.pigment:
        lab += (bump.pigment * inside)[..., None] * (np.array([0.5 * light, 0.7 * a + 3, 0.8 * b], np.float32) - lab)
    profile = np.maximum(1 - r**2, 0) ** 0.7 - 0.75 * bump.dimple * pit * (r < 1)
    skin.height[window] += bump.dome * bump.radius * profile * inside * (0.4 + 0.6 * severity)
    skin.gloss[window] += bump.gloss * inside


def _window(skin: Skin, x: float, y: float, reach: float) -> tuple[slice, slice]:
    """The rows and columns within `reach` of a place; empty slices where that is outside of the frame."""
    size = skin.body.shape[0]
    middle = (size - 1) / 2
    low = [max(int(np.floor((c - reach) / skin.pixel + middle)), 0) for c in (y, x)]
    high = [max(int(np.ceil((c + reach) / skin.pixel + middle)) + 1, 0) for c in (y, x)]
    return slice(low[0], min(high[0], size)), slice(low[1], min(high[1], size))


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _red(person: Person, hue: float) -> np.ndarray:
    """The change of colour where blood shows through: bright red on light skin, dusky brown on dark skin."""
    k = person.redness
    return np.array([-5 - 5 * k - hue * 0.8, 2 + 16 * k - 0.6 * hue, 4.5 * k - 1 + 0.8 * hue], np.float32)
