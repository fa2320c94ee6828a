# SPDX-License-Identifier: Apache-2.0
"""What a session found: files, a table and a chart."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssdops.benchmarking.session import Entry, Session, threads_text
from ssdops.benchmarking.workloads import suite
from ssdops.files import write_atomically, write_json

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "CHART_FILE",
    "RESULTS_FILE",
    "SESSION_FILE",
    "fastest_peers",
    "result_table",
    "save_chart",
    "save_results",
]

RESULTS_FILE = "results.json"
SESSION_FILE = "session.json"
CHART_FILE = "chart.png"

_OURS, _REFERENCE, _PEER, _FASTEST, _DIFFERENT = (
    "#1f6fb4",
    "#9ecae1",
    "#b8b8b8",
    "#5a5a5a",
    "#ffffff",
)


def fastest_peers(entries: Sequence[Entry]) -> dict[tuple[str, int], Entry]:
    """The fastest peer with a right result, by workload and threads."""
    fastest: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        if entry.is_peer and entry.verified:
            key = (entry.workload, entry.threads)
            if key not in fastest or entry.median_ms < fastest[key].median_ms:
                fastest[key] = entry
    return fastest


def save_results(session: Session, folder: Path) -> None:
    """Write `results.json`, one object per entry, and `session.json`, the rest.

    Args:
        session: finished or interrupted.
        folder: made if it is not there.

    Raises:
        OSError: if the folder cannot be written.
    """
    write_json(folder / RESULTS_FILE, [entry.to_dict() for entry in session.entries])
    write_json(folder / SESSION_FILE, _circumstances(session))


def result_table(entries: Sequence[Entry]) -> Table:
    """A table of times in milliseconds.

    Its last column tells how many times as fast as the fastest peer with a right
    result an entry is.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - only the command line needs it
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    fastest = fastest_peers(entries)
    table = Table(title="Milliseconds a call", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("workload, implementation", overflow="fold")
    for heading in ("median", "p25 - p75"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("result")
    table.add_column("x peer", justify="right")
    previous = None
    for entry in _ordered(entries):
        key = (entry.workload, entry.threads)
        if key != previous:
            if previous is not None:
                table.add_section()
            table.add_row(f"{entry.workload}, {threads_text(entry.threads)}", style="b")
            previous = key
        values = entry.to_dict()
        style = {"ssdops": "cyan"}.get(entry.library, "")
        table.add_row(
            f"  {escape(entry.implementation)}",
            _digits(entry.median_ms),
            f"{_digits(values['p25_ms'])} - {_digits(values['p75_ms'])}",
            "right" if entry.verified else "differs",
            _ratio(fastest.get(key), entry),
            style=style if entry.verified else "dim",
        )
    return table


def _digits(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _ratio(peer: Entry | None, entry: Entry) -> str:
    """How many times as fast as the fastest peer an entry is."""
    if peer is None:
        return ""
    ratio = peer.median_ms / entry.median_ms
    return f"{ratio:.2f}" if ratio >= 0.01 else "< 0.01"


def save_chart(entries: Sequence[Entry], path: Path) -> None:
    """Draw horizontal bars on a logarithmic axis, a panel per workload and threads.

    Of every library the fastest variant is shown, one with a right result first.

    Args:
        entries: at least one.
        path: picture to write; the suffix tells the format.

    Raises:
        OSError: if the picture cannot be written.
        ValueError: if there are no entries.
    """
    from matplotlib.backends.backend_agg import (  # noqa: PLC0415 - slow to import
        FigureCanvasAgg,
    )
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415
    from matplotlib.ticker import NullFormatter  # noqa: PLC0415

    if not entries:
        raise ValueError("there are no entries to draw")
    fastest = fastest_peers(entries)
    panels: dict[tuple[str, int], list[Entry]] = {}
    for entry in entries:
        panels.setdefault((entry.workload, entry.threads), []).append(entry)
    columns = min(3, len(panels))
    sizes = [len(_best_variants(shown)) for shown in panels.values()]
    tallest = [
        max(sizes[first : first + columns]) for first in range(0, len(sizes), columns)
    ]
    heights = [0.27 * size + 0.85 for size in tallest]
    figure = Figure(figsize=(5.6 * columns, sum(heights) + 0.6), layout="constrained")
    grid: Any = figure.subplots(
        len(tallest), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for index, (key, shown) in enumerate(panels.items()):
        axes = grid.flat[index]
        best = _best_variants(shown)
        for place, entry in enumerate(best):
            color, hatch = _appearance(entry, fastest.get(key))
            axes.barh(
                place,
                entry.median_ms,
                color=color,
                hatch=hatch,
                edgecolor="#808080" if hatch else color,
                linewidth=0.5,
            )
            axes.annotate(
                _digits(entry.median_ms),
                (entry.median_ms, place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7,
            )
        name, threads = key
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        values = [entry.median_ms for entry in best]
        axes.set_xlim(min(values) / 2.5, max(values) * 3.5)
        axes.set_yticks(
            range(len(best)), [_short(entry.implementation) for entry in best]
        )
        axes.set_ylim(tallest[index // columns] - 0.4, -0.6)
        axes.tick_params(labelsize=7)
        axes.set_title(f"{name}, {threads_text(threads)}", fontsize=9)
        axes.grid(axis="x", which="major", alpha=0.3)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    legend = [
        Patch(color=_OURS, label="ssdops"),
        Patch(color=_REFERENCE, label="its plain TensorFlow reference"),
        Patch(color=_FASTEST, label="fastest peer with the same result"),
        Patch(color=_PEER, label="other peers"),
        Patch(facecolor=_DIFFERENT, edgecolor="#808080", hatch="////", label="differs"),
    ]
    figure.legend(
        handles=legend,
        loc="outside upper center",
        ncols=min(5, 2 * columns),
        fontsize=8,
    )
    figure.supxlabel("milliseconds a call, median", fontsize=9)
    FigureCanvasAgg(figure)
    write_atomically(path, lambda partial: figure.savefig(partial, dpi=110))


def _best_variants(entries: Sequence[Entry]) -> list[Entry]:
    """The best entry of every library, fastest first."""
    best: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda e: (not e.verified, e.median_ms)):
        best.setdefault(entry.library, entry)
    return sorted(best.values(), key=lambda entry: entry.median_ms)


def _appearance(entry: Entry, fastest: Entry | None) -> tuple[str, str]:
    if not entry.verified:
        return _DIFFERENT, "////"
    if entry.library == "ssdops":
        return _OURS, ""
    if not entry.is_peer:
        return _REFERENCE, ""
    return (_FASTEST if entry is fastest else _PEER), ""


def _short(name: str) -> str:
    return name if len(name) <= 38 else f"{name[:37]}…"


def _ordered(entries: Sequence[Entry]) -> list[Entry]:
    """By workload and threads as measured, then by time."""
    places = {name: place for place, name in enumerate(suite())}
    return sorted(entries, key=lambda e: (places[e.workload], e.threads, e.median_ms))


def _circumstances(session: Session) -> dict[str, Any]:
    from ssdops import __version__  # noqa: PLC0415
    from ssdops._build_facts import build_facts  # noqa: PLC0415

    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat("T", "seconds"),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "platform": platform.platform(),
            "load_average": list(os.getloadavg()),
        },
        "versions": {
            "ssdops": __version__,
            "python": platform.python_version(),
            **session.versions,
        },
        "build": build_facts().details,
        "settings": asdict(session.settings),
        "workloads": session.facts,
        "notes": [
            {
                "workload": entry.workload,
                "implementation": entry.implementation,
                "threads": entry.threads,
                "problem": entry.problem,
                "note": entry.note,
            }
            for entry in session.entries
            if entry.problem or entry.note
        ],
        "skipped": [asdict(skipped) for skipped in session.skipped],
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor()
    names = [
        line.split(":", 1)[1] for line in text.splitlines() if "model name" in line
    ]
    return names[0].strip() if names else platform.processor()
