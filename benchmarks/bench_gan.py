"""Time one training iteration and sampling of StyleGAN2-ADA against a plain formulation of the same nets.

    python benchmarks/bench_gan.py                         64, 128 and 256 px on a CPU
    python benchmarks/bench_gan.py --sizes 256 --rounds 3
    python benchmarks/bench_gan.py --device cuda --sizes 256 512 --compile

Both formulations (nets of synthrad.nets.stylegan2, and benchmarks/plain_stylegan2.py) get the same weights, pictures and
augmentation, and take turns in one process. Phases: generator, discriminator, path length (half a batch, every 4th
iteration), R1 (every 16th). Every ratio is to plain float32, also that of bfloat16; plain sampling uses grouped kernels
(one set of weights an image, the public default). Peak memory is taken in a process of its own for each, beyond the
imports; on a CPU with --compile it includes compiling.

Before a size is timed, pictures, logits and the gradients of every phase are compared with plain float64, at that size
but at most 64 px, for 2 images without augmentation, TF32 off. In float64 ours must agree to 1e-9 of the largest value,
or the size is void: nothing in its lines counts. It is void too if the plain iteration runs below 0.3 of the measured
convolution peak, or its work is 5 % off the known one. Rounding in float32 is measured with a smooth activation (see
`agreement`) and reported.

Appends JSON lines to benchmarks/results/gan.jsonl and prints one line a goal.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
import plain_stylegan2 as plain  # noqa: E402

from synthrad.gan import losses  # noqa: E402
from synthrad.gan.augment import Augment  # noqa: E402
from synthrad.nets import stylegan2 as ours  # noqa: E402
from synthrad.study.report import processor  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "gan.jsonl"
EVERY = {"generator": 1, "discriminator": 1, "path": 4, "r1": 16}
TIMED = (*EVERY, "sample")
REFERENCE_GFLOP = {(64, 16384): 205, (128, 16384): 304, (256, 16384): 404, (256, 32768): 1216}  # an image, counted in the public implementation
CHANNELS = 3  # one of image, two of mask


class Iteration:
    """The phases of one training iteration for one formulation at one size."""

    def __init__(self, kind: str, size: int, base: int, batch: int, device: str, dtype: torch.dtype = torch.float32,
                 low: torch.dtype | None = None, compile_nets: bool = False, ada: float = 0.5):
        torch.manual_seed(0)
        kinds = {"plain": (plain.Generator, plain.Discriminator), "ours": (ours.StyleGAN2Generator, ours.StyleGAN2Discriminator)}
        self.g, self.d = (net((size, size), CHANNELS, 0, channel_base=base, mapping_depth=2) for net in kinds[kind])
        layout = torch.contiguous_format if kind == "plain" else torch.channels_last
        for net in (self.g, self.d):
            net.to(device=device, dtype=dtype).to(memory_format=layout)
        self.optimizers = [torch.optim.Adam(net.parameters(), lr=0.0025, betas=(0.0, 0.99)) for net in (self.g, self.d)]
        self.synthesize, self.judge = self.g.synthesize, self.d
        if compile_nets:  # first derivatives only: torch.compile has no second ones
            self.synthesize, self.judge = torch.compile(self.g.synthesize), torch.compile(self.d)
        self.batch, self.device, self.dtype, self.low = batch, device, dtype, low
        self.augment, self.ada = Augment(1).to(device), ada
        self.real = torch.randn(batch, CHANNELS, size, size, device=device, dtype=dtype)
        self.c = torch.zeros(batch, 0, device=device, dtype=dtype)
        self.mean = torch.zeros((), device=device, dtype=dtype)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, self.low, enabled=self.low is not None)

    def styles(self, n: int) -> Tensor:
        w = self.g.mapping(torch.randn(2 * n, self.g.z_dim, device=self.device, dtype=self.dtype), self.c.repeat(2, 1)[:2 * n])
        first, other = w.chunk(2)
        keep = torch.rand(n, self.g.num_ws, 1, device=self.device) < 0.5
        return torch.where(keep, first[:, None], other[:, None])

    def noise(self, n: int) -> list[Tensor]:
        return [x.to(self.dtype) for x in self.g.draw_noise(n, self.device)]

    def turn(self, generator: bool) -> None:
        self.g.requires_grad_(generator)
        self.d.requires_grad_(not generator)

    def generator(self) -> None:
        self.turn(True)
        fake = self.synthesize(self.styles(self.batch), self.noise(self.batch))
        losses.generator_loss(self.judge(self.augment(fake, self.ada), self.c)).backward()

    def discriminator(self) -> None:
        self.turn(False)
        with torch.no_grad():
            fake = self.synthesize(self.styles(self.batch), self.noise(self.batch))
        losses.fake_loss(self.judge(self.augment(fake, self.ada), self.c)).backward()  # one after the other: half the memory
        losses.real_loss(self.judge(self.augment(self.real, self.ada), self.c)).backward()

    def path(self) -> None:
        self.turn(True)
        n = max(1, self.batch // 2)
        ws = self.styles(n) * 1
        lengths = losses.path_lengths(self.g.synthesize(ws, self.noise(n)), ws)
        losses.path_penalty(lengths, self.mean)[0].backward()

    def r1(self) -> None:
        self.turn(False)
        seen = self.augment(self.real, self.ada).detach().requires_grad_() * 1
        losses.r1_penalty(self.d(seen, self.c), seen, 1.0).backward()

    def step(self, phase: str) -> None:
        """A phase with its optimizer's step, or sampling."""
        if phase == "sample":
            return self.sample()
        optimizer = self.optimizers[phase in ("discriminator", "r1")]
        optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            getattr(self, phase)()
        optimizer.step()

    @torch.no_grad()
    def sample(self) -> None:
        """Pictures from z, without style mixing; the plain nets with grouped kernels."""
        self.g.grouped = True
        with self.autocast():
            z = torch.randn(self.batch, self.g.z_dim, device=self.device, dtype=self.dtype)
            ws = self.g.mapping(z, self.c)[:, None].expand(-1, self.g.num_ws, -1)
            self.synthesize(ws, self.noise(self.batch))
        self.g.grouped = False


def seconds(call: Callable[[], None], device: str) -> float:
    """Wall-clock seconds of one call."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def gflop(it: Iteration) -> float:
    """GFLOP an image of one iteration without augmentation, each phase by its frequency."""
    it.ada, total = 0.0, 0.0
    for phase, every in EVERY.items():
        with FlopCounterMode(display=False) as counter:
            getattr(it, phase)()
        total += counter.get_total_flops() / every
    return total / it.batch / 1e9


def convolution_peak(device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of the best of a few 3x3 convolutions, 5 calls each."""
    best = 0.0
    for channels, side in ((128, 128), (256, 64), (512, 32)):
        x = torch.randn(8, channels, side, side, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        call = lambda: torch.nn.functional.conv2d(x, w, padding=1)  # noqa: B023, E731
        call()
        best = max(best, 2 * 9 * channels**2 * side**2 * 8 / min(seconds(call, device) for _ in range(5)) / 1e9)
    return best


def results(it: Iteration) -> dict[str, Tensor]:
    """Gradients of every phase, pictures and logits; names start with the phase. Draws are alike for every formulation."""
    found = {}
    it.ada = 0.0
    draw = torch.randn  # every type gets the numbers of float64, rounded, in the order of the axes whatever the memory layout
    alike = {"randn": lambda *a, dtype=None, **k: draw(*a, dtype=torch.float64, **k).to(dtype or it.dtype),
             "randn_like": lambda x, **k: draw(x.shape, dtype=torch.float64, device=x.device).to(x.dtype)}
    with mock.patch.multiple(torch, **alike):
        for phase in EVERY:
            torch.manual_seed(1)
            it.g.zero_grad()
            it.d.zero_grad()
            getattr(it, phase)()
            net = it.d if phase in ("discriminator", "r1") else it.g
            found |= {f"{phase} {n}": p.grad.double() for n, p in net.named_parameters() if p.grad is not None}
        with torch.no_grad():
            found["pictures "] = it.synthesize(it.styles(it.batch), it.noise(it.batch)).double()
            found["logits "] = it.judge(it.real, it.c).double()
    return found


def largest_error(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """Of all results, each relative to the largest value of its phase; not a number if any result is not."""
    errors = []
    for phase in (*EVERY, "pictures", "logits"):
        names = [n for n in truth if n.startswith(f"{phase} ")]
        scale = max(truth[n].abs().max() for n in names)
        errors += [(found[n] - truth[n]).abs().max() / scale for n in names]
    return torch.stack(errors).max().item()


def kinkless(x: Tensor, slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Leaky ReLU without its kink, 0 at 0: rounding then changes no derivative by a jump."""
    return slope * x + (1 - slope) * (torch.nn.functional.softplus(x) - math.log(2))


@functools.cache
def agreement(size: int, base: int, device: str, compiled: bool = False) -> dict[str, float]:
    """Largest errors for 2 images, each relative to the largest value of its phase.

    Where a float32 value before a leaky ReLU has another sign than the float64 one, a derivative jumps: that is no property
    of a formulation, and two of them differ by it at random. So rounding is measured with a smooth activation in its place,
    each formulation against itself in float64; what the kinks add is reported beside it.

    Returns:
        float64_error: ours in float64 against plain in float64. float32_error, plain_float32_error: rounding of either.
        kinked_float32_error, plain_kinked_float32_error: with leaky ReLU, against plain in float64.
    """
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    oracle = Iteration("plain", size, base, 2, device, torch.float64)
    made: dict[tuple[str, torch.dtype], Iteration] = {}
    for kind, dtype in (("ours", torch.float64), ("ours", torch.float32), ("plain", torch.float32)):
        it = made[kind, dtype] = Iteration(kind, size, base, 2, device, dtype, compile_nets=compiled and kind == "ours")
        it.g.load_state_dict(oracle.g.state_dict())
        it.d.load_state_dict(oracle.d.state_dict())
        it.real = oracle.real.to(dtype)
    made["plain", torch.float64] = oracle
    found = {which: results(it) for which, it in made.items()}
    truth = found["plain", torch.float64]
    errors = {"float64_error": largest_error(found["ours", torch.float64], truth),
              "kinked_float32_error": largest_error(found["ours", torch.float32], truth),
              "plain_kinked_float32_error": largest_error(found["plain", torch.float32], truth)}
    with mock.patch("torch.nn.functional.leaky_relu", kinkless):
        smooth = {which: results(it) for which, it in made.items()}
    for kind, name in (("ours", "float32_error"), ("plain", "plain_float32_error")):
        errors[name] = largest_error(smooth[kind, torch.float32], smooth[kind, torch.float64])
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
    return errors


def peak_gib(args: argparse.Namespace, variant: str, size: int) -> float:
    """GiB that one iteration takes beyond the imports, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", variant, "--sizes", str(size), "--device", args.device,
               "--channel-base", str(args.channel_base), "--batch", str(batch_of(args, size)), "--threads", str(args.threads)]
    command += ["--compile"] if args.compile else []
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def resident_peak() -> float:
    """GiB; from /proc where there is one, because ru_maxrss of a child starts at its parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith("VmHWM:")) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def measure_memory(it: Callable[[], Iteration], device: str) -> float:
    before = resident_peak()
    made = it()
    for phase in EVERY:
        made.step(phase)
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else resident_peak() - before


def batch_of(args: argparse.Namespace, size: int) -> int:
    return args.batch or (8 if size <= 128 or args.device == "cuda" else 4)


def make(variant: str, args: argparse.Namespace, size: int) -> Iteration:
    kind, _, low = variant.partition("_")
    return Iteration(kind, size, args.channel_base, batch_of(args, size), args.device,
                     low=torch.bfloat16 if low == "bf16" else None, compile_nets=args.compile and kind == "ours")


def time_size(args: argparse.Namespace, size: int) -> list[dict]:
    """All rounds of one size: one line a variant and phase."""
    variants = ["plain", "ours", "ours_bf16"] + (["plain_bf16"] if args.device == "cuda" else [])
    iterations = {v: make(v, args, size) for v in variants}
    for it in iterations.values():  # the first calls choose algorithms
        for phase in TIMED:
            it.step(phase)
    times: dict[str, dict[str, list[float]]] = {v: {p: [] for p in TIMED} for v in variants}
    for r in range(args.rounds):
        for v in variants if r % 2 == 0 else variants[::-1]:
            for phase in TIMED:
                times[v][phase].append(seconds(functools.partial(iterations[v].step, phase), args.device) / iterations[v].batch)
        print(f"{size} px: round {r + 1} of {args.rounds}", flush=True)
    for found in times.values():
        found["iteration"] = [sum(found[p][r] / every for p, every in EVERY.items()) for r in range(args.rounds)]
    lines = []
    for v in variants:
        for phase, own in times[v].items():
            ratios = [a / b for a, b in zip(own, times["plain"][phase], strict=True)]
            lines.append({"bench": "gan", "size": size, "variant": v, "phase": phase, "seconds_an_image": statistics.median(own),
                          "spread": [min(own), max(own)], "ratio": statistics.median(ratios), "ratio_spread": [min(ratios), max(ratios)]})
    return lines


def measure(args: argparse.Namespace, size: int) -> list[dict]:
    """Agreement with the oracle, then times and memory of one size."""
    base = args.channel_base
    errors = agreement(min(size, 64), base, args.device, args.compile)
    print(f"{size} px: ours in float64 is {errors['float64_error']:.1e} off plain float64", flush=True)
    peak = convolution_peak(args.device, torch.float32)
    work, expected = gflop(make("plain", args, size)), REFERENCE_GFLOP.get((size, base))
    lines = time_size(args, size)
    took = next(x for x in lines if x["variant"] == "plain" and x["phase"] == "iteration")["seconds_an_image"]
    share = work / took / peak
    lines.append({"bench": "gan", "size": size, "variant": "plain", "phase": "validity", "gflop_an_image": work,
                  "expected_gflop": expected, "convolution_peak_gflops": peak, "share_of_peak": share, **errors})
    memory = {v: peak_gib(args, v, size) for v in ("plain", "ours", "ours_bf16")}
    lines += [{"bench": "gan", "size": size, "variant": v, "phase": "memory", "peak_gib": m,
               "ratio": m / memory["plain"] if memory["plain"] else None} for v, m in memory.items()]
    void = not errors["float64_error"] < 1e-9 or share < 0.3 or bool(expected and abs(work / expected - 1) > 0.05)
    tf32 = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    common = {"batch": batch_of(args, size), "channel_base": base, "rounds": args.rounds, "ada_p": 0.5, "compiled": args.compile,
              "tf32": tf32 if args.device == "cuda" else None, "void": void}
    return [{**x, **common} for x in lines]


def goals(lines: list[dict], device: str) -> None:
    """One line a goal: name, value, goal, met or short."""
    found = {(x["size"], x["variant"], x["phase"]): x for x in lines}
    wanted = [("ours", "iteration", 0.75, 0.65), ("ours_bf16", "iteration", 0.50, 0.40), ("ours", "path", 0.65, 0.45),
              ("ours", "sample", 1 / 1.5, 1 / 2), ("ours", "memory", 1.0, 1.0), ("ours_bf16", "memory", 1.0, 0.7)]
    if device == "cuda":
        wanted = [("ours", "iteration", 0.8, 0.6), ("ours", "sample", 1 / 1.5, 1 / 2)]
    for size in sorted({x["size"] for x in lines}):
        check = found[size, "plain", "validity"]
        void = " VOID" if check["void"] else ""
        print(f"gan_{size}_valid gflop {check['gflop_an_image']:.0f} of {check['expected_gflop']}, share of peak "
              f"{check['share_of_peak']:.2f}, error in float64 {check['float64_error']:.1e}, in float32 "
              f"{check['float32_error']:.1e} (plain {check['plain_float32_error']:.1e}), with kinks "
              f"{check['kinked_float32_error']:.1e} (plain {check['plain_kinked_float32_error']:.1e}){void}")
        error = check["float32_error"]
        print(f"gan_{size}_float32_error {error:.1e} <=1e-05 {'met' if error <= 1e-5 else 'short'}{void}")
        for variant, phase, goal, stretch in wanted:
            value = found[size, variant, phase]["ratio"]
            name = f"gan_{size}_{phase}_{variant.partition('_')[2] or 'fp32'}"
            if value is None:
                print(f"{name} not measured")
                continue
            print(f"{name} {value:.2f} <={goal:.2f} {'met' if value <= goal else 'short'}{void}")
            print(f"{name} {value:.2f} <={stretch:.2f} stretch")


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--channel-base", type=int, default=16384)
    p.add_argument("--batch", type=int, default=0, help="images an iteration; 0 = 8 up to 128 px and on a GPU, else 4")
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--threads", type=int, default=0, help="0 = as torch chooses")
    p.add_argument("--compile", action="store_true", help="torch.compile for the main phases and sampling of ours")
    p.add_argument("--dry-run", action="store_true", help="write no results")
    p.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.memory_of:
        print(measure_memory(lambda: make(args.memory_of, args, args.sizes[0]), args.device))
        return 0
    name = torch.cuda.get_device_name() if args.device == "cuda" else processor()
    stamp = {"date": date.today().isoformat(), "device": name, "threads": torch.get_num_threads(), "cores": os.cpu_count(),
             "torch": version("torch"), "synthrad": version("synthrad")}
    lines = []
    for size in args.sizes:
        made = [{**x, **stamp} for x in measure(args, size)]
        lines += made
        if not args.dry_run:  # each size as it is done: a stopped run keeps what it has
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            with RESULTS.open("a") as file:
                file.writelines(json.dumps(x) + "\n" for x in made)
    goals(lines, args.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
