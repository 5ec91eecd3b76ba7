"""metrics.csv of a fit that may be resumed."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment


class ResumedCSVLogger(CSVLogger):
    """Goes on with the metrics.csv of its folder; Lightning's own deletes it.

    A killed fit may have logged beyond the checkpoint that it is resumed from: the first line that is written now drops all
    earlier ones of its step and later.
    """

    _earlier: list[dict[str, str]] | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Lightning's writer, with the header and lines that were there."""
        if self._experiment is None:
            path = Path(self.log_dir) / "metrics.csv"
            self._earlier = _lines(path)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Experiment logs directory")  # that they will be deleted
                made = CSVLogger.experiment.fget(self)
            if self._earlier:
                made.metrics_keys = sorted(self._earlier[0])
                self._put_back(made, self._earlier)
        return self._experiment

    def save(self) -> None:
        """Write what is new; the first time, drop what it does again."""
        writer = self.experiment
        if self._earlier and writer.metrics:
            first = min(m["step"] for m in writer.metrics)
            self._put_back(writer, [x for x in self._earlier if float(x["step"] or 0) < first])
            self._earlier = None
        super().save()

    @staticmethod
    def _put_back(writer: Any, lines: list[dict[str, str]]) -> None:
        with open(writer.metrics_file_path, "w", newline="") as file:
            out = csv.DictWriter(file, fieldnames=writer.metrics_keys)
            out.writeheader()
            out.writerows(lines)


def _lines(path: Path) -> list[dict[str, str]]:
    """The whole lines of a metrics.csv; none of a file that is none, and not the half line that a kill left."""
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        found = list(csv.DictReader(file))
    return [x for x in found if "step" in x and None not in x and None not in x.values() and _is_number(x["step"])]


def _is_number(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False
