import inspect
import json

import numpy as np
import pandas as pd
import pytest
import torch
from mask_painter import MaskPainter
from PIL import Image
from tiny_set import make

import synthrad.sample
from synthrad.conditioning import Generator, Images
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.lineage import Fitted, Lineage
from synthrad.records import Manifest
from synthrad.sample import image_seed, run, sample_set

LAYERS = {"organ": ("left", "right"), "other": ("x",)}
INFO = DatasetInfo("tiny", "tiny-id", classes=("a", "b"), layers=LAYERS, attributes=("sex",))
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


@pytest.mark.parametrize("source", ["each:3", "wanted.csv", "plan.json"])
def test_number_is_refused_where_the_conditions_say_it(checkpoint, tmp_path, source):
    with pytest.raises(InputError, match="leave --number out"):
        run(["--checkpoint", str(checkpoint), "--out", str(tmp_path / "set"), "--number", "5", "--conditions", source])


def test_the_protocol_has_what_sampling_passes():
    assert inspect.signature(Generator.sample).parameters.keys() >= {"condition", "seeds", "truncation"}


def test_seeds_of_neighbouring_sets_differ():
    seeds = {image_seed(s, k) for s in range(20) for k in range(50)}
    assert len(seeds) == 1000 and min(seeds) >= 0


# ---- generators that draw from masks


@pytest.fixture
def masked(checkpoint, tmp_path, monkeypatch):
    """Runs the command with a painter of masks in the place of the checkpoint; the real set beside it."""
    real = make(tmp_path / "real")

    def command(painter, out, *flags):
        spec = {**painter.spec, "classes": ["caries", "implant"], "attributes": {"sex": ["f", "m"]}}
        monkeypatch.setattr(synthrad.sample, "load_generator", lambda path: (painter, real.info, LINEAGE, spec))
        small = ["--block-size", "4", "--device", "cpu"]
        return run(["--checkpoint", str(checkpoint), "--out", str(tmp_path / out), *small, *flags])

    return real, command


def painter(blocks=10**9):
    return MaskPainter({"tooth": ("crown", "root")}, blocks=blocks)


def with_manifest(real, *flags):
    return ["--manifest", real.info.roots["here"], *flags]


def test_real_conditions_come_with_their_own_masks(masked, tmp_path):
    real, command = masked
    made_by = painter()
    assert command(made_by, "set", *with_manifest(real, "--number", "10", "--seed", "3")) == 0
    made = Manifest.read(tmp_path / "set")
    of_digest = {r.mask_digest: r for r in real.where(split="train") if r.masks[0]}
    drawn = torch.cat(made_by.masks)[:10]
    assert len({r.origin["mask"] for r in made}) == 10 == len(of_digest)  # every training row that has a mask, once
    for k, row in enumerate(made):
        source = of_digest[row.origin["mask"]]
        assert row.labels == source.labels and row.attributes == source.attributes
        mask = np.asarray(Image.open(row.masks[0]))
        assert np.array_equal(mask, np.asarray(Image.open(source.masks[0]))[1::2, 1::2]) and np.array_equal(mask, drawn[k, 0])
        assert row.mask_digest == file_digest(row.masks[0]) and row.areas["tooth/crown"] == (mask == 1).mean()
        assert row.origin["seed"] == str(image_seed(3, k))
    assert made_by.sizes == [4, 4, 4] and torch.equal(made_by.masks[2][2], made_by.masks[2][1])  # padded with the last row
    text = (tmp_path / "set" / "manifest.csv").read_text() + (tmp_path / "set" / "dataset.yaml").read_text()
    assert not any(word in text for word in (str(tmp_path / "real"), *real.column("subject")))  # neither path nor patient
    lineage = made.info.lineage
    assert [f.kind for f in lineage.fitted] == ["generator", "masks"] and lineage.origin == "known"
    assert lineage.settings == {"seed": 3, "block_size": 4, "dtype": "float32", "truncation": 1.0, "masks": "real",
                                "mask_transform": "none"}


@pytest.mark.parametrize("transform", ["none", "affine"])
@pytest.mark.parametrize("conditions", ["real", "each:2", "plan"])
def test_a_stopped_set_of_masks_resumes_to_the_same_bytes(masked, tmp_path, conditions, transform):
    real, command = masked
    if conditions == "plan":
        conditions = str(tmp_path / "plan.json")
        (tmp_path / "plan.json").write_text(json.dumps([{"cell": ["caries=1"], "number": 8}, {"cell": ["sex=m"], "number": 3}]))
    flags = with_manifest(real, "--conditions", conditions, "--mask-transform", transform)
    flags += ["--number", "11"] if conditions == "real" else []
    command(painter(), "whole", *flags)
    with pytest.raises(KeyboardInterrupt):
        command(painter(2), "part", *flags)
    again = painter()
    command(again, "part", *flags)
    assert everything(tmp_path / "part") == everything(tmp_path / "whole")
    assert sum(again.sizes) < len(Manifest.read(tmp_path / "part"))
    if conditions.endswith(".json"):
        labels = Manifest.read(tmp_path / "part").labels[:, 0]
        assert labels[:8].all() and np.isnan(labels[8:]).all()
    other = "flip" if transform == "none" else "none"
    with pytest.raises(InputError, match="a set with other mask_transform"):
        command(painter(), "part", *[other if f == transform else f for f in flags])


def test_a_table_may_name_its_masks(masked, tmp_path):
    real, command = masked
    pd.DataFrame({"caries": [1, 0], "mask:tooth": ["masks/3.png", ""]}).to_csv(tmp_path / "wanted.csv", index=False)
    assert command(painter(), "set", *with_manifest(real, "--conditions", str(tmp_path / "wanted.csv"))) == 0
    made = Manifest.read(tmp_path / "set")
    assert made[0].origin["mask"] == real[3].mask_digest
    assert made[1].origin["mask"] in {r.mask_digest for r in real if r.labels[0] == 0}
    pd.DataFrame({"mask:tooth": ["masks/5.png", ""]}).to_csv(tmp_path / "wanted.csv", index=False)
    with pytest.raises(InputError, match="a set with other conditions, masks"):
        command(painter(), "set", *with_manifest(real, "--conditions", str(tmp_path / "wanted.csv")))


def test_masks_that_are_refused(masked, checkpoint, tmp_path):
    real, command = masked
    pd.DataFrame({"caries": [1]}).to_csv(tmp_path / "wanted.csv", index=False)
    with pytest.raises(InputError, match="draws from masks.*\n.*add --manifest"):
        command(painter(), "set", "--conditions", str(tmp_path / "wanted.csv"))
    (tmp_path / "plan.json").write_text(json.dumps([{"cell": ["caries=1", "sex=m"], "number": 8}]))
    with pytest.raises(InputError, match="cell caries=1 sex=m"):
        command(painter(), "set", *with_manifest(real, "--conditions", str(tmp_path / "plan.json")))
    with pytest.raises(InputError, match="this generator draws from masks"):
        sample_set(painter(), checkpoint, conditions(), 0, tmp_path / "set", INFO, LINEAGE)
    joint = painter()
    joint.wants_masks = False
    with pytest.raises(InputError, match="--mask-transform: found masks for .*, which draws its own"):
        command(joint, "set", *with_manifest(real, "--mask-transform", "flip"))
    pd.DataFrame({"mask:tooth": ["masks/3.png"]}).to_csv(tmp_path / "wanted.csv", index=False)
    with pytest.raises(InputError, match="conditions: mask:<layer>"):
        command(joint, "set", *with_manifest(real, "--conditions", str(tmp_path / "wanted.csv")))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(("flag", "value", "words"), [("--seed", "-1", "--seed: found -1"), ("--device", "cuda", "torch finds no GPU")])
def test_a_seed_and_a_device_that_cannot_be(masked, flag, value, words, monkeypatch):
    real, command = masked
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=words):
        command(painter(), "set", *with_manifest(real, "--number", "3", flag, value))


def test_truncations_of_a_generator_that_draws_from_masks(masked, tmp_path):
    real, command = masked
    flags = with_manifest(real, "--number", "3", "--sheet", str(tmp_path / "psi.png"), "--truncation", "1", "0.5")
    made_by = painter()
    with pytest.raises(InputError, match="2 values for a set"):
        command(made_by, "set", *flags)
    assert run(["--checkpoint", str(tmp_path / "last.ckpt"), "--block-size", "4", "--device", "cpu", *flags]) == 0
    assert made_by.sizes == [4, 4] and torch.equal(*made_by.masks) and (tmp_path / "psi.png").is_file()
    with pytest.raises(InputError, match="no latent path"):
        run(["--checkpoint", str(tmp_path / "last.ckpt"), "--interpolate", str(tmp_path / "w.gif"), *with_manifest(real)])


def test_an_unconditional_generator_draws_images_of_unknown_labels(tmp_path, capsys):
    from tiny_generator import fit_command, sample_command

    from synthrad.__main__ import main
    from synthrad.callbacks import newest_valid

    make(tmp_path / "real")
    nothing = ["--data.classes=[]", "--data.attributes=[]"]
    assert main([*fit_command(tmp_path / "real", tmp_path / "run"), *nothing]) == 0
    assert main(sample_command(newest_valid(tmp_path / "run"), tmp_path / "real", tmp_path / "set")) == 0
    assert "10 of 10 conditions name caries, implant, which the generator was not taught" in capsys.readouterr().out
    made = Manifest.read(tmp_path / "set")
    assert np.isnan(made.labels).all() and set(made.column("attribute:sex")) == {""} and set(made.column("origin:condition")) == {""}
