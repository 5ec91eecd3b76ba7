"""Spaces by name and by config, and what they keep on disk."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml

from synthrad.audit.spaces import FORMULAS, Formulas, load_space, rows_of
from synthrad.audit.task_net import TaskNet
from synthrad.errors import InputError
from synthrad.metrics.features import radiomics
from synthrad.nets.feature_nets import TimmFeatures

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "features").glob("*.yaml"))
IMAGES = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Counting(Formulas):
    """Counts the images that were looked at."""

    seen = 0

    def __call__(self, images):
        Counting.seen += len(images)
        return super().__call__(images)


# ---- configs


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_configs_name_a_space_or_the_file_that_is_missing(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    if path.stem == "task_net":
        assert load_space(str(path)) == TaskNet()
        return
    with pytest.raises(InputError, match="weights/"):
        load_space(str(path))


def test_a_config_makes_the_space_that_it_names(tmp_path):
    torch.save(timm.create_model("test_resnet", pretrained=False).state_dict(), tmp_path / "w.pth")
    config = tmp_path / "space.yaml"
    config.write_text(yaml.safe_dump({"class_path": "synthrad.nets.feature_nets.TimmFeatures",
                                      "init_args": {"model": "test_resnet", "weights": str(tmp_path / "w.pth"), "size": 32}}))
    space = load_space(str(config))
    assert isinstance(space, TimmFeatures) and rows_of(space, IMAGES).shape == (6, space(IMAGES[:1]).shape[1])


@pytest.mark.parametrize(("text", "words"), [
    ("class_path: synthrad.audit.task_net.TaskNt", "did you mean"), ("class_path: os.system", "allow-import"), ("- 3", "class_path"),
    ("class_path: synthrad.audit.task_net.TaskNet\ninit_args: {step: 3}", "did you mean steps"),
    ("class_path: synthrad.audit.task_net.TaskNet\ninit_args: {steps: 0}", "at least 1 step"),
    ("class_path: synthrad.audit.task_net.TaskNet\nextra: 1", "class_path"), ("a: [", "no YAML"),
    ("class_path: synthrad.nets.feature_nets.TimmFeatures\ninit_args: {model: resnet18}", "weights"),
])
def test_bad_configs_are_one_message(text, words, tmp_path):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        load_space(str(tmp_path / "space.yaml"))


def test_names(tmp_path):
    for name in FORMULAS:
        assert load_space(name).name == name
    assert load_space("radiomics").identity != load_space("structure").identity
    structure = rows_of(load_space("structure"), IMAGES)
    assert structure @ structure.T / structure.shape[1] == pytest.approx(np.corrcoef(structure), abs=0.02)
    with pytest.raises(InputError, match="radiomics or structure"):
        load_space("radiomic")


# ---- what is kept


def test_features_are_kept_by_pixels_and_space_and_not_believed_when_changed(tmp_path):
    Counting.seen = 0
    rows = rows_of(Counting("radiomics"), IMAGES, tmp_path)
    assert np.array_equal(rows, radiomics(IMAGES).numpy()) and Counting.seen == 6
    assert np.array_equal(rows_of(Counting("radiomics"), IMAGES, tmp_path), rows) and Counting.seen == 6
    rows_of(Counting("structure"), IMAGES, tmp_path)
    changed = IMAGES.clone()
    changed[0, 0, 0, 0] += 0.01
    rows_of(Counting("radiomics"), changed, tmp_path)
    rows_of(Counting("radiomics"), IMAGES)  # nowhere to keep
    assert Counting.seen == 24
    for path in tmp_path.glob("*.npy"):  # a flipped bit, then half a file, then no digest
        path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    assert np.array_equal(rows_of(Counting("radiomics"), IMAGES, tmp_path), rows) and Counting.seen == 30
    for path in tmp_path.glob("*.npy"):
        path.write_bytes(path.read_bytes()[:200])
    assert np.array_equal(rows_of(Counting("radiomics"), IMAGES, tmp_path), rows) and Counting.seen == 36
    for path in tmp_path.glob("*.sha256"):
        path.unlink()
    rows_of(Counting("radiomics"), IMAGES, tmp_path)
    assert Counting.seen == 42


class Broken(Formulas):
    def __call__(self, images):
        return super().__call__(images) * float("nan")


def test_rows_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="or NaN"):
        rows_of(Broken("radiomics"), IMAGES)
