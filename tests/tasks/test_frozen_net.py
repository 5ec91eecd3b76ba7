"""Features of a frozen net: those that are kept are those that would be computed, whatever arm, seed or augmentation."""

import pytest
import torch
from lightning.pytorch import Trainer
from tiny_set import make

from synthrad.cases import read_cases
from synthrad.datamodules.fusion import FeatureCases, FusionDataModule
from synthrad.errors import InputError, RunError
from synthrad.fusion import Cells, DuplicateReal, Matched
from synthrad.fusion.controls import AugmentedReal
from synthrad.nets.tuned_classifier import TunedClassifier
from synthrad.study.fitting import fit_and_test
from synthrad.tasks import ClassificationTask
from synthrad.tasks.frozen_net import FrozenNet

SMALL = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 2, "image_size": 28, "patch_size": 14}
pytestmark = pytest.mark.filterwarnings("ignore:.*random features.*", "ignore:.*no lineage.*", "ignore:.*lineage.*")


@pytest.fixture
def sets(tmp_path):
    make(tmp_path / "real")
    make(tmp_path / "made", source="synthetic", seed=1, name="tiny")
    return tmp_path


def net(seed=0, **more):
    torch.manual_seed(seed)
    return TunedClassifier(settings=SMALL, num_classes=2, **more)


def fit(sets, name, fusion=None, head="linear", seed=0, views=3, keep=True):
    data = FusionDataModule(str(sets / "real"), str(sets / "made") if fusion else None, fusion, (32, 32), 4, seed, steps=5, views=views, keep_features=keep)
    task = ClassificationTask(net(head=head), list(data.classes), lr=0.01)
    fit_and_test(task, data, sets / name, 5, 5, seed, {"task": "t", "net": "n", "arm": "a"}, "one")
    return data, read_cases([sets / name / "cases.parquet"]).drop(columns=["seed"])


@pytest.mark.parametrize(("head", "views"), [("linear", 0), ("linear", 3), ("attentive", 2)])
def test_kept_features_teach_what_computed_ones_teach(sets, head, views, capsys):
    arm = Matched(cells=Cells(classes=()))
    kept, cases = fit(sets, "kept", arm, head, views=views)
    assert all(isinstance(d, FeatureCases) for d in kept._data.values()) and "features of" in capsys.readouterr().out
    computed, again = fit(sets, "computed", Matched(cells=Cells(classes=())), head, views=views, keep=False)
    assert not any(isinstance(d, FeatureCases) for d in computed._data.values())
    assert (cases["probability"] - again["probability"]).abs().max() < (1e-5 if head == "linear" else 2e-3)
    assert cases.drop(columns=["probability", "threshold"]).equals(again.drop(columns=["probability", "threshold"]))


def test_other_arms_and_seeds_compute_nothing_twice(sets, monkeypatch):
    shown = []
    tokens = type(net().backbone).tokens
    monkeypatch.setattr(type(net().backbone), "tokens", lambda self, image: shown.append(len(image)) or tokens(self, image))
    like = Matched(cells=Cells(classes=()))
    fit(sets, "first", like)
    assert sum(shown) > 30
    del shown[:]
    fit(sets, "second", Matched(cells=Cells(classes=())), seed=1)
    fit(sets, "real_only")
    fit(sets, "duplicate", DuplicateReal(like=like))
    assert shown == [1, 1, 1]  # whose operations are counted
    fit(sets, "augmented", AugmentedReal(like=like))
    assert sum(shown) > 20  # these pictures are new


def test_fresh_augmentation_is_said_to_be_computed_at_every_draw(sets, capsys):
    data, _ = fit(sets, "fresh", views=None)
    assert "computed at every draw" in capsys.readouterr().out
    assert not isinstance(data._data["train"], FeatureCases) and isinstance(data._data["val"], FeatureCases) and isinstance(data._data["test "], FeatureCases)


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_a_net_that_the_precision_converts_sees_every_picture(sets, precision):
    data = FusionDataModule(str(sets / "real"), size=(32, 32), batch_size=4, steps=2, views=2)
    task = ClassificationTask(net(), list(data.classes), pictures=0)
    run = Trainer(accelerator="cpu", precision=precision, max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    run.fit(task, data)
    run.test(task, data, verbose=False)
    assert {isinstance(d, FeatureCases) for d in data._data.values()} == {precision == "bf16-mixed"} and task.cases["probability"].notna().all()


def test_views_are_fixed_for_an_image_and_all_shown(sets):
    data = FusionDataModule(str(sets / "real"), size=(32, 32), batch_size=4, steps=5, views=3, seed=1)
    other = FusionDataModule(str(sets / "real"), size=(32, 32), batch_size=4, steps=5, views=3, seed=2)
    for d in (data, other):
        d.setup("fit")
    cases, rows = data._data["train"], len(data._data["train"])
    assert [cases.number_of((2, d * rows)) for d in range(4)] == [8, 6, 7, 8]
    for draw in range(0, 3 * rows, rows):
        image = cases[2, draw].image
        assert torch.equal(image, other._data["train"][2, draw + 3 * rows].image)
        assert torch.equal(image, torch.from_numpy(cases.picture(cases.number_of((2, draw)))))
    assert len({cases[2, d * rows].image.sum().item() for d in range(3)}) == 3
    plain = FusionDataModule(str(sets / "real"), size=(32, 32), batch_size=4, steps=5, views=0)
    plain.setup("fit")
    assert torch.equal(plain._data["train"][2, 0].image, plain._data["train"][2, 9 * rows].image)


def test_another_backbone_than_that_of_the_features_is_refused():
    ours, theirs = net(), net(seed=1)
    served = FrozenNet(ours, torch.device("cpu"))
    served.encode(torch.zeros(1, 1, 28, 28))
    served.check()
    ours.load_state_dict(ours.state_dict())
    served.check()  # written, but with the same weights
    ours.load_state_dict(theirs.state_dict())
    with pytest.raises(RunError, match="another model.net.weights"):
        served.check()


def test_a_net_keeps_its_mode(sets):
    module = net().train()
    FrozenNet(module, torch.device("cpu")).encode(torch.zeros(2, 1, 28, 28))
    assert module.training and not module.backbone.training


def test_zero_shot_is_validated_and_tested_without_a_step(sets):
    from tiny_clip import make_clip

    from synthrad.nets.clip_classifier import ClipClassifier

    folder = make_clip(sets / "clip")
    data = FusionDataModule(str(sets / "real"), size=(32, 32), batch_size=4, steps=5)
    task = ClassificationTask(ClipClassifier(weights=str(folder), classes=data.classes), list(data.classes))
    facts = fit_and_test(task, data, sets / "run", 5, 5, 0, {"task": "t", "net": "n", "arm": "a"}, "one")
    assert facts["steps"] == facts["best_step"] == 0 and facts["score_val"] is not None
    cases = read_cases([sets / "run" / "cases.parquet"])
    assert cases["threshold"].notna().any() and cases["probability"].between(0, 1).all()
    assert fit_and_test(task, data, sets / "run", 5, 5, 0, {"task": "t", "net": "n", "arm": "a"}, "one") == facts
    with pytest.raises(InputError, match="of which nothing learns"):
        task.configure_optimizers()
