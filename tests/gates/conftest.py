"""Gates use what the tests beside their subjects are made of."""

import sys
from pathlib import Path

for folder in ("callbacks", "generators", "study", "tasks"):
    sys.path.append(str(Path(__file__).parents[1] / folder))
