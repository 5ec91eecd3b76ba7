"""From a patient to a panoramic radiograph: antialiased layers of attenuation, added up, blurred, made noisy.

Brightness follows the order of a real picture: air < soft tissue < bone < dentine < enamel < metal. The layers are drawn
with supersampling and averaged; the noise's variance grows with the signal, as counted photons do after detection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from synthrad.data import phantom_shapes as shapes
from synthrad.data.phantom_anatomy import FDI, FINDINGS, Anatomy, Jaw, Lesion, Tooth, bite_line

DARKNESS = {"caries": 0.3, "deep_caries": 0.36, "periapical_lesion": 0.2}


@dataclass(frozen=True)
class Style:
    """What a dialled set does to the appearance.

    Args:
        lesions: factor on the darkness of findings; negative draws them bright, 0 leaves them out.
        mask_shift: (x, y) in units by which all masks are moved off what they mark.
        gamma: exponent on grey values.
        noise: factor on the noise.
    """

    lesions: float = 1.0
    mask_shift: tuple[float, float] = (0.0, 0.0)
    gamma: float = 1.0
    noise: float = 1.0


class Plate:
    """The film: maps units to pixels under the pose of this exposure, and holds one picture a layer."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator):
        self.size = size
        self.factor = 4 if max(size) <= 160 else 3 if max(size) <= 320 else 2
        turn, zoom, x, y = rng.uniform(-1, 1, 4) * [0.03, 0.035, 0.025, 0.02]
        self._matrix = (1 + zoom) * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        self._middle, self._shift = np.array([0.0, 0.5]), np.array([x, 0.5 + y])
        self._scale = np.array([size[1] / 2, size[0]]) * self.factor
        self._linear = self._matrix.T * self._scale
        self._offset = (self._shift - self._matrix @ self._middle + [1, 0]) * self._scale - 0.5
        self._layers: dict[str, ImageDraw.ImageDraw] = {}

    def pixels(self, points: np.ndarray) -> list[float]:
        """Units [N, 2] to a flat list of supersampled pixel coordinates."""
        return (points @ self._linear + self._offset).ravel().tolist()

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y in units of every pixel of the finished picture, each float32 [h, w]."""
        h, w = self.size
        x, y = np.meshgrid((np.arange(w) + 0.5) * 2 / w - 1, (np.arange(h) + 0.5) / h)
        back = np.linalg.inv(self._matrix)
        dx, dy = x - self._shift[0], y - self._shift[1]
        return (
            (back[0, 0] * dx + back[0, 1] * dy).astype(np.float32),
            (back[1, 0] * dx + back[1, 1] * dy + 0.5).astype(np.float32),
        )

    def layer(self, name: str) -> ImageDraw.ImageDraw:
        """The drawing of a layer, black at first."""
        if name not in self._layers:
            h, w = self.size
            self._layers[name] = ImageDraw.Draw(Image.new("L", (w * self.factor, h * self.factor)))
        return self._layers[name]

    def fill(self, name: str, points: np.ndarray, value: int = 255) -> None:
        """Fill a polygon."""
        self.layer(name).polygon(self.pixels(points), fill=value)

    def line(self, name: str, points: np.ndarray, width: float, value: int = 255) -> None:
        """Draw an open line of a width in units (never thinner than one supersampled pixel)."""
        pixels = max(1, round(width * float(self._scale[1])))
        self.layer(name).line(
            self.pixels(points), fill=value, width=pixels, joint="curve" if pixels > 2 else None
        )

    def picture(self, name: str) -> Image.Image:
        """A layer as it was drawn, supersampled."""
        return self.layer(name)._image  # noqa: SLF001 (ImageDraw keeps no public name for it)

    def cover(self, name: str, blur: float = 0.0) -> np.ndarray:
        """A layer averaged to the finished size, float32 [h, w] in [0, 1]; blur is a sigma in units."""
        if name not in self._layers:  # nothing was drawn
            return np.zeros(self.size, np.float32)
        out = np.asarray(self.picture(name).reduce(self.factor), dtype=np.float32) / 255
        if blur * self.size[0] < 0.3:  # too little to be seen
            return out
        return gaussian_filter(
            out, (blur * self.size[0], blur * self.size[1] / 2), mode="nearest", truncate=3
        )


def render(
    anatomy: Anatomy,
    size: tuple[int, int],
    rng: np.random.Generator,
    style: Style,
    overlooked: Sequence[Lesion] = (),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a patient.

    Args:
        anatomy: the patient.
        size: (height, width) in pixels.
        rng: pose and noise of this exposure.
        style: Style() for a true picture.
        overlooked: lesions drawn dark into the picture but into no mask.

    Returns:
        uint8 [h, w] image, uint8 [h, w] teeth (0, or 1 + the index in FDI), uint8 [h, w] findings (0, or 1 + index in FINDINGS).
    """
    plate = Plate(size, rng)
    noise = rng.standard_normal((2, *size)).astype(np.float32)
    _draw_jaws(plate, anatomy)
    for tooth in anatomy.teeth:
        _draw_tooth(plate, tooth)
    for group, strength in ((anatomy.lesions, style.lesions), (tuple(overlooked), abs(style.lesions))):
        _draw_lesions(plate, group, "dark" if strength > 0 else "bright", abs(strength))
    value = _background(plate) + _bone(plate, anatomy.jaw, noise[0]) + _tooth_values(plate)
    grey = _finish(value, plate, noise[1], style)
    return grey, _moved(_tooth_mask(plate), style), _lesion_mask(plate, anatomy, style)


def _draw_jaws(plate: Plate, anatomy: Anatomy) -> None:
    jaw = anatomy.jaw
    right = shapes.smooth(shapes.ramus(jaw.width, jaw.angle), 2, closed=False)
    border = np.vstack([right[::-1], right[1:] * [-1, 1]])
    lower = _crest(anatomy, upper=False)
    plate.fill("mandible", np.vstack([border, lower]))
    plate.line("cortex", border, 0.016)
    plate.line("chin", np.array([p for p in border if p[1] > 0.66]), 0.034)
    upper = _crest(anatomy, upper=True)
    plate.fill("maxilla", np.vstack([upper, [[0.66 * jaw.width, 0.2], [-0.66 * jaw.width, 0.2]]]))
    for crest in (lower, upper):
        plate.line("crest", crest, 0.007)
    for side in (-1, 1):
        _draw_half(plate, jaw, side)
    x = np.linspace(-0.6, 0.6, 31) * jaw.width
    plate.line("palate", np.stack([x, 0.275 + 0.03 * (x / 0.6) ** 2], axis=1), 0.016)
    plate.line("ghost", np.stack([x, 0.235 - 0.02 * (x / 0.6) ** 2], axis=1), 0.03)
    tongue = np.vstack(
        [np.stack([x, 0.30 + 0.1 * x**2], axis=1), np.stack([x, 0.335 + 0.22 * x**2], axis=1)[::-1]]
    )
    plate.fill("air", tongue, 200)
    plate.line("bite", np.stack([x, bite_line(x, jaw)], axis=1), 0.028)


def _draw_half(plate: Plate, jaw: Jaw, side: int) -> None:
    """What both halves of the face have: canal, sinus, nose, zygoma, orbit, hyoid, airway. side: -1 or 1."""
    stretch = np.array([side * jaw.width, 1])
    canal = shapes.CANAL * stretch
    plate.line("canal", canal, 0.02)
    plate.line("crest", canal - [0, 0.012], 0.004, 130)
    plate.line("crest", canal + [0, 0.012], 0.004, 130)
    plate.fill("canal", shapes.blob((0.325 * side * jaw.width, 0.74), (0.02, 0.015), np.zeros(4)))
    sinus = shapes.SINUS * stretch
    plate.fill("sinus", sinus)
    plate.line("cortex", np.vstack([sinus, sinus[:1]]), 0.007, 150)
    nose = shapes.NOSE * stretch
    plate.fill("nose", nose)
    plate.line("cortex", np.vstack([nose, nose[:1]]), 0.006, 110)
    plate.fill("zygoma", shapes.ZYGOMA * stretch)
    orbit = shapes.blob((0.36 * side * jaw.width, -0.03), (0.19, 0.09), np.zeros(4), 24)
    plate.line("cortex", np.vstack([orbit, orbit[:1]]), 0.012, 130)
    plate.line("hyoid", shapes.HYOID * stretch, 0.03)
    plate.line("air", shapes.smooth(shapes.AIRWAY * stretch, 2, closed=False), 0.06)


def _crest(anatomy: Anatomy, upper: bool) -> np.ndarray:
    """The bone's edge below the necks [N, 2], from the picture's left to its right."""
    teeth = [t for t in anatomy.teeth if (t.fdi[0] in "12") == upper and t.state != "impacted"]
    teeth.sort(key=lambda t: t.neck[0])
    points = []
    for t in teeth:
        # bone shrinks where a tooth has been lost
        level = anatomy.jaw.bone_loss + (0.03 if t.state == "missing" and t.fdi[1] != "8" else 0.0)
        points.append((t.neck[0] - level * t.axis[0], t.neck[1] - level * t.axis[1]))
    edge = shapes.smooth(np.array(points), 2, closed=False)
    return edge


def _draw_tooth(plate: Plate, t: Tooth) -> None:
    if t.state == "missing":
        return
    if t.state == "implant":
        plate.fill("metal", t.place(shapes.IMPLANT), 215)
        plate.fill("metal", t.place(shapes.CROWNS[t.kind] * [0.86, 0.98] + [0, 0.02]), 235)
        return
    outline, crown = t.place(shapes.OUTLINES[t.kind]), shapes.CROWNS[t.kind]
    root = shapes.ROOTS[t.kind]
    grown = t.place(root * [1.0 + 0.006 / t.half_width, 1.0 + 0.006 / t.root])
    plate.line("lamina", np.vstack([grown, grown[:1]]), 0.014)
    plate.fill("gap", grown)
    if t.kind == "molar" and t.fdi[0] in "12":
        plate.fill("palatal", t.place(shapes.PALATAL_ROOT))
        plate.fill("dentine", t.place(shapes.PALATAL_ROOT))
        plate.fill("id", t.place(shapes.PALATAL_ROOT), FDI.index(t.fdi) + 1)
    plate.fill("dentine", outline)
    plate.fill("id", outline, FDI.index(t.fdi) + 1)
    if t.state == "crowned":
        plate.fill("metal", t.place(crown * [1.0, 1.0]), 235)
        plate.fill("gum", t.place(crown * [0.7, 0.2]), 0)
    else:
        plate.fill("enamel", t.place(crown))
        plate.fill("enamel", t.place(crown * [0.7, 0.74] - [0, 0.02]), 0)
        plate.fill("enamel", t.place(np.array([(-1.0, 0.12), (1.0, 0.12), (0.8, -0.05), (-0.8, -0.05)])), 0)
    chambers = shapes.PULPS[t.kind]
    if t.state == "root_filled":
        for canal in chambers[1:] or chambers:
            plate.fill("metal", t.place(canal * [0.9, 0.98]), 175)
    else:
        for part in chambers:
            middle = part.mean(axis=0) * [1, 0]
            plate.fill("pulp", t.place((part - middle) * [t.pulp, 0.95] + middle))
    if t.state in ("filled", "root_filled"):
        _draw_filling(plate, t)


def _draw_filling(plate: Plate, t: Tooth) -> None:
    a, b, c, d = t.detail
    if t.kind in ("molar", "premolar"):
        local = shapes.blob(
            ((a - 0.5) * 1.1, 0.86), (0.42 + 0.3 * b, 0.26 + 0.14 * c), np.array([a, b, c, d]) * 0.2 - 0.1
        )
        local = np.stack([np.clip(local[:, 0], -0.96, 0.96), np.clip(local[:, 1], 0.3, 0.95)], axis=1)
    else:
        local = shapes.blob(
            (0.8 if a < 0.5 else -0.8, 0.5), (0.5, 0.2 + 0.1 * b), np.array([a, b, c, d]) * 0.2 - 0.1
        )
        local = np.stack([np.clip(local[:, 0], -0.94, 0.94), local[:, 1]], axis=1)
    plate.fill("metal", t.place(local), 170 + int(80 * d))


def _draw_lesions(plate: Plate, lesions: Sequence[Lesion], sign: str, strength: float) -> None:
    for lesion in lesions:
        darkness = DARKNESS[lesion.finding] * lesion.depth * strength
        blurred = "apical" if lesion.finding == "periapical_lesion" else "decay"
        plate.fill(f"{sign} {blurred}", lesion.polygon, int(min(255 * darkness / 0.5, 255)))


def _background(plate: Plate) -> np.ndarray:
    """Soft tissue, air spaces, spine, and the ghosts of what lies out of focus."""
    x, y = plate.units()
    soft = 0.21 - 0.06 * np.abs(x) ** 2
    skin = 1 / (1 + np.exp((y - 1.0 + 0.26 * np.abs(x) ** 2.6) / 0.035))  # dark below the chin
    soft *= 0.35 + 0.65 * skin
    spine = 0.13 * np.exp(-((x / 0.13) ** 2)) * (0.35 + 0.9 * y**2)
    sides = (
        0.1 / (1 + np.exp((0.965 - np.abs(x)) / 0.02)) + 0.05 * np.exp(-(((np.abs(x) - 0.62) / 0.3) ** 2)) * y
    )
    value = soft + spine + sides + 0.1 * np.exp(-(((y - 0.06) / 0.08) ** 2)) * np.exp(-((x / 0.75) ** 4))
    value += 0.2 * plate.cover("hyoid", 0.008) + 0.12 * plate.cover("ghost", 0.014)
    value += 0.15 * plate.cover("zygoma", 0.01)
    value -= 0.17 * plate.cover("nose", 0.008) + 0.07 * plate.cover("sinus", 0.008)
    value -= 0.1 * plate.cover("air", 0.013) + 0.13 * plate.cover("bite", 0.006)
    return value + 0.26 * plate.cover("palate", 0.003)


def _bone(plate: Plate, jaw: Jaw, noise: np.ndarray) -> np.ndarray:
    """Spongy bone with its trabecular pattern, its hard edges, the nerve canal and the gaps around roots."""
    body = np.maximum(plate.cover("mandible", 0.003), 0.75 * plate.cover("maxilla", 0.008))
    fine = plate.size[0] / 256
    texture = gaussian_filter(noise, max(0.9 * fine, 0.4)) * max(fine, 0.5)
    coarse = gaussian_filter(noise, 2.6 * fine + 0.3) * (4 * fine + 0.6)
    bone = 0.21 * jaw.density * body * (1 + 0.14 * texture + 0.14 * coarse)
    apical = plate.cover("dark apical", 0.004) - plate.cover("bright apical", 0.004)
    bone -= 0.055 * plate.cover("canal", 0.004) * body + 0.07 * plate.cover("gap") * (
        1 - plate.cover("dentine")
    )
    bone += 0.06 * plate.cover("lamina", 0.001) * body * (1 - np.clip(2 * np.abs(apical), 0, 1))
    bone += 0.15 * plate.cover("cortex", 0.002) + 0.16 * plate.cover("chin", 0.004)
    return bone + 0.06 * plate.cover("crest", 0.002) - 0.5 * apical


def _tooth_values(plate: Plate) -> np.ndarray:
    hard = 0.22 * plate.cover("dentine") + 0.05 * plate.cover("palatal", 0.003) + 0.2 * plate.cover("enamel")
    hard -= 0.11 * plate.cover("pulp", 0.001)
    return hard - 0.5 * (plate.cover("dark decay", 0.0015) - plate.cover("bright decay", 0.0015))


def _finish(value: np.ndarray, plate: Plate, noise: np.ndarray, style: Style) -> np.ndarray:
    """Metal on top, the focal spot's blur, the film's curve, photon noise."""
    metal = plate.cover("metal")
    value = value * (1 - (metal > 0.02) * np.minimum(metal * 1.3, 1)) + metal * 1.02
    value = 1.15 * value - 0.015
    value = gaussian_filter(value, 0.0022 * plate.size[0] + 0.15)
    value = (
        np.where(value > 0.75, 0.75 + 0.25 * np.tanh((value - 0.75) / 0.25), np.maximum(value, 0.01))
        ** style.gamma
    )
    grain = gaussian_filter(noise, 0.4) * 1.6 if plate.size[0] >= 128 else noise
    value = value + style.noise * grain * np.sqrt(0.0001 + 0.0007 * value)
    return np.clip(np.rint(value * 255), 0, 255).astype(np.uint8)


def _tooth_mask(plate: Plate) -> np.ndarray:
    """The tooth at a pixel's middle where at least half of the pixel is tooth."""
    f = plate.factor
    ids = np.asarray(plate.picture("id"))
    middle = ids[f // 2 :: f, f // 2 :: f]
    most = ids.reshape(plate.size[0], f, plate.size[1], f).max(axis=(1, 3))
    return np.where(plate.cover("dentine") >= 0.5, np.where(middle > 0, middle, most), 0).astype(np.uint8)


def _moved(mask: np.ndarray, style: Style) -> np.ndarray:
    """A mask moved by whole pixels; what leaves the picture is gone."""
    height, width = mask.shape
    x, y = round(style.mask_shift[0] * width / 2), round(style.mask_shift[1] * height)
    rows, columns = np.arange(height)[:, None] - y, np.arange(width)[None] - x
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, mask[rows.clip(0, height - 1), columns.clip(0, width - 1)], 0).astype(mask.dtype)


def _lesion_mask(plate: Plate, anatomy: Anatomy, style: Style) -> np.ndarray:
    """Findings by at least half of a pixel; a present one keeps its fullest pixel however small the picture."""
    groups: dict[str, list[np.ndarray]] = {}
    for t in anatomy.teeth:
        if t.state == "impacted":
            groups.setdefault("impacted", []).append(t.place(shapes.OUTLINES[t.kind]))
    for lesion in anatomy.lesions:
        groups.setdefault(lesion.finding, []).append(lesion.polygon)
    out = np.zeros(plate.size, np.uint8)
    for finding in reversed(FINDINGS):  # the smallest last, so that none is hidden
        for polygon in groups.get(finding, []):
            plate.fill(f"mask {finding}", polygon + np.array(style.mask_shift))
        if finding in groups:
            part = plate.cover(f"mask {finding}")
            out[(part > 0) & (part >= min(0.5, float(part.max())))] = FINDINGS.index(finding) + 1
    return out
