"""Study-level scalars: means over seeds are right, bands too, all arms in one chart, a second call replaces the first."""

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from synthrad.measurements import Measurement
from synthrad.study.tensorboard import write_study_scalars
from synthrad.study.verdicts import Comparison


def rows() -> list[Measurement]:
    base = {"metric": "dice", "task": "seg", "net": "unet"}
    out = [Measurement(value=v, arm=arm, seed=s, class_name=c, **base)
           for arm, shift in (("real_only", 0.0), ("matched", 0.1))
           for s, seed_value in enumerate((0.5, 0.6, 0.7))
           for c, v in (("caries", seed_value + shift), ("macro", seed_value + shift + 0.05))]  # fmt: skip
    return [
        *out,
        Measurement(value=None, arm="matched", seed=0, class_name="implant", note="0 positive", **base),
    ]


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def test_mean_and_band_over_seeds(tmp_path):
    events = read(write_study_scalars(tmp_path, rows()))
    found = {name: [(e.step, round(e.value, 5)) for e in events.Scalars(f"test/seg/unet/dice/matched/{name}")]
             for name in ("mean", "low", "high")}  # fmt: skip
    assert found["mean"] == [(0, 0.75), (1, 0.7)]  # macro comes first; the undefined class is left out
    assert found["low"] == [(0, 0.65), (1, 0.6)]
    assert found["high"] == [(0, 0.85), (1, 0.8)]


def test_one_chart_holds_every_arm(tmp_path):
    events = read(write_study_scalars(tmp_path, rows()))
    layout = layout_pb2.Layout()
    layout.ParseFromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert events.SummaryMetadata("custom_scalars__config__").plugin_data.plugin_name == "custom_scalars"
    (chart,) = layout.category[0].chart
    assert [s.value for s in chart.margin.series] == [
        f"test/seg/unet/dice/{a}/mean" for a in ("real_only", "matched")
    ]
    written = set(events.Tags()["scalars"])
    assert {t for s in chart.margin.series for t in (s.value, s.lower, s.upper)} <= written


def difference(arm: str, value: float, class_name: str, half: float | None = 0.02, external: str = "") -> Comparison:
    low, high = (None, None) if half is None else (value - half, value + half)
    return Comparison(arm, "real_only", "dice", value, low, high, None, None, 5, 40, "downstream seeds", "seg", "unet",
                      class_name, external)  # fmt: skip


def test_differences_to_the_reference_with_their_interval(tmp_path):
    given = [difference("matched", 0.03, "caries"), difference("matched", 0.05, "macro"), difference("only", -0.1, "macro", 0.05),
             difference("only", 0.2, "caries", None), difference("only", 0.3, "macro", external="clinic")]  # fmt: skip
    events = read(write_study_scalars(tmp_path, rows(), given))
    chart = "difference/seg/unet/dice"
    found = {f"{arm}/{name}": [(e.step, round(e.value, 5)) for e in events.Scalars(f"{chart}/{arm}/{name}")]
             for arm in ("matched", "only") for name in ("mean", "low", "high")}  # fmt: skip
    assert found["matched/mean"] == [(0, 0.05), (1, 0.03)] and found["matched/low"] == [(0, 0.03), (1, 0.01)]
    assert found["only/high"] == [(0, -0.05)]  # no interval for caries: left out
    assert events.Scalars(f"{chart} on clinic/only/mean")[0].value == pytest.approx(0.3)
    layout = layout_pb2.Layout()
    layout.ParseFromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    own, clinic = layout.category[0].chart
    assert [s.value for s in own.margin.series] == [f"{chart}/{a}/mean" for a in ("matched", "only")]
    assert own.margin.series[0].lower == f"{chart}/matched/low" and clinic.title == "seg/unet/dice on clinic"


def test_curves_are_averaged_over_the_fits(tmp_path):
    torch_writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    for seed, shift in enumerate((0.0, 0.2)):
        with torch_writer(str(tmp_path / "seg" / "unet" / "matched" / f"seed{seed}")) as writer:
            for step in (10, 20):
                writer.add_scalar("val/score", step / 100 + shift, step)
    events = read(write_study_scalars(tmp_path, []))
    found = [(e.step, e.value) for e in events.Scalars("curves/seg/unet/val/score/matched/mean")]
    assert [s for s, _ in found] == [10, 20]
    assert np.allclose([v for _, v in found], [0.2, 0.3], atol=1e-6)


def test_a_second_call_replaces_the_first(tmp_path):
    write_study_scalars(tmp_path, rows())
    folder = write_study_scalars(tmp_path, rows()[:2])
    assert len(list(folder.iterdir())) == 1
    assert "test/seg/unet/dice/matched/mean" not in read(folder).Tags()["scalars"]
