"""Draws the plots of perf/REPORT.md: `plots.py FIGURES_JSON DIRECTORY`.

Runs on the Python that has matplotlib (`scripts/interop/install.py plots`), apart from the harness,
which needs none. The drawings are SVG and the same for the same figures.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot, ticker  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.dont_write_bytecode = True

from harness import peers_rows  # noqa: E402
from harness.peers_rows import (  # noqa: E402
    ALL_CORES, FLOOR, HIGHWATER, KAFKA, KAFKA_SYNC, LABELS, ONE_CORE, PLACEMENTS,
)

# Okabe and Ito's, distinguishable without colour vision, readable on light and dark.
COLOURS = {HIGHWATER: "#0072B2", KAFKA: "#E69F00", KAFKA_SYNC: "#D55E00", FLOOR: "#777777"}
MARKERS = {HIGHWATER: "o", KAFKA: "s", KAFKA_SYNC: "^", FLOOR: "x"}
SIDES = (HIGHWATER, KAFKA, KAFKA_SYNC)
# Where a quantile stands on an axis on which each nine is as wide as the last.
NINES = [("p50_us", 0.30, "50 %"), ("p90_us", 1, "90 %"), ("p99_us", 2, "99 %"),
         ("p99_9_us", 3, "99.9 %"), ("p99_99_us", 4, "99.99 %")]
# A quantile with fewer samples beyond it is an accident.
BEYOND_MIN = 5


def save(figure, path):
    """Without date and with fixed ids, so that equal figures make equal files."""
    figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)


def axes(title, width=7.5, height=4.2):
    figure, axis = pyplot.subplots(figsize=(width, height))
    axis.set_title(title)
    axis.grid(True, which="major", alpha=0.3)
    return figure, axis


def plain(axis):
    """Numbers as one reads them, not powers of ten."""
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def draw_ladder(data, placement, path):
    """p99 over the rate due: a line a round, hollow where the rate was not reached."""
    figure, axis = axes(f"p99 over rate, 1 KiB records, {PLACEMENTS[placement]}, each round")
    for side in SIDES:
        ladders = [ladder for ladder in data["ladders"]
                   if (ladder["placement"], ladder["side"]) == (placement, side)]
        for index, ladder in enumerate(ladders):
            steps = ladder["steps"]
            rates = [step["rate_per_s"] for step in steps]
            values = [step["p99_us"] / 1000 for step in steps]
            axis.plot(rates, values, color=COLOURS[side], alpha=0.8,
                      label=LABELS[side] if index == 0 else None)
            faces = [COLOURS[side] if step["reached"] else "white" for step in steps]
            axis.scatter(rates, values, s=22, marker=MARKERS[side], edgecolors=COLOURS[side],
                         facecolors=faces, zorder=3)
    bound_ms = data["method"]["knee_ms"]
    axis.axhline(bound_ms, color="#777777", linestyle="--", label=f"bound: {bound_ms:g} ms")
    axis.set_xscale("log")
    axis.set_yscale("log")
    plain(axis.xaxis)
    plain(axis.yaxis)
    axis.set_xlabel("records due per second")
    axis.set_ylabel("p99 from when due, ms")
    axis.legend()
    save(figure, path)


def draw_percentiles(data, placement, path):
    """Latency at the fixed rate by quantile: one thin line a round."""
    figure, axis = axes(
        f"Produce at {data['rate']:g} records/s, {PLACEMENTS[placement]}, each round"
    )
    for side in SIDES:
        curves = [curve for curve in data["curves"]
                  if (curve["placement"], curve["side"]) == (placement, side)]
        for index, curve in enumerate(curves):
            known = [(at, curve[name] / 1000) for name, at, _ in NINES
                     if name in curve and curve["samples"] * 10**-at >= BEYOND_MIN]
            axis.plot([at for at, _ in known], [value for _, value in known], color=COLOURS[side],
                      marker=MARKERS[side], alpha=0.8, label=LABELS[side] if index == 0 else None)
    axis.set_xticks([at for _, at, _ in NINES], [label for _, _, label in NINES])
    axis.set_yscale("log")
    plain(axis.yaxis)
    axis.set_xlabel("share of records at most this late")
    axis.set_ylabel("ms from when due")
    axis.legend()
    save(figure, path)


def draw_ratios(data, path):
    """Each judged ratio beside its target."""
    keys = [comparison for comparison in peers_rows.COMPARISONS]
    figure, axis = axes("Ratio to Kafka (larger is better for Highwater)", height=5.5)
    for offset, placement in ((-0.2, ONE_CORE), (0.2, ALL_CORES)):
        rows = peers_rows.comparisons(data["figures"], placement)
        colour = "#0072B2" if placement == ONE_CORE else "#56B4E9"
        known = [(at, row.value) for at, row in enumerate(rows) if row.value is not None]
        axis.barh([at + offset for at, _ in known], [value for _, value in known], height=0.38,
                  color=colour, label=PLACEMENTS[placement])
    axis.scatter([comparison.target for comparison in keys], range(len(keys)), marker="|", s=600,
                 linewidths=2, color="#D55E00", label="target", zorder=3)
    axis.set_yticks(range(len(keys)), [comparison.key for comparison in keys])
    axis.invert_yaxis()
    axis.set_xscale("log")
    plain(axis.xaxis)
    axis.set_xlabel("times")
    axis.legend()
    save(figure, path)


def main(figures_file, directory):
    """All plots of a file of figures."""
    pyplot.rcParams["svg.hashsalt"] = "highwater"
    # White behind everything: a page with a dark background would hide the text otherwise.
    pyplot.rcParams["savefig.facecolor"] = "white"
    data = json.loads(Path(figures_file).read_text())
    directory = Path(directory)
    draw_ratios(data, directory / "ratios.svg")
    for placement in (ONE_CORE, ALL_CORES):
        draw_ladder(data, placement, directory / f"ladder-{placement}.svg")
        draw_percentiles(data, placement, directory / f"percentiles-{placement}.svg")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
