import math

import pandas as pd
import pytest
import torch
from tiny_set import make
from torch import nn

from synthrad.cases import CASE_COLUMNS, read_cases
from synthrad.datamodules.fusion import FusionDataModule
from synthrad.errors import InputError
from synthrad.fusion import Cells
from synthrad.metrics.classification import summarise
from synthrad.records import Manifest
from synthrad.study.fitting import fit_and_test
from synthrad.tasks import ClassificationTask, SegmentationTask
from synthrad.tasks.classification import best_threshold
from synthrad.tasks.segmentation import resampled

LAYERS = {"tooth": ("crown", "root"), "other": ("x",)}


def test_unknown_layers_have_no_part_in_the_loss():
    task = SegmentationTask(nn.Conv2d(1, 5, 1), LAYERS)
    image, masks = torch.randn(2, 1, 8, 8), torch.randint(0, 2, (2, 2, 8, 8))
    masks[1, 1] = -1
    both = task.loss(task(image), masks)
    image[1], masks[1, 0] = image[0], masks[0, 0]
    changed = masks.clone()
    changed[:, 1] = -1
    assert torch.isfinite(both) and torch.isfinite(task.loss(task(image), changed))
    assert float(task.loss(task(image), torch.full_like(masks, -1))) == 0
    with pytest.raises(InputError, match="5 for the layers"):
        SegmentationTask(nn.Conv2d(1, 4, 1), LAYERS)(image)


def test_unknown_labels_have_no_part_in_the_loss():
    task = ClassificationTask(nn.Flatten(), ["a", "b"])
    logits, nan = torch.tensor([[1.0, 50.0]]), float("nan")
    one = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], torch.ones(1))
    assert torch.allclose(task.loss(logits, torch.tensor([[1.0, nan]])), one)


def test_threshold_of_the_highest_f1():
    assert best_threshold(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])) == pytest.approx(0.35)
    assert math.isnan(best_threshold(torch.tensor([0.1, 0.4]), torch.tensor([0, 0])))


def test_no_threshold_without_validation_positives_and_then_no_f1(tmp_path):
    real = make(tmp_path / "real")
    column = f"label:{real.info.classes[0]}"
    table = real.table
    table.loc[table["split"] == "val", column] = 0.0
    Manifest(table, real.info).write(tmp_path / "real")
    data = FusionDataModule(str(tmp_path / "real"), size=(32, 32), batch_size=4, steps=2)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 2))
    task = ClassificationTask(net, list(data.classes))
    fit_and_test(task, data, tmp_path / "run", 2, 2, 0, {"task": "t", "net": "n", "arm": "a"}, "one")
    cases = read_cases([tmp_path / "run" / "cases.parquet"])
    chosen = cases.groupby("class_name")["threshold"].count()
    assert chosen[real.info.classes[0]] == 0 and chosen[real.info.classes[1]] > 0
    found = {(m.metric, m.class_name): m for m in summarise(cases, fewest={"t": 1})}
    assert found["f1", real.info.classes[0]].value is None and found["auroc", real.info.classes[0]].value is not None
    assert found["f1", real.info.classes[0]].note == "undefined: no threshold was chosen on validation"


def test_synthetic_rows_that_know_no_class_are_refused(tmp_path):
    """They would make up a share of every batch and teach nothing, and the arm would be called useless."""
    from synthrad.fusion import Matched

    make(tmp_path / "real")
    made = make(tmp_path / "made", source="synthetic", seed=1, name="tiny")
    unknown = {f"label:{c}": float("nan") for c in made.info.classes}
    Manifest(made.table.assign(**unknown), made.info).write(tmp_path / "made")
    data = FusionDataModule(str(tmp_path / "real"), str(tmp_path / "made"), Matched(cells=Cells(classes=())), (32, 32), 4, steps=2)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 2))
    with pytest.warns(UserWarning, match="lineage unknown"), pytest.raises(InputError, match="without a known label of caries, implant"):
        fit_and_test(ClassificationTask(net, list(data.classes)), data, tmp_path / "run", 2, 2, 0, {}, "one")
    segments = SegmentationTask(nn.Conv2d(1, 3, 3, padding=1), data.layers)
    data = FusionDataModule(str(tmp_path / "real"), str(tmp_path / "made"), Matched(cells=Cells(classes=())), (32, 32), 4, steps=2)
    with pytest.warns(UserWarning, match="lineage unknown"):
        fit_and_test(segments, data, tmp_path / "masks", 2, 2, 0, {}, "one")  # their masks teach


def test_masks_are_judged_on_their_own_grid(tmp_path):
    """A net that sees half of the pixels is held against all of them, and a perfect answer stays a perfect one."""
    real = make(tmp_path / "real")
    data = FusionDataModule(str(tmp_path / "real"), size=(16, 16), batch_size=4, steps=2, judged_size=(32, 32))
    task = SegmentationTask(nn.Conv2d(1, 3, 3, padding=1), data.layers)
    fit_and_test(task, data, tmp_path / "run", 2, 2, 0, {"task": "t", "net": "n", "arm": "a"}, "one")
    cases = read_cases([tmp_path / "run" / "cases.parquet"])
    assert (cases[["tp", "fp", "fn", "tn"]].sum(axis=1) == 32 * 32).all()
    crown = cases[cases["class_name"] == "crown"].set_index("image")
    test = real.where(split="test")
    areas = dict(zip(test.column("digest"), test.column("area:tooth/crown"), strict=True))
    held = crown["tp"] + crown["fn"]  # the whole mask's pixels, not those of a mask at the net's size
    assert all(held[image] == round(areas[image] * 32 * 32) for image in crown.index) and len(crown)
    coarse = torch.randn(2, 3, 4, 4).argmax(1)
    scores = nn.functional.one_hot(coarse, 3).movedim(-1, 1).float()
    assert torch.equal(resampled(scores, (4, 4)), scores)
    assert torch.equal(resampled(scores, (12, 12))[:, :, 1::3, 1::3].argmax(1), coarse)  # centres of the pixels
    assert torch.equal(resampled(scores.repeat_interleave(2, 2).repeat_interleave(2, 3), (4, 4)).argmax(1), coarse)


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_fit_and_test_once(tmp_path, kind):
    make(tmp_path / "real")

    def parts():
        data = FusionDataModule(str(tmp_path / "real"), size=(32, 32), batch_size=4, steps=6)
        torch.manual_seed(0)
        if kind == "segmentation":
            return SegmentationTask(nn.Conv2d(1, 3, 3, padding=1), data.layers), data
        net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 2))
        return ClassificationTask(net, list(data.classes), pos_weight="balanced"), data

    names = {"task": "t", "net": "n", "arm": "a"}
    run = tmp_path / "run"
    facts = fit_and_test(*parts(), run, 6, 3, 0, names, "one")
    table = read_cases([run / "cases.parquet"])
    assert set(CASE_COLUMNS) <= set(table) and set(table["kind"]) == {kind} and set(table["arm"]) == {"a"}
    assert facts["steps"] == 6 and facts["best_step"] in (3, 6)
    if kind == "segmentation":
        assert (table[["tp", "fp", "fn", "tn"]].sum(axis=1) == 32 * 32).all()
    before = (run / "cases.parquet").stat().st_mtime_ns
    assert fit_and_test(*parts(), run, 6, 3, 0, names, "one") == facts  # found done
    assert (run / "cases.parquet").stat().st_mtime_ns == before
    bytes_before = (run / "cases.parquet").read_bytes()
    fit_and_test(*parts(), run, 6, 3, 0, names, "two")  # another identity: done again, with the same result
    assert (run / "cases.parquet").read_bytes() == bytes_before


def test_a_soft_label_is_what_the_loss_aims_at():
    task = ClassificationTask(nn.Flatten(), ["a"])
    logits = torch.tensor([[0.0]], requires_grad=True)
    task.loss(logits, torch.tensor([[0.7]])).backward()
    assert logits.grad.item() == pytest.approx(0.5 - 0.7)


def test_a_classifier_trained_on_soft_labels_tells_that_share(tmp_path):
    real = make(tmp_path / "real")
    train = (real.column("split") == "train").nonzero()[0]
    soft = torch.full((len(real),), float("nan")).numpy()
    soft[train] = 0.7
    real.with_columns({"label:caries": [1.0 if i in train else v for i, v in enumerate(real.labels[:, 0])], "soft:caries": soft}).write(
        tmp_path / "real")
    data = FusionDataModule(str(tmp_path / "real"), size=(32, 32), batch_size=4, steps=150)
    task = ClassificationTask(OnlyBias(), list(data.classes), lr=0.05)
    fit_and_test(task, data, tmp_path / "run", 150, 150, 0, {"task": "t", "net": "n", "arm": "a"}, "one")
    cases = read_cases([tmp_path / "run" / "cases.parquet"])
    told = cases[cases["class_name"] == "caries"]
    assert abs(told["probability"].mean() - 0.7) < 0.03 and set(told["target"]) == {0.0, 1.0}


class OnlyBias(nn.Module):
    """The same logits for every image."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, image):
        return self.bias.expand(len(image), 2)


def test_losses_for_rare_findings_count_the_training_rows_and_are_refused_by_name(tmp_path):
    make(tmp_path / "real")
    found = {}
    for loss in ("cross_entropy", "focal", "asymmetric", "class_balanced", "logit_adjusted"):
        data = FusionDataModule(str(tmp_path / "real"), size=(32, 32), batch_size=4, steps=4)
        task = ClassificationTask(OnlyBias(), list(data.classes), lr=0.1, loss=loss)
        fit_and_test(task, data, tmp_path / loss, 4, 4, 0, {"task": "t", "net": "n", "arm": "a"}, "one")
        found[loss] = task.net.bias.detach().clone()
        labels = data.train.training_labels
        assert task.counts[0].tolist() == [float((labels[:, k] == 1).sum()) for k in range(2)] and "counts" not in task.state_dict()
        assert task.counts.sum(0)[1] == float((labels[:, 1] == labels[:, 1]).sum()) < len(labels)  # unknown ones count on neither side
    assert len({tuple(b.tolist()) for b in found.values()}) == 5  # each teaches something else
    with pytest.raises(InputError, match="did you mean focal"):
        ClassificationTask(OnlyBias(), ["a", "b"], loss="focl")
    with pytest.raises(InputError, match="did you mean gamma"):
        ClassificationTask(OnlyBias(), ["a", "b"], loss="focal", loss_options={"gama": 1.0})
    with pytest.raises(InputError, match="model.loss_options.beta"):
        ClassificationTask(OnlyBias(), ["a", "b"], loss="class_balanced", loss_options={"beta": 1.0})
    with pytest.raises(InputError, match="model.pos_weight"):
        ClassificationTask(OnlyBias(), ["a", "b"], loss="focal", pos_weight="balanced")


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true", "bf16-true", "16-true"])
def test_every_precision_is_fitted_and_tested_or_refused(tmp_path, kind, precision):
    make(tmp_path / "real")
    data = FusionDataModule(str(tmp_path / "real"), size=(32, 32), batch_size=4, steps=2)
    task = SegmentationTask(nn.Conv2d(1, 3, 1), {"tooth": ["crown", "root"]}) if kind == "segmentation" else ClassificationTask(
        nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 2)), list(data.classes))
    fit = lambda: fit_and_test(task, data, tmp_path / "run", 2, 2, 0, {}, "one", precision=precision, accelerator="cpu")  # noqa: E731
    if precision in ("bf16-true", "16-true"):
        with pytest.raises(InputError, match=f"(?s)trainer.precision: found {precision}; expected .*Repair: use bf16-mixed"):
            fit()
        return
    facts = fit()
    assert facts["precision"] == precision and facts["score_val"] is not None
    cases = read_cases([tmp_path / "run" / "cases.parquet"])
    assert len(cases) and cases["probability" if kind == "classification" else "tp"].notna().all()
    assert {p.dtype for p in task.parameters()} == {torch.float64 if precision == "64-true" else torch.float32}


def test_the_loss_is_logged_at_the_steps_that_are_written_and_at_no_other(tmp_path, monkeypatch):
    make(tmp_path / "real")
    data = FusionDataModule(str(tmp_path / "real"), size=(32, 32), batch_size=4, steps=100)
    task = SegmentationTask(nn.Conv2d(1, 3, 1), {"tooth": ["crown", "root"]})
    said, plain = [], task.log
    monkeypatch.setattr(task, "log", lambda name, *a, **k: (said.append((name, task.global_step)), plain(name, *a, **k)))
    fit_and_test(task, data, tmp_path / "run", 100, 100, 0, {}, "one")
    assert [step for name, step in said if name == "train/loss"] == list(range(4, 100, 5))
    lines = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert list(lines["step"][lines["train/loss"].notna()]) == list(range(4, 100, 5))
