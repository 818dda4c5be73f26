"""What runs of the rig told, as a table for people and as JSON."""

import dataclasses
import json

from power_cuts.check import Outcome

COLUMNS = (
    "system", "set-up", "barrier", "cuts", "acknowledged", "lost", "duplicated", "holes",
    "out of place", "no start",
)


@dataclasses.dataclass
class Row:
    """One system on one set-up."""

    system: str
    setup: str
    barrier: str = ""
    runs: int = 0
    records: int = 0
    outcome: Outcome = dataclasses.field(default_factory=Outcome)
    facts: dict = dataclasses.field(default_factory=dict)
    failures: list = dataclasses.field(default_factory=list)

    def cells(self):
        outcome = self.outcome
        return (
            self.system, self.setup, self.barrier, outcome.cuts, outcome.acknowledged,
            outcome.lost, outcome.duplicated, outcome.holes,
            outcome.misplaced + outcome.foreign, outcome.refused,
        )


def table(rows):
    """Markdown that also reads well on a terminal."""
    cells = [COLUMNS] + [tuple(f"{cell:,}" if isinstance(cell, int) else cell for cell in row.cells())
                         for row in rows]
    widths = [max(len(line[at]) for line in cells) for at in range(len(COLUMNS))]

    def line(texts):
        padded = (
            text.ljust(width) if at < 3 else text.rjust(width)
            for at, (text, width) in enumerate(zip(texts, widths))
        )
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join(
        "-" * (width + 2) if at < 3 else "-" * (width + 1) + ":" for at, width in enumerate(widths)
    ) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def document(rows, seed):
    """Everything, one JSON object."""
    return json.dumps({"seed": seed, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1)
