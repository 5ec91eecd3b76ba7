"""TensorBoard, one file beside those of each fit: a row of the hparams table with its final test metrics, and its precision-recall curves.

It lies in the fit's own folder, so that the run's name in TensorBoard, study/task/net/arm/seed, is that of its training curves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from synthrad.cases import read_cases
from synthrad.measurements import Measurement
from synthrad.study.board_events import remove_events, scalar, write_events
from synthrad.study.verdicts import Endpoint

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

FIT = "*/*/*/seed*"  # <task>/<net>/<arm>/seed<k> inside a run folder
FINAL = "report/"  # tags of the final test metrics, as the report computes them
CURVE = "precision and recall/"
TEXT, NUMBER = ("task", "net", "arm", "role", "strategy", "source"), ("rows_real", "rows_added", "steps", "best_step", "seed")


def write_fits(
    run: Path, fits: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]], measurements: Sequence[Measurement],
    endpoint: Endpoint, fewest: Mapping[str, int],
) -> list[str]:  # fmt: skip
    """Write the file of each fit, in place of those of an earlier report.

    Args:
        run: folder of the study. fits, arms, measurements, endpoint: see ReportFacts.
        fewest: task -> test subjects with and without a class that its curve needs: one of fewer is a few steps.

    Returns:
        The classes without a curve, and why.
    """
    remove_events(run, FIT)
    known = {a["name"]: a for a in arms}
    shown = _final(measurements)
    tags = dict.fromkeys(tag for values in shown.values() for tag in values)
    columns = _experiment(sorted(tags, key=lambda t: t.split()[0] != endpoint.metric))
    untold: dict[str, None] = {}
    for fit in fits:
        key = (fit["task"], fit["net"], fit["arm"], fit["seed"])
        home = run / "/".join(key[:3]) / f"seed{fit['seed']}"
        rows = [(0, columns), *((0, s) for s in _session(_hparams(fit, known.get(fit["arm"], {}))))]
        rows += [(int(fit["steps"]), scalar(FINAL + tag, value)) for tag, value in shown.get(key, {}).items()]
        for name, curve in _curves(read_cases([home / "cases.parquet"]), fewest[fit["task"]]):
            if isinstance(curve, str):
                untold[f"{fit['task']}, {name}: {curve}"] = None
            else:
                rows.append((int(fit["steps"]), curve))
        write_events(home, rows, (home / "fit.json").stat().st_mtime)
    return list(untold)


def _final(measurements: Sequence[Measurement]) -> dict[tuple[str, str, str, int], dict[str, float]]:
    """(task, net, arm, seed) -> `metric class` -> value, the mean over classes first; a class that is the only one is that mean."""
    rows = [m for m in measurements if m.seed is not None and m.value is not None and not m.subject and not m.subgroup]
    classes: dict[tuple[str, str], set[str]] = {}
    for m in rows:
        classes.setdefault((m.task, m.metric), set()).add(m.class_name)
    found: dict[tuple[str, str, str, int], dict[str, float]] = {}
    for m in sorted(rows, key=lambda m: m.class_name not in ("", "macro")):
        whole = m.class_name in ("", "macro")
        if whole or len(classes[m.task, m.metric] - {"", "macro"}) > 1 or not classes[m.task, m.metric] & {"", "macro"}:
            found.setdefault((m.task, m.net, m.arm, m.seed), {})[m.metric if whole else f"{m.metric} {m.class_name}"] = float(m.value)
    return found


def _hparams(fit: Mapping[str, Any], arm: Mapping[str, Any]) -> dict[str, str | float]:
    row = {**arm, **fit}
    return {k: str(row.get(k) or "none") for k in TEXT} | {k: float(row[k]) for k in NUMBER if row.get(k) is not None}


def _session(hparams: Mapping[str, str | float]) -> list[Summary]:
    """One row of the table: begun with what was chosen, and ended well."""
    from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
    from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG, SESSION_START_INFO_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import (
        HParamsPluginData,
        SessionEndInfo,
        SessionStartInfo,
    )

    start = SessionStartInfo()
    for name, value in hparams.items():
        if isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    end = SessionEndInfo(status=STATUS_SUCCESS)
    return [_hparams_summary(SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
            _hparams_summary(SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))]


def _experiment(tags: Sequence[str]) -> Summary:
    """The columns of the table: what was chosen, and the final metrics."""
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    kinds = {**dict.fromkeys(TEXT, api_pb2.DATA_TYPE_STRING), **dict.fromkeys(NUMBER, api_pb2.DATA_TYPE_FLOAT64)}
    chosen = [api_pb2.HParamInfo(name=k, display_name=k.replace("_", " "), type=kind) for k, kind in kinds.items()]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=FINAL + t), display_name=t.replace("_", " ")) for t in tags]
    return _hparams_summary(EXPERIMENT_TAG, HParamsPluginData(experiment=api_pb2.Experiment(hparam_infos=chosen, metric_infos=metrics)))


def _hparams_summary(tag: str, content: HParamsPluginData) -> Summary:
    """As torch.utils.tensorboard.summary.hparams makes it, which knows one fit and not the table."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.metadata import NULL_TENSOR, PLUGIN_DATA_VERSION, PLUGIN_NAME

    content.version = PLUGIN_DATA_VERSION
    plugin = SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=content.SerializeToString(deterministic=True))
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=NULL_TENSOR)])


def _curves(cases: pd.DataFrame, fewest: int) -> Iterator[tuple[str, Summary | str]]:
    """Class, and its curve on the test images of one fit, or why there is none."""
    from torch.utils.tensorboard.summary import pr_curve

    rows = cases[(cases["kind"] == "classification") & cases["target"].notna()]
    for (external, name), mine in rows.groupby(["external", "class_name"]):
        told = f"{name} on {external}" if external else str(name)
        has = Counter(bool(target) for target in mine.groupby(["subject", "target"]).size().reset_index()["target"])
        if min(has[True], has[False]) < fewest:
            yield told, f"needs {fewest} test subjects with and without it, has {has[True]} and {has[False]}"
            continue
        yield told, pr_curve(f"{CURVE}{told}", mine["target"].to_numpy(bool), mine["probability"].to_numpy(float))
