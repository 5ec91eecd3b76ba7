"""Networks as plain torch modules; configs and studies name those of __all__, such as synthrad.nets.SmpNet."""

from synthrad.nets.clip_classifier import ClipClassifier
from synthrad.nets.deep_unet import DeepUnet
from synthrad.nets.monai_net import MonaiNet
from synthrad.nets.sam_net import SamNet
from synthrad.nets.segformer_net import SegformerNet
from synthrad.nets.smp_net import SmpNet
from synthrad.nets.swin_upernet import SwinUperNet
from synthrad.nets.timm_net import TimmNet
from synthrad.nets.tuned_classifier import TunedClassifier
from synthrad.nets.vit_segmenter import VitSegmenter

__all__ = ["ClipClassifier", "DeepUnet", "MonaiNet", "SamNet", "SegformerNet", "SmpNet", "SwinUperNet", "TimmNet", "TunedClassifier", "VitSegmenter"]
