import json

import numpy as np
import pandas as pd
import pytest
import torch
from mask_painter import MaskPainter
from noise_painter import INFO, LINEAGE, conditions, everything
from PIL import Image
from tiny_set import make

import synthrad.sample
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.records import Manifest
from synthrad.sample import run
from synthrad.sampling.drawing import sample_set
from synthrad.sampling.set_rows import image_seed


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"weights": 1}, path)
    return path


@pytest.mark.parametrize("source", ["each:3", "wanted.csv", "plan.json"])
def test_number_is_refused_where_the_conditions_say_it(checkpoint, tmp_path, source):
    with pytest.raises(InputError, match="leave --number out"):
        run(["--checkpoint", str(checkpoint), "--out", str(tmp_path / "set"), "--number", "5", "--conditions", source])


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
