"""Every figure is a picture inside the page, of the same bytes each time."""

import base64
import io

import numpy as np
from PIL import Image

from synthrad.study import plots
from synthrad.study.plots import Effect


def opened(uri: str) -> np.ndarray:
    head, data = uri.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))


def test_figures_are_drawn():
    effects = [Effect("a", "real only", 0.05, 0.02, 0.08), Effect("a", "duplicated real", 0.01, None, None)]
    made = [
        plots.forest(effects, "Dice", 0.02, "95 % interval"),
        plots.seed_dots({"a": {0: 0.5, 1: 0.6}, "b": {0: 0.4}}, "Dice"),
        plots.dose({"Matched": [(0.5, 0.6, 0.01), (1.0, 0.7, 0.0)]}, 0.5, "Dice"),
        plots.best_steps([("a", 0, 50, 100), ("b", 1, 100, 100)]),
        plots.histogram({"synthetic": [0.1, 0.5, 0.9], "real": []}, "correlation"),
    ]
    for uri in made:
        pixels = opened(uri)
        assert min(pixels.shape) > 100 and pixels.min() < 128 < pixels.max()
    assert plots.forest(effects, "Dice", 0.02, "95 % interval") == made[0]


def test_nothing_to_draw():
    assert plots.histogram({}, "correlation") == ""
