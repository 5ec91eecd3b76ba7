import logging.handlers
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from checking_cli import CheckingCLI
from PIL import Image
from tiny_generator import fitted
from tiny_set import make

from synthrad import cli
from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.cases import read_cases
from synthrad.records import Manifest

BARE = ["fit", "--model=SegmentationTask", "--model.net=SmpNet", "--data=FusionDataModule", "--data.manifest=x"]


def test_help_promises_only_what_a_command_does(capsys):
    assert main(["--help"]) == 0
    assert "safe to share" not in capsys.readouterr().out
    assert "safe to share" not in (Path(__file__).parents[1] / "pyproject.toml").read_text()


def test_arms_are_one_override_and_like_nests():
    parsed = cli.parse([*BARE, "--data.fusion=DuplicateReal", "--data.fusion.like=Matched", "--data.fusion.like.ratio=2"],
                       CheckingCLI)
    assert parsed.config.fit.data.init_args.fusion.init_args.like.init_args.ratio == 2


def test_fit_links_counts_resumes_and_tests(tmp_path, capsys, recwarn):
    said = logging.handlers.BufferingHandler(1000)
    logging.getLogger("lightning.pytorch").addHandler(said)
    make(tmp_path / "real")
    common = ["--model=SegmentationTask", "--model.net=SmpNet", "--data=FusionDataModule", f"--data.manifest={tmp_path / 'real'}",
              "--data.size=[32,32]", "--data.batch_size=2", f"--trainer.default_root_dir={tmp_path / 'run'}",
              "--trainer.accelerator=cpu"]  # fmt: skip
    fit = ["fit", *common, "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.check_val_every_n_epoch=null"]
    assert main(fit) == 0, capsys.readouterr().err
    logging.getLogger("lightning.pytorch").removeHandler(said)
    lines = [r.getMessage() for r in said.buffer] + [str(w.message) for w in recwarn]
    assert any("max_steps=2" in line for line in lines)
    assert not [line for line in lines if any(w in line for w in ("litlogger", "litmodels", "weights_only", "not empty"))]
    best = newest_valid(tmp_path / "run", "best") or newest_valid(tmp_path / "run")
    assert main(fit) == 0  # the same command finds nothing left to do
    assert main([*fit, "--model.lr=0.1"]) == 2
    assert "another fit" in capsys.readouterr().err
    assert main(["test", *common, f"--ckpt_path={best}"]) == 0, capsys.readouterr().err
    cases = read_cases([tmp_path / "run" / "cases.parquet"])
    assert set(zip(cases["task"], cases["net"], cases["arm"], strict=True)) == {("SegmentationTask", "SmpNet", "RealOnly")}
    assert main(["predict", *common]) == 2
    assert "the checkpoint to predict with" in capsys.readouterr().err
    assert main(["predict", *common, f"--ckpt_path={best}"]) == 0, capsys.readouterr().err
    check_predictions(tmp_path / "run" / "predictions", Manifest.read(tmp_path / "real"), cases)


def check_predictions(folder, manifest, cases):
    """The masks that predict wrote give the counts of the test."""
    table = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    held = manifest.where(split="test")
    assert list(table["row"]) == list(range(len(held))) and set(table["set"]) == {""}
    for row in table.itertuples():
        record = held[row.row]
        assert row.image == str(record.channels[0])
        for place, (layer, structures) in enumerate(manifest.info.layers.items()):
            drawn, true = (np.asarray(Image.open(p)) for p in (folder / table.loc[row.Index, layer], record.masks[place]))
            assert drawn.shape == true.shape
            for k, structure in enumerate(structures, 1):
                (counted,) = cases[(cases["image"] == held.column("digest")[row.row]) & (cases["layer"] == layer) & (cases["class_name"] == structure)].itertuples()
                assert (counted.tp, counted.fp) == (((drawn == k) & (true == k)).sum(), ((drawn == k) & (true != k)).sum())


def identity_of(argv):
    """The identity of a run whose objects are never made."""

    class Linked(cli.SynthradCLI):
        def instantiate_classes(self):
            self.before_instantiate_classes()

        def _run_subcommand(self, subcommand):
            pass

    made = cli.parse(argv, Linked)
    return made.identity, made.config.fit.data.init_args


def test_a_manifest_split_anew_or_another_seed_is_another_run(tmp_path):
    read = make(tmp_path / "real")
    argv = ["fit", "--model=ClassificationTask", "--model.net=TimmNet", "--model.net.name=test_resnet",
            "--data=FusionDataModule", f"--data.manifest={tmp_path / 'real'}"]
    before, data = identity_of(argv)
    assert data.seed == 0
    assert identity_of(argv)[0] == before
    assert identity_of([*argv, "--data.num_workers=2"])[0] == before  # another machine goes on with it
    # order, augmentation and fusion follow the seed that `synthrad test` writes, unless data.seed is given
    assert identity_of([*argv, "--seed_everything=1"])[1].seed == 1
    assert identity_of([*argv, "--seed_everything=1", "--data.seed=5"])[1].seed == 5
    table = read.table
    table["split"] = table["split"].to_numpy()[::-1]
    Manifest(table, read.info).write(tmp_path / "real")
    assert identity_of(argv)[0] != before


def test_a_reader_that_has_gone_is_no_error():
    read, write = os.pipe()
    os.close(read)
    made = subprocess.run([sys.executable, "-m", "synthrad", "--help"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert made.returncode == 0 and made.stderr == ""


def test_a_generator_is_drawn_from_and_not_tested(tmp_path, capfd):
    real, checkpoint = fitted(tmp_path)
    data = ["--data=GenerationDataModule", f"--data.manifest={real}", "--data.size=[16,16]", f"--trainer.default_root_dir={tmp_path / 'out'}"]
    config = ["-c", str(tmp_path / "whole" / "config.yaml")]
    capfd.readouterr()
    for verb in ("test", "validate", "predict"):
        named = ["--model=StyleGAN2", *data]
        for args in (config, [*config, f"--ckpt_path={checkpoint}"], named):
            assert main([verb, *args]) == 2, (verb, args)
            said = capfd.readouterr().err
            assert said.count(f"synthrad {verb}: ") == 1 and f"synthrad {verb}: model: found StyleGAN2, a generator; expected a task" in said and "Traceback" not in said
            assert f"synthrad sample --checkpoint {checkpoint if args[-1].startswith('--ckpt') else 'CKPT'}" in said
    assert not (tmp_path / "out").exists()
