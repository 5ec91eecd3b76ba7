import inspect
import json

import numpy as np
import pandas as pd
import pytest
import torch

from synthrad.conditioning import Generator, Images
from synthrad.errors import InputError
from synthrad.lineage import Fitted, Lineage
from synthrad.records import DatasetInfo, Manifest, empty_columns
from synthrad.sample import (
    each_condition,
    image_seed,
    load_generator,
    plan_conditions,
    read_conditions,
    real_conditions,
    run,
    sample_set,
    table_conditions,
)

INFO = DatasetInfo("tiny", "tiny-id", classes=("a", "b"), layers={"organ": ("left", "right"), "other": ("x",)}, attributes=("sex",))
LINEAGE = Lineage((Fitted("generator", "d", trained_on=frozenset({"h"}), fingerprints=frozenset({"f"})),))


class Painter:
    """Noise from each seed; the label shifts the brightness. It can die in the middle of a set."""

    spec = {"layers": {"organ": ["left", "right"]}}

    def __init__(self, blocks: int = 10**9):
        self.blocks, self.sizes = blocks, []

    def sample(self, condition, seeds, truncation=1.0):
        if not self.blocks:
            raise KeyboardInterrupt
        self.blocks -= 1
        self.sizes.append(len(seeds))
        noise = torch.stack([torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(s)) for s in seeds])
        shift = torch.from_numpy(np.nan_to_num(condition.labels[:, 0])).float()[:, None, None, None]
        return Images(noise * truncation - shift, (noise * 3).long())


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"weights": 1}, path)
    return path


def conditions(n=10):
    return pd.DataFrame({"label:a": [i % 2 for i in range(n)], "attribute:sex": ["F"] * n})


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


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


def test_another_set_in_the_folder_is_refused(checkpoint, tmp_path):
    sample_set(Painter(), checkpoint, conditions(4), 0, tmp_path / "set", INFO, LINEAGE)
    with pytest.raises(InputError, match="other seed"):
        sample_set(Painter(), checkpoint, conditions(4), 1, tmp_path / "set", INFO, LINEAGE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="other files"):
        sample_set(Painter(), checkpoint, conditions(4), 1, tmp_path / "mine", INFO, LINEAGE)


def real(n=6):
    columns = empty_columns(INFO, n)
    columns["label:a"][:], columns["subject"][:] = [i % 2 for i in range(n)], [f"s{i}" for i in range(n)]
    columns["attribute:sex"][:] = ["F", "M", "M"] * (n // 3)
    return Manifest(pd.DataFrame(columns), INFO)


def test_conditions():
    drawn = real_conditions(real(), 12, 0)
    assert drawn["label:a"].mean() == 0.5 and (drawn["attribute:sex"] == "M").sum() == 8
    assert not drawn[:6].reset_index(drop=True).equals(real_conditions(real(), 6, 1).reset_index(drop=True))
    assert len(each_condition(real(), 3)) == 4 * 3
    table = table_conditions(pd.DataFrame({"a": ["1", ""], "attribute:sex": ["F", ""]}), INFO, "t.csv")
    assert table["label:a"].tolist()[0] == 1 and table.isna().sum().to_dict() == {"label:a": 1, "label:b": 2, "attribute:sex": 0}
    plan = plan_conditions([{"cell": ["a=?", "sex=?"], "number": 1}], INFO, "p")  # as Cells writes what is unknown
    assert plan["label:a"].isna().all() and plan["attribute:sex"].tolist() == [""]
    plan = plan_conditions([{"cell": ["a=1", "sex=F"], "number": 2}, {"cell": ["b=0"], "number": 1}], INFO, "p")
    assert plan["label:a"].tolist()[:2] == [1, 1] and plan["label:b"].tolist()[2] == 0


@pytest.mark.parametrize(("table", "message"), [({"c": ["1"]}, "'c'"), ({"a": ["2"]}, "row 2")])
def test_tables_that_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        table_conditions(pd.DataFrame(table), INFO, "t.csv")


def test_other_bad_input(tmp_path, checkpoint):
    with pytest.raises(InputError, match="add --manifest"):
        read_conditions("real", INFO, None, 5, 0)
    with pytest.raises(InputError, match="each:N"):
        read_conditions("each:x", INFO, real(), 5, 0)
    (tmp_path / "plan.json").write_text(json.dumps([{"cell": ["organ/left=1"], "number": 1}]))
    with pytest.raises(InputError, match="organ/left"):
        read_conditions(str(tmp_path / "plan.json"), INFO, None, 5, 0)
    with pytest.raises(InputError, match="no such file"):
        load_generator(tmp_path / "missing.ckpt")
    with pytest.raises(InputError, match="no generator"):
        load_generator(checkpoint)
    (tmp_path / "torn.ckpt").write_bytes(checkpoint.read_bytes()[:50])
    with pytest.raises(InputError, match="cannot load"):
        load_generator(tmp_path / "torn.ckpt")


@pytest.mark.parametrize("truncation", [-3, 0, 1.01, float("nan")])
def test_truncation_is_above_0_and_at_most_1(checkpoint, tmp_path, truncation):
    with pytest.raises(InputError, match="--truncation"):
        sample_set(Painter(), checkpoint, conditions(), 0, tmp_path / "set", INFO, LINEAGE, truncation=truncation)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("source", ["each:3", "wanted.csv", "plan.json"])
def test_number_is_refused_where_the_conditions_say_it(checkpoint, tmp_path, source):
    with pytest.raises(InputError, match="leave --number out"):
        run(["--checkpoint", str(checkpoint), "--out", str(tmp_path / "set"), "--number", "5", "--conditions", source])


def test_the_protocol_has_what_sampling_passes():
    assert inspect.signature(Generator.sample).parameters.keys() >= {"condition", "seeds", "truncation"}


def test_seeds_of_neighbouring_sets_differ():
    seeds = {image_seed(s, k) for s in range(20) for k in range(50)}
    assert len(seeds) == 1000 and min(seeds) >= 0
