"""What one fit is built of: nets and tasks of a study file, and the arguments of its training. Fits: test_study_robustness."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from synthrad import nets
from synthrad.datamodules import fusion
from synthrad.errors import InputError
from synthrad.study import fitting
from synthrad.study.description import Task
from synthrad.study.one_fit import build_net, build_task, fit_seed

DATA = SimpleNamespace(layers={"tooth": ("crown", "root"), "bone": ("lesion",)}, classes=("caries", "implant"), num_channels=2)


class Small(nn.Linear):
    """Takes the place of both nets; notes what it is given."""

    def __init__(self, name: str = "x", in_channels: int = 1, num_classes: int = 1):
        self.given = name, in_channels, num_classes
        super().__init__(2, num_classes)


class Painter(nn.Linear):
    def __init__(self, arch: str = "Unet", in_channels: int = 1, out_channels: int = 1):
        self.given = arch, in_channels, out_channels
        super().__init__(2, out_channels)


@pytest.fixture(autouse=True)
def small_nets(monkeypatch):
    monkeypatch.setattr(nets, "TimmNet", Small)
    monkeypatch.setattr(nets, "SmpNet", Painter)


def task(kind="classification", net="TimmNet", args=None, **more):
    return Task(**{"kind": kind, "nets": {"n": {"class_path": net, "init_args": args or {}}}, "steps": 40} | more)


@pytest.mark.parametrize("path", ["TimmNet", "synthrad.nets.TimmNet"])
def test_counts_of_channels_and_outputs_come_from_the_data(path):
    assert build_net(task(net=path, args={"name": "resnet"}), "n", 3, 7).given == ("resnet", 3, 7)
    assert build_net(task("segmentation", "SmpNet"), "n", 3, 7).given == ("Unet", 3, 7)


def test_an_unknown_net_is_told_with_what_may_be_meant():
    with pytest.raises(InputError) as e:
        build_net(task(net="synthrad.nets.TimNet"), "n", 1, 1)
    assert str(e.value) == ("nets.n.class_path: found 'synthrad.nets.TimNet'; expected one of " + ", ".join(nets.__all__) + ".\n"
                            "  Repair: did you mean TimmNet?")  # fmt: skip
    for path in ("os.system", "", "Linear"):
        with pytest.raises(InputError, match=f"expected one of {', '.join(nets.__all__)}\\.$"):
            build_net(task(net=path), "n", 1, 1)


def test_unknown_arguments_of_a_net_are_all_named():
    with pytest.raises(InputError, match=r"nets\.n\.init_args: found unknown keys \['depth', 'nam'\]; expected some of \['name'"):
        build_net(task(args={"nam": "x", "depth": 3, "name": "y"}), "n", 1, 1)


def test_numbers_that_come_from_the_data_are_no_arguments():
    with pytest.raises(InputError, match=r"nets\.n\.init_args: found \['in_channels'\]; expected no such key"):
        build_net(task(args={"name": "x", "in_channels": 1}), "n", 1, 2)


def test_a_segmentation_has_an_output_for_each_structure_and_one_for_the_rest_of_each_layer():
    built = build_task(task("segmentation", "SmpNet", learning_rate=0.25), "n", DATA)
    assert built.net.given == ("Unet", 2, 5) and built.hparams["layers"] == {"tooth": ["crown", "root"], "bone": ["lesion"]}
    assert built.hparams["lr"] == 0.25
    built = build_task(task("segmentation", "SmpNet", layers=("bone",)), "n", DATA)
    assert built.net.given == ("Unet", 2, 2) and built.hparams["layers"] == {"bone": ["lesion"]}


def test_a_classification_has_an_output_for_each_class_in_the_order_of_the_study():
    assert build_task(task(), "n", DATA).hparams["classes"] == ["caries", "implant"]
    built = build_task(task(classes=("implant", "caries")), "n", DATA)
    assert built.net.given == ("x", 2, 2) and built.hparams["classes"] == ["implant", "caries"]
    assert build_task(task(classes=("implant",)), "n", DATA).net.given == ("x", 2, 1)


def test_layers_and_classes_that_the_data_has_not():
    with pytest.raises(InputError) as e:
        build_task(task("segmentation", "SmpNet", layers=("gum", "bone")), "n", DATA)
    assert str(e.value) == "tasks.layers: found ['gum']; expected some of the layers ['bone', 'tooth']."
    with pytest.raises(InputError) as e:
        build_task(task(classes=("x", "caries", "a")), "n", DATA)
    assert str(e.value) == "tasks.classes: found ['a', 'x']; expected some of the classes ['caries', 'implant']."


@pytest.fixture
def fit(monkeypatch, tmp_path):
    """fit_seed with a data module and a training that only note what they are given."""
    calls = []

    def data_of(manifest, **options):
        torch.rand(17)  # what data draw must not reach the weights
        return SimpleNamespace(**vars(DATA), options={"manifest": manifest, **options})

    def run(module, data, folder, **options):
        calls.append(SimpleNamespace(weight=module.net.weight.detach().clone(), data=data.options, folder=folder, **options))
        return {"steps": options["steps"]}

    monkeypatch.setattr(fusion, "FusionDataModule", data_of)
    monkeypatch.setattr(fitting, "fit_and_test", run)

    def call(seed=3, arm="matched", steps=40, strategy="plan", folder=None, **more):
        study = SimpleNamespace(tasks={"find": task(**more)}, manifest="real", size=(32, 64), external={"site": "x"})
        return fit_seed(study, "find", "n", SimpleNamespace(name=arm, role="reference" if arm == "real_only" else "adding"), strategy, "pool", steps, seed, folder or tmp_path, "id")

    call.calls = calls
    return call


def test_arms_of_one_seed_start_from_the_same_weights_and_seeds_from_others(fit):
    for arm, strategy, seed in (("real_only", None, 3), ("matched", "plan", 3), ("matched", "plan", 4)):
        torch.rand(5)
        assert fit(seed, arm, strategy=strategy) == {"steps": 40, "task": "find", "net": "n", "arm": arm, "seed": seed}
    first, second, third = (c.weight for c in fit.calls)
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_a_fit_gets_what_the_study_says(fit, tmp_path):
    fit(batch_size=8, precision="bf16-mixed", validations=7)
    (made,) = fit.calls
    assert made.data == {"manifest": "real", "synthetic": "pool", "fusion": "plan", "size": (32, 64), "judged_size": (32, 64),
                         "batch_size": 8, "seed": 3, "steps": 40, "external": {"site": "x"}, "views": None}  # fmt: skip
    assert (made.folder, made.steps, made.val_every, made.seed, made.identity) == (tmp_path, 40, 5, 3, "id")
    assert made.names == {"task": "find", "net": "n", "arm": "matched"}
    assert made.precision == "bf16-mixed" and made.keep_checkpoint is False


def test_a_task_of_its_own_size_is_judged_at_the_studys_and_few_steps_are_validated_at_each(fit):
    fit(size=(16, 32), validations=10, steps=4)
    (made,) = fit.calls
    assert made.data["size"] == (16, 32) and made.data["judged_size"] == (32, 64) and made.val_every == 1


def test_a_finished_fit_builds_nothing(fit, tmp_path, monkeypatch):
    done = {(tmp_path, "id"): {"steps": 9}}
    monkeypatch.setattr(fitting, "finished", lambda folder, identity: done.get((folder, identity)))
    assert fit() == {"steps": 9, "task": "find", "net": "n", "arm": "matched", "seed": 3} and not fit.calls
    fit(folder=tmp_path / "other")
    assert len(fit.calls) == 1
