"""Time a training step, sampling and decoding of latent diffusion against the nets of diffusers, at equal width and steps.

    pip install -e '.[bench]'
    python benchmarks/bench_diffusion.py                    latents of 64 px (4 channels), decoded to 256 px
    python benchmarks/bench_diffusion.py --rounds 3 --side 32

Ours are nets.diffusion_unet.DiffusionUNet and nets.autoencoder.ImageAutoencoder (MONAI's) in channels_last, each with plain
attention and with scaled_dot_product_attention (`flash`), in float32 and under bfloat16 autocast; diffusers' are UNet2DModel,
AutoencoderKL and DPMSolverMultistepScheduler as they come. All take turns in one process; every ratio is to diffusers in float32.

    step      forward, mean squared error, backward, AdamW       sample    10 steps of DPM-Solver++(2M)
    decode    latents to pictures                                memory    of one step, beyond the imports, in a process of its own

The work of both UNets is counted; if it differs by more than 2 %, the lines are void. The decoders are not quite alike: their work
stands in the lines, and the ratio is of times, as a user would feel it.

Appends JSON lines to benchmarks/results/diffusion.jsonl and prints one line a goal.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from bench_gan import resident_peak, seconds  # noqa: E402

from synthrad.diffusion import samplers, schedules  # noqa: E402
from synthrad.nets.autoencoder import ImageAutoencoder  # noqa: E402
from synthrad.nets.diffusion_unet import DiffusionUNet  # noqa: E402
from synthrad.study.report import processor  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "diffusion.jsonl"
CHANNELS, LATENT, STEPS = (64, 128, 256), 4, 10
VARIANTS = ("diffusers", "diffusers_bf16", "plain", "flash", "plain_bf16", "flash_bf16")
PHASES = ("step", "sample", "decode")


class Work:
    """The phases of one variant at one side of the latents."""

    def __init__(self, variant: str, side: int, batch: int, device: str, channels: tuple[int, ...] = CHANNELS):
        kind, _, low = variant.partition("_")
        self.batch, self.device, self.ours = batch, device, kind != "diffusers"
        self.low = torch.bfloat16 if low else None
        torch.manual_seed(0)
        if self.ours:
            self.net = DiffusionUNet((side, side), LATENT, LATENT, 0, channels, (False, True, True), 2, 64, flash=kind == "flash")
            self.autoencoder = ImageAutoencoder((4 * side, 4 * side), 1, LATENT, channels, flash=kind == "flash")
            for net in (self.net, self.autoencoder):
                net.to(memory_format=torch.channels_last)
        else:
            self.net, self.autoencoder = of_diffusers(side, channels)
        self.net.to(device)
        self.autoencoder.to(device)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4, fused=True if self.ours else None)  # as Diffusion has it
        self.x = torch.randn(batch, LATENT, side, side, device=device)

    def answer(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(x, t) if self.ours else self.net(x, 1000 * t).sample

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, self.low, enabled=self.low is not None)

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            answer = self.answer(self.x, torch.linspace(0.1, 0.9, self.batch, device=self.device))
            loss = (answer.float() - self.x).square().mean()
        loss.backward()
        self.optimizer.step()

    @torch.no_grad()
    def sample(self) -> None:
        with self.autocast():
            if self.ours:
                schedule = schedules.NoiseSchedule("linear")
                denoise = lambda x, t: self.answer(x, torch.full((len(x),), t, device=self.device)).float()  # noqa: E731
                samplers.dpm_multistep(denoise, schedule, self.x, schedules.times(STEPS, "log_snr", schedule))
                return
            from diffusers import DPMSolverMultistepScheduler

            scheduler, x = DPMSolverMultistepScheduler(prediction_type="sample"), self.x
            scheduler.set_timesteps(STEPS)
            for t in scheduler.timesteps:
                answer = self.answer(x, (t / 1000).repeat(len(x)).to(self.device)).float()
                x = scheduler.step(answer, t, x).prev_sample

    @torch.no_grad()
    def decode(self) -> None:
        with self.autocast():
            self.autoencoder.decode(self.x)

    def gflop(self) -> dict[str, float]:
        """GFLOP an image of one forward pass of the UNet, and of decoding."""
        found = {}
        for name, call in (("unet", lambda: self.answer(self.x, torch.full((self.batch,), 0.5, device=self.device))), ("decode", self.decode)):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                call()
            found[name] = counter.get_total_flops() / self.batch / 1e9
        return found


def of_diffusers(side: int, channels: tuple[int, ...]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same layout by diffusers: attention in the two lower levels, heads of 64 channels."""
    from diffusers import AutoencoderKL, UNet2DModel

    net = UNet2DModel(side, LATENT, LATENT, layers_per_block=2, block_out_channels=channels, attention_head_dim=64,
                      down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
                      up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"))
    autoencoder = AutoencoderKL(1, 1, ("DownEncoderBlock2D",) * 3, ("UpDecoderBlock2D",) * 3, channels, 2, latent_channels=LATENT,
                                sample_size=4 * side)
    return net, autoencoder


def parameters(net: torch.nn.Module) -> float:
    """In millions."""
    return sum(p.numel() for p in net.parameters()) / 1e6


def time_all(args: argparse.Namespace) -> list[dict]:
    """All rounds: one line a variant and phase."""
    made = {v: Work(v, args.side, args.batch, args.device) for v in VARIANTS}
    for work in made.values():  # the first calls choose algorithms
        for phase in PHASES:
            getattr(work, phase)()
    times: dict[str, dict[str, list[float]]] = {v: {p: [] for p in PHASES} for v in VARIANTS}
    for r in range(args.rounds):
        for v in VARIANTS if r % 2 == 0 else VARIANTS[::-1]:
            for phase in PHASES:
                times[v][phase].append(seconds(functools.partial(getattr(made[v], phase)), args.device) / args.batch)
        print(f"round {r + 1} of {args.rounds}", flush=True)
    lines = []
    for v, phases in times.items():
        for phase, own in phases.items():
            ratios = [a / b for a, b in zip(own, times["diffusers"][phase], strict=True)]
            lines.append({"variant": v, "phase": phase, "seconds_an_image": statistics.median(own), "spread": [min(own), max(own)],
                          "ratio": statistics.median(ratios), "ratio_spread": [min(ratios), max(ratios)]})
    work = {v: made[v].gflop() for v in ("diffusers", "plain")}
    off = abs(work["plain"]["unet"] / work["diffusers"]["unet"] - 1)
    lines.append({"variant": "plain", "phase": "validity", "gflop_an_image": work["plain"], "diffusers_gflop": work["diffusers"],
                  "parameters_m": [parameters(made["plain"].net), parameters(made["plain"].autoencoder)],
                  "diffusers_parameters_m": [parameters(made["diffusers"].net), parameters(made["diffusers"].autoencoder)]})
    return [{**x, "void": off > 0.02} for x in lines]


def measure_memory(make: Callable[[], Work], device: str) -> float:
    """GiB that a training step takes."""
    before = resident_peak()
    make().step()
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else resident_peak() - before


def memory(args: argparse.Namespace) -> list[dict]:
    """Peak memory of each variant in a fresh process."""
    found = {}
    for v in VARIANTS:
        command = [sys.executable, __file__, "--memory-of", v, "--side", str(args.side), "--batch", str(args.batch), "--device", args.device,
                   "--threads", str(args.threads)]
        found[v] = float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
    return [{"variant": v, "phase": "memory", "peak_gib": m, "ratio": m / found["diffusers"]} for v, m in found.items()]


def goals(lines: list[dict]) -> None:
    """One line a goal; ours is the attention that a training would choose, plain or flash, of each precision."""
    found = {(x["variant"], x["phase"]): x for x in lines}
    void = " VOID" if any(x.get("void") for x in lines) else ""
    for low, wanted in (("", {"step": (0.95, 0.85), "sample": (0.95, 0.85), "decode": (0.90, 0.90), "memory": (1.0, 1.0)}),
                        ("_bf16", {"step": (0.62, 0.55), "sample": (0.62, 0.55), "decode": (0.90, 0.90), "memory": (1.0, 1.0)})):
        best = min(("plain", "flash"), key=lambda kind: found[kind + low, "step"]["ratio"])  # noqa: B023
        print(f"diffusion{low} attention: {best} (plain {found['plain' + low, 'step']['ratio']:.2f}, "
              f"flash {found['flash' + low, 'step']['ratio']:.2f} of a step)")
        for phase, (goal, stretch) in wanted.items():
            value = found[best + low, phase]["ratio"]
            print(f"diffusion_{phase}{low or '_fp32'} {value:.2f} <={goal:.2f} {'met' if value <= goal else 'short'}"
                  f" (stretch {stretch:.2f}){void}")


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--side", type=int, default=64, help="of the latents; pictures have four times it")
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--threads", type=int, default=0, help="0 = as torch chooses")
    p.add_argument("--dry-run", action="store_true", help="write no results")
    p.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.memory_of:
        print(measure_memory(lambda: Work(args.memory_of, args.side, args.batch, args.device), args.device))
        return 0
    name = torch.cuda.get_device_name() if args.device == "cuda" else processor()
    stamp = {"bench": "diffusion", "side": args.side, "batch": args.batch, "channels": list(CHANNELS), "rounds": args.rounds,
             "date": date.today().isoformat(), "device": name, "threads": torch.get_num_threads(), "cores": os.cpu_count(),
             "torch": version("torch"), "monai": version("monai"), "diffusers": version("diffusers"), "synthrad": version("synthrad")}
    lines = [{**x, **stamp} for x in (*time_all(args), *memory(args))]
    if not args.dry_run:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(x) + "\n" for x in lines)
    goals(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
