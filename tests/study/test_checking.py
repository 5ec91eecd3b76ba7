"""What a study file gets wrong about data, nets and configs is told before the first job, in a dry run as well."""

import re
from types import SimpleNamespace

import pytest
import yaml
from test_study_robustness import write_study
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks.selection import KeepBestKID
from synthrad.errors import InputError
from synthrad.records import Manifest
from synthrad.study import command
from synthrad.study.checking import SELECTION, _check_named, check_pools, check_study
from synthrad.study.planning import make_plan
from synthrad.study.standing import source_state
from synthrad.study.study_file import load_study

UNET = {"kind": "segmentation", "steps": 2, "nets": {"unet": {"class_path": "SmpNet"}}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks")
    make(folder / "real")
    make(folder / "made", source="synthetic", seed=1, name="made")
    return folder


def check(lab, change):
    """The study of the lab with some keys changed (None: taken away), checked as `study run` does."""
    path = write_study(lab, "checked")
    data = yaml.safe_load(path.read_text())
    for key, value in change.items():
        *parents, last = key.split("/")
        place = data
        for part in parents:
            place = place[part]
        place[last] = value
    path.write_text(yaml.safe_dump(data).replace("LAB", str(lab)))
    study = load_study(path)
    manifest = Manifest.read(study.manifest)
    check_study(study, manifest, str(path))
    check_pools(study, manifest, make_plan(study, manifest.where(split="train", source="real")), str(path))


def unet(**init_args):
    return {"tasks/teeth": {**UNET, "nets": {"unet": {"class_path": "SmpNet", "init_args": init_args}}}}


def test_a_sound_study_passes(lab):
    check(lab, {"external": {"elsewhere": "LAB/real"}, **unet(encoder="resnet18")})


@pytest.mark.parametrize(("change", "words"), [
    ({"tasks/find/nets/tiny/class_path": "TimNet"}, ["tasks.find", "nets.tiny.class_path", "did you mean TimmNet"]),
    ({"tasks/find/nets/tiny/init_args/nme": "x"}, ["tasks.find", "nets.tiny.init_args", "nme"]),
    ({"tasks/find/nets/tiny/init_args/name": "resnet999"}, ["tasks.find", "'resnet999'", "did you mean"]),
    ({"tasks/find/nets/tiny/init_args/drop_rate": "much"}, ["tasks.find.nets.tiny: cannot be built"]),
    (unet(encodr="resnet18"), ["tasks.teeth", "encodr"]),
    (unet(encoder="resnet999"), ["tasks.teeth", "'resnet999'", "did you mean"]),
    (unet(arch="Unettt"), ["tasks.teeth", "'Unettt'", "did you mean unet"]),
    ({**unet(), "size": [48, 48]}, ["tasks.teeth", "48 x 48", "multiples of 32"]),
    ({"tasks/teeth": {**UNET, "layers": ["toth"]}}, ["tasks.teeth", "toth", "tooth"]),
    ({"tasks/find/classes": ["cares"]}, ["tasks.find", "cares", "caries"]),
    ({"endpoint/classes": ["implant"]}, ["endpoint: classes: found 'implant'", "caries"]),
    ({"tasks/teeth": UNET, "endpoint": {"task": "teeth", "net": "unet", "metric": "dice", "classes": ["crwn"]}},
     ["endpoint: classes: found 'crwn'", "did you mean crown"]),
    ({"sources/made/manifest": "LAB/nowhere"}, ["sources.made", "nowhere"]),
    ({"sources/made/manifest": "LAB/real"}, ["sources.made", "rows of `synthetic`"]),
    ({"sources/made": {"generator": "LAB/nowhere.yaml"}}, ["sources.made", "nowhere.yaml", "no such file"]),
    ({"sources/made": {"generator": "LAB/unet.yaml"}}, ["sources.made", "unet.yaml: model.class_path", "StyleGAN2"]),
    ({"sources/made": {"generator": "LAB/gan.yaml", "checkpoint": "best"}}, ["sources.made: checkpoint: found best", "KeepBestKID"]),
    ({"sources/made": {"generator": "LAB/diffusion.yaml", "truncation": 0.7}}, ["sources.made: truncation: found 0.7", "1 for a Diffusion"]),
    ({"sources/made": {"generator": "LAB/gan.yaml", "mask_transform": "affine"}}, ["sources.made: mask_transform: found affine", "draws its masks itself"]),
    ({"sources/made": {"generator": "LAB/gan.yaml", "mask_transform": "flip", "overrides": ["--model.init_args.masks=draw"]}},
     ["sources.made: mask_transform: found flip"]),
    ({"sources/made/mask_transform": "flip"}, ["sources.made: `mask_transform` is for a `generator`"]),
    ({"sources/made": {"generator": "LAB/vq.yaml"}}, ["vq.yaml: model.bottleneck: found vq", "no prior"]),
    ({"sources/made": {"generator": "LAB/vae.yaml"}}, ["arms that ask for caries=", "cells of what the generator is taught"]),
    ({"sources/made/filter": "LAB/nowhere.yaml"}, ["sources.made.filter", "nowhere.yaml"]),
    ({"sources/made/filter": "LAB/unet.yaml"}, ["sources.made.filter", "unet.yaml", "class_path"]),
    ({"external": {"elsewhere": "LAB/nowhere"}}, ["external.elsewhere", "nowhere"]),
    ({"external": {"elsewhere": "LAB/made"}}, ["external.elsewhere", "no row in split 'test'"]),
    ({"arms/matched": {"strategy": "Matched", "args": {"ratio": 100}, "source": "made"}},
     ["arms.matched", "source 'made'", "wanted", "Repair: sample"]),
])
def test_a_fault_is_told_before_the_first_job(lab, change, words):
    (lab / "gan.yaml").write_text("model: {class_path: synthrad.generators.gan.StyleGAN2}\n")
    for name, text in (("diffusion", "diffusion.Diffusion"), ("vae", "autoencoder.Autoencoder"),
                       ("vq", "autoencoder.Autoencoder, init_args: {bottleneck: vq}")):
        (lab / f"{name}.yaml").write_text(f"model: {{class_path: synthrad.generators.{text}}}\n")
    (lab / "unet.yaml").write_text("model: {class_path: synthrad.tasks.segmentation.SegmentationTask}\n")
    with pytest.raises(ValueError) as e:
        check(lab, change)
    for word in [str(lab / "checked.yaml"), *words]:
        assert word in str(e.value)


def test_cells_of_what_a_generator_is_not_taught_are_refused(lab):
    (lab / "gan.yaml").write_text("{model: {class_path: synthrad.generators.gan.StyleGAN2}, "
                                  "data: {init_args: {classes: [implant]}}}")
    source = {"generator": "LAB/gan.yaml"}
    with pytest.raises(ValueError, match=r"sources.made: data.classes: found \['implant'\], and arms that ask for caries=") as e:
        check(lab, {"sources/made": source})
    assert "leave caries out of `cells`" in str(e.value)
    check(lab, {"sources/made": {**source, "overrides": ["--data.classes=[caries]"]}})
    with pytest.raises(ValueError, match=r"overrides: found '--data.classes=\[car'; expected a list as YAML writes it"):
        check(lab, {"sources/made": {**source, "overrides": ["--data.classes=[car"]}})
    check(lab, {"sources/made": source, "cells": {"classes": ["implant"]}})
    with pytest.raises(ValueError, match="data.attributes.*ask for sex="):
        check(lab, {"sources/made": {"generator": "LAB/gan.yaml", "overrides": ["--data.classes=null", "--data.attributes=[]"]},
                    "cells": {"classes": [], "attributes": ["sex"]}})


def test_cells_of_what_prompts_leave_open_are_refused(lab):
    (lab / "gan.yaml").write_text("model: {class_path: synthrad.generators.diffusion.Diffusion}\n")
    source = {"generator": "LAB/gan.yaml", "prompts": "single"}
    with pytest.raises(ValueError, match=r"sources.made: prompts: found single, and arms that ask for caries=") as e:
        check(lab, {"sources/made": source})
    assert "cells: {classes: []}" in str(e.value)
    by_sex = {"cells": {"classes": [], "attributes": ["sex"]}}
    check(lab, {"sources/made": source, **by_sex})
    with pytest.raises(ValueError, match="prompts: found single, and arms that ask for tooth/crown="):
        _check_named("single", [("tooth/crown=1", "sex=f")], SimpleNamespace(info=SimpleNamespace(classes=("crown",), attributes=("sex",))))
    with pytest.raises(ValueError, match="prompts: found none, and arms that ask for sex="):
        check(lab, {"sources/made": {**source, "prompts": "none"}, **by_sex})
    for key, value, words in (("unnamed", "absent", "`unnamed` says"), ("prompts", "double", "'none', 'single' or 'multi'")):
        with pytest.raises(InputError, match=words):
            check(lab, {"sources/made": {"generator": "LAB/gan.yaml", key: value}})


def test_letterboxed_images_are_judged_on_the_grid_of_the_net_alone(lab, tmp_path):
    coarse = {"tasks/find/size": [64, 64], "size": [32, 32]}
    check(lab, coarse)  # the images are square: every size shows the same
    wide = {"tasks/find/size": [64, 128], "size": [32, 64]}
    with pytest.raises(ValueError, match="(?s)letterboxed images .*32 x 32.*expected images of the aspect 32:64.*--resize squeeze"):
        check(lab, wide)
    check(lab, {"size": [32, 64]})


def test_a_source_may_take_the_checkpoint_that_its_config_keeps(lab):
    assert f"{KeepBestKID.__module__}.{KeepBestKID.__qualname__}" == SELECTION
    text = "{model: {class_path: synthrad.generators.gan.StyleGAN2}, trainer: {callbacks: [CALLBACK]}}"
    (lab / "gan.yaml").write_text(text.replace("CALLBACK", "synthrad.callbacks.selection.KeepBestKID"))
    check(lab, {"sources/made": {"generator": "LAB/gan.yaml", "checkpoint": "best"}})


def test_run_and_dry_run_tell_all_faults_at_once_and_write_no_seal(lab, tmp_path, capfd):
    path = write_study(lab, "twice", external={"elsewhere": "nowhere"})
    path.write_text(path.read_text().replace("test_resnet", "test_resnett"))
    for more in (["--dry-run"], ["--cores", "1"]):
        assert main(["study", "run", str(path), "--runs", str(tmp_path / "runs"), *more]) == 2
        said = capfd.readouterr().err
        assert "2 fault(s)" in said and "did you mean test_resnet" in said and "nowhere" in said
        assert not list((tmp_path / "runs").glob("*/*.sha256")) and not list((tmp_path / "runs").glob("*/graph.json"))


def test_generators_that_are_given_masks_may_move_them_and_a_dry_run_names_what_is_shared(lab, capsys):
    (lab / "gan.yaml").write_text("model: {class_path: synthrad.generators.gan.StyleGAN2, init_args: {masks: given}}\n")
    (lab / "control.yaml").write_text("model: {class_path: synthrad.generators.controlled.ControlledDiffusion}\n")
    (lab / "short.yaml").write_text("model: StyleGAN2\n")
    moved = {"generator": "LAB/gan.yaml", "mask_transform": "affine"}
    check(lab, {"sources/made": {"generator": "LAB/control.yaml", "mask_transform": "affine"}})
    with pytest.raises(InputError, match=re.escape("found within:tooth, and the layers []")):
        check(lab, {"sources/made": {"generator": "LAB/control.yaml", "mask_transform": "within:tooth", "overrides": ["--data.layers=[]"]}})
    for move, words in (("within:jaw", "the layers ['tooth']"), ("elastc", "did you mean elastic"), ("within", "within:<layer>")):
        with pytest.raises(InputError, match=re.escape(words)):
            check(lab, {"sources/made": {"generator": "LAB/control.yaml", "mask_transform": move}})
    check(lab, {"sources/made": {"generator": "LAB/short.yaml", "mask_transform": "flip", "overrides": ["--model.init_args.masks=given"]}})
    check(lab, {"sources/made": {"generator": "LAB/gan.yaml"}, "sources/moved": moved,
                "arms/moved": {"strategy": "SyntheticOnly", "source": "moved"}})
    capsys.readouterr()
    assert main(["study", "run", str(lab / "checked.yaml"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "source made: fit " in said and "source moved: the generator of made, " in said


@pytest.mark.parametrize(("starts", "more", "words"), [
    ({"model.autoencodr": "vae"}, {}, "no such option of a Diffusion.*did you mean model.autoencoder"),
    ({"model.autoencoder": "gan"}, {}, "source 'gan', a StyleGAN2; expected one of class Autoencoder"),
    ({"model.base": "ldm"}, {"generator": "LAB/control.yaml"}, "source 'ldm' that draws masks of tooth"),
    ({"model.autoencoder": "vae"}, {"overrides": ["--model.autoencoder=a.ckpt"]}, "take it out of overrides"),
    ({"model.autoencoder": "small"}, {}, r"source 'small' of \[16, 16\] pixels"),
    ({"autoencoder": "vae"}, {}, r"sources.made.starts: found 'autoencoder', expected an option of the generator's fit"),
])
def test_checkpoints_that_a_fit_would_refuse_hours_later(lab, starts, more, words):
    for name, kind in (("gan", "gan.StyleGAN2"), ("ldm", "diffusion.Diffusion"), ("vae", "autoencoder.Autoencoder"), ("control", "controlled.ControlledDiffusion")):
        (lab / f"{name}.yaml").write_text(f"model: {{class_path: synthrad.generators.{kind}}}\n")
    known = {n: {"generator": f"LAB/{n}.yaml"} for n in ("gan", "ldm", "vae")} | {"small": {"generator": "LAB/vae.yaml", "size": [16, 16]}}
    change = lambda starts, more: {"sources": {**known, "made": {"generator": "LAB/ldm.yaml", "starts": starts, **more}},  # noqa: E731
                                   "cells": {"classes": []}}
    with pytest.raises(InputError, match=f"(?s){words}"):
        check(lab, change(starts, more))
    check(lab, change({"model.autoencoder": "vae"}, {}))
    bare = {"ldm": {"generator": "LAB/ldm.yaml", "overrides": ["--data.layers=[]"]}}
    steered = lambda **more: {"sources": {**known, **bare, "made": {"generator": "LAB/control.yaml", "starts": {"model.base": "ldm"}, **more}},  # noqa: E731
                              "cells": {"classes": []}}
    check(lab, steered())
    for flag in ("--data.prompt={findings}", '--data.prompt_words={"F": "female"}', "--data.min_subjects=3", "--data.attributes=[]"):
        with pytest.raises(InputError, match=f"source 'ldm' with another {flag[2:].partition('=')[0]}"):
            check(lab, steered(overrides=[flag]))
    for mine, theirs in (("--data.layers=[]", ""), ("", "--data.layers=[]"), ("", "--model.masks=none"), ("--model.masks=given", "")):
        sides = {"vae": {"generator": "LAB/vae.yaml", "overrides": [theirs] * bool(theirs)},
                 "made": {"generator": "LAB/ldm.yaml", "starts": {"model.autoencoder": "vae"}, "overrides": [mine] * bool(mine)}}
        with pytest.raises(InputError, match="source 'vae' with another data.layers"):
            check(lab, {"sources": {**known, **sides}, "cells": {"classes": []}})
    with pytest.raises(InputError, match="prompts: found single; expected nothing: Autoencoder follows no condition"):
        check(lab, change({}, {"generator": "LAB/vae.yaml", "prompts": "single"}))


def test_a_source_that_only_others_start_from_is_trained_and_not_drawn_from(lab, tmp_path, capsys):
    (lab / "gan.yaml").write_text("model: {class_path: synthrad.generators.diffusion.Diffusion}\n")
    (lab / "vae.yaml").write_text("model: {class_path: synthrad.generators.autoencoder.Autoencoder, init_args: {bottleneck: vq}}\n")
    path = write_study(lab, "begun", sources={"made": {"generator": f"{lab}/gan.yaml", "starts": {"model.autoencoder": "vae"}},
                                              "vae": {"generator": f"{lab}/vae.yaml"}, "idle": {"generator": f"{lab}/gan.yaml"}})
    assert main(["study", "run", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert ", model.autoencoder of vae, " in said and "source vae: fit " in said
    study = load_study(path)
    manifest, plan = command._checked(study, path)
    graph = command._graph(study, path, manifest, plan)
    assert set(graph["sources"]) == {"made", "vae"} and graph["sources"]["made"]["starts"] == ["vae"]
    assert "pool" in graph["sources"]["made"] and "pool" not in graph["sources"]["vae"]
    folder = tmp_path / "run"
    assert source_state(folder, "vae", graph["sources"]["vae"]) == "open"
    for identity, state in ((graph["sources"]["vae"]["generator"], "done"), ("other", "stale")):
        (folder / "sources/vae").mkdir(parents=True, exist_ok=True)
        (folder / "sources/vae/generator.json").write_text(f'{{"checkpoint": "sources/vae/generator-{identity}/checkpoints/last.ckpt"}}')
        assert source_state(folder, "vae", graph["sources"]["vae"]) == state
