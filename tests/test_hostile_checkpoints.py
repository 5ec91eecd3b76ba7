"""Checkpoints that would run code, lie of their sizes or were changed: refused wherever they are given, from disk and over http.

Flips and truncations by the hundred, and every command, are in tests/gates/test_gate_hostile_checkpoints.py.
"""

import contextlib
import functools
import http.server
import io
import os
import pickle
import random
import struct
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from forks import forks
from hostile_configs import Trap
from mutants import judged
from tiny_generator import fit_command, sample_command

from synthrad.__main__ import main
from synthrad.callbacks import DurableCheckpointIO
from synthrad.checkpoints import read_checkpoint, sidecar
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.generators.loading import load_generator
from synthrad.nets.loading import load_plain

pytestmark = [forks, pytest.mark.filterwarnings("ignore:.*pickle protocol.*|.*torch.jit.*")]


UNREAD = [("fit --ckpt_path", name) for name in ("the class of a stranger", "a class that ours imports", "a class beside ours",
          "a folder outside in its layers")]  # what sampling reads and a fit that goes on does not


class Shell:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def spoilt(folder: Path, checkpoint: Path, trap: Trap) -> dict[str, Path]:
    """Hostile files, by what each does; made from a sound checkpoint of a generator."""
    folder.mkdir()
    made: dict[str, Path] = {}

    def path(name: str, suffix: str = ".ckpt") -> Path:
        return made.setdefault(name, folder / f"{len(made)}{suffix}")

    def saved(name: str, **changes) -> None:
        torch.save({**torch.load(checkpoint, weights_only=True), **changes}, path(name))

    shell, whole = Shell(trap.shout), torch.load(checkpoint, weights_only=True)
    hparams, entry = whole["hyper_parameters"], whole["synthrad"]
    saved("a pickle among its weights", state_dict={**whole["state_dict"], "x": shell})
    saved("a pickle beside its weights", callbacks={"x": shell})
    path("a bare pickle").write_bytes(pickle.dumps(shell, protocol=2))
    path("a bare pickle of weights", ".bin").write_bytes(pickle.dumps({"weight": shell}, protocol=2))
    saved("_instantiator", hyper_parameters={**hparams, "_instantiator": "os.system", "_class_path": "evil.Thing"})
    saved("_instantiator of Lightning", hyper_parameters={**hparams, "_instantiator": "lightning.pytorch.cli.instantiate_module", "_class_path": "evil.Thing"})
    saved("the class of a stranger", synthrad={**entry, "class": "evil.Thing"})
    saved("a class that ours imports", synthrad={**entry, "class": "synthrad.generators.loading.importlib.import_module"})
    saved("a class beside ours", synthrad={**entry, "class": "synthrad.generators.evil.Thing"})
    saved("a class path among its arguments", hyper_parameters={**hparams, "init_from": {"class_path": "evil.Thing"}, "class_path": "evil.Thing"}, synthrad={**entry, "spec": None})
    saved("a folder outside in its layers", synthrad={**entry, "spec": {**entry["spec"], "info": {**entry["spec"]["info"], "layers": {"../../x": ["a"]}}}})
    with zipfile.ZipFile(path("a zip that swells"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(600 * 2**20))
    with tarfile.open(path("a tar of old"), "w") as archive:
        archive.add(folder / "0.ckpt", "../../pickle")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path("a program")))
    path("a safetensors header of exabytes", ".safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    header = b'{"w":{"dtype":"F32","shape":[100000,100000],"data_offsets":[0,40000000000]}}'
    path("a safetensors tensor of 40 GB", ".safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    lying(path("a tensor of 4 TB in four bytes"))
    return made


def lying(path: Path) -> None:
    """A tensor whose size is not that of its storage."""
    torch.save({"weight": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {i.filename: archive.read(i) for i in archive.infolist()}
    name = next(n for n in parts if n.endswith("data.pkl"))
    parts[name] = parts[name].replace(b"K\x01\x85q", b"\x8a\x05\x00\x00\x00\x00\x01\x85q", 1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for part, data in parts.items():
            archive.writestr(part, data)


def readers(real: Path, run: Path) -> dict[str, list[str]]:
    """Commands that read a checkpoint; {} stands for it."""
    return {
        "sample": [x if x != "CKPT" else "{}" for x in sample_command(Path("CKPT"), real, run / "drawn")],
        "fit --ckpt_path": [*fit_command(real, run / "fit", images=28), "--ckpt_path={}"],
        "model.init_from": fit_command(real, run / "begun", init_from="{}"),
        "weights of a net": ["fit", "--model=SegmentationTask", "--model.net=SmpNet", "--model.net.weights={}", "--data=FusionDataModule",
                             f"--data.manifest={real}", "--data.size=[32,32]", "--trainer.max_steps=1", f"--trainer.default_root_dir={run / 'net'}"],
    }  # fmt: skip


@contextlib.contextmanager
def served(folder: Path):
    """A folder over http; the address."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ran(folder: Path, trained, places: list[str], names: slice = slice(None)) -> tuple[int, list[str]]:
    """How many commands were given a hostile checkpoint, and what ran, or was taken."""
    real, checkpoint = trained
    trap = Trap(folder / "trap")
    made = spoilt(folder / "spoilt", checkpoint, trap)
    commands = readers(real, folder / "runs")
    cases = [(place, name, str(path)) for place in places for name, path in list(made.items())[names]]
    with served(folder / "spoilt") as address:
        cases += [(place, f"over http: {name}", f"{address}/{path.name}") for place in places for name, path in list(made.items())[names]]

        def take(case) -> str:
            place, name, path = case
            sys.path.insert(0, str(trap.folder))
            os.environ["SYNTHRAD_PROJECT"] = str(real.parent)
            os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
            with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
                code = main([x.replace("{}", path) for x in commands[place]])
            if found := trap.sprung() or ", ".join(m for m in sys.modules if m.startswith("evil")):
                (trap.folder / "ran").unlink(missing_ok=True)
                return f"ran {found}"
            message = err.getvalue()
            if code == 0 and (place, name) in UNREAD:
                return ""
            return "" if code == 2 and "found" in message and "Traceback" not in message else f"exit code {code}: {message[-300:]}"

        found = judged(cases, take)
    return len(cases), [f"{place}, {name}: {wrong}" for (place, name, _), wrong in zip(cases, found, strict=True) if wrong]


def test_a_few_hostile_checkpoints(tmp_path, trained):
    assert ran(tmp_path, trained, ["sample"], slice(0, None, 4))[1] == []


def test_unpickled_without_care_it_runs(tmp_path):
    trap = Trap(tmp_path / "trap")
    assert judged([None], lambda _: str(pickle.loads(pickle.dumps(Shell(trap.shout))))) == ["0"] and trap.sprung()


def corrupted(checkpoint: Path, flips: int, cuts: int) -> list[bytes]:
    """Copies of a checkpoint with one other bit, and shorter ones."""
    sound, rng = checkpoint.read_bytes(), random.Random(0)
    made = []
    for at in rng.sample(range(8 * len(sound)), flips):
        data = bytearray(sound)
        data[at // 8] ^= 1 << at % 8
        made.append(bytes(data))
    return made + [sound[:at] for at in rng.sample(range(len(sound)), cuts)]


def accepted(folder: Path, checkpoint: Path, flips: int, cuts: int) -> list[str]:
    """Changed copies, with the sha256 of the sound one beside them, that any reader took."""
    path, found = folder / "copy-000000006.ckpt", []
    sidecar(path).write_text(file_digest(checkpoint))
    for k, data in enumerate(corrupted(checkpoint, flips, cuts)):
        path.write_bytes(data)
        for read in (DurableCheckpointIO().load_checkpoint, load_generator, load_plain):
            try:
                read(path)
                found.append(f"{read.__name__}, copy {k}")
            except InputError as e:
                assert path.name in str(e) and "sha256" in str(e)
    return found


def test_a_few_flips_and_cuts(tmp_path, trained):
    assert accepted(tmp_path, trained[1], 10, 5) == []


def silently(folder: Path, checkpoint: Path, flips: int) -> list[str]:
    """Changed copies without a sha256 whose weights are others, and that were read."""
    whole, path, found = read_checkpoint(checkpoint), folder / "copy.ckpt", []
    for k, data in enumerate(corrupted(checkpoint, flips, 0)):
        path.write_bytes(data)
        try:
            read = read_checkpoint(path)
        except InputError:
            continue
        if str(read.keys()) != str(whole.keys()) or any(not torch.equal(v, whole["state_dict"][n]) for n, v in read["state_dict"].items()):
            found.append(f"copy {k}")
    return found


def test_without_a_sha256_a_few_flips(tmp_path, trained):
    assert silently(tmp_path, trained[1], 20) == []
