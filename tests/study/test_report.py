"""The report: the verdict first, nothing claimed without its controls, everything escaped, nothing fetched."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from fake_run import NET, TASK, read_fake_run, write_fake_run
from test_evidence import of as evidence_of_segmentation

from synthrad.measurements import Measurement
from synthrad.records import Manifest
from synthrad.study import pictures, views
from synthrad.study.audits import SetAudit
from synthrad.study.comparisons import Comparison, Endpoint, compare
from synthrad.study.report import (
    DataSummary,
    ReportFacts,
    installed,
    processor,
    render,
    summarise,
    without_pictures,
    write_report,
)

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y>"
PICTURES = [pictures.Triplet(*[pictures.Picture(np.full((8, 16), 90, np.uint8), {}, "made up")] * 3)]
VOID = ("meta", "img", "br", "wbr")


class Page(HTMLParser):
    """Text in order, every address, every tag; fails on tags that do not close."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.addresses, self.tags, self.open = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("p", "li", "figure", "section", "table", "dl", "ul", "tr", "td", "th", "details"):
            assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        if not {"style", "script", "nav"} & set(self.open):
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))


def compared(read, **more):
    controls = {a["arm"]: a["controls"] for a in read["arms"] if a["role"] == "adding" and not a["same_as"]}
    return compare(read["cases"], Endpoint(task=TASK, net=NET, metric="dice"), controls, **more)


def explored(**more) -> Comparison:
    """An exploratory difference without an interval."""
    plain = {"task": TASK, "net": NET, "arm": "matched", "class_name": "caries"}
    return Comparison(reference="real_only", metric="dice", difference=0.06, low=None, high=None, p_gain=None, p_seeds_t=None,
                      seeds=5, subjects=40, generalises_over="downstream seeds", **plain | more)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple:
    """The run folder and its manifests."""
    run = tmp_path_factory.mktemp("run")
    return run, write_fake_run(run)


@pytest.fixture(scope="module")
def facts(made) -> ReportFacts:
    return facts_of(*made)


def facts_of(run, made, how=None, **more) -> ReportFacts:
    read = read_fake_run(run)
    train = made["real"].where(split="train")
    _, similar = pictures.nearest(train, made["synthetic"])
    _, null = pictures.nearest(train, made["real"].where(split="test"))
    return ReportFacts(
        study="fake", title="Fake teeth", endpoint=Endpoint(task=TASK, net=NET, metric="dice"),
        comparisons=compared(read, **(how or {})), explore=[explored()],
        **{k: read[k] for k in ("measurements", "arms", "fits", "filters", "costs")},
        commands=["synthrad study run configs/studies/fake.yaml"], untested=["A second dataset."],
        pictures=pictures.triplets(train, made["synthetic"], number=4),
        similarity={"synthetic": similar, "held-out real": null},
        data=summarise(made["real"]), versions=installed(), cpu=processor(), config_hash="0123abcd", **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def quick(facts) -> ReportFacts:
    """The same without what takes long to draw."""
    return replace(facts, pictures=(), similarity={}, fits=())


@pytest.fixture(scope="module")
def page(facts) -> Page:
    return Page(render(facts))


@pytest.fixture(scope="module")
def html(quick) -> str:
    return render(quick)


@pytest.fixture(scope="module")
def stamped(quick) -> str:
    """Of a mechanics run."""
    return render(replace(quick, mechanics=True))


def test_the_verdict_in_words_comes_first(page, facts):
    words = page.words
    places = [words.index(s) for s in ("Verdict", "What was asked", "Arms and their controls",
                                       "Real, synthetic, nearest", "filter and similarity", "Metrics by class", "length and cost",
                                       "Data", "How to do it again", "What was not tested", "Not a medical device")]  # fmt: skip
    assert places == sorted(places)
    states = [
        a["class"].split()[1] for t, a in page.tags if t == "li" and "verdict" in (a.get("class") or "")
    ]
    assert states == ["gain", "no_gain", "harm", "not_tested"]  # matched, matched_half, balanced, minimal


def test_both_controls_stand_beside_each_arm(page):
    assert {"real only", "duplicated real", "augmented real"} <= {t.strip() for t in page.text}
    assert "drives no verdict" in page.words


def test_written_whole_to_the_run_folder(tmp_path, quick, html):
    path = write_report(tmp_path, quick)
    assert path == tmp_path / "report.html"
    assert path.read_text().rstrip().endswith("</html>")
    assert [p.name for p in tmp_path.iterdir() if "report" in p.name] == ["report.html"]
    assert path.read_text() == html  # the same facts give the same bytes


def test_a_report_without_pictures_has_every_figure_and_no_pixel(tmp_path, facts):
    """Pixels would come as PNG, JPEG or the like, inline, in an SVG, or as a file beside the page."""
    read = SetAudit("gan", 0, "synthrad audit", pictures=("audits/gan/pairs.png",))
    whole = replace(facts, pictures=facts.pictures or PICTURES, examples=facts.examples or [PICTURES[0].real], audits=[read])
    shown, hidden = (write_report(tmp_path / name, whole, pictures=name == "shown") for name in ("shown", "hidden"))
    assert (shown.name, hidden.name) == ("report.html", "report_shareable.html")
    with_, without = Page(shown.read_text()), Page(hidden.read_text())
    raster = lambda page: [v for v in page.addresses if v.startswith("data:image/") and not v.startswith("data:image/svg+xml")]  # noqa: E731
    vectors = lambda page: [v for v in page.addresses if v.startswith("data:image/svg+xml")]  # noqa: E731
    assert raster(with_) and not raster(without) and vectors(without) == vectors(with_) != []
    assert not [v for v in vectors(without) if "<image" in _decoded(v) or "data:image/png" in _decoded(v)]
    assert "<image" not in hidden.read_text() and [a.pictures for a in without_pictures(whole).audits] == [()]
    tables = lambda page: sum(tag == "table" for tag, _ in page.tags)  # noqa: E731
    assert tables(without) == tables(with_)
    assert "Written without pictures" in without.words and "Written without pictures" not in with_.words and "images of real patients" not in without.words
    assert not [f for f in hidden.parent.rglob("*") if f.suffix in (".png", ".jpg", ".jpeg", ".webp", ".gif")]


def _decoded(address):
    head, _, body = address.partition(",")
    return base64.b64decode(body).decode() if head.endswith("base64") else unquote(body)


def test_nothing_is_fetched(page, html):
    assert not re.search(r"https?://|url\(|@import", re.sub(r"base64,[^\"]*", "", html))
    inside = re.compile(r"data:(image/(png|svg\+xml)|text/csv|application/x-tex);base64,|#\w+$|(figures|tables)/\w+\.(svg|csv|tex)$")
    assert page.addresses and all(inside.match(a) for a in page.addresses)
    assert not {t for t, _ in page.tags} & {"link", "iframe", "object"}
    assert all(a["src"].startswith("data:") for t, a in page.tags if t == "img")  # a picture never needs the folder beside the page


def test_only_the_script_of_the_page_may_run(page, html):
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    seal = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{seal}'"


def test_pictures_have_words_and_tables_have_heads(page):
    assert all(a.get("alt") for t, a in page.tags if t == "img")
    assert all(a.get("scope") in ("col", "row") for t, a in page.tags if t == "th")
    ids = {a["id"] for t, a in page.tags if t == "h2"}
    assert {a["href"][1:] for t, a in page.tags if t == "a" and a["href"].startswith("#")} == ids - {"verdict"}


def test_figures_and_tables_lie_beside_the_report(tmp_path, facts):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_text("of an older report")
    (tmp_path / "figures" / "mine.txt").write_text("not ours")
    page = Page(write_report(tmp_path, facts).read_text())
    names = {p.name for p in (tmp_path / "figures").iterdir()}
    assert {"forest.svg", "forest.csv", "seeds.svg", "dose.svg", "similarity.csv", "mine.txt"} <= names and "old.svg" not in names
    tables = {p.name for p in (tmp_path / "tables").iterdir()}
    assert {f"{n}.{k}" for n in ("arms", "differences", "metrics", "exploratory", "costs", "prevalence") for k in ("csv", "tex")} <= tables
    beside = [a for a in page.addresses if a.startswith(("figures/", "tables/"))]
    assert beside and all((tmp_path / a).is_file() for a in beside)
    first = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    write_report(tmp_path, facts)
    assert first == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    effects = pd.read_csv(tmp_path / "tables" / "differences.csv").set_index(["arm", "reference"])
    told = facts.comparisons["matched"].comparisons[0]
    assert effects.loc[("matched", told.reference), "difference"] == told.difference  # all digits


def test_files_of_a_mechanics_run_hold_no_p(tmp_path, quick):
    write_report(tmp_path, replace(quick, mechanics=True))
    text = (tmp_path / "tables" / "differences.csv").read_text()
    assert text.splitlines()[0] == "arm,reference,difference,low,high,verdict,seeds,subjects" and "gain" not in text


def test_mechanics_is_stamped_and_has_no_p(stamped):
    words = Page(stamped).words
    assert "MECHANICS" in words
    assert not re.search(r"\bp\s*[=<]|Holm p|drives no verdict|detectable|power", words)
    assert 'class="verdict gain"' not in stamped


def test_harm_is_said_to_be_uncorrected(html, stamped):
    assert "not corrected for the number of arms" in Page(html).words
    assert "6 to 8.5 %" not in Page(stamped).words


def test_the_exploratory_table_has_a_column_a_fact(page):
    assert {"test set", "class", "subjects", "own"} <= {x.strip() for x in page.text}
    assert "+0.060" in page.words


def test_undefined_metrics_show_their_counts(page):
    assert "Undefined in every arm: periapical: Dice (0 of 40 test subjects have it)." in page.words


def test_the_study_is_told_in_one_sentence_before_the_cards(page, stamped):
    line = "Adding synthetic images helped in 1 of 3 arms (matched), and did harm in 1 (balanced): matched by at least Dice +0.0"
    safe, not_tested = "Safe to share? Not audited.", "Not tested Images of another hospital; another network; another split"
    assert page.words.index("Verdict") < page.words.index(line) < page.words.index("Adding 80 synthetic rows helped")
    places = [page.words.replace("share?Not", "share? Not").replace("testedImages", "tested Images").index(x) for x in (line, safe, not_tested, "Adding 80")]
    assert places == sorted(places)
    assert "3 arms with synthetic images ran" in Page(stamped).words


def test_only_the_rows_of_the_endpoint_are_open(quick):
    more = [Measurement(m, 0.1, task=TASK, net=NET, arm="matched", seed=0, class_name="macro") for m in ("iou", "ece")]
    html = render(replace(quick, explore=(), measurements=[*quick.measurements, *more]))
    part = html[html.index('id="classes"') : html.index('id="training"')]
    shown, folded = part.split("<details")
    assert "Dice" in shown and "<td>iou</td>" not in shown
    assert "2 more rows" in folded and "<td>ECE</td>" in folded and "Dice" not in folded


def test_partly_undefined_is_said(quick):
    row = {"metric": "auroc", "task": "t", "net": "n", "arm": "real_only", "class_name": "rare"}
    rows = [Measurement(value=0.5, seed=0, n=12, **row), Measurement(value=None, seed=1, **row)]
    assert "n = 12; undefined in 1 of 2 seeds" in Page(render(replace(quick, measurements=rows))).words


def test_hostile_names_are_escaped(facts):
    arms = [{**a, "log": [HOSTILE], "cells": {HOSTILE: 1}} for a in facts.arms]
    rows = [
        Measurement(
            "dice",
            0.5,
            arm="real_only",
            task=HOSTILE,
            net=HOSTILE,
            class_name=HOSTILE,
            seed=0,
            subgroup=HOSTILE,
        )
    ]
    bad = replace(facts, study=HOSTILE, title=HOSTILE, banners=[HOSTILE], arms=arms, measurements=rows, commands=[HOSTILE],
                  untested=[HOSTILE], filters={HOSTILE: [{HOSTILE: HOSTILE}]}, costs={HOSTILE: 1.0}, versions={HOSTILE: HOSTILE},
                  explore=[explored(task=HOSTILE, arm=HOSTILE, external=HOSTILE, class_name=HOSTILE)], config_hash=HOSTILE, cpu=HOSTILE, similarity={HOSTILE: [0.1, 0.2]},
                  data=DataSummary({HOSTILE: HOSTILE}, ("train",), {HOSTILE: {"train": HOSTILE}}))  # fmt: skip
    hostile = Page(render(bad))
    assert [a for t, a in hostile.tags if t == "script"] == [{}]  # the one of the page
    assert not [a for t, a in hostile.tags if "onerror" in a]
    assert hostile.words.count("alert('x')") > 10


def test_banner_is_shown_before_the_verdicts(quick):
    line = "The lineage of source gan is unknown."
    words = Page(render(replace(quick, banners=[line]))).words
    assert words.index("Verdict") < words.index(line) < words.index("What was asked")


def test_a_reference_that_longer_training_improves_gives_no_verdict(made, quick, html):
    read, longer = read_fake_run(made[0]), explored(arm="real_only_longer", class_name="macro")
    short = render(replace(quick, comparisons=compared(read, longer=longer)))
    assert not re.search("detectable|% power", Page(short).words)  # not judged, so nothing to detect
    assert "UNDERTRAINED. Twice the steps change real_only by Dice +0.060" in Page(short).words
    assert 'class="verdict gain"' not in short
    assert "UNDERTRAINED" not in html
    enough = compared(read, longer=replace(longer, difference=0.001, low=-0.001, high=0.003))
    assert "+0.001 [-0.001, 0.003]: less than the smallest relevant" in Page(render(replace(quick, comparisons=enough))).words
    wide = compared(read, longer=replace(longer, difference=0.001, low=-0.1, high=0.1))
    assert "does not rule out" in Page(render(replace(quick, comparisons=wide))).words
    assert views.training_length(replace(wide, floor="no arm segments anything")) == ""


def test_what_stands_beside_the_verdicts_is_shown_and_a_widened_gap_is_a_note(quick, html, tmp_path):
    evidence = evidence_of_segmentation("segmentation", "dice")
    said = Page(write_report(tmp_path, replace(quick, evidence=evidence)).read_text()).words
    assert said.index(evidence.subgroups.flagged[0][:40]) < said.index("Beside the verdicts") < said.index("Gaps between subgroups before and after fusion")
    assert evidence.powers[0].words in said and "Train real, test synthetic" in said
    assert {"gaps.csv", "gaps.tex", "subgroup_values.csv", "beside.csv", "accepted.csv"} <= {p.name for p in (tmp_path / "tables").iterdir()}
    assert "Beside the verdicts" not in html


def test_a_bare_study_still_renders(quick):
    bare = ReportFacts(study="bare", endpoint=quick.endpoint, comparisons=quick.comparisons)
    assert "not a" in Page(render(bare)).words.lower()


def test_summary_counts_subjects_and_known_labels(made):
    real = made[1]["real"]
    summary = summarise(real)
    assert summary.splits == ("train", "test")
    assert summary.facts["subjects"] == {"train": 12, "test": 6}
    assert summary.prevalence["implant"]["train"] == "0 of 0"  # no image has a known label
    positive = int((real.where(split="train").column("label:caries") == 1).sum())
    assert summary.prevalence["caries"]["train"].startswith(f"{positive} of 12")


def test_a_caption_tells_unknown_labels_from_no_finding(made):
    synthetic = made[1]["synthetic"]
    classes = {f"label:{c}": float("nan") for c in synthetic.info.classes}
    unknown = Manifest(synthetic.table.assign(**classes), synthetic.info)
    none = Manifest(synthetic.table.assign(**dict.fromkeys(classes, 0.0)), synthetic.info)
    assert [pictures._labels(m, 0) for m in (unknown, none)] == ["labels unknown", "no finding"]


def test_an_unscored_copy_is_its_own_nearest(made):
    _, made = made
    position, correlation = pictures.nearest(made["real"].where(split="train"), made["synthetic"])
    assert position[0] == 0 and correlation[0] > 0.999
    assert (correlation[1:] < 0.99).all()


def test_scores_that_were_written_are_used(made):
    _, made = made
    train = made["real"].where(split="train")
    told = made["synthetic"].with_columns(
        {"origin:nearest": [train[3].digest] * 8, "score:max_correlation": [0.25] * 8}
    )
    position, correlation = pictures.nearest(train, told)
    assert set(position) == {3} and set(correlation) == {0.25}


def test_a_difference_is_not_shown_as_a_metric_of_an_arm(quick):
    words = Page(
        render(replace(quick, measurements=[*quick.measurements, *quick.comparisons.measurements()]))
    ).words
    assert "dice difference" not in words


def test_no_images_to_compare(made):
    empty = made[1]["synthetic"].take([])
    assert pictures.triplets(made[1]["real"], empty) == []
    assert [len(x) for x in pictures.nearest(made[1]["real"], empty)] == [0, 0]
