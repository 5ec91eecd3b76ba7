"""A study and its data, for tests of replicates."""

import numpy as np
from test_subgroups import manifest

STUDY = {
    "name": "s", "manifest": "real", "size": [32, 32], "seeds": 2,
    "sources": {"gan": {"generator": "configs/generators/stylegan2_64_cpu.yaml", "overrides": ["--model.max_images=10"]}},
    "arms": {"real_only": {"strategy": "RealOnly"}, "fused": {"strategy": "Matched", "source": "gan"},
             "only": {"strategy": "SyntheticOnly", "source": "gan"}},
    "tasks": {"t": {"kind": "segmentation", "steps": 4, "nets": {"n": {"class_path": "SmpNet"}}}},
    "endpoint": {"task": "t", "net": "n", "metric": "dice"},
}


def dataset(n, images=1):
    """Real rows of n subjects: 45 % train, 10 % validation, 45 % test."""
    real = manifest(n, images)
    order = [("train", "test")[i % 2] if i % 10 else "val" for i in range(n)]
    return real.with_columns({"split": np.repeat(np.array(order, dtype=object), images)})
