import pandas as pd
import pytest
from mask_painter import MaskPainter
from noise_painter import LINEAGE
from tiny_set import make

from synthrad.errors import InputError
from synthrad.sampling.from_checkpoint import ready


def loaded(real, masks=True):
    """What a checkpoint gives, of a generator that draws from masks or with its own."""
    painter = MaskPainter({"tooth": ("crown", "root")}, classes=["caries", "implant"])
    painter.wants_masks = masks
    return painter, real.info, LINEAGE, {**painter.spec, "attributes": {"sex": ["f", "m"]}}


def test_conditions_come_with_masks_or_are_refused_them(tmp_path):
    real = make(tmp_path / "real")
    asked = pd.DataFrame({"label:caries": [1.0, 0.0], "label:implant": [0.0, 0.0]})
    generator, conditions, masks = ready(loaded(real), "x.ckpt", asked, 0, "cpu", real, "none")
    assert len(masks) == len(conditions) == 2 and "attribute:sex" in conditions
    assert ready(loaded(real, masks=False), "x.ckpt", asked, 0, "cpu", real, "none")[2] is None
    for more, key in (({}, "--mask-transform"), ({"mask:tooth": "masks/3.png"}, "conditions: mask:<layer>")):
        with pytest.raises(InputError, match=f"{key}: found masks for x.ckpt, which draws its own"):
            ready(loaded(real, masks=False), "x.ckpt", asked.assign(**more), 0, "cpu", real, "none" if more else "flip")


def test_an_open_label_is_told_where_the_generator_never_saw_one(tmp_path):
    real = make(tmp_path / "real")
    asked = pd.DataFrame({"label:caries": [1.0, None], "label:implant": [0.0, 0.0]})
    generator, info, lineage, spec = loaded(real, masks=False)
    with pytest.warns(UserWarning, match="1 of 2 conditions leave a label open, and x.ckpt was trained without"):
        ready((generator, info, lineage, {**spec, "label_dropout": 0.0}), "x.ckpt", asked, 0, "cpu", None, "none")
