"""A small study file without a fault, and changes of it."""

import copy

BASE = {
    "name": "s", "manifest": "data/x", "size": [64, 64], "seeds": 2,
    "sources": {"made": {"manifest": "data/y"}},
    "arms": {"real_only": {"strategy": "RealOnly"}, "matched": {"strategy": "Matched", "source": "made"}},
    "tasks": {"t": {"kind": "segmentation", "steps": 5, "nets": {"unet": {"class_path": "SmpNet"}}}},
    "endpoint": {"task": "t", "net": "unet", "metric": "dice"},
}


def changed(**changes):
    """BASE with other values: tasks__t__loss="focal" changes one deep inside."""
    data = copy.deepcopy(BASE)
    for key, value in changes.items():
        target = data
        *parents, last = key.split("__")
        for p in parents:
            target = target[p]
        target[last] = value
    return data
