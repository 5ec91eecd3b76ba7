"""What every generator that is trained here does alike: it learns its data from the datamodule, counts images, and keeps both.

A picture as a net sees it is [image channels, mask channels], all in [-1, 1], and a condition is a vector of labels and
attributes; nets.encoding says how both are made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from synthrad.cases import Case
from synthrad.conditioning import Condition
from synthrad.errors import InputError
from synthrad.gan.styles import parts
from synthrad.generators import guards, preflight
from synthrad.generators.ranks import mean_of_ranks, unsynced
from synthrad.nets.averaging import half_life_decay, ramped_half_life, update_average
from synthrad.nets.encoding import encode_condition, encode_masks, forget, standardise

SAME = ("size", "channels", "classes", "layers", "attributes", "untaught", "prompt", "vocabulary")  # of the data that a training may go on with


def ordered(part: Any) -> Any:
    """A part of a spec for comparing: mappings are equal in any order, but layers become channels in theirs."""
    return list(part.items()) if isinstance(part, Mapping) else part


class ConditionalGenerator(L.LightningModule, ABC):
    """A generator whose nets are made once the data is known, from the datamodule's `spec()` or from the checkpoint.

    Its hyperparameters include max_images, masks, mask_encoding, label_dropout and accumulate. It optimizes by hand, so that
    a batch is counted where it is learned from, before any callback looks.
    """

    shown: tuple[str, ...] = ()  # losses in the progress bar
    starts_from_images = False  # whether `sample` makes use of condition.image

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.spec: dict[str, Any] | None = None
        self.remembered: Tensor | None = None  # of the newest batch: its conditions without what they forgot, not standardised
        self.images_seen = 0

    # ---- what a subclass says

    @abstractmethod
    def make_nets(self, spec: dict[str, Any], picture_channels: int, given_channels: int, c_dim: int) -> None:
        """Make the nets.

        Args:
            spec: of the datamodule. picture_channels: image and mask channels that a net sees.
            given_channels: those of them that are given and not drawn. c_dim: of the condition.
        """

    @abstractmethod
    def prepare_fit(self, batch_size: int) -> None:
        """Get ready to be trained on batches of so many images a process; refuse what cannot be."""

    def state(self) -> dict[str, Any]:
        """What a resumed fit needs beside weights, spec and images_seen, in plain types."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""

    # ---- from the data to the nets

    @property
    def wants_masks(self) -> bool:
        """Whether `sample` needs condition.masks."""
        return self.hparams.masks == "given"

    @property
    def structures(self) -> list[int]:
        """How many structures each mask layer has."""
        return [len(s) for s in self.spec["layers"].values()]

    def build(self, spec: dict[str, Any]) -> None:
        """Make the nets for a datamodule's spec(): size, channels, classes, layers, attributes.

        Raises:
            InputError: nets of another spec, or of other training images and subjects, exist already.
        """
        if self.spec is not None:
            for k in SAME:
                if ordered(self.spec.get(k, [])) != ordered(spec.get(k, [])):
                    raise InputError(f"checkpoint: {k}", str(self.spec.get(k, [])), f"{spec.get(k, [])}, as data gives it",
                                     "continue with the dataset and size that it was trained on")
            preflight.check_same_training(self.spec, spec)
            return
        per_layer = [len(s) + 1 if self.hparams.mask_encoding == "onehot" else 1 for s in spec["layers"].values()]
        given = sum(per_layer) if self.wants_masks else 0
        if self.wants_masks and not given:
            raise InputError("model.masks", "given, and no mask layer in the data", "a layer to draw from",
                             "use a dataset with masks (data.layers), or model.masks=draw")
        c_dim = 2 * len(spec["classes"]) + sum(len(v) for v in spec["attributes"].values())
        self.make_nets(spec, len(spec["channels"]) + sum(per_layer), given, c_dim)
        if "prompt" in spec and self.hparams.get("text") is None:
            raise InputError("data.prompt", f"prompts for a {type(self).__name__} that reads none", "none, or a reader (model.text)",
                             "leave data.prompt out, or train a diffusion model with model.text")
        self.spec = dict(spec)

    def setup(self, stage: str) -> None:
        """Build the nets from the datamodule before the optimizers ask for them."""
        source = getattr(self.trainer, "datamodule", None)
        if source is None or not hasattr(source, "spec"):
            raise InputError("data", type(source).__name__, "a datamodule with spec()",
                             "train with data: synthrad.datamodules.generation.GenerationDataModule")
        preflight.check_options(self.hparams)
        preflight.check_precision(self.trainer.precision)
        spec, rows = source.spec(), getattr(source, "train", None)
        self.build({**spec, "absent": preflight.absent_classes(rows)})
        if stage == "fit":
            preflight.check_data(rows, source.batch_size, self.trainer.world_size, self.hparams.accumulate)
            self.prepare_fit(source.batch_size)

    # ---- the checkpoint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a sampler and a resumed run need, in plain types (weights_only); refuse what is not finite."""
        guards.check_checkpoint(checkpoint)
        checkpoint["synthrad"] = {"class": f"{type(self).__module__}.{type(self).__qualname__}", "spec": self.spec,
                                  "images_seen": self.images_seen, **self.state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the nets before Lightning loads their weights; continue the counters."""
        if "synthrad" not in checkpoint:
            raise InputError("checkpoint", "no `synthrad` entry", "a checkpoint of a synthrad generator", "give its last.ckpt")
        state = checkpoint["synthrad"]
        self.build(state["spec"])
        self.spec["rates"] = state["spec"].get("rates")  # conditions stay as these weights learned them
        self.spec["info"] = {**self.spec["info"], "lineage": state["spec"]["info"].get("lineage")}  # with that of init_from
        self.images_seen = state["images_seen"]
        self.restore(state)

    # ---- a step

    def pictures(self, batch: Case) -> Tensor:
        """Real pictures [N, channels, h, w]: image channels, then those of the masks."""
        return torch.cat([batch.image, encode_masks(batch.masks, self.structures, self.hparams.mask_encoding)], 1)

    def encode(self, batch: Case) -> tuple[Tensor, Tensor]:
        """Real pictures [N, channels, h, w] and their conditions [N, c_dim], some of them forgotten."""
        real = self.pictures(batch)
        raw = torch.cat([torch.nan_to_num(batch.labels), ~torch.isnan(batch.labels), batch.attributes], 1).to(real.dtype)
        c = self.remembered = forget(raw, len(self.spec["classes"]), self.values, self.hparams.label_dropout)
        return real, standardise(c, len(self.spec["classes"]), self.values, self.spec.get("rates"))

    @property
    def values(self) -> list[int]:
        """How many values each attribute has."""
        return [len(v) for v in self.spec["attributes"].values() if v]

    def step(self, optimizer: torch.optim.Optimizer, name: str, n: int, *losses: Callable[[slice], Tensor]) -> None:
        """Add up the gradients of a batch of n, part by part and loss by loss, and step, unless one is not a number.

        Args:
            losses: each the mean loss of those pictures of the batch that a slice names; they are summed.
        """
        optimizer.zero_grad(set_to_none=True)
        slices, total = parts(n, self.hparams.accumulate), torch.zeros((), device=self.device)
        for p in slices:
            for loss in losses:
                share = loss(p) * (len(range(n)[p]) / n)
                quiet = p is not slices[-1] or loss is not losses[-1]
                # Lightning's autocast is still on here, and would lower what the nets computed in full precision
                with unsynced(self.trainer.strategy.model, quiet), torch.autocast(self.device.type, enabled=False):
                    self.manual_backward(share)
                total = total + share.detach()
        total = mean_of_ranks(total)
        guards.check_loss(name, total, self.images_seen)
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        guards.check_gradients(name, optimizer, scaler, self.images_seen)
        optimizer.step()
        self.note(name, total)

    def note(self, name: str, total: Tensor) -> None:
        """Log the loss of a step."""
        self.log(name, total, prog_bar=name in self.shown)

    def count(self, batch_images: int, net: torch.nn.Module, average: torch.nn.Module, half_life_images: float) -> None:
        """Count the images of a step, let the average follow the net, and stop at max_images.

        Args:
            batch_images: of this process. half_life_images: of the average; guards.check_weights looks at it.
        """
        total = batch_images * self.trainer.world_size
        self.images_seen += total
        update_average(average, net, half_life_decay(total, half_life_images))
        guards.check_weights(average, "the averaged net", self.images_seen)
        self.log("images", float(self.images_seen), prog_bar=True)
        self.stop_when_done()

    def ramped(self, batch_images: int, half_life_images: float) -> float:
        """Half life of the average after this step: at most ema_rampup times the images shown by then."""
        return ramped_half_life(half_life_images, self.images_seen + batch_images * self.trainer.world_size, self.hparams.ema_rampup)

    def stop_when_done(self) -> None:
        """Stop at max_images; a fit that had reached them stays as it is when it is run again."""
        if self.images_seen >= self.hparams.max_images:
            self.trainer.should_stop = True

    # ---- sampling

    def gathered(self) -> AbstractContextManager:
        """Inside, the first process may draw alone; every process must enter."""
        return nullcontext()

    def asked(self, condition: Condition, n: int) -> tuple[Tensor, Tensor | None]:
        """The vector of a condition [n, c_dim], and the channels of the masks that it gives [n, mask channels, h, w] or None.

        Raises:
            InputError: no nets yet, a class or value that was never learned, or masks of another shape than the pictures.
        """
        if self.spec is None:
            raise InputError("generator", "no nets", "a trained generator", "load it from its checkpoint")
        if condition.text is not None and "prompt" not in self.spec:
            raise InputError("condition: text", f"prompts for a {type(self).__name__} that reads none", "none", "name labels and attributes")
        if condition.image is not None and not self.starts_from_images:
            raise InputError("condition: image", f"an image to start from, for a {type(self).__name__}", "none", "only diffusion models "
                             "start from images")
        c = encode_condition(condition, n, self.spec["classes"], self.spec["attributes"])
        preflight.check_asked(condition, self.spec)
        masks = self._given(condition, n) if self.wants_masks else None
        return standardise(c, len(self.spec["classes"]), self.values, self.spec.get("rates")).to(self.device), masks

    def _given(self, condition: Condition, n: int) -> Tensor:
        shape = (n, len(self.structures), *self.spec["size"])
        found = None if condition.masks is None else tuple(condition.masks.shape)
        if found != shape:
            raise InputError("condition: masks", "none" if found is None else f"shape {found}", f"{shape}: this generator draws "
                             f"images from masks of {', '.join(self.spec['layers'])}", "give the masks to draw from")
        return encode_masks(condition.masks.to(self.device), self.structures, self.hparams.mask_encoding)


def noise_of(seed: int) -> Callable[..., Tensor]:
    """A function of shapes to standard normal float32 tensors on the CPU, each call going on where the last one stopped.

    By numpy: torch's generator on a CPU keeps 32 bits of a seed only.
    """
    source = np.random.Generator(np.random.PCG64(int(seed)))
    return lambda *shape: torch.from_numpy(source.standard_normal(shape, dtype=np.float32))


def noises_of(seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> Callable[[], Tensor]:
    """A function without arguments to fresh noise [n, *shape], that of image k from seeds[k] alone."""
    sources = [noise_of(seed) for seed in seeds]
    return lambda: torch.stack([draw(*shape) for draw in sources]).to(device)
