"""SAM, SAM-HQ, MedSAM and SAM2 without a user: a prompt for each output channel that is learned, or a box from a coarse prediction."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from synthrad.errors import InputError
from synthrad.nets.deep_supervision import Supervised
from synthrad.nets.dense_heads import enlarged
from synthrad.nets.loading import load_plain
from synthrad.nets.pretrained_net import PretrainedNet
from synthrad.nets.sam_original import is_original, renamed, settings_of
from synthrad.nets.transformers_loading import Pixels, load_model, merged, resized_positions, source_of
from synthrad.nets.tuning import Tuning

Prompt = Literal["learned", "box"]
CLASSES = {"sam": "SamModel", "sam_hq": "SamHQModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
STEP = {"sam": 16, "sam_hq": 16, "sam2": 32}  # SAM2 halves the picture five times


class SamNet(PretrainedNet):
    """A segmentation net: image [B, C, H, W] in [-1, 1] to logits [B, out_channels, H, W], of any size.

    Every output channel has its own prompt and gets the one mask that the mask decoder draws for it; layers exclude structures as everywhere, by the
    softmax over a layer's masks. The mask decoder always learns; the prompt encoder never does. Embeddings of places are interpolated to the picture's
    grid, also where it is no square.

    A learned prompt is as many tokens as a box's, which start as those of the whole picture, plus noise of their own deviation. A box is that of a coarse prediction,
    a linear map of the image embedding that learns by the same loss (a further output in training): around the mean place by sqrt(3) deviations, which for
    a filled rectangle is the rectangle; places count by the channel's softmax over all channels, and no gradient passes through the box. Beside it stands a
    learned token that says which channel it is: structures in one box, and the background, would be drawn alike else.

    Weights in the hub: facebook/sam-vit-base, wanglab/medsam-vit-base, syscv-community/sam-hq-vit-base, facebook/sam2.1-hiera-tiny; of SAM, MedSAM and SAM-HQ also the
    authors' own files, such as medsam_vit_b.pth. Published ones saw pictures of 1024 px: scale 4 for those of 256 px. Without weights the settings
    name the model: {model_type: sam, vision_config: {...}, ...}.

    Args:
        prompt: learned or box.
        tuning: of the image encoder: frozen, lora = low-rank changes of its attention, full.
        pixels: that the weights were trained on: standardised, as SAM's, or plain = from 0 to 1, as MedSAM's (bowang-lab/MedSAM, MedSAM_Inference.py); null = as
            preprocessor_config.json beside the weights says, standardised where there is none.
        coarse_weight: of the coarse prediction's loss beside the masks', with boxes.
        out_channels: logits, over all layers; linked from the data.
    """

    BACKBONE = "net.vision_encoder"

    def __init__(
        self,
        prompt: Prompt = "learned",
        tuning: Tuning = "frozen",
        pixels: Pixels | None = None,
        coarse_weight: float = 0.4,
        out_channels: int = 2,
        **options: Any,
    ):
        super().__init__(tuning=tuning, **options)
        if prompt not in ("learned", "box"):
            raise InputError("model.net.prompt", repr(prompt), "learned or box")
        if pixels not in (None, "standardised", "plain"):
            raise InputError("model.net.pixels", repr(pixels), "null, standardised or plain")
        self.net = self._loaded(pixels)
        self.kind = {"SamModel": "sam", "SamHQModel": "sam_hq", "Sam2Model": "sam2"}[type(self.net).__name__]
        self.coarse_weight = coarse_weight
        self._freeze()
        width = self.net.mask_decoder.hidden_size
        self.coarse = nn.Conv2d(width, out_channels, 1) if prompt == "box" else None
        whole = self._of_boxes(torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 4)).detach()
        start = whole if prompt == "learned" else whole.mean(2, keepdim=True)
        self.prompts = nn.Parameter(start + whole.std() * torch.randn(1, out_channels, start.shape[2], width))

    def _loaded(self, pixels: Pixels | None) -> nn.Module:
        """The library's model, of its own files or of the authors'."""
        path = None if self.weights is None else source_of(self.weights, "model.net.weights")
        state = load_plain(path) if path is not None and path.is_file() else None
        if state is None or not is_original(state):
            return load_model(CLASSES, self.weights, self.settings, self.in_channels, pixels=pixels)
        said = merged(settings_of(state, f"model.net.weights {self.weights}"), self.settings or {})
        return load_model(CLASSES, self.weights, said, self.in_channels, state=renamed(state), pixels=pixels)

    def _freeze(self) -> None:
        """All but the image encoder (as it is tuned) and those parts of the mask decoder that single masks pass."""
        self.net.requires_grad_(False)
        self._tune()
        decoder = self.net.mask_decoder
        decoder.requires_grad_(True)
        decoder.iou_prediction_head.requires_grad_(False)
        for other in decoder.output_hypernetworks_mlps[1:]:
            other.requires_grad_(False)
        if self.kind == "sam2":
            decoder.pred_obj_score_head.requires_grad_(False)
            decoder.dynamic_multimask_via_stability = False  # in evaluation the mask that was trained

    def forward(self, image: Tensor) -> Tensor | Supervised:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]; with boxes, in training, the coarse ones too."""
        places, further = self._encoded(self.shown(image, STEP[self.kind]))
        coarse = None if self.coarse is None else self.coarse(places)
        prompts = self.prompts.expand(len(image), -1, -1, -1)
        if coarse is not None:
            prompts = torch.cat([self._of_boxes(boxes_of(coarse.detach())), prompts], 2)
        masks = enlarged(self._decoded(places, further, prompts), image.shape[-2:])
        return masks if coarse is None or not self.training else Supervised([masks, coarse], [1.0, self.coarse_weight])

    def _encoded(self, image: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The image embedding [B, width, h, w], and what else the mask decoder takes of it."""
        encoder = self.net.vision_encoder
        if self.kind == "sam2":
            fine, middle, places = encoder(image).fpn_hidden_states
            decoder = self.net.mask_decoder
            return places + self.net.no_memory_embedding.view(1, -1, 1, 1), {"high_resolution_features": [decoder.conv_s0(fine), decoder.conv_s1(middle)]}
        x = encoder.patch_embed.projection(image).permute(0, 2, 3, 1)
        if encoder.pos_embed is not None:
            x = x + resized_positions(encoder.pos_embed, x.shape[1:3])
        between = []
        for layer in encoder.layers:
            x = layer(x)
            if layer.window_size == 0:
                between.append(x)
        return encoder.neck(x), {"intermediate_embeddings": between, "hq_token_only": False} if self.kind == "sam_hq" else {}

    def _of_boxes(self, boxes: Tensor) -> Tensor:
        """Prompts [B, n, corners, width] of boxes (x0, y0, x1, y1) [B, n, 4] in shares of the picture."""
        side = self.net.prompt_encoder.input_image_size  # of which the library takes the share
        return self.net.prompt_encoder(None, None, boxes * side - 0.5, None)[0]

    def _decoded(self, places: Tensor, further: dict[str, Any], prompts: Tensor) -> Tensor:
        """Masks [B, n, 4 h, 4 w]."""
        h, w = places.shape[-2:]
        y, x = ((torch.arange(n, device=places.device, dtype=torch.float32) + 0.5) / n for n in (h, w))
        grid = torch.stack([x.expand(h, w), y[:, None].expand(h, w)], -1)
        where = self.net.shared_image_embedding(grid).permute(2, 0, 1)[None].expand(len(places), -1, -1, -1)
        nothing = self.net.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1)
        masks = self.net.mask_decoder(image_embeddings=places, image_positional_embeddings=where, sparse_prompt_embeddings=prompts,
                                      dense_prompt_embeddings=nothing.expand(1, -1, h, w), multimask_output=False, **further)[0]
        return masks[:, :, 0]


def boxes_of(coarse: Tensor) -> Tensor:
    """Boxes (x0, y0, x1, y1) [B, n, 4], in shares of the picture, around the places of each channel of logits [B, n, h, w]."""
    share = coarse.float().softmax(1)
    share = share / share.sum((2, 3), keepdim=True).clamp(min=1e-12)
    ends = []
    for axis, over in ((3, 2), (2, 3)):
        n = coarse.shape[axis]
        along, at = share.sum(over), (torch.arange(n, device=coarse.device) + 0.5) / n
        mean = (along * at).sum(-1)
        spread = ((along * (at - mean[..., None]).square()).sum(-1) + 1 / (12 * n * n)).sqrt()  # a place is a square, not a point
        ends.append([(mean - math.sqrt(3) * spread).clamp(0, 1), (mean + math.sqrt(3) * spread).clamp(0, 1)])
    (x0, x1), (y0, y1) = ends
    return torch.stack([x0, y0, x1, y1], -1)
