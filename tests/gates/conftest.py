"""Gates use what the tests beside their subjects are made of; who names this folder, or a file of it, on the command line runs its gates."""

import sys
from pathlib import Path

for folder in ("callbacks", "generators", "study", "tasks"):
    sys.path.append(str(Path(__file__).parents[1] / folder))


def pytest_configure(config):
    """`pytest tests/gates` without `-m`: the default, which leaves gates out, is for those who name the tests as a whole."""
    here = Path(__file__).parent
    named = any(here in (path := Path(config.invocation_params.dir, a.split("::")[0]).resolve(), *path.parents) for a in config.args)
    if named and not any(str(a).startswith("-m") for a in config.invocation_params.args):
        config.option.markexpr = config.option.markexpr.replace(" and not gate", "")
