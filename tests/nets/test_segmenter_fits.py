"""One short fit of each family of segmentation nets through the command line: parsing, links, memory layout, checkpoint and test."""

import json

import pytest
from tiny_sam import SAM, SAM2
from tiny_set import make

from synthrad.__main__ import main
from synthrad.cases import read_cases

VIT = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2, "image_size": 28, "patch_size": 14}
SWIN = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 2, 2], "window_size": 4, "image_size": 32}
SEGFORMER = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 2], "decoder_hidden_size": 16}
NETS = {
    "dpt": ("VitSegmenter", {"settings": VIT, "head": "dpt", "channels": 8, "tuning": "full"}),
    "lora": ("VitSegmenter", {"settings": VIT, "head": "linear", "tuning": "lora"}),
    "sam": ("SamNet", {"settings": {"model_type": "sam", **SAM}, "tuning": "full", "scale": 2}),
    "sam2": ("SamNet", {"settings": {"model_type": "sam2", **SAM2}, "tuning": "full", "prompt": "box"}),
    "swin": ("SwinUperNet", {"settings": SWIN, "channels": 8}),
    "segformer": ("SegformerNet", {"settings": SEGFORMER}),
    "unet": ("DeepUnet", {"depth": 3, "filters": 4, "supervised_levels": 1}),
    "dynunet": ("MonaiNet", {"options": {"kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3, "filters": [4, 8, 8, 8],
                                         "deep_supr_num": 2}}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "real"
    make(folder)
    return folder


@pytest.mark.filterwarnings("ignore:.*random features.*")
@pytest.mark.parametrize("family", [pytest.param(k, marks=() if k in ("lora", "sam2", "dynunet") else pytest.mark.slow) for k in NETS])
def test_fit_and_test(family, data, tmp_path, capsys):
    name, given = NETS[family]
    flags = [f"--model.net.{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in given.items()]
    common = ["--model=SegmentationTask", f"--model.net={name}", *flags, "--data=FusionDataModule", f"--data.manifest={data}", "--data.size=[32,32]",
              "--data.batch_size=2", f"--trainer.default_root_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu"]  # fmt: skip
    if family in ("sam", "dpt"):
        common.append("--trainer.precision=bf16-mixed")
    assert main(["fit", *common, "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.check_val_every_n_epoch=null"]) == 0, capsys.readouterr().err
    best = next((tmp_path / "run").rglob("best*.ckpt"))
    assert main(["test", *common, f"--ckpt_path={best}"]) == 0, capsys.readouterr().err
    cases = read_cases([tmp_path / "run" / "cases.parquet"])
    assert set(cases["net"]) == {name} and set(cases["class_name"]) == {"crown", "root"}
