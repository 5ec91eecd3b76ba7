"""Fusion strategies, their controls and the filters of synthetic sets: tables in, table out, no tensors."""

from synthrad.fusion.balancing import ClassBalanced, GroupBalanced, MinimalBalanced
from synthrad.fusion.cells import Cell, Cells, conditions, count
from synthrad.fusion.controls import AugmentedReal, DuplicateReal
from synthrad.fusion.filters import AllOf, AreaRange, Filter, MaskQuality, NoNearDuplicates, RandomKeep
from synthrad.fusion.strategies import FusionStrategy, Matched, RealOnly, SyntheticOnly

__all__ = [
    "AllOf",
    "AreaRange",
    "AugmentedReal",
    "Cell",
    "Cells",
    "ClassBalanced",
    "DuplicateReal",
    "Filter",
    "FusionStrategy",
    "GroupBalanced",
    "MaskQuality",
    "Matched",
    "MinimalBalanced",
    "NoNearDuplicates",
    "RandomKeep",
    "RealOnly",
    "SyntheticOnly",
    "conditions",
    "count",
]
