"""Networks as plain torch modules; configs name them as synthrad.nets.SmpNet and synthrad.nets.TimmNet."""

from synthrad.nets.smp_net import SmpNet
from synthrad.nets.timm_net import TimmNet

__all__ = ["SmpNet", "TimmNet"]
