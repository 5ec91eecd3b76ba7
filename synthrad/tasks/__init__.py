"""LightningModules that are judged: SegmentationTask and ClassificationTask."""

from synthrad.tasks.classification import ClassificationTask
from synthrad.tasks.segmentation import SegmentationTask

__all__ = ["ClassificationTask", "SegmentationTask"]
