"""The numbers of audit.likeness for a reader."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from synthrad.audit.likeness import Likeness

GROUPED = ("kid", "coverage", "ms_ssim")
NAMES = {"kid": "KID", "cmmd": "CMMD", "frechet": "Frechet distance", "frechet_infinite": "... infinite n", "vendi": "Vendi score",
         "structure_variety": "structure variety", "ms_ssim": "MS-SSIM within", "copying_c_t": "C_T (copying)", "fld_gap": "FLD-style gap"}
ABOUT = (("fidelity", ("kid", "cmmd", "frechet", "frechet_infinite", "precision", "density")),
         ("diversity", ("recall", "coverage", "vendi", "structure_variety", "ms_ssim")), ("novelty", ("copying_c_t", "fld_gap")))


def told(rows: Sequence[Likeness | Mapping[str, Any]]) -> str:
    """Space by space: all images by metric, then classes and subgroups, one a line.

    Args:
        rows: of `likeness`, or as a record holds them.
    """
    found = [r if isinstance(r, Likeness) else Likeness(**r) for r in rows]
    lines = []
    for space in dict.fromkeys(r.space for r in found):
        mine = [r for r in found if r.space == space]
        whole = {r.metric: r for r in mine if not r.group}
        if "all" in whole:
            lines.append(f"fidelity, diversity and novelty by {space}: not tested: {whole['all'].reason}")
        else:
            lines += [*_whole(whole), *_groups([r for r in mine if r.group])]
    return "\n".join(lines)


def _whole(rows: Mapping[str, Likeness]) -> list[str]:
    head = rows["kid"]
    lines = [f"fidelity, diversity and novelty by {head.space}: 95 % intervals over patients and synthetic images; * = the intervals do not meet",
             f"{'':<20}{'synthetic':>24}  {'n':>5}  {'real images (null)':>24}  {'n':>5}   perfect"]
    for title, metrics in ABOUT:
        lines.append(title)
        for row in (rows[m] for m in metrics if m in rows):
            name = f"  {NAMES.get(row.metric, row.metric)}"
            if row.reason:
                lines += textwrap.wrap(f"{name:<20}  not tested: {row.reason}", 130, subsequent_indent=" " * 22)
                continue
            value, null = _number(row.value, row.low, row.high), _number(row.null, row.null_low, row.null_high)
            lines.append(f"{name:<20}{value:>24}{'*' if row.apart else ' '} {row.images:>5}  {null:>24}  {row.null_images:>5}   {row.best}")
    return lines + [f"  {NAMES.get(r.metric, r.metric)}: {r.detail}" for r in rows.values() if r.detail and r.metric in ("cmmd", "frechet", *ABOUT[2][1])]


def _groups(rows: Sequence[Likeness]) -> list[str]:
    """A line a group: value with interval, the null's value in brackets."""
    names = list(dict.fromkeys(r.group for r in rows))
    if not names:
        return []
    wide = max(20, *(len(n) + 2 for n in names))
    if names == ["classes and subgroups"]:
        return textwrap.wrap(f"classes and subgroups: not tested: {rows[0].reason}", 130)
    lines = ["classes and subgroups, at as many images (null in brackets; its interval is in the record)",
             f"{'':<{wide}}{'n':>5}" + "".join(f"{NAMES.get(m, m):>34}" for m in GROUPED)]
    for name in names:
        mine = {r.metric: r for r in rows if r.group == name}
        if "all" in mine:
            lines.append(f"{'  ' + name:<{wide}}{'':>5}   not tested: {mine['all'].reason}")
            continue
        cells = [f"{_number(r.value, r.low, r.high)} ({_number(r.null, None, None)}){'*' if r.apart else ' '}" for r in (mine[m] for m in GROUPED)]
        lines.append(f"{'  ' + name:<{wide}}{mine['kid'].images:>5}" + "".join(f"{c:>34}" for c in cells))
    return lines


def _number(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or math.isnan(value):
        return "undefined"
    return _short(value) + ("" if low is None or high is None else f" [{_short(low)}, {_short(high)}]")


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
