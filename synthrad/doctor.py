"""`synthrad doctor`: versions, devices and optional parts; writes nothing and downloads nothing."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

NEEDED = ("torch", "lightning", "jsonargparse", "monai", "segmentation-models-pytorch", "timm", "transformers", "torchmetrics",
          "numpy", "pandas", "pandera", "pyarrow", "pillow", "scipy", "statsmodels", "pydantic", "snakemake", "tensorboard",
          "matplotlib", "jinja2", "tqdm")  # fmt: skip
OPTIONAL = {  # module -> what it is for
    "snakemake_executor_plugin_slurm": "studies on a SLURM cluster (pip install 'synthrad[slurm]')",
    "peft": "LoRA fine-tuning",
    "pydicom": "DICOM",
    "nibabel": "NIfTI",
    "pycocotools": "COCO run-length masks",
}


def parser() -> argparse.ArgumentParser:
    """Flags of `synthrad doctor`."""
    return argparse.ArgumentParser(prog="synthrad doctor", description="Print versions, devices and optional parts; writes nothing.")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def devices() -> list[str]:
    """One line a device that torch could use."""
    import torch

    lines = [f"CPU: {platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads"]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(i)
        lines.append(f"CUDA {i}: {facts.name}, {facts.total_memory / 2**30:.0f} GiB, compute capability {facts.major}.{facts.minor}")
    if torch.backends.mps.is_available():
        lines.append("MPS: Apple GPU")
    return lines


def run(argv: list[str]) -> int:
    """Print the state of the installation; 0 if everything needed is there, else 1."""
    parser().parse_args(argv)
    own = _version("synthrad") or "not installed (running from a checkout)"
    print(f"synthrad {own}; Python {platform.python_version()} at {sys.executable}; {platform.platform()}")
    missing = []
    print("needed:")
    for name in NEEDED:
        found = _version(name)
        missing += [] if found else [name]
        print(f"  {name:<28} {found or 'MISSING: pip install synthrad'}")
    print("optional:")
    for module, purpose in OPTIONAL.items():
        there = importlib.util.find_spec(module) is not None
        print(f"  {module:<32} {'there' if there else 'not there'}: {purpose}")
    print("devices:")
    if "torch" not in missing:
        for line in devices():
            print(f"  {line}")
    print(f"commands: git {'there' if shutil.which('git') else 'not there'}, srun {'there' if shutil.which('srun') else 'not there'}")
    offline = [f"{k}={os.environ[k]}" for k in ("HF_HUB_OFFLINE", "SYNTHRAD_ALLOW_IMPORT", "SYNTHRAD_PROJECT") if k in os.environ]
    print(f"environment: {', '.join(offline) or 'no synthrad or hub variable set'}")
    print(f"free disk here: {shutil.disk_usage('.').free / 2**30:.1f} GiB")
    return 1 if missing else 0
