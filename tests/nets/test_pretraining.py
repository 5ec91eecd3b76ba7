import pytest

from synthrad.data.overlaps import ALIASES
from synthrad.nets.pretraining import KNOWN, PHOTOGRAPHS, pretraining_of


@pytest.mark.parametrize(("weights", "corpus", "complete"), [
    ("microsoft/rad-dino", "padchest", True), ("torchxrayvision/densenet121-res224-mimic_nb", "mimic-cxr", True), ("imagenet", "imagenet", True),
    ("timm/resnet18.a1_in1k", "imagenet", True), ("timm/vit_small_patch16_224.augreg_in21k_ft_in1k", "imagenet", True),
    ("timm/vit_base_patch14_dinov2.lvd142m", "lvd-142m", False), ("microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "pmc-15m", True),
    ("torchxrayvision/resnet50-res512-all", "vindr-cxr", True), ("StanfordAIMI/CheXagent-8b", "chexpert", False), ("facebook/sam-vit-base", "sa-1b", True),
])  # fmt: skip
def test_known_weights(weights, corpus, complete):
    found = pretraining_of(weights)
    assert corpus in found.corpora and found.complete == complete and "http" in found.said_by


@pytest.mark.parametrize("weights", ["weights/mine.ckpt", "somebody/finetuned-rad-dino", "ssl", "noisy-student",
                                     "timm/vit_base_patch16_clip_224.openai_ft_in1k", "timm/resnet18.fb_swsl_ig1b_ft_in1k", "timm/tf_efficientnet_b0.ns_jft_in1k"])
def test_unknown_weights(weights):
    assert pretraining_of(weights) is None


def test_every_corpus_is_one_that_overlaps_knows():
    assert {c for k in KNOWN for c in k.corpora} <= set(ALIASES) | set(PHOTOGRAPHS)


def test_every_row_has_a_source():
    assert all("http" in k.said_by for k in KNOWN) and {k.verified for k in KNOWN} == {True, False}
    assert "mimic-cxr" not in pretraining_of("torchxrayvision/resnet50-res512-all").corpora
