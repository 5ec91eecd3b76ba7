"""Outlines that the phantom is drawn from: teeth, jaws, and the polygons made of them.

Units: one unit is half the width of a 2:1 panoramic picture, so x is in [-1, 1] and y in [0, 1] (0 at the top).
A tooth's own frame is (u, v): u in half crown widths, v from -1 (apex) over 0 (neck) to 1 (chewing surface).
"""

from __future__ import annotations

import numpy as np

UNITS_PER_MM = 0.0093  # 16 teeth of 64 mm a side cover 60 % of the picture's half width

# Wheeler's Dental Anatomy, tables of average tooth dimensions (rounded): width, crown and root length in mm, teeth 1-8
UPPER_MM = np.array(
    [
        [8.5, 10.5, 13.0],
        [6.6, 9.0, 13.0],
        [7.5, 10.0, 17.0],
        [7.0, 8.5, 14.0],
        [6.9, 8.5, 14.0],
        [10.0, 7.5, 12.8],
        [9.2, 7.2, 12.0],
        [8.5, 6.7, 11.0],
    ]
)
LOWER_MM = np.array(
    [
        [5.4, 9.0, 12.5],
        [5.9, 9.5, 14.0],
        [6.9, 11.0, 16.0],
        [7.0, 8.6, 14.0],
        [7.2, 8.2, 14.5],
        [11.0, 7.6, 14.0],
        [10.5, 7.2, 13.0],
        [10.0, 7.0, 11.0],
    ]
)
KINDS = ("incisor", "incisor", "canine", "premolar", "premolar", "molar", "molar", "molar")


def smooth(points: np.ndarray, rounds: int = 1, closed: bool = True) -> np.ndarray:
    """Chaikin's corner cutting (1974): points [N, 2] -> about [2^rounds N, 2]."""
    for _ in range(rounds):
        ahead = np.roll(points, -1, axis=0) if closed else points[1:]
        here = points if closed else points[:-1]
        cut = np.stack([0.75 * here + 0.25 * ahead, 0.25 * here + 0.75 * ahead], axis=1).reshape(-1, 2)
        points = cut if closed else np.vstack([points[:1], cut, points[-1:]])
    return points


def _mirrored(right: list[tuple[float, float]]) -> np.ndarray:
    """Close a right half (from top middle down to bottom middle) with its mirror image."""
    half = np.array(right)
    left = half[::-1] * [-1, 1]
    return np.vstack([half, left])


_CROWN_RIGHT = {
    "incisor": [(0.0, 1.0), (0.55, 1.0), (0.95, 0.97), (1.0, 0.8), (0.9, 0.4), (0.72, 0.0)],
    "canine": [(0.0, 1.04), (0.35, 0.94), (0.9, 0.72), (1.0, 0.55), (0.9, 0.3), (0.74, 0.0)],
    "premolar": [(0.0, 0.85), (0.4, 1.0), (0.8, 0.92), (1.0, 0.65), (0.95, 0.35), (0.78, 0.0)],
    "molar": [(0.0, 0.84), (0.45, 1.0), (0.82, 0.95), (1.0, 0.7), (0.98, 0.4), (0.86, 0.0)],
}
_ROOT_RIGHT = {
    "incisor": [(0.62, -0.3), (0.45, -0.65), (0.2, -0.95), (0.0, -1.0)],
    "canine": [(0.66, -0.3), (0.5, -0.65), (0.22, -0.95), (0.0, -1.0)],
    "premolar": [(0.68, -0.3), (0.5, -0.65), (0.2, -0.96), (0.0, -1.0)],
    "molar": [
        (0.84, -0.3),
        (0.8, -0.65),
        (0.66, -0.96),
        (0.5, -1.0),
        (0.38, -0.85),
        (0.25, -0.5),
        (0.0, -0.3),
    ],
}
CROWNS = {kind: smooth(_mirrored(half)) for kind, half in _CROWN_RIGHT.items()}
OUTLINES = {kind: smooth(_mirrored(_CROWN_RIGHT[kind] + _ROOT_RIGHT[kind])) for kind in _CROWN_RIGHT}
ROOTS = {kind: smooth(_mirrored([(0.0, 0.06), (0.8, 0.06), *half])) for kind, half in _ROOT_RIGHT.items()}
PALATAL_ROOT = smooth(
    np.array([(-0.34, -0.2), (0.34, -0.2), (0.26, -0.7), (0.1, -1.06), (-0.1, -1.06), (-0.26, -0.7)])
)
PULPS = {
    "incisor": [
        smooth(np.array([(-0.25, 0.45), (0.25, 0.45), (0.2, -0.1), (0.1, -0.9), (-0.1, -0.9), (-0.2, -0.1)]))
    ],
    "canine": [
        smooth(
            np.array(
                [
                    (0.0, 0.6),
                    (0.24, 0.3),
                    (0.22, -0.2),
                    (0.1, -0.9),
                    (-0.1, -0.9),
                    (-0.22, -0.2),
                    (-0.24, 0.3),
                ]
            )
        )
    ],
    "premolar": [
        smooth(
            np.array([(-0.3, 0.42), (0.3, 0.42), (0.22, -0.15), (0.09, -0.9), (-0.09, -0.9), (-0.22, -0.15)])
        )
    ],
    "molar": [
        smooth(
            np.array([(-0.5, 0.38), (0.0, 0.28), (0.5, 0.38), (0.42, -0.05), (0.0, -0.1), (-0.42, -0.05)])
        ),
        smooth(np.array([(0.32, 0.0), (0.5, 0.0), (0.62, -0.5), (0.56, -0.9), (0.5, -0.9), (0.48, -0.5)])),
        smooth(
            np.array([(-0.32, 0.0), (-0.5, 0.0), (-0.62, -0.5), (-0.56, -0.9), (-0.5, -0.9), (-0.48, -0.5)])
        ),
    ],
}
# an implant: a tapered screw with threads, and its crown
IMPLANT = np.array(
    [(0.42, 0.0)]
    + [(0.42 - 0.012 * i + (0.07 if i % 2 else 0.0), -0.06 * i) for i in range(14)]
    + [(0.1, -0.86)]
)
IMPLANT = np.vstack([IMPLANT, IMPLANT[::-1] * [-1, 1]])

_RAMUS = [  # right side, lower border at the midline to the front edge of the ramus; the alveolar crest closes it
    (0.0, 0.915),
    (0.14, 0.915),
    (0.28, 0.9),
    (0.44, 0.862),
    (0.58, 0.8),
    (0.69, 0.73),
    (0.755, 0.65),
    (0.785, 0.55),
    (0.81, 0.44),
    (0.835, 0.32),
    (0.855, 0.23),
    (0.895, 0.18),
    (0.905, 0.13),
    (0.87, 0.1),
    (0.825, 0.11),
    (0.81, 0.16),
    (0.8, 0.23),
    (0.77, 0.285),
    (0.735, 0.275),
    (0.7, 0.2),
    (0.675, 0.155),
    (0.65, 0.19),
    (0.645, 0.3),
    (0.635, 0.41),
    (0.615, 0.5),
]

# one half of the face, mirrored and stretched where it is drawn
CANAL = smooth(
    np.array([(0.74, 0.36), (0.71, 0.48), (0.64, 0.62), (0.53, 0.71), (0.42, 0.75), (0.33, 0.745)]),
    2,
    closed=False,
)
SINUS = smooth(
    np.array([(0.16, 0.24), (0.3, 0.305), (0.45, 0.31), (0.58, 0.27), (0.56, 0.14), (0.4, 0.09), (0.22, 0.12)]), 2
)
NOSE = smooth(np.array([(0.02, 0.05), (0.1, 0.06), (0.16, 0.2), (0.13, 0.255), (0.02, 0.26)]), 2)
_ZYGOMA = [(0.46, 0.12), (0.52, 0.22), (0.6, 0.225), (0.72, 0.17), (0.9, 0.12)]
_ZYGOMA += [(0.9, 0.09), (0.7, 0.12), (0.58, 0.13), (0.5, 0.04)]
ZYGOMA = smooth(np.array(_ZYGOMA), 2)
HYOID = np.array([(0.3, 0.985), (0.42, 0.965), (0.56, 0.94), (0.66, 0.93)])
AIRWAY = np.array([(0.6, 0.28), (0.665, 0.4), (0.7, 0.55), (0.71, 0.72), (0.7, 0.86)])


def ramus(width: float, angle: float) -> np.ndarray:
    """Right outer border of the mandible [N, 2], width a factor, angle > 0 = a more obtuse jaw angle."""
    points = np.array(_RAMUS)
    near = np.exp(-((points[:, 0] - 0.74) ** 2 + (points[:, 1] - 0.68) ** 2) / 0.02)[:, None]
    points = points + near * angle * np.array([-0.05, -0.04])
    return points * [width, 1.0]


def blob(
    center: tuple[float, float], radii: tuple[float, float], wobble: np.ndarray, points: int = 18
) -> np.ndarray:
    """An irregular ellipse [points, 2]; wobble [4] are amplitudes of its second and third harmonics."""
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    r = (
        1
        + wobble[0] * np.cos(2 * t)
        + wobble[1] * np.sin(2 * t)
        + wobble[2] * np.cos(3 * t)
        + wobble[3] * np.sin(3 * t)
    )
    return np.stack([center[0] + radii[0] * r * np.cos(t), center[1] + radii[1] * r * np.sin(t)], axis=1)
