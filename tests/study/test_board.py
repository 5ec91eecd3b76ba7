"""What TensorBoard gets of a study, read back: a row a fit, curves, texts, points with thumbnails; the same bytes twice, nothing stale."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch.utils.tensorboard import SummaryWriter

from synthrad.study.audits import SetAudit
from synthrad.study.board import write_board
from synthrad.study.board_events import NAME
from synthrad.study.board_fits import FINAL
from synthrad.study.board_projector import CONFIG
from synthrad.study.comparisons import compare
from synthrad.study.report import ReportFacts
from synthrad.study.tensorboard import write_study_scalars
from synthrad.study.verdicts import Endpoint
from tests.study.fake_run import NET, SEEDS, TASK, read_fake_run, write_fake_run

END = Endpoint(TASK, NET, "dice", layer="abnormality")


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def content(events: EventAccumulator, tag: str) -> bytes:
    return events.SummaryMetadata(tag).plugin_data.content


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """A run folder with its board, and the facts behind it."""
    run = tmp_path_factory.mktemp("runs") / "fake"
    sets = write_fake_run(run)
    known = read_fake_run(run)
    arms = [{**a, "name": a["arm"]} for a in known["arms"]]
    (run / "sources" / "gan" / "pool.json").write_text(json.dumps({"manifests": ["sources/gan/synthetic"]}))
    comparisons = compare(known["cases"], END, {"matched": ["matched_duplicate", "matched_augmented"]})
    facts = ReportFacts("fake", END, comparisons, measurements=known["measurements"], fits=known["fits"], arms=arms,
                        audits=[SetAudit("gan", 0, "synthrad audit it_now")])  # fmt: skip
    study = SimpleNamespace(tasks={TASK: SimpleNamespace(fewest_positive=5)}, size=(32, 64))
    with SummaryWriter(str(run / TASK / NET / "matched" / "seed1")) as writer:  # as a fit leaves it
        writer.add_hparams({"arm": "other", "lr": 0.1}, {"test/dice": 0.1}, run_name=".")
    write_board(run, facts, study, sets["real"], ["gan"])
    return SimpleNamespace(run=run, facts=facts, study=study, real=sets["real"])


def test_a_row_of_hparams_for_each_fit(fake):
    events = read(fake.run / TASK / NET / "matched" / "seed1")
    start = hparams.parse_session_start_info_plugin_data(content(events, hparams.SESSION_START_INFO_TAG))
    row = {k: v.string_value or v.number_value for k, v in start.hparams.items()}
    assert row == {"task": TASK, "net": NET, "arm": "matched", "role": "adding", "strategy": "Matched", "source": "gan",
                   "rows_real": 80, "rows_added": 80, "steps": 400, "best_step": 220, "seed": 1}  # fmt: skip
    found = {m.class_name: m.value for m in fake.facts.measurements if (m.arm, m.seed, m.metric) == ("matched", 1, "dice")}
    final = {t: events.Scalars(t)[0].value for t in events.Tags()["scalars"] if t.startswith(FINAL)}
    assert final == {f"{FINAL}dice": pytest.approx(found["macro"]), **{f"{FINAL}dice {c}": pytest.approx(found[c]) for c in ("caries", "filling")}}
    experiment = hparams.parse_experiment_plugin_data(content(events, hparams.EXPERIMENT_TAG))
    assert {m.name.tag for m in experiment.metric_infos} == set(final) and experiment.metric_infos[0].name.tag == f"{FINAL}dice"
    assert {h.name for h in experiment.hparam_infos} == set(row)
    assert len(list(fake.run.glob(f"*/*/*/seed*/{NAME}"))) == len(fake.facts.fits) == 10 * SEEDS


def test_texts_hold_the_verdicts_and_the_audit(fake):
    events = read(fake.run / "tensorboard")
    texts = {tag.removesuffix("/text_summary"): events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]
             if tag.endswith("/text_summary")}
    assert set(texts) == {"1 answers", "2 verdicts", "audit/gan"}
    (verdict,) = fake.facts.comparisons.verdicts
    assert verdict.call == "gain" and f"| matched | {verdict.call} |" in texts["2 verdicts"]
    assert "Safe to share?** Unknown: the set gan was not audited." in texts["1 answers"]
    assert texts["audit/gan"].endswith("    synthrad audit it_now")


def test_points_have_a_thumbnail_and_labels(fake):
    folder = fake.run / "tensorboard"
    (shown,) = text_format.Parse((folder / CONFIG).read_text(), ProjectorConfig()).embeddings
    points = np.loadtxt(folder / shown.tensor_path)
    head, *table = [line.split("\t") for line in (folder / shown.metadata_path).read_text().splitlines()]
    assert head == ["set", "arms", "labels", "caries", "implant"]
    assert [row[0] for row in table] == ["real, train"] * 12 + ["real, test"] * 6 + ["gan"] * 8
    assert points.shape == tuple(shown.tensor_shape) == (26, 140)
    assert np.allclose(points[:12].mean(0), 0, atol=1e-3)  # in standard deviations of the training images
    assert not any("matched_duplicate" in row[1] for row in table if row[0] == "gan")
    assert table[-1][1] == "matched, matched_half, balanced" and "real_only" in table[0][1]
    yes = fake.real.where(split="train").column("label:caries") == 1
    assert [row[3] for row in table[:12]] == ["yes" if y else "no" for y in yes] and {r[4] for r in table} == {"unknown"}
    wide, high = shown.sprite.single_image_dim
    sprite = np.asarray(Image.open(folder / shown.sprite.image_path)).astype(float)
    assert (wide, high) == (48, 24) and sprite.shape == (6 * high, 6 * wide)  # 6 x 6 holds 26
    tenth = np.asarray(Image.open(fake.real[10].channels[0]).resize((wide, high), Image.Resampling.BOX)).astype(float)
    drawn = [sprite[k // 6 * high :][:high, k % 6 * wide :][:, :wide] for k in range(26)]
    assert np.argmin([np.abs(d - tenth).mean() for d in drawn]) == 10
    assert points[18] == pytest.approx(points[0], abs=1e-3)  # the first synthetic image is a copy of the first real one


def test_twice_the_same_bytes_and_nothing_stale(fake):
    names = [f"*/*/*/seed*/{NAME}", f"tensorboard/{NAME}", f"tensorboard/{CONFIG}", "tensorboard/projector/*"]
    before = {p: p.read_bytes() for n in names for p in fake.run.glob(n)}
    assert len(before) == 10 * SEEDS + 5
    fewer = replace(fake.facts, fits=[f for f in fake.facts.fits if f["arm"] != "balanced"], audits=())
    write_board(fake.run, fewer, fake.study, fake.real, ["gan"])
    assert not list(fake.run.glob(f"{TASK}/{NET}/balanced/seed*/{NAME}"))
    assert "audit/gan/text_summary" not in read(fake.run / "tensorboard").Tags()["tensors"]
    write_board(fake.run, fake.facts, fake.study, fake.real, ["gan"])
    assert before == {p: p.read_bytes() for n in names for p in fake.run.glob(n)}


def test_final_metrics_are_no_training_curve(fake):
    folder = write_study_scalars(fake.run, [])
    assert not [t for t in read(folder).Tags()["scalars"] if FINAL in t]
    write_board(fake.run, fake.facts, fake.study, fake.real, ["gan"])
