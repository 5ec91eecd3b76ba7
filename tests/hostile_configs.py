"""Configs that would run code of a stranger if a command took them at their word, and the trap that they lay."""

from pathlib import Path

CALLS = ["os.system", "subprocess.check_output", "builtins.eval", "builtins.exec", "builtins.__import__", "pickle.loads", "importlib.import_module", "os.remove"]


class Trap:
    """A folder on sys.path with modules whose import leaves a mark; `shout` is what a shell command would leave.

    Args:
        folder: to make it in.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        for name in ("evil", "evil_data", "evil_callback"):
            (folder / f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'a').write(__name__)\nclass Thing:\n    def __init__(self, *a, **k):\n        open({str(folder / 'ran')!r}, 'a').write('made')\n")
        self.shout = f"touch {folder / 'ran'}"

    def sprung(self) -> str:
        """What ran, "" for nothing."""
        return (self.folder / "ran").read_text() or "a command" if (self.folder / "ran").exists() else ""


def configs(trap: Trap) -> dict[str, str]:
    """Name -> YAML of `synthrad fit`, each with a way to other code at one key."""
    def thing(path: str, **options) -> str:
        said = "".join(f", {k}: {v}" for k, v in options.items())
        return f"{{class_path: {path}, init_args: {{{said[2:]}}}}}"

    model = "model: {class_path: synthrad.generators.gan.StyleGAN2}\n"
    shout = f"'{trap.shout}'"
    return {
        "model, a module with effects": f"model: {thing('evil.Thing')}\n",
        "model, os.system": f"model: {thing('os.system', command=shout)}\n",
        "model, builtins.eval": f"model: {thing('builtins.eval', source=shout)}\n",
        "data, a module with effects": f"{model}data: {thing('evil_data.Thing')}\n",
        "callbacks": f"{model}trainer: {{callbacks: [{thing('evil_callback.Thing')}]}}\n",
        "callbacks, subprocess": f"{model}trainer: {{callbacks: [{thing('subprocess.Popen', args=shout)}]}}\n",
        "logger": f"{model}trainer: {{logger: {thing('evil.Thing')}}}\n",
        "strategy": f"{model}trainer: {{strategy: {thing('evil.Thing')}}}\n",
        "plugins": f"{model}trainer: {{plugins: [{thing('evil.Thing')}]}}\n",
        "profiler": f"{model}trainer: {{profiler: {thing('evil.Thing')}}}\n",
        "net of a task": f"model: {thing('synthrad.tasks.segmentation.SegmentationTask', net=thing('evil.Thing'))}\n",
        "net of a task, os": f"model: {thing('synthrad.tasks.segmentation.SegmentationTask', net=thing('os.system', command=shout))}\n",
        "fusion": f"{model}data: {thing('synthrad.datamodules.fusion.FusionDataModule', manifest='x', fusion=thing('evil.Thing'))}\n",
        "a control's strategy": f"{model}data: {thing('synthrad.datamodules.fusion.FusionDataModule', manifest='x', fusion=thing('synthrad.fusion.DuplicateReal', like=thing('evil.Thing')))}\n",
        "optimizer": f"{model}optimizer: {thing('evil.Thing')}\n",
        "lr_scheduler": f"{model}lr_scheduler: {thing('evil.Thing')}\n",
        "a python tag": f"{model}seed_everything: !!python/object/apply:os.system [{shout}]\n",
        "a tag for an object": f"{model}data: !!python/object/new:evil.Thing []\n",
        "a tag for a name": f"{model}data: !!python/name:evil.Thing ''\n",
        "a module through one of ours": "model: {class_path: synthrad.config_names.importlib.import_module, init_args: {name: evil}}\n",
        "another class of an allowed package": "model: {class_path: torch.utils.cpp_extension.load_inline, init_args: {name: evil, cpp_sources: x}}\n",
        "a relative path": "model: {class_path: .evil.Thing}\n",
        "a merged default": f"x: &x {thing('evil.Thing')}\nmodel: *x\n",
        "dict_kwargs": "model: {class_path: evil.Thing, dict_kwargs: {a: 1}}\n",
    }  # fmt: skip


def filters(trap: Trap) -> dict[str, str]:
    """The same for `synthrad filter` and the spaces of `synthrad audit`."""
    return {
        "a module with effects": "class_path: evil.Thing\n",
        "os.system": f"class_path: os.system\ninit_args: {{command: '{trap.shout}'}}\n",
        "nested": "class_path: synthrad.fusion.AllOf\ninit_args: {filters: [{class_path: evil.Thing}]}\n",
        "cells": "class_path: synthrad.fusion.RandomKeep\ninit_args: {fraction: 0.5, cells: {class_path: evil.Thing}}\n",
        "a python tag": f"!!python/object/apply:os.system ['{trap.shout}']\n",
        "a module of ours": "class_path: synthrad.fusion.filters.importlib\n",
    }
