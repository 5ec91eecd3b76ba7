"""Every figure draws what it was given."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from synthrad.study import plots
from synthrad.study.plots import Effect


def pixels(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).mean(-1)


def test_figures_are_drawn():
    effects = [Effect("a", "real only", 0.05, 0.02, 0.08), Effect("a", "duplicated real", 0.01, None, None)]
    made = [
        plots.forest(effects, "Dice", 0.02, "95 % interval"),
        plots.seed_dots({"a": {0: 0.5, 1: 0.6}, "b": {0: 0.4}}, "Dice"),
        plots.dose({"Matched": [(0.5, 0.6, 0.01), (1.0, 0.7, 0.0)]}, 0.5, "Dice"),
        plots.best_steps([("a", 0, 50, 100), ("b", 1, 100, 100)]),
        plots.histogram({"synthetic": [0.1, 0.5, 0.9], "real": []}, "correlation"),
    ]
    for figure in made:
        drawn = pixels(figure)
        assert min(drawn.shape) > 100 and drawn.min() < 128 < drawn.max()


def test_nothing_to_draw():
    assert plots.histogram({}, "correlation") is None
