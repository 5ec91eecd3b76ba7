"""A study file as data, and its comparisons, for tests of what is told of them."""

from synthrad.study.verdicts import Comparisons, Endpoint

SPEC = {"name": "s", "manifest": "data/x", "size": [64, 128], "seeds": 5,
        "sources": {"gan": {"generator": "configs/generators/stylegan2_64_cpu.yaml", "filter": "f.yaml", "overrides": ["--model.max_images=7000"]}, "other": {"manifest": "m"}},
        "arms": {"real_only": {"strategy": "RealOnly"}, "matched": {"strategy": "Matched", "args": {"ratio": 2}, "source": "gan"}},
        "tasks": {"t": {"kind": "segmentation", "layers": ["abnormality"], "nets": {"unet": {"class_path": "SmpNet", "init_args": {"arch": "Unet"}}}, "steps": 300}},
        "endpoint": {"task": "t", "net": "unet", "metric": "dice"}}  # fmt: skip


def compared(metric="dice", mechanics=False) -> Comparisons:
    return Comparisons(Endpoint("t", "unet", metric), (), "real_only", "downstream seeds", False, mechanics)
