"""Held-out images that another set of a study shows, changed: refused, or the net marked, once; what is not at hand is unknown."""

import json
from dataclasses import replace

import pytest
import yaml
from phantom_sets import COPIES, write_set

from synthrad.data import shared_images as shared
from synthrad.data.phantom import draw_phantom
from synthrad.data.shared_images import SharedPair
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError, InputErrors
from synthrad.lineage import Fitted, Lineage
from synthrad.records import Manifest
from synthrad.study import command, other_sets
from synthrad.study.contamination import banners, contaminated, standings
from synthrad.study.other_sets import FILE, check_other_sets, copies_by_net, lines, read_findings
from synthrad.study.study_file import load_study

SPLITS = ["train"] * 12 + ["val"] * 2 + ["audit"] * 2 + ["test"] * 4


def trained_on(other, rows, origin="declared"):
    return Lineage((Fitted("generator", origin=origin, fingerprints=frozenset(other.column("digest")[rows]), datasets=frozenset({other.info.id})),))


@pytest.fixture(scope="module")
def images():
    return [draw_phantom(5, k, (64, 128), subject=k).image for k in range(38)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, images):
    """A set; another one with changed copies of test images 18 (row 0) and 19 (row 5); external sets; synthetic sets of other makers."""
    folder, (jpeg, mirrored, cropped) = tmp_path_factory.mktemp("lab"), (COPIES[k] for k in ("jpeg", "mirrored", "cropped"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        write_set(folder / "real", images[:20], SPLITS)
        other = write_set(folder / "other", [cropped(images[18]), *images[20:24], mirrored(images[19]), *images[24:26]], ["train"] * 5 + ["test"] * 3)
        write_set(folder / "site", images[26:30], "test")
        write_set(folder / "leaky", [jpeg(images[0]), *images[27:30]], "test")
        write_set(folder / "made", images[30:36], source="synthetic", lineage=trained_on(other, [1, 2]))
        write_set(folder / "copied", [*images[30:35], mirrored(images[12])], source="synthetic", lineage=trained_on(other, [1, 2]))
        write_set(folder / "saw18", images[30:36], source="synthetic", lineage=trained_on(other, [0, 1, 2]))
        write_set(folder / "silent", images[30:36], source="synthetic", lineage=Lineage((Fitted("generator", origin="declared", datasets=frozenset({"other"})),)))
        write_set(folder / "mine_only", images[30:36], source="synthetic", lineage=trained_on(Manifest.read(folder / "real"), [0, 1]))
    return folder


def written(lab, made="mine_only", weights=None, pretrained_on=None, **changes):
    net = {"class_path": "TimmNet", "init_args": {"name": "test_resnet", "weights": weights}, **({} if pretrained_on is None else {"pretrained_on": pretrained_on})}
    told = {"name": "met", "mechanics": True, "manifest": str(lab / "real"), "size": [32, 32], "seeds": 2, "cells": {"classes": ["caries"]},
            "sources": {"made": {"manifest": str(lab / made)}},
            "arms": {"real_only": {"strategy": "RealOnly"}, "add": {"strategy": "Matched", "args": {"ratio": 0.5}, "source": "made"}},
            "tasks": {"find": {"kind": "classification", "classes": ["caries"], "steps": 4, "nets": {"tiny": net}}},
            "endpoint": {"task": "find", "net": "tiny", "metric": "auroc", "classes": ["caries"]}} | changes
    path = lab / "met.yaml"
    path.write_text(yaml.safe_dump({k: {n: str(lab / v) for n, v in told[k].items()} if k in ("external", "seen") else told[k] for k in told}))
    return path


def check(lab, folder=None, **told):
    study = load_study(path := written(lab, **told))
    return study, check_other_sets(study, Manifest.read(study.manifest), str(path), folder)


def test_a_study_that_meets_no_copy(lab):
    study, found = check(lab, external={"site": "site"})
    assert [(f.part, f.state, f.copies, f.of, f.external) for f in found] == [
        ("external.site", "clean", 0, 4, "site"), ("sources.made", "clean", 0, 8, ""), ("sources.made", "clean", 0, 4, "site")]
    assert lines(found, study) == [] and "none of 8 images have a copy there" in found[1].words


@pytest.mark.parametrize(("told", "part", "words"), [
    ({"external": {"site": "leaky"}}, "external.site", "1 of 4 have a copy there: 0.png (test) and 0.png"),
    ({"made": "copied", "seen": {"old": "other"}}, "sources.made", "val, audit, test images among its synthetic ones: 1 of 8 have a copy there: 12.png (val) and 5.png"),
    ({"made": "saw18", "seen": {"old": "other"}}, "sources.made", "among those of other that it was trained on: 1 of 8 have a copy there: 18.png (test) and 0.png"),
    ({"made": "silent", "seen": {"old": "other"}}, "sources.made", "among those of other that it was trained on: 1 of 8"),
])  # fmt: skip
def test_copies_are_refused_and_a_reason_lets_them_pass(lab, told, part, words):
    with pytest.raises(InputErrors, match="1 fault") as raised:
        check(lab, **told)
    assert f"{part}: " in str(raised.value) and words in str(raised.value) and f"allow_copies.{part}" in str(raised.value)
    study, found = check(lab, **told, allow_copies={part: "two patients with one implant"})
    assert [line for line in lines(found, study) if "Allowed by the study file: two patients with one implant" in line]
    assert study.said()["allow_copies"] and "allow_copies" not in load_study(written(lab)).said() and "seen" not in load_study(written(lab)).said()


def test_what_is_not_at_hand_is_unknown(lab):
    for made, words in (("made", "2 training images of other are known by their digests alone"), ("silent", "the training images of other are not at hand")):
        study, found = check(lab, made=made)
        assert [f.state for f in found] == ["clean", "unknown"] and words in lines(found, study)[0] and "by pixels unknown" in lines(found, study)[0]
    assert [f.state for f in check(lab, made="made", seen={"old": "other"})[1]] == ["clean", "clean"]  # rows 1 and 2 of it are no copies, row 0 is


def test_each_part_of_a_lineage_is_judged_by_what_is_known_of_it(lab, images, tmp_path):
    own = trained_on(Manifest.read(lab / "real"), [0, 1])
    silent = Lineage((Fitted("autoencoder", origin="declared", datasets=frozenset({"other"})),))
    write_set(tmp_path / "both", images[30:36], source="synthetic", lineage=own + silent)
    told = {"sources": {"made": {"manifest": str(tmp_path / "both")}}}
    study, found = check(lab, **told)
    assert [f.state for f in found] == ["clean", "unknown"] and "the training images of other are not at hand" in lines(found, study)[0]
    with pytest.raises(InputErrors, match="among those of other that it was trained on: 1 of 8"):
        check(lab, **told, seen={"old": "other"})


def test_what_a_generator_starts_from_is_looked_at(lab, monkeypatch):
    other = Manifest.read(lab / "other")
    (lab / "last.ckpt").write_bytes(b"weights")
    (lab / "gan.yaml").write_text(yaml.safe_dump({"model": {"class_path": "StyleGAN2", "init_args": {"init_from": str(lab / "last.ckpt"), "channel_base": 512}}}))
    monkeypatch.setattr("synthrad.generators.loading.load_generator", lambda path: (None, None, trained_on(other, {"last": [0, 1], "second": [2]}[path.stem]), None))
    told = {"sources": {"made": {"generator": str(lab / "gan.yaml")}}}
    assert [(f.part, f.state) for f in check(lab, **told)[1]] == [("sources.made", "unknown")]
    with pytest.raises(InputErrors, match="those of other that it was trained on: 1 of 8"):
        check(lab, **told, seen={"old": "other"})
    (lab / "second.ckpt").write_bytes(b"weights")
    told["sources"]["made"]["overrides"] = [f"--model.autoencoder={lab / 'second.ckpt'}", "--model.base=nowhere.ckpt"]
    assert "2 training images of other" in check(lab, **told)[1][0].meets and "1 training images of other" in check(lab, **told)[1][1].meets


def test_a_net_that_saw_copies_carries_no_verdict(lab):
    own, site = DatasetInfo("real", "real"), {"site": DatasetInfo("site", "site")}
    told = {"weights": "mine.ckpt", "pretrained_on": ["other"], "external": {"site": "site"}}
    study, found = check(lab, **told, seen={"old": "other"})
    copies = copies_by_net(found, own=True)
    assert list(copies) == [("find", "tiny")] and "2 of 4 images have a copy there" in copies["find", "tiny"][0]
    assert "saw test images" in contaminated(study, own, copies) and standings(study, own, site, copies_by_net(found))["find", "tiny"].state == "contaminated"
    assert "contaminated" in banners(standings(study, own, site, copies))[0] and contaminated(study, own) == ""
    study, found = check(lab, **told, seen={"old": "other"}, allow_copies={"tasks.find.nets.tiny": "looked at"})
    assert copies_by_net(found) == {} and "Allowed by the study file: looked at" in lines(found, study)[0]
    study, found = check(lab, **told)
    assert found[-1].state == "unknown" and "its weights saw other, which is not at hand" in found[-1].words and copies_by_net(found) == {}
    assert all(not f.part.startswith("tasks") for f in check(lab, weights="imagenet")[1])  # photographs are no test images
    only = replace(found[-1], state="copies", external="site")
    assert copies_by_net([only], own=True) == {} and copies_by_net([only])


def test_it_is_done_once(lab, tmp_path, monkeypatch):
    _, found = check(lab, tmp_path, made="made", seen={"old": "other"})
    assert read_findings(tmp_path) == found and read_findings(tmp_path / "none") is None
    with monkeypatch.context() as patch:
        patch.setattr(other_sets, "shared_images", None)  # the sets are what they were
        assert check(lab, tmp_path, made="made", seen={"old": "other"})[1] == found
    compared, plain = [], shared.shared_images
    monkeypatch.setattr(other_sets, "shared_images", lambda ours, theirs: compared.append(theirs.info.name) or plain(ours, theirs))
    check(lab, tmp_path, made="mine_only", external={"site": "site"})
    assert sorted(compared) == ["mine_only", "mine_only", "real"]
    assert set(json.loads((tmp_path / FILE).read_text())) == {"compared", "findings"}
    study = load_study(written(lab))
    assert "begun by an older version" in lines(None, study)[0] and lines(None, study.model_copy(update={"sources": {}})) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"findings": [{"part": "x"}]}', '{"compared": [], "findings": []}', '{"compared": {"a": 1}, "findings": []}',
                                  '{"compared": {}, "findings": null}', '{"compared": {}, "findings": [{"part": "x"}]}'])  # fmt: skip
def test_a_damaged_file_is_compared_again(lab, tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert read_findings(tmp_path) is None and check(lab, tmp_path)[1] == read_findings(tmp_path)


def test_keys_that_nothing_is_about_are_refused(lab):
    with pytest.raises(InputErrors, match="allow_copies.sources.mad.*did you mean sources.made"):
        check(lab, allow_copies={"sources.mad": "x"})
    with pytest.raises(InputError, match="seen.old.*known to have seen"):
        check(lab, seen={"old": "other"})
    with pytest.raises(InputErrors, match="allow_copies.sources.made: found ' ', expected a reason in words"):
        load_study(written(lab, allow_copies={"sources.made": " "}))


def test_pictures_that_are_alike_are_told_and_not_refused(lab, monkeypatch):
    pairs = (SharedPair(6, 1, 0.97, False), SharedPair(6, 2, 0.955, False), SharedPair(7, 1, 0.9599, False))

    def found_in(pairs):
        monkeypatch.setattr(other_sets, "shared_images", lambda ours, theirs: shared.Shared(pairs, 0.95, (len(ours), len(theirs))))
        return check(lab, **({"allow_copies": {"sources.made": "two patients"}} if len(pairs) == 3 else {}))

    study, found = found_in(pairs[1:])
    assert [(f.state, f.copies, f.alike) for f in found] == [("alike", 0, 2)]
    assert "none of 8 images have a copy there" in lines(found, study)[0] and "2 more are alike (likeness 0.950 to 0.965)" in lines(found, study)[0]
    assert "look at them: 18.png (test) and 2.png (likeness 0.955)" in lines(found, study)[0]
    study, found = found_in(pairs)
    assert [(f.state, f.copies, f.alike) for f in found] == [("copies", 1, 1)] and lines(found, study)[0].endswith("Allowed by the study file: two patients")


def test_a_reason_for_nothing_is_refused(lab):
    with pytest.raises(InputErrors, match="allow_copies.sources.made: found a reason for .* in which nothing looks like a copy"):
        check(lab, allow_copies={"sources.made": "looked at"})


def test_the_command_refuses_before_the_first_job(lab, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(lab))
    path = written(lab, made="saw18", seen={"old": "other"}, size=[64, 128])
    monkeypatch.setattr(command, "_snakemake", lambda *a, **k: 0)
    with pytest.raises(InputErrors, match="trained on: 1 of 8 have a copy"):
        command.run(["run", str(path), "--runs", str(tmp_path), "--dry-run"])
    assert not list(tmp_path.iterdir())
    path = written(lab, made="made", size=[64, 128])
    assert command.run(["run", str(path), "--runs", str(tmp_path)]) == 0
    assert "other sets:\n  sources.made: val, audit, test images among its synthetic ones: none of 8" in capsys.readouterr().out
    assert [f.state for f in read_findings(tmp_path / "met")] == ["clean", "unknown"]
