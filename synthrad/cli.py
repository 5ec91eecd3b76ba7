"""`synthrad fit|validate|test|predict`: LightningCLI in subclass mode, with durable training on by default."""

from __future__ import annotations

import argparse
import copy
import hashlib
import importlib
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from synthrad.callbacks import (
    DurableCheckpoint,
    DurableCheckpointIO,
    ImageProgress,
    Preemption,
    RandomState,
    Watch,
    interruptible,
    newest_valid,
)
from synthrad.callbacks.metrics_file import ResumedCSVLogger
from synthrad.callbacks.precision import check_engine, check_precision, paying_precision
from synthrad.callbacks.prediction_files import WritePredictions
from synthrad.callbacks.world_size import WorldSize, cluster_plugins, count_of, refused
from synthrad.cases import write_cases
from synthrad.class_paths import allowed_packages
from synthrad.config_errors import explain, our_own, told_of_other_weights
from synthrad.config_links import digests_of, facts_of, link, plain_tree
from synthrad.config_names import ALLOWED, allow_imports, import_named
from synthrad.errors import InputError, RunError
from synthrad.files import write_durably
from synthrad.locking import locked
from synthrad.run_log import kept

COMMANDS = ("fit", "validate", "test", "predict")
LOG = "fit.log"  # in the folder of a fit: all that it said, over resumes


def refuse_generator(subcommand: str, class_path: str, checkpoint: Any) -> None:
    """Refuse to validate, test or predict with what draws pictures.

    Raises:
        InputError: says which command draws and which ones judge what is drawn.
    """
    module, _, name = class_path.rpartition(".")
    if not module or not hasattr(getattr(importlib.import_module(module), name, None), "sample"):
        return
    raise InputError("model", f"{name}, a generator", "a task: SegmentationTask or ClassificationTask",
                     f"draw from it with `synthrad sample --checkpoint {checkpoint or 'CKPT'} --out OUT ...`; `synthrad score OUT` and `synthrad audit OUT` judge what it drew, "
                     "and a fit with the callbacks Fidelity and Adherence watches it learn")


class SynthradCLI(LightningCLI):
    """LightningCLI with links, durable checkpoints, random state and clean stops."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Parse; note the model that was asked for, because Lightning replaces it by that of the checkpoint."""
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        self.asked = copy.deepcopy(config.get("model"))
        path = config.get("ckpt_path")
        if path and Path(path).is_file():
            raw = DurableCheckpointIO().load_checkpoint(path)  # Lightning is about to read it, and a torn one is a traceback then
            named = (raw.get("hyper_parameters") or {}).get("_class_path") if isinstance(raw, dict) else ""
            if named and str(named).split(".")[0] not in (*ALLOWED, *allowed_packages()):
                raise InputError(f"ckpt_path {path}", f"a model of class {str(named)[:100]!r}", f"a class of {', '.join(ALLOWED)}",
                                 "use a checkpoint of a model that you know")

    def before_instantiate_classes(self) -> None:
        """Link the data's counts into the model; settle the run's folder."""
        config = self.config[self.subcommand]
        if self.asked is not None:  # a checkpoint gives the state; what the model is, flags and configs say
            config["model"] = self.asked
        if self.subcommand != "fit":
            refuse_generator(self.subcommand, (config.get("model") or {}).get("class_path", ""), config.get("ckpt_path"))
        data, model = config.get("data"), config.get("model")
        manifest = (data.get("init_args") or {}).get("manifest") if data else None
        if model is not None and manifest:
            link(model, facts_of(manifest))
        steps = config.trainer.get("max_steps", -1)
        own = data.get("init_args") if data else None
        if own is not None and "steps" in own and own["steps"] is None and steps and steps > 0:
            own["steps"] = steps
        if own is not None and "seed" in own and own["seed"] is None:
            own["seed"] = int(config.get("seed_everything") or 0)
        self._settle_precision(config, model)
        self.identity = self._identity_of(config)
        if config.trainer.get("default_root_dir") is None:
            config.trainer["default_root_dir"] = self._folder_of(model)

    def _identity_of(self, config: Any) -> str:
        """Hash of what is computed: the folder and what only says where or how to run are no part of it."""
        data = config.get("data")
        own = data.get("init_args") if data else None
        kept = {k: v for k, v in config.as_dict().items() if k not in ("ckpt_path", "config", "weights_only")}
        kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k not in ("default_root_dir", "logger")}
        if own is not None:
            plain = {k: v for k, v in config.data.as_dict()["init_args"].items() if k != "num_workers"}
            kept["data"] = {**kept["data"], "init_args": plain}
            kept["digests"] = digests_of(own)  # the same path may hold another split tomorrow
        kept["model"] = _with_weights_read(kept.get("model"))
        return hashlib.sha256(yaml.safe_dump(plain_tree(kept)).encode()).hexdigest()[:16]

    def _folder_of(self, model: Any) -> str:
        name = str(model.get("class_path", "model")).split(".")[-1] if model else "model"
        return f"runs/{self.subcommand}/{name}-{self.identity[:8]}"

    def _settle_precision(self, config: Any, model: Any) -> None:
        """For a fit of a task that names none: the precision in which its folder holds it already, else what pays here."""
        if self.subcommand != "fit" or config.trainer.get("precision") is not None or not str((model or {}).get("class_path")).startswith("synthrad.tasks."):
            return
        chosen = paying_precision(str(config.trainer.get("accelerator") or "auto"))
        for precision in dict.fromkeys([None if chosen == "32-true" else chosen, None, "bf16-mixed"]):  # None: as fits named it before, 32-true
            config.trainer["precision"] = precision
            self.identity = self._identity_of(config)
            mark = Path(config.trainer.get("default_root_dir") or self._folder_of(model)) / "identity"
            if mark.is_file() and mark.read_text() == self.identity:
                return
        config.trainer["precision"] = None if chosen == "32-true" else chosen

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The trainer with our callbacks beside those of the config."""
        settings = self.config_init[self.subcommand].trainer
        root = Path(settings.default_root_dir)
        if settings.logger in (None, True):
            kwargs["logger"] = [TensorBoardLogger(root, name="", version="", default_hp_metric=False),
                                ResumedCSVLogger(root, name="", version="")]
        given = settings.get("callbacks") or []
        own = list(given) if isinstance(given, (list, tuple)) else [given]  # --trainer.callbacks=NAME is one
        monitor = getattr(self.model, "monitor", None)
        ours = [RandomState(), Preemption(), ImageProgress(self.subcommand), DurableCheckpoint(monitor=monitor)]
        if settings.get("enable_checkpointing") is False or settings.get("fast_dev_run"):
            ours = ours[:3]
        have = {type(c) for c in own}
        ours = [c for c in ours if type(c) not in have]
        world = WorldSize(int(settings.get("num_nodes") or 1), count_of(settings.get("devices")))
        kwargs["callbacks"] = [*(Watch(c) for c in ours if isinstance(c, Preemption)), *own, world, *ours]
        if not str(asked := settings.get("strategy") or "auto").startswith(("auto", "ddp")):
            from synthrad.generators.sharding import named

            kwargs["strategy"] = named(asked)
        kwargs["plugins"] = [*(settings.get("plugins") or []), DurableCheckpointIO(), *cluster_plugins()]
        check_engine(settings.get("precision"))
        trainer = super().instantiate_trainer(**kwargs)
        check_precision(settings.get("precision"), trainer)
        world.check(trainer)
        return trainer

    def fit(self, model: Any, ckpt_path: Any = None, weights_only: Any = None, **kwargs: Any) -> None:
        """Fit; what an earlier call of the same command left is resumed from. One process writes the folder, with those it starts."""
        root = Path(self.trainer.default_root_dir)
        with self._only_writer(root):
            ckpt_path = self._begun(root, ckpt_path)
            if ckpt_path is not None:
                self._check_checkpoint(ckpt_path)
            write_durably(root / "identity", self.identity.encode())
            if self.trainer.is_global_zero:
                print(f"synthrad fit: precision {self.trainer.precision}", flush=True)
            with told_of_other_weights(ckpt_path):
                self.trainer.fit(model, ckpt_path=ckpt_path, weights_only=True, **kwargs)
        print(f"synthrad fit: finished; checkpoints in {root / 'checkpoints'}", flush=True)

    @contextmanager
    def _only_writer(self, root: Path) -> Iterator[None]:
        """Hold the folder's lock and keep its log, on the first process; where that is refused, the others end with it and say nothing.

        Raises:
            RunError: another fit writes the folder. OSError: nobody can write there.
        """
        first, refusal = self.trainer.is_global_zero, None
        with ExitStack() as held:
            try:
                if first:
                    held.enter_context(locked(root / ".fit.lock", "fit"))
                    held.enter_context(kept(root / LOG))
            except (RunError, OSError) as e:
                refusal = e
            if refused(self.trainer, refusal is not None) and refusal is None:
                raise SystemExit(1)
            if refusal is not None:
                raise refusal
            yield

    def _begun(self, root: Path, ckpt_path: Any) -> Any:
        """The checkpoint to go on from, None = from the start; refuses a folder with another fit."""
        if ckpt_path not in ("last", None):
            return ckpt_path
        mark, newest = root / "identity", newest_valid(root)
        if newest is None and ckpt_path == "last":
            raise InputError("ckpt_path", "last", f"a whole checkpoint in {root}", "leave --ckpt_path out to start")
        other = mark.is_file() and mark.read_text() != self.identity
        if newest is not None and other and ckpt_path is None:
            raise InputError("trainer.default_root_dir", f"{root}, which holds another fit", "a folder of its own",
                             "give another folder, or --ckpt_path=last to go on from it with changed settings")
        return newest

    def test(self, model: Any, ckpt_path: Any = None, weights_only: Any = None, **kwargs: Any) -> None:
        """Test a checkpoint and write the cases table."""
        self._need_checkpoint(model, ckpt_path, "test")
        with told_of_other_weights(ckpt_path):
            self.trainer.test(model, ckpt_path=ckpt_path, weights_only=True, **kwargs)
        if hasattr(model, "cases"):
            out = Path(self.trainer.default_root_dir) / "cases.parquet"
            seed = self.config[self.subcommand].get("seed_everything") or 0
            strategy = getattr(self.trainer.datamodule, "fusion", None)
            names = {"task": model, "net": model.net, "arm": strategy}
            columns = {k: type(v).__name__ if v is not None else "" for k, v in names.items()}
            write_cases(out, model.cases.assign(**columns, seed=int(seed)))
            print(f"synthrad test: wrote {out}", flush=True)

    def predict(self, model: Any, ckpt_path: Any = None, weights_only: Any = None, **kwargs: Any) -> None:
        """Write what a checkpoint predicts for the images that `test` reads, into `predictions` of the run's folder."""
        self._need_checkpoint(model, ckpt_path, "predict with")
        self.trainer.callbacks.append(WritePredictions(Path(self.trainer.default_root_dir) / "predictions"))
        with told_of_other_weights(ckpt_path):
            self.trainer.predict(model, ckpt_path=ckpt_path, weights_only=True, **(kwargs | {"return_predictions": False}))

    def _need_checkpoint(self, model: Any, path: Any, verb: str) -> None:
        if path is None and any(p.requires_grad for p in model.parameters()):  # a net of which nothing learns is taken as it is
            raise InputError("ckpt_path", "nothing", f"the checkpoint to {verb}", "add --ckpt_path=FILE")

    def _check_checkpoint(self, path: Path | str) -> None:
        """Refuse to resume from a checkpoint that says it is of another dataset."""
        data = self.config[self.subcommand].get("data")
        manifest = (data.get("init_args") or {}).get("manifest") if data else None
        raw = DurableCheckpointIO().load_checkpoint(path)
        seen = raw.get("dataset") or ((raw.get("synthrad") or {}).get("spec") or {}).get("info") or {}
        if not manifest or not seen:
            return
        facts = facts_of(manifest)
        here = {k: facts[k] for k in ("id", "channels", "classes", "layers")}
        if differing := [k for k in here if k in seen and plain_tree(seen[k]) != plain_tree(here[k])]:
            key = differing[0]
            raise InputError(f"ckpt_path {path}", f"a checkpoint of another dataset ({key} {seen[key]})",
                             f"{key} {here[key]}, as data.manifest {manifest} has it",
                             "give the manifest that it was trained on, or leave --ckpt_path out to start in a new folder")


def _with_weights_read(model: Any) -> Any:
    """A model's arguments with the digest of its net's weights in the place of their path: the same path may hold others tomorrow."""
    net = ((model or {}).get("init_args") or {}).get("net")
    if not isinstance(net, dict) or not (net.get("init_args") or {}).get("weights"):
        return model
    from synthrad.nets.weight_files import with_digests  # all nets: only where one names weights

    read = {**net, "init_args": with_digests(net["init_args"])}
    return {**model, "init_args": {**model["init_args"], "net": read}}


NOISE = re.compile(r"try installing \[lit|`weights_only` was not set")
SPEAKERS = ("utilities.rank_zero", "trainer.connectors.checkpoint_connector")


def _tells(record: logging.LogRecord) -> bool:
    return not NOISE.search(record.getMessage())


def hush() -> None:
    """Leave out what Lightning says of its other products and of choices that are ours, and nothing else."""
    for name in SPEAKERS:
        logging.getLogger(f"lightning.pytorch.{name}").addFilter(_tells)  # a filter is added once
    warnings.filterwarnings("ignore", message=".*args parameter is intended.*|.*does not have many workers.*|.*LeafSpec.*|"
                            "Experiment logs directory .* not empty")  # it holds `identity` and TensorBoard's file


def parse(argv: list[str], cli: type[SynthradCLI] = SynthradCLI) -> SynthradCLI:
    """Parse one command line and run it, as `cli` has it.

    Raises:
        InputError: a key, class or value that is not known; names what is.
    """
    allow_imports()
    import_named(argv)
    hush()
    try:
        return cli(
            model_class=LightningModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=argv,
            parser_kwargs={"exit_on_error": False, **{c: {"exit_on_error": False} for c in COMMANDS}},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "max_epochs": -1,
                "num_sanity_val_steps": 0,
                "enable_progress_bar": False,  # ours counts images
                "enable_model_summary": False,
                "use_distributed_sampler": False,  # ours are rank-aware and count no image twice
            },
        )
    except argparse.ArgumentError as e:
        raise explain(str(e)) from None
    except ValueError as e:
        raise our_own(e) from None


def run(argv: list[str]) -> int:
    """Run one of fit, validate, test, predict; returns 0."""
    with interruptible():
        parse(argv)
    return 0
