"""Study-level TensorBoard scalars: TensorBoard cannot average seeds, so the averages are written here.

One run, `tensorboard/`, with custom-scalars Margin charts in which every arm is one line with its band:
`difference/...` (arm minus reference; x: class index, macro or unnamed class first), `test/...` (the same x) and `curves/...`
(x: step, from the event files of the fits).
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthrad.measurements import Measurement
from synthrad.study.board_fits import FINAL, FIT
from synthrad.study.verdicts import Comparison

if TYPE_CHECKING:
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

Points = dict[int, list[float]]  # x -> values of the seeds
Chart = dict[str, Points]  # arm -> points
Bands = dict[str, dict[int, dict[str, float]]]  # arm -> x -> mean, low, high
TITLES = {
    "difference": "differences to the reference (x: class index)",
    "test": "test metrics (x: class index)",
    "curves": "training curves (x: step)",
}


def write_study_scalars(
    run: Path, measurements: Sequence[Measurement], differences: Sequence[Comparison] = ()
) -> Path:
    """Write `run/tensorboard/`, in place of what an earlier call wrote there.

    The band of an arm is its mean over downstream seeds ± one standard deviation (n - 1); with one seed it has no width.
    Undefined values are left out.

    Args:
        run: folder of the study.
        measurements: test metrics; one without a seed counts as one value.
        differences: of every arm to the reference; the band is the interval, one without an interval is left out.

    Returns:
        The folder to point TensorBoard at.
    """
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = run / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    groups = {
        "difference": _difference_charts(differences),
        "test": _bands(_test_charts(measurements)),
        "curves": _bands(_curve_charts(run)),
    }
    writer = EventFileWriter(str(folder))
    try:
        _write(writer, "custom_scalars__config__", 0, layout=_layout(groups))
        for group, charts in groups.items():
            for chart, arms in charts.items():
                for arm, points in arms.items():
                    for x, band in sorted(points.items()):
                        for name, value in band.items():
                            _write(writer, f"{group}/{chart}/{arm}/{name}", x, value)
    finally:
        writer.close()
    return folder


def _band(values: Sequence[float]) -> dict[str, float]:
    mean = float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": mean, "low": mean - sd, "high": mean + sd}


def _bands(charts: dict[str, Chart]) -> dict[str, Bands]:
    return {
        chart: {arm: {x: _band(values) for x, values in points.items()} for arm, points in arms.items()}
        for chart, arms in charts.items()
    }


def _difference_charts(differences: Sequence[Comparison]) -> dict[str, Bands]:
    """task/net/metric, with the test set where it is not the study's own -> arm -> class index -> band."""
    classes: dict[str, list[str]] = defaultdict(list)
    charts: dict[str, Bands] = {}
    for c in sorted(differences, key=lambda c: c.class_name not in ("", "macro")):
        name = f"{c.task}/{c.net}/{c.metric}" + (f" on {c.external}" if c.external else "")
        if c.class_name not in classes[name]:
            classes[name].append(c.class_name)
        if c.low is not None and c.high is not None:
            band = {"mean": c.difference, "low": c.low, "high": c.high}
            charts.setdefault(name, {}).setdefault(c.arm, {})[classes[name].index(c.class_name)] = band
    return charts


def _test_charts(measurements: Sequence[Measurement]) -> dict[str, Chart]:
    """task/net/metric -> arm -> class index -> values of the seeds."""
    classes: dict[str, list[str]] = defaultdict(list)
    charts: dict[str, Chart] = {}
    rows = [m for m in measurements if m.value is not None and not m.subject and not m.subgroup]
    rows = [m for m in rows if not m.metric.endswith("_difference")]  # of two arms: no value of one
    for m in rows:
        name = f"{m.task}/{m.net}/{m.metric}"
        if m.class_name not in classes[name]:
            classes[name].append(m.class_name)
    for m in rows:
        name = f"{m.task}/{m.net}/{m.metric}"
        order = sorted(classes[name], key=lambda c: c not in ("", "macro"))
        points = charts.setdefault(name, {}).setdefault(m.arm, {})
        points.setdefault(order.index(m.class_name), []).append(float(m.value))
    return charts


def _curve_charts(run: Path) -> dict[str, Chart]:
    """task/net/tag -> arm -> step -> values of the seeds, from the event files that the fits wrote."""
    charts: dict[str, Chart] = {}
    for fit in sorted(run.glob(FIT)):
        if not fit.is_dir():
            continue
        task, net, arm = fit.parts[-4:-1]
        for tag, step, value in _scalars(fit):
            points = charts.setdefault(f"{task}/{net}/{tag}", {}).setdefault(arm, {})
            points.setdefault(step, []).append(value)
    return charts


def _scalars(fit: Path) -> Iterator[tuple[str, int, float]]:
    """Scalars of one fit; where a resumed fit wrote a step twice the last writing counts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for folder in sorted({p.parent for p in fit.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            if tag in ("epoch", "hp_metric") or tag.startswith(FINAL):
                continue
            last = {e.step: float(e.value) for e in events.Scalars(tag)}
            yield from ((tag, step, value) for step, value in last.items() if np.isfinite(value))


def _layout(groups: dict[str, dict[str, Bands]]) -> Layout:
    """One category a group, one chart a metric, one band an arm."""
    from tensorboard.plugins.custom_scalar import layout_pb2 as pb

    categories = []
    for group, charts in groups.items():
        drawn = []
        for chart, arms in charts.items():
            tags = [f"{group}/{chart}/{arm}" for arm in arms]
            series = [
                pb.MarginChartContent.Series(value=f"{t}/mean", lower=f"{t}/low", upper=f"{t}/high")
                for t in tags
            ]
            drawn.append(pb.Chart(title=chart, margin=pb.MarginChartContent(series=series)))
        if drawn:
            categories.append(pb.Category(title=TITLES[group], chart=drawn))
    return pb.Layout(version=0, category=categories)


def _write(
    writer: EventFileWriter, tag: str, step: int, value: float | None = None, layout: Layout | None = None
) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    if layout is None:
        row = Summary.Value(tag=tag, simple_value=value)
    else:  # as torch.utils.tensorboard.summary.custom_scalars does, which takes one series a chart
        plugin = SummaryMetadata.PluginData(plugin_name="custom_scalars")
        text = TensorProto(
            dtype="DT_STRING", string_val=[layout.SerializeToString()], tensor_shape=TensorShapeProto()
        )
        row = Summary.Value(tag=tag, tensor=text, metadata=SummaryMetadata(plugin_data=plugin))
    writer.add_event(Event(step=step, summary=Summary(value=[row])))
