"""Instructions per operation against their baselines: what is too much, and which function grew."""

from dataclasses import dataclass

# More than this above a baseline is too much.
TOLERANCE = 0.05
# With another compiler or C library: what they inline and how they copy differs a little.
TOLERANCE_ELSEWHERE = 0.15
# Functions named for a piece that grew, and own functions named around one of a library.
FUNCTIONS_NAMED_MAX = 3
# Those that grew by less than this share of the largest growth are not worth a name.
NAMED_SHARE = 0.10
# Own functions, without what only measures.
OWN = "highwater_"
MEASURING = ("highwater_perf_micro::", "<highwater_perf_micro::", "highwater_reactor::testing::")


@dataclass
class Change:
    """A piece then and now; `before` is None when it has no baseline, `now` when it is gone."""

    piece: str
    before: int | None
    now: int | None
    is_too_much: bool
    grown: list

    @property
    def share(self):
        """How much more it is, or None."""
        if self.before and self.now is not None:
            return self.now / self.before - 1
        return None


def is_own(function):
    """Whether a function is the broker's, not a library's and not the measurement's."""
    return OWN in function and not function.startswith(MEASURING)


def entry(count):
    """A count as it is kept: per operation, functions by name, those that round to 0 left out."""

    def each(costs):
        rounded = ((name, round(cost / count.operations)) for name, cost in costs.items())
        return {name: cost for name, cost in sorted(rounded) if cost > 0}

    own_inclusive = {name: cost for name, cost in count.inclusive.items() if is_own(name)}
    return {
        "instructions": round(count.total / count.operations),
        "functions": each(count.own),
        "inclusive": each(own_inclusive),
    }


def growth(before, now):
    """What each name has more now, the largest first."""
    more = {name: cost - before.get(name, 0) for name, cost in now.items()}
    return sorted(
        ((name, cost) for name, cost in more.items() if cost > 0),
        key=lambda item: (-item[1], item[0]),
    )


def around(function, more, before, now):
    """The innermost of our own functions that grew with a library's: it calls it, perhaps not
    directly. Those in which most of the growth happens, from the inside out."""
    if is_own(function):
        return []
    grown = growth(before["inclusive"], now["inclusive"])
    enough = [name for name, cost in grown if cost >= more / 2 and name != function]
    enough.sort(key=lambda name: (now["inclusive"][name], name))
    return enough[:FUNCTIONS_NAMED_MAX]


def grown_functions(before, now):
    """In words: the functions that grew most, each with how much and from where it is called."""
    grown = growth(before["functions"], now["functions"])[:FUNCTIONS_NAMED_MAX]
    words = []
    for name, more in grown:
        if more < grown[0][1] * NAMED_SHARE:
            break
        outer = around(name, more, before, now)
        place = f" (in {', in '.join(outer)})" if outer else ""
        words.append(f"{name} +{more:,}{place}")
    return words


def compare(baselines, counts, tolerance):
    """Every piece of either side, in the order counted. `counts` are entries by piece."""
    changes = []
    for piece, now in counts.items():
        before = baselines.get(piece)
        if before is None:
            changes.append(Change(piece, None, now["instructions"], True, []))
            continue
        is_too_much = now["instructions"] > before["instructions"] * (1 + tolerance)
        grown = grown_functions(before, now) if is_too_much else []
        changes.append(
            Change(piece, before["instructions"], now["instructions"], is_too_much, grown)
        )
    for piece in sorted(baselines.keys() - counts.keys()):
        before = baselines[piece]["instructions"]
        changes.append(Change(piece, before, None, True, []))
    return changes


def differences(baseline, here):
    """Where the toolchain of the baselines, if there are any, was another one, in words."""
    return [] if not baseline else [
        f"{name} was {baseline.get(name)}, is {value}"
        for name, value in here.items()
        if baseline.get(name) != value
    ]


def is_comparable(baseline, here):
    """Whether the code that runs here is that of the baselines: another processor has others, and
    libraries choose by what it can do."""
    return not baseline or baseline.get("processor") == here["processor"]


def share_text(change):
    """The change in percent."""
    return "" if change.share is None else f"{change.share * 100:+.1f} %"


def number_text(number):
    """A count, or nothing."""
    return "-" if number is None else f"{number:,}"


def mark(change):
    """What the table says of a piece that is not as it should be."""
    if change.before is None:
        return "NO BASELINE"
    if change.now is None:
        return "GONE"
    return "TOO MUCH" if change.is_too_much else ""


def table(changes):
    """The table, and below it a sentence for every piece that is too much."""
    rows = [("piece", "baseline", "now", "change", "")]
    for change in changes:
        rows.append((change.piece, number_text(change.before), number_text(change.now),
                     share_text(change), mark(change)))
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  "
        f"{row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]
    return "\n".join(lines + [verdict(change) for change in changes if change.is_too_much])


def verdict(change):
    """What is wrong with one piece, in a sentence."""
    if change.before is None:
        return f"{change.piece}: no baseline; perf/count --update makes one"
    if change.now is None:
        return f"{change.piece}: a baseline but no such piece; perf/count --update drops it"
    percent = f"{change.share * 100:+.0f} %"
    grown = "; ".join(change.grown) or "no single function grew"
    return f"{change.piece}: {change.before:,} -> {change.now:,} ({percent}): {grown}"


def as_json(changes, here, kept, tolerance):
    """What `--json` prints, before it is text. `kept` is the baselines' toolchain."""
    return {
        "toolchain": here,
        "toolchain_differs": differences(kept, here),
        "comparable": is_comparable(kept, here),
        "tolerance": tolerance,
        "pieces": {
            change.piece: {
                "baseline": change.before,
                "now": change.now,
                "change": change.share,
                "too_much": change.is_too_much,
                "grown": change.grown,
            }
            for change in changes
        },
    }
