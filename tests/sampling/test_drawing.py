import inspect

import numpy as np
import pytest
from noise_painter import INFO, LINEAGE, Painter, conditions, everything

from synthrad.conditioning import Generator
from synthrad.errors import InputError
from synthrad.sampling.drawing import sample_set
from synthrad.sampling.set_rows import image_seed


def test_a_set_is_whole_and_says_where_it_is_from(checkpoint, tmp_path):
    painter = Painter()
    made = sample_set(painter, checkpoint, conditions(), 3, tmp_path / "set", INFO, LINEAGE, block_size=4)
    assert len(made) == 10 and painter.sizes == [4, 4, 4]  # the last block is padded
    assert made.info.id == "tiny-id" and made.info.lineage.trained_on() == {"h"}
    assert made.info.lineage.settings == {"seed": 3, "block_size": 4, "dtype": "float32", "truncation": 1.0}
    row = made[7]
    assert row.subject == "synthetic-000007" and row.source == "synthetic" and row.labels == (1, None)
    assert row.origin == {"seed": str(image_seed(3, 7)), "condition": "a=1 sex=F", "mask": "joint"}
    assert row.channels[0].is_file() and row.masks[0].is_file() and row.masks[1] is None
    assert row.digest and row.mask_digest and 0 < row.areas["organ/left"] < 1 and "other/x" not in row.areas
    assert not (tmp_path / "set" / ".blocks").exists()


def test_resume_after_a_stop_gives_the_same_bytes(checkpoint, tmp_path):
    sample_set(Painter(), checkpoint, conditions(), 0, tmp_path / "whole", INFO, LINEAGE, block_size=4)
    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        sample_set(Painter(2), checkpoint, conditions(), 0, part, INFO, LINEAGE, block_size=4)
    assert not (part / "dataset.yaml").exists()
    victim = next((part / "images").rglob("000005.png"))
    victim.write_bytes(victim.read_bytes()[:20])  # torn by the kill
    again = Painter()
    sample_set(again, checkpoint, conditions(), 0, part, INFO, LINEAGE, block_size=4)
    assert again.sizes == [4, 4]  # the torn block and the missing one
    assert everything(part) == everything(tmp_path / "whole")
    finished = Painter(0)
    assert len(sample_set(finished, checkpoint, conditions(), 0, part, INFO, LINEAGE, block_size=4)) == 10


@pytest.mark.parametrize("truncation", [-3, 0, 1.01, float("nan")])
def test_truncation_is_above_0_and_at_most_1(checkpoint, tmp_path, truncation):
    with pytest.raises(InputError, match="--truncation"):
        sample_set(Painter(), checkpoint, conditions(), 0, tmp_path / "set", INFO, LINEAGE, truncation=truncation)
    assert not (tmp_path / "set").exists()


def test_a_class_that_was_never_learned_is_refused_before_anything_is_written(checkpoint, tmp_path):
    never = Painter()
    never.spec = {**Painter.spec, "classes": ["a", "b"], "absent": ["b"]}
    asked = conditions().assign(**{"label:b": [0, np.nan] * 4 + [1, 1]})  # in the last block only
    with pytest.raises(InputError, match=r"label 'b': found 1 in 2 condition"):
        sample_set(never, checkpoint, asked, 0, tmp_path / "set", INFO, LINEAGE, block_size=4)
    assert not (tmp_path / "set").exists() and never.sizes == []
    without = asked.assign(**{"label:b": np.nan})
    assert len(sample_set(never, checkpoint, without, 0, tmp_path / "set", INFO, LINEAGE, block_size=4)) == 10


def test_the_protocol_has_what_sampling_passes():
    assert inspect.signature(Generator.sample).parameters.keys() >= {"condition", "seeds", "truncation"}
