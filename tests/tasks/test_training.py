"""What both tasks do alike: schedule, checks, rows of the cases table, what TensorBoard gets of a fit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tiny_set import make
from torch import nn

from synthrad.datamodules.fusion import FusionDataModule
from synthrad.errors import RunError
from synthrad.study.fitting import fit_and_test
from synthrad.tasks import SegmentationTask
from synthrad.tasks.training import CaseRows, adamw_with_cosine, check_finite, log_loss, logits


class Trainer:
    max_steps = 100


def test_the_rate_rises_then_falls_to_nothing():
    task = nn.Linear(1, 1)
    task.trainer = Trainer()
    made = adamw_with_cosine(task, lr=1.0, weight_decay=0.0, warmup=0.1)
    optimizer, schedule, rates = made["optimizer"], made["lr_scheduler"]["scheduler"], []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1) and max(rates) == rates[9] == pytest.approx(1.0)
    assert np.all(np.diff(rates[10:]) <= 0) and rates[100] == pytest.approx(0.0, abs=1e-9)
    assert rates[55] == pytest.approx(0.5)


def test_channels_last_and_mixed_precision_give_float32_logits_of_the_same_net():
    torch.manual_seed(0)
    net, image = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)), torch.randn(2, 2, 12, 12)
    plain = net(image)
    net = net.to(memory_format=torch.channels_last)
    assert torch.allclose(logits(net, image), plain, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = logits(net, image)
    assert mixed.dtype == torch.float32 and torch.allclose(mixed, plain, atol=0.05) and not torch.equal(mixed, plain)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_fit(value):
    assert check_finite(torch.tensor(1.0), 3) == 1
    with pytest.raises(RunError, match="at step 3: lower the learning rate"):
        check_finite(torch.tensor(value), 3)


@pytest.mark.parametrize(("every", "monitors", "logged"), [(4, [], [3, 7]), (0, [], []), (0, ["train/loss"], list(range(8))), (4, ["val/dice"], [3, 7]), (50, ["val/dice", "train/loss"], list(range(8)))])
def test_the_loss_is_logged_where_somebody_reads_it(every, monitors, logged):
    found = []
    task = SimpleNamespace(trainer=SimpleNamespace(log_every_n_steps=every, callbacks=[SimpleNamespace(monitor=m) for m in monitors] + [object()]), log=lambda *_, **__: found.append(task.global_step))
    for task.global_step in range(8):
        log_loss(task, torch.tensor(1.0), 2)
    assert found == logged


def test_case_rows_exist_after_they_are_settled():
    rows = CaseRows()
    with pytest.raises(RuntimeError, match="after a test"):
        _ = rows.table
    rows.add("segmentation", {"image": "a", "subject": "s"}, "tooth", "crown", tp=3, fn=1)
    rows.add("classification", {"image": "a", "subject": "s"}, "", "caries", probability=0.3, target=1.0, threshold=0.5)
    table = rows.settle()
    assert rows.table is table and list(table["tp"]) == [3, 0] and list(table["class_name"]) == ["crown", "caries"]
    assert np.isnan(table["probability"][0]) and table["target"][1] == 1.0


def test_a_fit_leaves_images_and_hparams_with_its_final_test_metrics(tmp_path):
    make(tmp_path / "real")
    data = FusionDataModule(str(tmp_path / "real"), size=(32, 32), batch_size=4, steps=4)
    task = SegmentationTask(nn.Conv2d(1, 3, 3, padding=1), data.layers, lr=0.01)
    fit_and_test(task, data, tmp_path / "run", 4, 2, 7, {"task": "t", "arm": "matched"}, "one")
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    (tag,) = events.Tags()["images"]
    assert tag.startswith("val/image, target, prediction") and [e.step for e in events.Images(tag)] == [2, 4]
    told = plugin_data_pb2.HParamsPluginData()
    told.ParseFromString(events.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    settings = told.session_start_info.hparams
    assert settings["lr"].number_value == 0.01 and settings["seed"].number_value == 7
    assert settings["arm"].string_value == "matched" and settings["strategy"].string_value == "RealOnly"
    assert settings["rows_real"].number_value == len(data.train) > 0 == settings["rows_synthetic"].number_value
    told.ParseFromString(events.summary_metadata["_hparams_/experiment"].plugin_data.content)
    named = {m.name.tag for m in told.experiment.metric_infos}
    assert "test/dice" in named and named <= set(events.Tags()["scalars"])
