"""Networks as plain torch modules; configs and studies name those of __all__, such as synthrad.nets.SmpNet."""

from synthrad.nets.sam_net import SamNet
from synthrad.nets.smp_net import SmpNet
from synthrad.nets.timm_net import TimmNet
from synthrad.nets.vit_segmenter import VitSegmenter

__all__ = ["SamNet", "SmpNet", "TimmNet", "VitSegmenter"]
