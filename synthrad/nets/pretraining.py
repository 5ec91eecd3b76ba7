"""What published weights were trained on, as their makers say: a net that saw the test set says nothing by its score there."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Pretraining:
    """What some weights were trained on.

    Args:
        names: regular expressions that a hub id or a weight's name matches as a whole, without case.
        corpora: names as in `synthrad.data.overlaps`; collections of photographs by their own.
        complete: the makers list all of it, and no collection of it may hold medical images by chance.
        said_by: the page that says so, with its address. verified: somebody has read it there (November 2026); else it is what is told.
    """

    names: tuple[str, ...]
    corpora: tuple[str, ...]
    complete: bool
    said_by: str
    verified: bool = True


XRV = "model cards at https://huggingface.co/torchxrayvision and models.py of https://github.com/mlmed/torchxrayvision"
RAD_DINO = ("mimic-cxr", "chexpert", "nih-chestxray14", "padchest", "brax")
CHEXINSTRUCT = ("nih-chestxray14", "chexpert", "mimic-cxr", "padchest", "brax", "vindr-cxr", "rsna-pneumonia", "siim-acr-pneumothorax", "candid-ptx", "covidx", "openi")
KNOWN = (
    Pretraining((r"microsoft/rad-dino",), RAD_DINO, True, "its model card, training data, https://huggingface.co/microsoft/rad-dino (https://arxiv.org/abs/2401.10815)"),
    Pretraining((r"microsoft/rad-dino-maira-2",), RAD_DINO, False,
                "its model card, https://huggingface.co/microsoft/rad-dino-maira-2: more data than RAD-DINO, and whether all of RAD-DINO's was not seen", verified=False),
    Pretraining((r"torchxrayvision/densenet121-res224-all",), ("nih-chestxray14", "padchest", "chexpert", "mimic-cxr", "nih-google", "openi", "rsna-pneumonia"), True, XRV),
    Pretraining((r"torchxrayvision/resnet50-res512-all",), ("padchest", "nih-chestxray14", "rsna-pneumonia", "siim-acr-pneumothorax", "vindr-cxr"), True, XRV),
    Pretraining((r"torchxrayvision/densenet121-res224-nih",), ("nih-chestxray14",), True, XRV),
    Pretraining((r"torchxrayvision/densenet121-res224-pc",), ("padchest",), True, XRV),
    Pretraining((r"torchxrayvision/densenet121-res224-chex",), ("chexpert",), True, XRV),
    Pretraining((r"torchxrayvision/densenet121-res224-mimic_(nb|ch)",), ("mimic-cxr",), True, XRV),
    Pretraining((r"torchxrayvision/densenet121-res224-rsna",), ("rsna-pneumonia",), True, XRV),
    Pretraining((r"microsoft/biomedclip-.*",), ("pmc-15m",), True,
                "its model card, https://huggingface.co/microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 (https://arxiv.org/abs/2303.00915)"),
    Pretraining((r"stanfordaimi/chexagent-.*",), CHEXINSTRUCT, False, "data_chexinstruct/dataset_processors of https://github.com/Stanford-AIMI/CheXagent "
                "(https://arxiv.org/abs/2401.12208: 28 public sets, not all of them in our table)"),
    Pretraining((r"(wanglab|flaviagiammarino)/medsam-.*",), (), False, "https://doi.org/10.1038/s41467-024-44824-z, abstract: 1,570,263 images of 10 modalities from many public sets, not in our table"),
    Pretraining((r"google/(medsiglip|medgemma)-.*",), ("mimic-cxr", "pmc-open-access"), False,
                "the model cards at https://huggingface.co/google/medgemma-4b-it as others quote them: public and private sets", verified=False),
    Pretraining((r"facebook/sam-vit-.*", r"timm/samvit_.*sa1b"), ("sa-1b",), True, "Segment Anything, https://github.com/facebookresearch/segment-anything (https://arxiv.org/abs/2304.02643): photographs"),
    Pretraining((r"facebook/dinov2-.*", r"timm/.*lvd142m"), ("lvd-142m",), False, "https://arxiv.org/abs/2304.07193, section 3, data processing: pictures of the web"),
    Pretraining((r"imagenet(\+\w+)?", r"imagenet(21k|-21k|-1k)", r"advprop", r"timm/.*\.[\w.]*(in1k|in12k|in21k|in22k)"), ("imagenet",), True,
                "model cards such as https://huggingface.co/timm/resnet18.a1_in1k (https://arxiv.org/abs/1409.0575): photographs"),
)
PHOTOGRAPHS = ("imagenet", "sa-1b", "lvd-142m")  # corpora that hold no medical images but by chance
_PHOTOGRAPHS_OF_THE_WEB = re.compile(r"clip|laion|openai|ssl|swsl|ig1b|jft|noisy|ns_|yfcc|webli|datacomp|dfn|metaclip|cc12m|merged", re.IGNORECASE)


def pretraining_of(weights: str) -> Pretraining | None:
    """What is known of a hub id or of a weight's name (`imagenet`); None where nothing is, as of any local file.

    Weights of timm that also saw pictures of the web are not known by their ImageNet part alone.
    """
    if weights.lower().startswith("timm/") and _PHOTOGRAPHS_OF_THE_WEB.search(weights):
        return None
    return next((k for k in KNOWN if any(re.fullmatch(n, weights, re.IGNORECASE) for n in k.names)), None)
