"""Models of images and text (CLIP, SigLIP) as classifiers: logits come from the embeddings of prompts, as they are or as a start to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthrad.errors import InputError
from synthrad.nets.pretrained_net import PretrainedNet
from synthrad.nets.text import check_lengths
from synthrad.nets.transformers_loading import load_model, source_of
from synthrad.nets.tuned_classifier import identity_of

KINDS = ("clip", "siglip")  # published SigLIP 2 of a fixed size is of model_type siglip; those of any size take patches, not pictures
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
READ = ("input_ids", "attention_mask")


class ClipClassifier(PretrainedNet):
    """A classifier: image [B, C, H, W] in [-1, 1] to logits [B, K] = scale (cos(image, present) - cos(image, absent)) + bias, of any size.

    The sigmoid of such a logit is the share of the first of two prompts in CLIP's softmax over both (Tiu et al. 2022, CheXzero). Embeddings of
    several templates are averaged at length 1 (Radford et al. 2021, section 3.1.4). The text encoder reads the prompts once, when the net is made.

    The folder of the weights (openai/clip-vit-base-patch32) holds its tokenizer, too; null weights are refused.

    Args:
        templates: prompts of a finding that is present, {} for its name.
        negatives: of one that is absent; [] = none, the logit is scale cos(image, present) + bias, as SigLIP is trained; null = "no {}", of SigLIP [].
        words: class -> what prompts call it; null = its name, _ as a space.
        tuning: zero_shot = nothing learns; frozen = embeddings of prompts, scale and bias; lora = low-rank changes of the image encoder's attention, too;
            full = all of the image encoder, too.
        classes: names of the K findings; linked from the data.
    """

    def __init__(
        self,
        templates: Sequence[str] = ("{}",),
        negatives: Sequence[str] | None = None,
        words: dict[str, str] | None = None,
        tuning: Literal["zero_shot", "frozen", "lora", "full"] = "zero_shot",
        classes: Sequence[str] | None = None,
        **options: Any,
    ):
        super().__init__(tuning=tuning, **options)
        if self.weights is None:
            raise InputError("model.net.weights", "null", "a folder in the hub's format, with its tokenizer, or a hub id in the local cache: prompts mean nothing to "
                             "random weights", "run `hf download openai/clip-vit-base-patch32 --local-dir FOLDER` where there is a network (read its licence)")
        if tuning not in ("zero_shot", "frozen", "lora", "full"):
            raise InputError("model.net.tuning", repr(tuning), "zero_shot, frozen, lora or full")
        model = load_model("AutoModel", self.weights, self.settings, self.in_channels)
        kind = model.config.model_type
        if kind not in KINDS:
            raise InputError("model.net.weights", f"a model of model_type {kind}", f"one of {', '.join(KINDS)}", "use TunedClassifier for models of images alone")
        if negatives is None:
            negatives = ["no {}"] if kind == "clip" else []
        names = _names(list(classes or []), words or {})
        tokenizer = _tokenizer(source_of(self.weights, "model.net.weights"))
        self.backbone = ImageTower(model)
        self._tune("frozen" if tuning == "zero_shot" else tuning)
        learns = tuning != "zero_shot"
        self.present = nn.Parameter(prompt_embeddings(model, tokenizer, templates, names, "templates"), requires_grad=learns)
        self.absent = nn.Parameter(prompt_embeddings(model, tokenizer, negatives, names, "negatives"), requires_grad=learns) if negatives else None
        shift = float(getattr(model, "logit_bias", torch.zeros(1))) if not negatives else 0.0
        self.log_scale = nn.Parameter(model.logit_scale.detach().clone().reshape(()), requires_grad=learns)
        self.bias = nn.Parameter(torch.full((len(names),), shift), requires_grad=learns)

    @property
    def identity(self) -> str:
        """SHA-256 of what decides the features of an image: equal ones give equal features."""
        return identity_of(self.backbone, [self.scale])

    def encode(self, image: Tensor) -> Tensor:
        """The embedding [B, D] of an image [B, C, H, W]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.backbone(self.shown(image, self.backbone.patch))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, K] of an image [B, C, H, W], or of what `encode` gave for it."""
        row = F.normalize(self.encode(image) if image.ndim == 4 else image)
        cosine = row @ F.normalize(self.present).T
        if self.absent is not None:
            cosine = cosine - row @ F.normalize(self.absent).T
        return self.log_scale.exp() * cosine + self.bias


class ImageTower(nn.Module):
    """The image encoder of a model of images and text, with its projection: [B, C, H, W] to [B, D]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.net, self.projection = model.vision_model, getattr(model, "visual_projection", None)
        self.patch = int(model.config.vision_config.patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """Embeddings, not of length 1."""
        row = self.net(pixel_values=image, interpolate_pos_encoding=True).pooler_output
        return row if self.projection is None else self.projection(row)


@torch.no_grad()
def prompt_embeddings(model: nn.Module, tokenizer: Any, templates: Sequence[str], names: Sequence[str], key: str) -> Tensor:
    """[K, D] of length 1: the mean over templates of the embeddings of prompts of K names.

    Raises:
        InputError: a template without {}, or a prompt of more tokens than the model takes.
    """
    if wrong := [t for t in templates if "{}" not in t]:
        raise InputError(f"model.net.{key}", repr(wrong[0]), "{} where the finding is named", "such as 'a radiograph with {}'")
    most = int(model.config.text_config.max_position_embeddings)
    rows = []
    for template in templates:
        prompts = [template.replace("{}", name) for name in names]
        check_lengths([len(tokenizer(p)["input_ids"]) for p in prompts], most, "tokens")
        padding = {"padding": True} if model.config.model_type == "clip" else {"padding": "max_length", "max_length": most}  # as each was trained
        given = {k: v for k, v in tokenizer(prompts, return_tensors="pt", **padding).items() if k in READ}
        found = model.eval().get_text_features(**given)
        rows.append(F.normalize(found if isinstance(found, Tensor) else found.pooler_output))
    return F.normalize(torch.stack(rows).mean(0))


def _names(classes: Sequence[str], words: Mapping[str, str]) -> list[str]:
    if not classes:
        raise InputError("model.net.classes", "none", "names of label classes", "use a manifest that has labels (prepare ... --labels)")
    if unknown := sorted(set(words) - set(classes)):
        raise InputError("model.net.words", repr(unknown), f"some of the classes {list(classes)}")
    return [words.get(c, c.replace("_", " ")) for c in classes]


def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    folder = path if path.is_dir() else path.parent
    if not any((folder / name).is_file() for name in VOCABULARIES):  # the library would make one without words, and say nothing
        raise InputError("model.net.weights", f"{folder.name}, without a tokenizer", f"one of {', '.join(VOCABULARIES)} beside config.json",
                         "download the whole folder again")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as e:  # the library raises many kinds
        raise InputError("model.net.weights", f"{folder.name}, whose tokenizer cannot be read: {type(e).__name__}: {' '.join(str(e).split())[:160]}",
                         "the tokenizer's files beside config.json", "download the whole folder again") from e
