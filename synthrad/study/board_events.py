"""Event files for TensorBoard with the same bytes each time, and the summaries that stand in them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from synthrad.files import write_durably

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

# Of files that the report writes, in the folders of fits too. TensorBoard reads the files of a run by name and keeps the first hparams that
# it sees: the name comes before those of the files that a fit wrote, which know nothing of the study.
NAME = "events.out.tfevents.0000000000.board"


def write_events(folder: Path, rows: Iterable[tuple[int, Summary]], stamp: float) -> Path:
    """Write one event file durably.

    Args:
        rows: (step, summary) each. stamp: time of every event, seconds since 1970.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    records = RecordWriter(buffer)
    records.write(Event(wall_time=stamp, file_version="brain.Event:2").SerializeToString(deterministic=True))
    for step, summary in rows:
        records.write(Event(wall_time=stamp, step=step, summary=summary).SerializeToString(deterministic=True))
    path = folder / NAME
    write_durably(path, buffer.getvalue())
    return path


def remove_events(run: Path, pattern: str) -> None:
    """Remove what an earlier `write_events` wrote in the folders of `run` that match."""
    for path in run.glob(f"{pattern}/{NAME}"):
        path.unlink()


def scalar(tag: str, value: float) -> Summary:
    """One number."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def markdown_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as TensorBoard's text tab reads it; cells are text, none of their signs is a mark."""
    lines = [list(columns), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(c if i == 1 else escaped(c) for c in line)} |" for i, line in enumerate(lines))


def escaped(text: str) -> str:
    """Text on one line, without the marks of Markdown and HTML."""
    text = " ".join(text.split())
    for sign in "\\`*_[]":
        text = text.replace(sign, f"\\{sign}")
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        text = text.replace(sign, entity)
    return text
