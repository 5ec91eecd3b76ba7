from pathlib import Path

import pytest
from checking_cli import CheckingCLI

from synthrad import cli

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("generators/*.yaml")), ids=lambda p: p.stem)
def test_generator_configs_parse(path):
    cli.parse(["fit", "-c", str(path)], CheckingCLI)


DATA, TASKS = sorted(CONFIGS.glob("data/*.yaml")), sorted(CONFIGS.glob("tasks/*.yaml"))
PAIRS = [(DATA[0], t) for t in TASKS] + [(d, TASKS[0]) for d in DATA[1:]]  # they set different keys: not every pair is needed


@pytest.mark.parametrize(("data", "task"), PAIRS, ids=lambda p: p.stem)
def test_data_and_task_configs_parse_in_any_order(data, task):
    cli.parse(["fit", "-c", str(task), "-c", str(CONFIGS / "base.yaml"), "-c", str(data)], CheckingCLI)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_config_opens_with_its_command_and_time(path):
    head = "\n".join(line for line in path.read_text().splitlines()[:12] if line.startswith("#"))
    assert path.read_text().startswith("#") and "synthrad" in head
