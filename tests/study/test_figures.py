"""Figures as SVG: well formed, the same bytes each time, with the numbers beside them."""

import xml.etree.ElementTree as ET

from synthrad.study import plots
from synthrad.study.figures import as_svg, drawing
from synthrad.study.plots import Effect
from synthrad.study.tables import Table


def test_an_svg_is_whole_and_the_same_each_time():
    effects = [Effect("a", "real only", 0.05, 0.02, 0.08), Effect("a", "duplicated real", 0.01, None, None)]
    first, again = (as_svg(plots.forest(effects, "Dice", 0.02)) for _ in range(2))
    assert first == again and b"<dc:date>" not in first
    root = ET.fromstring(first)
    assert root.tag.endswith("svg") and "duplicated real" in first.decode()  # matplotlib names its texts in comments
    assert not [e for e in root.iter() if e.tag.endswith(("script", "image"))]


def test_a_drawing_has_the_name_of_its_numbers():
    table = Table("seeds", "Seeds", ("arm", "seed"), [("a", 0)])
    made = drawing(plots.seed_dots({"a": {0: 0.5}}, "Dice"), table, "alt", "caption")
    assert made.name == "seeds" and made.uri.startswith("data:image/svg+xml;base64,")
    assert drawing(None, table, "alt", "caption") is None
