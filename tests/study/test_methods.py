"""Methods: what they say follows from the study file and the run."""

import json

import pytest
from described import SPEC, compared
from fake_run import write_images

from synthrad.study.audits import SetAudit
from synthrad.study.description import Study
from synthrad.study.methods import methods

ARMS = [{"name": "real_only", "strategy": "RealOnly", "role": "reference", "rows_real": 12, "rows_added": 0},
        {"name": "matched", "strategy": "Matched", "source": "gan", "role": "adding", "rows_real": 12, "rows_added": 24},
        {"name": "matched_duplicate", "strategy": "DuplicateReal", "role": "control", "rows_real": 12, "rows_added": 24}]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    home = folder / "sources" / "gan"
    (home / "generator-1" / "checkpoints").mkdir(parents=True)
    (home / "generator.json").write_text(json.dumps({"checkpoint": "sources/gan/generator-1/checkpoints/last.ckpt"}))
    (home / "generator-1" / "config.yaml").write_text("model: {class_path: synthrad.generators.gan.StyleGAN2, init_args: {max_images: 7000}}\n"
                                                      "data: {init_args: {batch_size: 8}}\n")
    (home / "filter_log.json").write_text(json.dumps([[{"filter": "MaskQuality(0.7)", "kept": 6, "rejected": 4}, {"filter": "MaskQuality(0.7)", "kept": 3, "rejected": 7}]]))
    return folder, write_images(folder / "real", 18, "real", 0), write_images(folder / "made", 8, "synthetic", 1)


def told(run, metric="dice", mechanics=False, audits=(), **more) -> dict[str, str]:
    folder, real, made = run
    study = Study.model_validate(SPEC | more)
    graph = {"sources": {"gan": {}, "other": {}}, "identity": "abcd"}
    return dict(methods(folder, study, real, graph, ARMS, {"gan": [made], "other": [made]}, compared(metric, mechanics), audits, {"synthrad": "1", "torch": "2"}, "a CPU"))


def test_every_number_of_the_run_is_there(run):
    text = told(run)
    assert "18 images of 18 patients came from the dataset real (licence: CC0)" in text["Data"] and "train 12 images of 12 patients, test 6" in text["Data"]
    assert "no patient is in two splits" in text["Data"] and "64 × 128 pixels (letterbox)" in text["Data"]
    images = text["Synthetic images"]
    for said in ("StyleGAN2", "--model.max_images=7000", "12 training images alone", "until it had seen 7,000 images, batch 8", "MaskQuality(0.7) kept 9 of 20 drawn images",
                 "The set other was made elsewhere"):
        assert said in images
    assert "matched: Matched (ratio = 2), 12 real rows and 24 synthetic rows of gan" in text["Arms"] and "24 more, real rows repeated" in text["Arms"]
    assert "same number of optimizer steps" in text["Arms"] and "in proportion to its rows" in told(run, budget="real_exposure")["Arms"]
    assert "segmentation of layer abnormality" in text["Downstream training"] and "300 steps" in text["Downstream training"] and "random weights" in text["Downstream training"]
    assert "light augmentation in all arms" in text["Downstream training"]
    assert "two-way layout" in text["Endpoint and inference"] and "Holm" in text["Endpoint and inference"]
    assert text["Software"] == "All steps were run with synthrad 1 on a CPU: torch 2. The configuration's hash is abcd."


def test_inference_is_that_of_the_metric_and_of_the_run(run):
    tasks = {"t": {**SPEC["tasks"]["t"], "kind": "classification", "layers": None}}
    text = told(run, "auroc", tasks=tasks, endpoint={**SPEC["endpoint"], "metric": "auroc"})["Endpoint and inference"]
    assert "bootstrap" in text and "1,000 times" in text and "two-way" not in text
    assert "no p-value was computed" in told(run, mechanics=True)["Endpoint and inference"] and "With 3 seeds" in told(run, seeds=3)["Endpoint and inference"]


def test_weights_that_were_loaded_are_named(run):
    config = run[0] / "sources" / "gan" / "generator-1" / "config.yaml"
    before = config.read_text()
    config.write_text(before.replace("max_images", "init_from: a/other.ckpt, max_images"))
    images = told(run)["Synthetic images"]
    config.write_text(before)
    assert "It began with the weights of another generator (other.ckpt)" in images and "alone" not in images
    nets = {"unet": {"class_path": "SmpNet", "init_args": {"arch": "Unet", "weights": "w.safetensors"}}}
    text = told(run, tasks={"t": {**SPEC["tasks"]["t"], "nets": nets}})["Downstream training"]
    assert "from the named weights" in text and "weights = w.safetensors" in text


def test_an_audit_is_told_with_its_outcome(run):
    assert told(run)["Privacy"] == "The study drew no synthetic set."
    none, done = SetAudit("gan", 0, "x"), SetAudit("gan", 0, "x", record={"images": 8, "trials": 20, "rungs": [], "banner": ""})
    assert told(run, audits=[none])["Privacy"].startswith("No synthetic set was audited")
    assert "the set gan (8 images) is not shown to be safe" in told(run, audits=[done])["Privacy"]


def test_what_a_task_changed_of_its_training_is_told(run):
    net = {"class_path": "TimmNet", "init_args": {"name": "resnet18"}, "learning_rate": 0.1}
    task = {"kind": "classification", "steps": 5, "nets": {"unet": net}, "loss": "class_balanced", "loss_options": {"beta": 0.99}, "layer_decay": 0.75, "decay_all": False,
            "head_learning_rate": 0.01, "views": 4}
    text = told(run, "auroc", tasks={SPEC["endpoint"]["task"]: task}, endpoint={**SPEC["endpoint"], "net": "unet", "metric": "auroc"})["Downstream training"]
    for said in ("learning_rate = 0.1", "class balanced loss (beta = 0.99)", "0.01 in the head", "0.75 times that in each layer", "no weight decay on norms",
                 "4 fixed light augmentations of each training image in all arms"):
        assert said in text
    assert "no augmentation in all arms" in told(run, "auroc", tasks={SPEC["endpoint"]["task"]: {**task, "views": 0}}, endpoint={
        **SPEC["endpoint"], "net": "unet", "metric": "auroc"})["Downstream training"]
