"""Jobs of a study, as far as test_command does not run them."""

import json
import shutil
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from mask_painter import MaskPainter
from tiny_set import make

from synthrad import fusion
from synthrad.callbacks import durable_checkpoint
from synthrad.data.images import read_mask
from synthrad.errors import InputError
from synthrad.generators import loading
from synthrad.sampling import from_checkpoint
from synthrad.study import failures, jobs
from synthrad.study.description import Source
from synthrad.study.jobs import main
from synthrad.study.pools import pools_of


def test_pools_are_found_relative_to_the_run_folder_or_absolute(tmp_path):
    (tmp_path / "sources" / "gan").mkdir(parents=True)
    names = ["sources/gan/pool-1/draw0", str(tmp_path / "elsewhere")]
    (tmp_path / "sources/gan/pool.json").write_text(json.dumps({"manifests": names}))
    assert pools_of(tmp_path, "gan") == [tmp_path / "sources/gan/pool-1/draw0", tmp_path / "elsewhere"]


def test_a_failed_job_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 1
    assert capsys.readouterr().err.startswith("synthrad study, job report: ")


def test_an_error_of_a_library_is_one_line_and_a_file(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("Given input size: (512x0x2)\nCalculated output size too small")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "fit", broken)
    assert main(["fit", "a/b/c"]) == 1
    said = capsys.readouterr().err
    assert "job fit a/b/c: RuntimeError: Given input size: (512x0x2) Calculated" in said and "Traceback" not in said
    assert "in broken" in (tmp_path / "failed" / "fit-a-b-c.txt").read_text()
    messages, bad_input = failures.read(tmp_path)
    assert len(messages) == 1 and str(tmp_path / "failed" / "fit-a-b-c.txt") in messages[0] and not bad_input


def take_for_generator(monkeypatch, load):
    for module in (loading, from_checkpoint):  # where jobs asks what a generator draws from, and where it draws
        monkeypatch.setattr(module, "load_generator", load)


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws the pool of a source whose generator paints the masks that it is given; beside it the real set."""
    real = make(tmp_path / "real", rows=48)
    painter = MaskPainter({"tooth": ("crown", "root")}, classes=["caries", "implant"])
    spec = {**painter.spec, "attributes": {"sex": ["f", "m"]}}
    take_for_generator(monkeypatch, lambda path: (painter, real.info, real.info.lineage, spec))
    (tmp_path / "sources/gan").mkdir(parents=True)
    (tmp_path / "last.ckpt").write_bytes(b"weights")
    (tmp_path / "sources/gan/generator.json").write_text(json.dumps({"checkpoint": "last.ckpt"}))

    def pool(wanted, **more):
        study = SimpleNamespace(sources={"gan": Source(generator="gan.yaml", **more)})
        plan = SimpleNamespace(wanted={"gan": Counter(wanted)})
        return jobs._draw(study, real, plan, tmp_path, "gan", tmp_path / "pool", 0)[0]

    return real, painter, pool


def test_a_source_that_draws_from_masks_gets_those_of_its_cells(draw):
    real, painter, pool = draw
    wanted = {("caries=1", "tooth/root=1"): 5, ("tooth/root=0",): 3}  # a structure is no label: the masks have it
    made = pool(wanted)
    assert fusion.count(made, wanted) >= Counter(wanted) and len(painter.sizes) == 1  # at once: nothing is topped up
    of_train = {r.mask_digest: r for r in real.where(split="train") if r.masks[0]}
    for row in made:
        source = of_train[row.origin["mask"]]
        assert row.labels == source.labels
        assert np.array_equal(read_mask(row.masks[0]), read_mask(source.masks[0])[1::2, 1::2])
    with pytest.raises(InputError, match="sources.gan: cell caries=1, tooth/root=0: found no real training row"):
        pool({("caries=1", "tooth/root=0"): 2})


def test_a_source_may_move_the_masks_that_it_draws_from(draw):
    real, _, pool = draw
    made = pool({("tooth/root=0",): 12}, mask_transform="flip")
    of_train = {r.mask_digest: read_mask(r.masks[0])[1::2, 1::2] for r in real.where(split="train") if r.masks[0]}
    assert made.info.lineage.settings["mask_transform"] == "flip"
    mirrored = [np.array_equal(read_mask(row.masks[0]), of_train[row.origin["mask"]][:, ::-1]) for row in made]
    assert 0 < sum(mirrored) < 12


def test_a_source_may_be_asked_for_less_than_its_masks_show(draw, tmp_path):
    real, _, pool = draw
    for prompts, unnamed in (("none", "unknown"), ("single", "unknown"), ("single", "absent")):
        made = pool({("tooth/root=1",): 6}, prompts=prompts, unnamed=unnamed)
        of_train = {r.mask_digest: r for r in real.where(split="train") if r.masks[0]}
        for row in made:
            had, named = (np.array(x.labels, float) for x in (of_train[row.origin["mask"]], row))  # the masks are of a row of the cell
            if prompts == "none":
                assert np.isnan(named).all()
            elif (had == 1).any():
                (one,) = np.flatnonzero(named == 1)
                rest = np.delete(named, one)
                assert had[one] == 1 and ((rest == 0).all() if unnamed == "absent" else np.isnan(rest).all())
        shutil.rmtree(tmp_path / "pool")


def test_findings_that_no_training_image_of_the_generator_had_are_not_asked_for(draw, monkeypatch, capsys):
    real, painter, pool = draw
    load = loading.load_generator
    take_for_generator(monkeypatch, lambda path: (*load(path)[:3], {**load(path)[3], "absent": ["implant"]}))
    wanted = {("caries=1",): 6, ("caries=0",): 6}
    assert not (np.array([r.labels[1] for r in pool(wanted)], float) == 1).any()
    assert "have implant, which no image that its generator was trained on had" in capsys.readouterr().out
    with pytest.raises(InputError, match="sources.gan: cell implant=1: found only rows with implant"):
        pool({("implant=1",): 2})


def test_a_source_that_draws_its_own_masks_is_asked_as_ever(draw):
    real, painter, pool = draw
    painter.wants_masks = False
    asked = []
    painter.sample = lambda condition, seeds, truncation: (asked.append(condition), 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pool({("caries=1", "tooth/root=0"): 2})
    assert asked[0].masks is None and (asked[0].labels[:, 0] == 1).all()


def test_the_cost_of_drawing_is_that_of_all_its_calls(draw, tmp_path):
    _, painter, pool = draw
    sample, seconds = painter.sample, lambda: float((tmp_path / "drawing_seconds").read_text())
    painter.sample = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        pool({("tooth/root=0",): 4})
    killed, painter.sample = seconds(), sample
    pool({("tooth/root=0",): 4})
    assert 0 < killed < seconds()


def test_the_cost_of_a_generator_is_that_of_all_its_calls(tmp_path, monkeypatch):
    """A fit that was killed and resumed took both parts; a call that finds it finished takes nothing away."""
    class Lock:
        def start(self, argv):
            return SimpleNamespace(wait=lambda: 0)

    (tmp_path / "last.ckpt").write_bytes(b"weights")
    study = SimpleNamespace(sources={"gan": Source(generator="gan.yaml")}, manifest="real", size=(32, 32))
    graph = {"sources": {"gan": {"generator": "id"}}}
    monkeypatch.setattr(jobs, "open_run", lambda folder: (study, None, None, graph))
    monkeypatch.setattr(jobs, "locked", lambda *_: nullcontext(Lock()))
    monkeypatch.setattr(durable_checkpoint, "newest_valid", lambda *_: tmp_path / "last.ckpt")
    home = tmp_path / "sources" / "gan" / "generator-id"
    home.mkdir(parents=True)
    (home / "seconds").write_text("100.0")
    jobs.generator(tmp_path, "gan")
    found = json.loads((tmp_path / "sources" / "gan" / "generator.json").read_text())
    assert 100 <= found["seconds"] < 110 and float((home / "seconds").read_text()) == pytest.approx(found["seconds"], abs=0.01)


def test_a_fit_starts_from_the_checkpoints_of_other_sources(tmp_path, monkeypatch):
    called = []

    class Lock:
        def start(self, argv):
            called.extend(argv)
            return SimpleNamespace(wait=lambda: 0)

    ldm = Source(generator="ldm.yaml", overrides=("--model.lr=1",), starts={"model.autoencoder": "vae"})
    study = SimpleNamespace(sources={"ldm": ldm}, manifest="real", size=(32, 32))
    monkeypatch.setattr(jobs, "open_run", lambda folder: (study, None, None, {"sources": {"ldm": {"generator": "id"}}}))
    monkeypatch.setattr(jobs, "locked", lambda *_: nullcontext(Lock()))
    monkeypatch.setattr(durable_checkpoint, "newest_valid", lambda *_: tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt").write_bytes(b"weights")
    for name in ("vae", "ldm/generator-id"):
        (tmp_path / "sources" / name).mkdir(parents=True)
    (tmp_path / "sources/vae/generator.json").write_text(json.dumps({"checkpoint": "sources/vae/generator-7/checkpoints/best.ckpt"}))
    jobs.generator(tmp_path, "ldm")
    assert f"--model.autoencoder={tmp_path}/sources/vae/generator-7/checkpoints/best.ckpt" in called[called.index("--model.lr=1"):]


def test_two_sources_of_one_training_share_its_generator(tmp_path, monkeypatch):
    """The second one fits nothing; where it names the best checkpoint, it gets that one."""
    study = SimpleNamespace(sources={"gan": Source(generator="gan.yaml"), "best": Source(generator="gan.yaml", checkpoint="best")})
    graph = {"sources": {"gan": {"generator": "id"}, "best": {"generator": "id", "owner": "gan"}}}
    monkeypatch.setattr(jobs, "open_run", lambda folder: (study, None, None, graph))
    monkeypatch.setattr(jobs, "locked", lambda *_: pytest.fail("a fit was begun"))
    home = tmp_path / "sources" / "gan" / "generator-id"
    home.mkdir(parents=True)
    (home / "best.ckpt").write_bytes(b"weights")
    (home.parent / "generator.json").write_text(json.dumps({"command": "synthrad fit", "checkpoint": "sources/gan/generator-id/checkpoints/last.ckpt", "seconds": 100}))
    monkeypatch.setattr(durable_checkpoint, "newest_valid", lambda folder, which="last": folder / f"{which}.ckpt")
    (tmp_path / "sources" / "best").mkdir()
    assert jobs.generator(tmp_path, "best") == home / "best.ckpt"
    found = json.loads((tmp_path / "sources/best/generator.json").read_text())
    assert found["checkpoint"] == "sources/gan/generator-id/best.ckpt" and found["owner"] == "gan" and found["seconds"] == 0
