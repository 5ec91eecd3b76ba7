"""Networks as plain torch modules; configs name them as synthrad.nets.SmpNet and the like."""

from synthrad.nets.clip_classifier import ClipClassifier
from synthrad.nets.smp_net import SmpNet
from synthrad.nets.timm_net import TimmNet
from synthrad.nets.tuned_classifier import TunedClassifier

__all__ = ["ClipClassifier", "SmpNet", "TimmNet", "TunedClassifier"]
