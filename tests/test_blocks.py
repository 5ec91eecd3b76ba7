"""Several processes draw one set: the bytes of one process, whoever is killed, late or missing."""

import errno
import multiprocessing
import os
import signal
import time

import pytest
from forks import dying, forks, in_child, in_ranks
from tiny_generator import sample_command

from synthrad import blocks, locking
from synthrad.__main__ import main
from synthrad.blocks import Blocks, Share
from synthrad.errors import InputError
from synthrad.generators.gan import StyleGAN2
from synthrad.locking import locked, part_locked
from synthrad.records import Manifest
from synthrad.sampling import drawing, set_folder

pytestmark = forks


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def one_project(trained, project_folder, monkeypatch):
    """Sets are sealed with the project's key: equal bytes need one project."""
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(trained[0].parent))


@pytest.fixture(scope="module")
def lab(trained, tmp_path_factory):
    """The start of a command that draws 10 images in blocks of 2, and the bytes that one process leaves."""
    real, checkpoint = trained
    start = [*sample_command(checkpoint, real, "OUT")[:-4], "--block-size", "2", "--device", "cpu"]
    folder = tmp_path_factory.mktemp("alone")
    command = lambda out: [str(out) if x == "OUT" else x for x in start]  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(real.parent))
        assert main(command(folder / "set")) == 0
    return command, everything(folder / "set")


@pytest.mark.parametrize(("environ", "share"), [
    ({}, Share()), ({"SLURM_PROCID": "0"}, Share()), ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, Share(1, 4, 1)), ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Share()),
    ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"}, Share(3, 4, 1)),
])  # fmt: skip
def test_which_process_this_is(environ, share):
    assert Share.of(environ) == share


@pytest.mark.parametrize("environ", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"SLURM_PROCID": "4", "SLURM_STEP_NUM_TASKS": "4"}])
def test_numbers_that_do_not_fit(environ):
    with pytest.raises(InputError, match="RANK, WORLD_SIZE|SLURM_PROCID, SLURM_STEP_NUM_TASKS"):
        Share.of(environ)


def numbered(function, folder):
    """Which process drew which block."""

    def wrapped(generator, conditions, start, *args):
        with open(folder / f"drew{os.environ.get('RANK', 'alone')}", "a") as f:
            f.write(f"{start // 2}\n")
        time.sleep(0.3)  # nobody is so quick that it draws what is another's
        return function(generator, conditions, start, *args)

    return wrapped


def drew(folder, rank):
    path = folder / f"drew{rank}"
    return [int(x) for x in path.read_text().split()] if path.exists() else []


def test_two_processes_draw_their_blocks_and_leave_the_bytes_of_one(lab, tmp_path, monkeypatch, capfd):
    command, whole = lab
    monkeypatch.setattr(drawing, "_draw_block", numbered(drawing._draw_block, tmp_path))
    assert in_ranks(main, command(tmp_path / "set")) == [0, 0]
    one, two = drew(tmp_path, 0), drew(tmp_path, 1)
    assert sorted(one + two) == [0, 1, 2, 3, 4] and {0} <= set(one) and {1} <= set(two)  # none twice
    assert everything(tmp_path / "set") == whole
    said = capfd.readouterr().out
    assert said.count("10 images in") == 1 and f"process 1 of 2 drew {len(two)} of 5 blocks" in said


def killed_in(rank, call, command):
    """In one of two processes: the command, of which one is killed in the middle of a block; the other one leaves it time to begin one."""
    if os.environ["RANK"] == str(rank):
        drawing.write_image = dying(drawing.write_image, call)
    else:
        draw = drawing._draw_block
        drawing._draw_block = lambda *args: (time.sleep(2.0), draw(*args))[1]
    return main(command)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_missed_by_nobody(lab, tmp_path, rank):
    """The first one ends the set without the other; without the first one, the same command does."""
    command, whole = lab
    codes = in_ranks(killed_in, rank, 2, command(tmp_path / "set"))
    assert codes[rank] == -signal.SIGKILL and codes[1 - rank] == 0
    if rank == 0:
        assert not (tmp_path / "set" / "dataset.yaml").exists()
        assert in_ranks(main, command(tmp_path / "set")) == [0, 0]
    assert everything(tmp_path / "set") == whole


def test_each_process_has_a_lock(lab, tmp_path, capfd):
    command, _ = lab
    with locked(tmp_path / ".set.lock", "a test"), locked(tmp_path / ".set.lock.1", "a test"):
        begun = time.monotonic()
        assert in_ranks(main, command(tmp_path / "set")) == [1, 1]
        assert time.monotonic() - begun < 30
    said = capfd.readouterr().err
    assert said.count(f"sample: another process (pid {os.getpid()}) is writing {tmp_path / 'set'}") == 2


def test_a_process_whose_first_one_never_comes_ends(lab, tmp_path, monkeypatch, capfd):
    command, _ = lab
    monkeypatch.setattr(set_folder, "BEGIN_SECONDS", 0.3)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command(tmp_path / "set")) == 1
    assert "the first process has not begun" in capfd.readouterr().err and not (tmp_path / "set").exists()
    monkeypatch.setattr(set_folder, "BEGIN_SECONDS", 600.0)
    monkeypatch.setenv("RANK", "0")  # alone of two: it draws all
    assert main(command(tmp_path / "set")) == 0 and len(Manifest.read(tmp_path / "set")) == 10
    monkeypatch.setenv("RANK", "1")
    assert main([*command(tmp_path / "set"), "--seed", "3"]) == 2
    assert "a set with other seed" in capfd.readouterr().err


def test_without_locks_the_first_process_does_not_wait_for_ever(lab, tmp_path, monkeypatch, capfd):
    """Nothing tells there whether the other one is at work: it is waited for, with a word, and no longer than it may take."""
    command, whole = lab

    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(locking.fcntl, "lockf", refuse)
    monkeypatch.setattr(blocks, "SAID_SECONDS", 0.2)
    monkeypatch.setattr(blocks, "MOST_SECONDS", 1.0)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command(tmp_path / "set")) == 1
    said = capfd.readouterr()
    assert "waiting for 2 blocks" in said.out and "with --alone draws them" in said.err
    assert main([*command(tmp_path / "set"), "--alone"]) == 0 and everything(tmp_path / "set") == whole


def test_a_finished_set_is_told_once(lab, tmp_path, monkeypatch, capfd):
    command, _ = lab
    assert main(command(tmp_path / "set")) == 0
    capfd.readouterr()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*command(tmp_path / "set"), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "images in" not in capfd.readouterr().out and not (tmp_path / "sheet.png").exists()


def test_a_block_that_another_process_draws_is_left_to_it(tmp_path):
    drawn = []
    made = Blocks(tmp_path, [0, 2, 4], lambda start: drawn.append(start) or [{"files": {}}], Share(1, 2))
    made.begin()

    def hold():
        with part_locked(tmp_path / blocks.FOLDER / blocks.LOCK, 1, free=False) as held:
            assert held
            (tmp_path / "held").touch()
            while not (tmp_path / "go").exists():
                time.sleep(0.01)

    def helper():
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        return 10 + made.help()

    holder = multiprocessing.get_context("fork").Process(target=hold)
    holder.start()
    assert in_child(helper, seconds=60) == 12  # blocks 0 and 4, not 2
    (tmp_path / "go").touch()
    holder.join(60)
    assert holder.exitcode == 0
    assert sorted(p.name for p in (tmp_path / blocks.FOLDER).glob("*.json")) == ["000000.json", "000004.json"]
    assert made.help() == 1 and drawn == [2]


def test_a_set_that_ended_meanwhile_is_not_touched(tmp_path):
    made = Blocks(tmp_path, [0], lambda start: pytest.fail("drawn again"), Share(1, 2))
    made.begin()
    (tmp_path / "dataset.yaml").touch()
    assert made.help() == 0
    (tmp_path / "dataset.yaml").unlink()
    (tmp_path / blocks.FOLDER / blocks.LOCK).unlink()
    assert made.help() == 0 and not (tmp_path / blocks.FOLDER / blocks.LOCK).exists()


def test_resuming_draws_only_what_is_missing(lab, tmp_path, monkeypatch):
    command, whole = lab
    with monkeypatch.context() as patch:
        patch.setattr(StyleGAN2, "sample", dying(StyleGAN2.sample, 3))
        assert in_child(main, command(tmp_path / "set")) == -signal.SIGKILL
    monkeypatch.setattr(drawing, "_draw_block", numbered(drawing._draw_block, tmp_path))
    assert in_ranks(main, command(tmp_path / "set")) == [0, 0]
    assert sorted(drew(tmp_path, 0) + drew(tmp_path, 1)) == [2, 3, 4]
    assert everything(tmp_path / "set") == whole
