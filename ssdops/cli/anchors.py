# SPDX-License-Identifier: Apache-2.0
"""`ssdops anchors`: the anchor grids as table, picture and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from ssdops.anchors import AnchorGrid

__all__ = ["anchors"]


def anchors(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of a grid; without it, the known grids are listed."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the levels into this picture (PNG, SVG or PDF)."),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the grid's description to this file."),
    ] = None,
) -> None:
    """Show the anchors (default boxes) of a detector, level by level."""
    from rich.console import Console
    from rich.table import Table

    from ssdops.anchors import anchor_grid, anchor_grid_names
    from ssdops.files import write_atomically, write_json

    console = Console()
    if name is None:
        if plot or json_file:
            raise typer.BadParameter("--plot and --json need the NAME of a grid")
        table = Table("name", "image", "levels", "anchors", title="Anchor grids")
        for known in anchor_grid_names():
            grid = anchor_grid(known)
            table.add_row(
                known,
                f"{grid.image_size[0]} x {grid.image_size[1]}",
                str(len(grid.levels)),
                str(grid.num_anchors),
            )
        console.print(table)
        return
    try:
        grid = anchor_grid(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    console.print(_levels_table(name, grid))
    try:
        if json_file:
            write_json(json_file, grid.to_dict())
            typer.echo(f"description: {json_file}")
        if plot:
            from ssdops.visualization import plot_anchors

            figure = plot_anchors(grid, f"{name}: {grid.num_anchors} anchors")
            write_atomically(plot, lambda partial: figure.savefig(partial, dpi=110))
            typer.echo(f"picture: {plot}")
    except (OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def _levels_table(name: str, grid: AnchorGrid) -> Table:
    """Returns the table of all levels with a total."""
    from rich.table import Table

    from ssdops.anchors import AnchorLevel

    height, width = grid.image_size
    table = Table(
        title=f"{name}: image {height} x {width}, variances "
        f"{', '.join(f'{v:g}' for v in grid.variances)}, sizes in pixels",
        show_footer=True,
    )
    for header, footer in (
        ("level", "all"),
        ("map", ""),
        ("step", ""),
        ("sizes min-max", ""),
        ("ratios", ""),
        ("per cell", ""),
        ("anchors", str(grid.num_anchors)),
    ):
        table.add_column(header, footer=footer)
    for index, level in enumerate(grid.levels):
        if isinstance(level, AnchorLevel):
            highs = level.max_sizes or ("",) * len(level.min_sizes)
            sizes = ", ".join(
                f"{low:g}-{high:g}" if high else f"{low:g}"
                for low, high in zip(level.min_sizes, highs, strict=True)
            )
            ratios = ", ".join(f"{ratio:.3g}" for ratio in level.effective_ratios())
        else:
            areas = [(h * w) ** 0.5 for h, w in level.shapes]
            sizes = f"{min(areas):.4g}-{max(areas):.4g}"
            ratios = ", ".join(f"{w / h:.3g}" for h, w in level.shapes)
        step = grid.level_step(index)
        table.add_row(
            str(index),
            f"{level.feature_size[0]} x {level.feature_size[1]}",
            " x ".join(f"{s:.4g}" for s in dict.fromkeys(step)),
            sizes,
            ratios,
            str(level.boxes_per_cell),
            str(grid.anchors_per_level[index]),
        )
    return table
