import pytest
from pydantic import ValidationError
from sound_study import changed

from synthrad.study.description import Study, digest_of
from synthrad.study.one_fit import _rates


def study(**changes):
    return Study.model_validate(changed(**changes))


def test_a_loss_is_said_only_where_it_is_named():
    """Studies from before keep their hash."""
    task = {"kind": "classification", "steps": 5, "nets": {"unet": {"class_path": "TimmNet"}}}
    plain = study(tasks__t=task, endpoint__metric="auroc")
    assert not {"loss", "loss_options"} & set(plain.said()["tasks"]["t"])
    named = study(tasks__t={**task, "loss": "asymmetric", "loss_options": {"margin": 0.1}}, endpoint__metric="auroc")
    assert named.said()["tasks"]["t"]["loss"] == "asymmetric" and named.said()["tasks"]["t"]["loss_options"] == {"margin": 0.1}
    with pytest.raises(ValidationError, match="is of a classification"):
        study(tasks__t__loss="focal")


def test_rates_of_a_net_are_its_own_or_its_tasks():
    nets = {"cnn": {"class_path": "TimmNet"}, "probe": {"class_path": "TimmNet", "learning_rate": 0.1, "layer_decay": 0.5}}
    made = study(tasks__t={"kind": "classification", "steps": 5, "nets": nets, "decay_all": False, "head_learning_rate": 0.2},
                 endpoint__net="cnn", endpoint__metric="auroc")
    task = made.tasks["t"]
    assert _rates(task, "cnn") == {"lr": 1e-3, "layer_decay": None, "head_lr": 0.2, "decay_all": False}
    assert _rates(task, "probe") == {"lr": 0.1, "layer_decay": 0.5, "head_lr": 0.2, "decay_all": False}
    said = made.said()["tasks"]["t"]
    assert set(said["nets"]["cnn"]) == {"class_path", "init_args"} and said["nets"]["probe"]["learning_rate"] == 0.1
    assert said["head_learning_rate"] == 0.2 and "layer_decay" not in said


def test_sources_are_trained_before_those_that_start_from_them():
    vae, first = {"generator": "vae.yaml"}, {"generator": "a.yaml", "starts": {"model.autoencoder": "vae"}}
    made = study(sources={"vae": vae, "first": first, "made": {"generator": "b.yaml", "starts": {"model.init_from": "first"}}})
    assert made.trained_before("made") == ["vae", "first"] and made.trained_before("vae") == []
    for starts, said in (({"model.base": "made"}, "starts from 'made' itself"), ({"model.base": "other"}, "none of the sources with a `generator`")):
        with pytest.raises(ValidationError, match=said):
            study(sources={"made": {"generator": "b.yaml", "starts": starts}})


def test_a_digest_follows_what_is_said_and_not_its_order():
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
