from dataclasses import replace

import numpy as np
import pytest
import torch

from synthrad.audit.likeness import BEST, Likeness, Part, Sets, likeness
from synthrad.audit.likeness_table import told
from synthrad.data.phantom import draw_phantom
from synthrad.metrics.features import radiomics
from synthrad.metrics.fidelity import frechet_distance, gaussian, kernel_distance, median_distance

FEATURED = {"kid", "cmmd", "frechet", "precision", "recall", "density", "coverage", "vendi", "copying_c_t", "fld_gap"}


def phantoms(first, number):
    return torch.from_numpy(np.stack([draw_phantom(9, first + k, (32, 48)).image for k in range(number)])).float()[:, None] / 127.5 - 1


def part(images, subjects=None, **groups):
    return Part(images, np.arange(len(images)) if subjects is None else np.asarray(subjects), radiomics(images).numpy(), groups)


@pytest.fixture(scope="module")
def real():
    return part(phantoms(0, 80), np.arange(80) // 2), part(phantoms(1000, 40)), part(phantoms(2000, 40))


@pytest.fixture(scope="module")
def fair():
    return phantoms(3000, 60)


def by_metric(found):
    return {r.metric: r for r in found if not r.group}


def test_a_fair_set_is_measured_as_its_null_and_modes_noise_and_copies_are_not(real, fair):
    generator, train = torch.Generator().manual_seed(0), real[0].images
    noise = torch.randn(fair.shape, generator=generator)
    sets = {"fair": fair, "modes": fair[:4].repeat(15, 1, 1, 1), "noise": (fair + 0.5 * noise).clamp(-1, 1),
            "copies": (train[:60] + 0.01 * noise).clamp(-1, 1)}
    found = {name: by_metric(likeness(Sets.of(part(images), *real), "radiomics")) for name, images in sets.items()}
    same = found["fair"]
    assert set(same) == FEATURED | {"structure_variety", "ms_ssim"} == set(BEST) - {"frechet_infinite"}
    assert sum(r.apart for r in same.values()) <= 1 and not any(r.reason for r in same.values())
    for row in same.values():  # no bare number
        assert row.low <= row.value <= row.high and row.null_low <= row.null <= row.null_high and row.best and row.space == "radiomics"
    assert {r.images for m, r in same.items() if m not in ("copying_c_t", "fld_gap")} == {40} == {r.null_images for r in same.values()}
    for metric in ("kid", "cmmd", "frechet", "precision", "copying_c_t"):
        assert found["noise"][metric].apart, metric
    for metric in ("recall", "coverage", "vendi", "structure_variety", "ms_ssim"):
        assert found["modes"][metric].apart and found["modes"][metric].value != same[metric].value, metric
    assert found["modes"]["ms_ssim"].low > same["ms_ssim"].null_high
    assert found["copies"]["copying_c_t"].high < found["copies"]["copying_c_t"].null_low and not found["copies"]["kid"].apart
    assert found["copies"]["fld_gap"].high < same["fld_gap"].null_low
    for metric in FEATURED - {"copying_c_t"}:  # the null does not depend on the set
        assert len({f[metric].null for f in found.values()}) == 1, metric
    assert found["noise"]["precision"].low == 0 < found["noise"]["precision"].high < 0.3  # 0 of 40 is no certainty


def test_one_reference_and_equal_numbers(real, fair):
    """What is printed, computed again by hand."""
    sets = Sets.of(part(fair), *real)
    drawn, held = sets.matched()
    found = by_metric(likeness(sets, first=False))
    for side, value, null in ((drawn, "value", None), (held, "null", None)):
        expected = kernel_distance(side.features, sets.train.features, side.subjects, sets.train.subjects)
        assert getattr(found["kid"], value) == pytest.approx(expected.value), null
        sigma = median_distance(sets.train.features)
        expected = kernel_distance(side.features, sets.train.features, side.subjects, sets.train.subjects, gaussian(sigma))
        assert getattr(found["cmmd"], value) == pytest.approx(1000 * expected.value) and f"{sigma:.3g}" in found["cmmd"].detail
    assert "4 of 140 columns: axes of 40" in found["frechet"].detail
    ten = by_metric(likeness(replace(sets, sigma=10.0), first=False))["cmmd"]
    assert "sigma 10" in ten.detail and ten.value != found["cmmd"].value


def test_frechet_needs_images_or_others_to_project_on(real, fair):
    train, test, _ = real
    assert "needs 280 images a side" in by_metric(likeness(Sets.of(part(fair), train, test), first=False))["frechet"].reason
    small = [replace(p, features=p.features[:, :15]) for p in (part(fair), train, test)]
    row = by_metric(likeness(Sets.of(*small), first=False))["frechet"]
    assert row.detail == "all 15 columns"
    sets = Sets.of(*small)
    assert row.value == pytest.approx(frechet_distance(sets.matched()[0].features, sets.train.features))
    few = replace(train, images=train.images[:25], subjects=np.arange(25), features=train.features[:25, :15])  # the reference bears 2 columns
    assert "columns" not in by_metric(likeness(Sets.of(small[0], few, small[2]), first=False))["frechet"].detail


def test_too_few_patients_are_no_comparison(real, fair):
    train, test, other = real
    short = likeness(Sets.of(part(fair), train, test.take(np.arange(19)), other))
    assert [r.metric for r in short] == ["all"] and "needs 20, has 19 test patients" in told(short)
    crowd = replace(train, subjects=np.arange(80) % 12)
    assert "12 training patients" in told(likeness(Sets.of(part(fair[:10]), crowd, test))) and "10 synthetic images" in told(
        likeness(Sets.of(part(fair[:10]), crowd, test)))
    alone = by_metric(likeness(Sets.of(part(fair), train, test.take(np.arange(30))), first=False))["fld_gap"]
    assert "needs 20 validation and audit patients or 40 test patients" in alone.reason
    assert by_metric(likeness(Sets.of(part(fair), train, test), first=False))["fld_gap"].detail.startswith("20 centres; null: other test")


def test_classes_and_subgroups_at_matched_size(real, fair):
    train, test, other = real
    half = lambda n: np.arange(n) % 2 == 0  # noqa: E731
    train, test = (replace(p, groups={"caries": half(len(p.images)), "sex=f": ~half(len(p.images)), "rare": np.arange(len(p.images)) < 5}) for p in (train, test))
    bad = fair.clone()
    bad[::2] = bad[::2] * 0.3  # the class is flat
    made = part(bad, caries=half(60), rare=np.arange(60) < 30, **{"sex=f": ~half(60)})
    found = likeness(Sets.of(made, train, test, other))
    rows = {(r.group, r.metric): r for r in found if r.group}
    assert {g for g, _ in rows} == {"caries", "sex=f", "rare"} and rows["caries", "kid"].images == rows["caries", "kid"].null_images == 20
    assert rows["caries", "kid"].apart and not rows["sex=f", "kid"].apart and {m for g, m in rows if g == "caries"} == {"kid", "precision", "coverage", "ms_ssim"}
    assert rows["rare", "all"].reason == "needs 20, has 3 training patients, 5 test patients"
    said = told(found)
    assert "  rare" in said and "not tested: needs 20, has 3 training" in said and "caries" in said
    assert told([r.to_dict() for r in found]) == said  # as a record holds them
    untold = told(likeness(Sets.of(part(fair), train, test, other)))
    assert "the synthetic images tell no label or attribute" in untold
    assert not any(r.group or r.metric == "ms_ssim" for r in likeness(Sets.of(made, train, test, other), first=False))


def test_collapse_to_64_modes_lowers_coverage_below_its_null():
    """The gate of issue 5: 64 phantoms, each drawn again and again with a little noise, beside 120 different ones; 300 to cover."""
    train, test, modes = part(phantoms(0, 300)), part(phantoms(5000, 120)), phantoms(9000, 64)
    noise = 0.01 * torch.randn(120, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    collapsed = (modes[torch.arange(120) % 64] + noise).clamp(-1, 1)
    found = by_metric(likeness(Sets.of(part(collapsed), train, test), first=False))
    for metric in ("coverage", "recall"):
        assert found[metric].value < found[metric].null_low and found[metric].high < found[metric].null, found[metric]


def test_json_knows_no_nan():
    assert Likeness("kid", float("nan"), 1.0).to_dict()["value"] is None
