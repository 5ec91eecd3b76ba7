"""A fit in TensorBoard: its row of the hparams table, its final metrics and the curves that its test subjects bear."""

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams

from synthrad.cases import CASE_COLUMNS, read_cases, write_cases
from synthrad.measurements import Measurement
from synthrad.study.board_events import NAME
from synthrad.study.board_fits import FINAL, write_fits
from synthrad.study.verdicts import Endpoint

CURVE = "precision and recall/"
BASE = dict(kind="classification", task="labels", net="n", arm="real_only", seed=0, external="", layer="", class_name="caries", tp=-1, fp=-1, fn=-1, tn=-1,
            threshold=0.5, image="i", subject="s", probability=0.5, target=0.0)  # fmt: skip
FIT = {"task": "labels", "net": "n", "arm": "real_only", "seed": 0, "steps": 7, "best_step": 0}
END = Endpoint("labels", "n", "auroc")


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def content(events, tag):
    return events.SummaryMetadata(tag).plugin_data.content


def home_of(run, fit):
    home = run / fit["task"] / fit["net"] / fit["arm"] / f"seed{fit['seed']}"
    home.mkdir(parents=True)
    (home / "fit.json").write_text("{}")
    return home


def cased(run, rows, fit=FIT):
    """The folder of a fit with these cases."""
    home = home_of(run, fit)
    table = pd.DataFrame([BASE | {"image": f"i{k}", "subject": f"s{k}"} | row for k, row in enumerate(rows)], columns=list(CASE_COLUMNS))
    write_cases(home / "cases.parquet", table)
    return home


def written(run, fits, measurements=(), arms=(), fewest=1, end=END):
    return write_fits(run, fits, arms, measurements, end, dict.fromkeys({f["task"] for f in fits}, fewest))


def measured(metric, value, class_name="", **more):
    return Measurement(metric, value, **{"task": "labels", "net": "n", "arm": "real_only", "seed": 0, "class_name": class_name} | more)


def final(home):
    events = read(home)
    return {t.removeprefix(FINAL): [(e.step, round(e.value, 6)) for e in events.Scalars(t)] for t in events.Tags()["scalars"] if t.startswith(FINAL)}


def metrics_of(home):
    experiment = hparams.parse_experiment_plugin_data(content(read(home), hparams.EXPERIMENT_TAG))
    return [m.name.tag.removeprefix(FINAL) for m in experiment.metric_infos]


def session(home):
    start = hparams.parse_session_start_info_plugin_data(content(read(home), hparams.SESSION_START_INFO_TAG))
    return {k: v.string_value if v.HasField("string_value") else v.number_value for k, v in start.hparams.items()}


def curves(home):
    return {t.removeprefix(CURVE) for t in read(home).Tags()["tensors"] if t.startswith(CURVE)}


def classified(home, positive: int):
    """20 subjects, `positive` of them with the finding; scores that tell them apart, but for one."""
    target = np.arange(20) < positive
    probability = np.where(target, 0.9, 0.1)
    probability[19] = 0.95
    base = dict(kind="classification", task="labels", net="n", arm="real_only", seed=0, external="", layer="", class_name="caries",
                tp=-1, fp=-1, fn=-1, tn=-1, threshold=0.5)  # fmt: skip
    table = pd.DataFrame([{**base, "image": f"i{k}", "subject": f"s{k}", "probability": p, "target": float(t)}
                          for k, (p, t) in enumerate(zip(probability, target, strict=True))])[list(CASE_COLUMNS)]  # fmt: skip
    write_cases(home / "cases.parquet", table)
    (home / "fit.json").write_text("{}")
    assert len(read_cases([home / "cases.parquet"])) == 20


@pytest.mark.parametrize("positive", [8, 2])
def test_precision_and_recall_of_a_class(tmp_path, positive):
    home = tmp_path / "labels/n/real_only/seed0"
    home.mkdir(parents=True)
    classified(home, positive)
    fits = [{"task": "labels", "net": "n", "arm": "real_only", "seed": 0, "steps": 7, "best_step": 7}]
    rows = [Measurement("auroc", 0.8, task="labels", net="n", arm="real_only", seed=0, class_name=c) for c in ("caries", "macro")]
    notes = write_fits(tmp_path, fits, [], rows, Endpoint("labels", "n", "auroc"), {"labels": 5})
    events = read(home)
    assert [t for t in events.Tags()["scalars"]] == [f"{FINAL}auroc"]  # a class that is the only one is the mean
    if positive == 2:
        assert notes == ["labels, caries: needs 5 test subjects with and without it, has 2 and 18"]
        assert "precision and recall/caries" not in events.Tags()["tensors"]
        return
    (event,) = events.Tensors("precision and recall/caries")
    assert notes == [] and event.step == 7
    curve = np.array(event.tensor_proto.float_val).reshape(6, -1)  # tp, fp, tn, fn, precision, recall over thresholds
    at_half = curve[:, curve.shape[1] // 2]
    assert at_half == pytest.approx([8, 1, 11, 0, 8 / 9, 1])


def test_a_row_holds_what_was_chosen_and_says_none_and_zero(tmp_path):
    home = cased(tmp_path, [{}])
    arm = {"name": "real_only", "role": "reference", "strategy": "RealOnly", "source": None, "rows_real": 80, "rows_added": 0, "task": "of the arm"}
    written(tmp_path, [FIT], arms=[{"name": "other", "role": "adding"}, arm])
    assert session(home) == {"task": "labels", "net": "n", "arm": "real_only", "role": "reference", "strategy": "RealOnly", "source": "none",
                             "rows_real": 80.0, "rows_added": 0.0, "steps": 7.0, "best_step": 0.0, "seed": 0.0}
    events = read(home)
    end = hparams.parse_session_end_info_plugin_data(content(events, hparams.SESSION_END_INFO_TAG))
    assert end.status == api_pb2.STATUS_SUCCESS
    kinds = {h.name: h.type for h in hparams.parse_experiment_plugin_data(content(events, hparams.EXPERIMENT_TAG)).hparam_infos}
    assert {k: api_pb2.DATA_TYPE_STRING if isinstance(v, str) else api_pb2.DATA_TYPE_FLOAT64 for k, v in session(home).items()} == kinds


def test_a_fit_of_an_arm_that_nobody_described_has_a_row_too(tmp_path):
    home = cased(tmp_path, [{}])
    written(tmp_path, [{**FIT, "best_step": None}])
    assert session(home) == {"task": "labels", "net": "n", "arm": "real_only", "role": "none", "strategy": "none", "source": "none", "steps": 7.0, "seed": 0.0}


def test_final_metrics_are_those_of_the_whole_test_set_at_the_last_step(tmp_path):
    home = cased(tmp_path, [{}])
    rows = [measured("auroc", 0.5, "caries"), measured("auroc", 0.625, "implant"), measured("auroc", 0.75, "macro"), measured("auroc", None, "root"), measured("ece", 0.0),
            measured("auroc", 0.1, "macro", subgroup="sex=f"), measured("auroc", 0.2, "macro", subject="s1"), measured("auroc", 0.3, "macro", seed=None),
            measured("auroc", 0.4, "macro", seed=1), measured("auroc", 0.45, "macro", arm="matched")]
    written(tmp_path, [FIT], rows)
    assert final(home) == {"auroc": [(7, 0.75)], "ece": [(7, 0.0)], "auroc caries": [(7, 0.5)], "auroc implant": [(7, 0.625)]}


def test_columns_begin_with_the_metric_of_the_endpoint_and_its_mean(tmp_path):
    home = cased(tmp_path, [{}])
    rows = [measured(m, 0.5, c) for m in ("accuracy", "auroc") for c in ("caries", "implant", "macro")]
    written(tmp_path, [FIT], rows)
    assert metrics_of(home) == ["auroc", "auroc caries", "auroc implant", "accuracy", "accuracy caries", "accuracy implant"]


@pytest.mark.parametrize(("classes", "shown"), [(("caries", "macro"), {"auroc"}), (("caries",), {"auroc caries"}), (("caries", "implant"), {"auroc caries", "auroc implant"}),
                                                (("macro",), {"auroc"}), ((), set())])
def test_an_only_class_is_its_mean_where_there_is_one(tmp_path, classes, shown):
    home = cased(tmp_path, [{}])
    written(tmp_path, [FIT], [measured("auroc", 0.5, c) for c in classes])
    assert set(final(home)) == shown == set(metrics_of(home))


def test_a_curve_needs_subjects_and_not_images(tmp_path):
    many = [{"subject": f"s{k // 4}", "target": 1.0} for k in range(8)] + [{"subject": f"t{k}"} for k in range(3)]  # 8 images of 2 subjects
    home = cased(tmp_path, many)
    assert written(tmp_path, [FIT], fewest=2) == [] and curves(home) == {"caries"}
    assert written(tmp_path, [FIT], fewest=3) == ["labels, caries: needs 3 test subjects with and without it, has 2 and 3"] and curves(home) == set()
    both = [{"subject": "s", "target": t} for t in (0.0, 1.0, 1.0)]  # one subject on both sides
    cased(tmp_path / "both", both)
    assert written(tmp_path / "both", [FIT], fewest=1) == []
    assert written(tmp_path / "both", [FIT], fewest=2) == ["labels, caries: needs 2 test subjects with and without it, has 1 and 1"]


def test_unknown_answers_and_other_kinds_have_no_curve_and_test_sets_one_each(tmp_path):
    two = [{"target": 1.0, "probability": 0.9}, {"target": 0.0, "probability": 0.1}]
    unknown = [{"class_name": "implant", "target": np.nan}, {"class_name": "implant", "target": 1.0}]
    masks = [{"kind": "segmentation", "class_name": "tooth", **row} for row in two]
    home = cased(tmp_path, [*two, *({**row, "external": "clinic"} for row in two), *unknown, *masks])
    assert written(tmp_path, [FIT]) == ["labels, implant: needs 1 test subjects with and without it, has 1 and 0"]
    assert curves(home) == {"caries", "caries on clinic"}


def test_every_fit_has_its_own_file_in_place_of_older_ones_and_a_note_is_said_once(tmp_path):
    fits = [{**FIT, "seed": k} for k in range(2)]
    homes = [cased(tmp_path, [{}, {"class_name": "implant"}], fit) for fit in fits]
    gone = home_of(tmp_path, {**FIT, "arm": "gone"})
    (gone / NAME).write_text("of an earlier report")
    notes = written(tmp_path, fits, [measured("auroc", k / 4, "macro", seed=k) for k in range(2)])
    assert notes == [f"labels, {c}: needs 1 test subjects with and without it, has 0 and 1" for c in ("caries", "implant")]
    assert [final(h)["auroc"] for h in homes] == [[(7, 0.0)], [(7, 0.25)]] and not (gone / NAME).exists()
    before = [(h / NAME).read_bytes() for h in homes]
    written(tmp_path, fits, [measured("auroc", k / 4, "macro", seed=k) for k in range(2)])
    assert [(h / NAME).read_bytes() for h in homes] == before
    assert read(homes[0]).Scalars(f"{FINAL}auroc")[0].wall_time == pytest.approx((homes[0] / "fit.json").stat().st_mtime)
