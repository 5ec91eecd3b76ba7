"""Plain rows of the report: what is printed for a number, a stage, an arm and a missing value."""

from synthrad.audit.rungs import Rung
from synthrad.measurements import Measurement
from synthrad.study import views
from synthrad.study.audits import SetAudit
from synthrad.study.class_tables import explored
from synthrad.study.comparisons import Endpoint
from synthrad.study.verdicts import Comparison

END = Endpoint("seg", "unet", "dice")


def test_times_and_p_values_are_readable():
    assert [views.duration(s) for s in (59.6, 89, 90, 599, 700, 5399, 5400)] == [
        "60 s", "89 s", "1.5 min", "10.0 min", "12 min", "90 min", "1.5 h"]  # fmt: skip
    assert [views.short_p(p) for p in (None, float("nan"), 0.0, 0.0004, 0.0456)] == ["–", "–", "< 0.001", "< 0.001", "0.046"]
    assert views.cost_rows({}) == [] and views.cost_rows({"a": 10.0, "b": 40.0})[0]["share"] == 25


def test_roles_without_one_in_the_file():
    assert [views.role_of({"strategy": s}) for s in ("RealOnly", "DuplicateReal", "SyntheticOnly", "Matched")] == [
        "reference", "control", "replacing", "adding"]  # fmt: skip
    assert views.role_of({"strategy": "Matched", "role": "control"}) == "control"


def test_doses_need_two_of_a_strategy():
    def arm(name, strategy, added, value):
        return views.ArmRow(name, strategy, "gan", "adding", 100, added, by_seed={0: value})

    base = views.ArmRow("real_only", "RealOnly", "", "reference", 100, 0, by_seed={0: 0.5})
    doses, at_zero = views.doses([base, arm("a", "Matched", 50, 0.6), arm("b", "Matched", 100, 0.7), arm("c", "Other", 100, 0.8)])
    assert doses == {"Matched from gan": [(0.5, 0.6, 0.0), (1.0, 0.7, 0.0)]} and at_zero == 0.5


def test_the_endpoint_per_seed_over_all_or_its_classes():
    def value(seed, class_name, v, **more):
        return Measurement("dice", v, task="seg", net="unet", arm="a", seed=seed, class_name=class_name, **more)

    rows = [value(0, "macro", 0.1), value(0, "L/x", 0.4), value(0, "L/y", 0.6), value(0, "K/x", 0.9), value(1, "L/x", None),
            value(0, "macro", 0.9, subgroup="sex=F")]  # fmt: skip
    assert views._by_seed(rows, "a", END) == {0: 0.1}
    assert views._by_seed(rows, "a", Endpoint("seg", "unet", "dice", layer="L")) == {0: 0.5}
    assert views._by_seed(rows, "a", Endpoint("seg", "unet", "dice", classes=("x",), layer="L")) == {0: 0.4}
    assert views._by_seed(rows, "b", END) == {}


def test_exploratory_rows_name_the_test_set():
    plain = {"p_gain": None, "p_seeds_t": None, "seeds": 5, "subjects": 40, "generalises_over": "downstream seeds"}
    rows = [Comparison("a", "real_only", "dice", -0.01234, -0.02, None, external=e, **plain) for e in ("", "clinic")]
    own, clinic = explored(rows)
    assert (own["test set"], clinic["test set"]) == ("own", "clinic") and list(own) == list(clinic)
    assert (own["difference"], own["low"], own["high"]) == ("-0.012", "-0.020", "")


def test_filter_logs_are_summed_over_rounds_and_others_shown_as_they_are():
    log = {"filter": "AllOf", "kept": 3, "rejected": 1, "why": {"Dice below 0.7": 1}, "per_subgroup": {"sex F": {"kept": 1, "rejected": 0}},
           "per_class": {"implant": {"kept": 1, "rejected": 1}, "none": {"kept": 0, "rejected": 0}}}  # fmt: skip
    (one, other) = views.filter_views({"gan": [[log, log], [log]], "none": [[], []], "mine": {"my": "log"}})
    assert one["sentence"] == "AllOf kept 9 of 12 images (75%) in 3 rounds (pilots and top-ups included)."
    assert one["why"] == [("Dice below 0.7", 3)]
    assert [tuple(r.values()) for r in one["rows"]] == [("implant", 3, 6, "50%"), ("none", 0, 0, "–"), ("sex F", 3, 3, "100%")]
    assert other == {"title": "mine", "facts": {"my": "log"}}


def test_what_audits_leave_open_is_named():
    done = SetAudit("a", 0, "x", record={"rungs": [Rung("membership", reason="no such test").to_dict()], "banner": ""})
    lines = views.untested([], False, [done, SetAudit("b", 0, "x"), SetAudit("b", 1, "x")])
    assert "Whether the sets b, b, draw 1 may be shared: not audited (`synthrad audit`)." in lines and "Of the set a: membership." in lines
    assert "a privacy audit is a separate step" in " ".join(views.untested([], False))
