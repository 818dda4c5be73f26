"""kafka-consumer-groups and kafka-groups."""

from step import File, Mark, Order, Start, Step, Stop, Suite

LINES = "".join(f"key-{n}:value-{n}\n" for n in range(30))
MORE = "".join(f"key-{n}:more-{n}\n" for n in range(6))
KEYED = "--reader-property parse.key=true --reader-property key.separator=:"
TOPICS = (
    Step("topic", "topics --create --topic g-one --partitions 3", silent=True),
    Step("topic", "topics --create --topic g-two --partitions 1", silent=True),
    Step("fill", f"console-producer --topic g-one {KEYED}", stdin=LINES, silent=True),
    Step("fill", "console-producer --topic g-two", stdin="a\nb\nc\nd\n", silent=True),
    Mark("middle"),
    *(
        Step(
            "read",
            f"console-consumer --topic {topic} --group g-group --from-beginning"
            f" --max-messages {records} --timeout-ms 15000",
            silent=True,
        )
        for topic, records in (("g-one", 30), ("g-two", 4))
    ),
    Step("fill", f"console-producer --topic g-one {KEYED}", stdin=MORE, silent=True),
)


# Groups of other suites may be gone again, having no offsets: when that is noticed differs.
OTHERS = (r"^(Consumer group ')?(?!a-|g-)(\S+-\S+ |\S+-\S+$|\S+-\S+').*\n?", "")


def group(name, options, **more):
    """A step; errors that the broker answers with leave exit code 0 and are printed."""
    return Step(name, f"consumer-groups {options}", **more)


def listed(name, options, **more):
    return group(name, options, order=Order.SET, hide=(OTHERS,), **more)


LISTS = (
    listed("list", "--list"),
    listed("list with state", "--list --state"),
    listed("list one state", "--list --state Empty"),
    listed("list two states", "--list --state Empty,Stable"),
    group(
        "list no such state",
        "--list --state Asleep",
        code=1,
        hide=((r"Valid states are: .*", "Valid states are: LIST"),),
    ),
    listed("list with type", "--list --type"),
    listed("list one type", "--list --type classic"),
    listed("list new type", "--list --type consumer"),
    group("list no such type", "--list --type none", code=1),
    listed("list with both", "--list --state --type"),
)

DESCRIPTIONS = (
    group("describe", "--describe --group g-group"),
    group("describe offsets", "--describe --group g-group --offsets"),
    group("describe offsets, verbose", "--describe --group g-group --offsets --verbose"),
    group("describe state", "--describe --group g-group --state"),
    group("describe state, verbose", "--describe --group g-group --state --verbose"),
    group("describe members", "--describe --group g-group --members"),
    group("describe members, verbose", "--describe --group g-group --members --verbose"),
    group("describe two", "--describe --group g-group --group g-unknown"),
    group("describe unknown", "--describe --group g-unknown"),
    group("describe unknown state", "--describe --group g-unknown --state"),
    group("describe unknown members", "--describe --group g-unknown --members"),
    listed("describe all groups", "--describe --all-groups --state"),
    group(
        "describe nothing",
        "--describe",
        code=1,
        hide=((r"these options: .*", "these options: LIST"),),
    ),
    group("describe two things", "--describe --group g-group --state --members", code=1),
)


def member(number, until):
    return Start(
        f"member {number}",
        f"verifiable-consumer --group-id g-live --topic g-one --group-instance-id m{number}",
        until=until,
    )


LIVE = (
    # The committed offsets are in what is described next.
    member(1, "offsets_committed"),
    group("live, describe", "--describe --group g-live"),
    group("live, describe state", "--describe --group g-live --state"),
    group("live, describe state, verbose", "--describe --group g-live --state --verbose"),
    group("live, describe members", "--describe --group g-live --members"),
    group("live, describe members, verbose", "--describe --group g-live --members --verbose"),
    group("live, describe offsets, verbose", "--describe --group g-live --offsets --verbose"),
    listed("live, list", "--list --state Stable"),
    group("live, delete", "--delete --group g-live"),
    group("live, reset", "--reset-offsets --group g-live --all-topics --to-earliest --execute"),
    group("live, delete offsets", "--delete-offsets --group g-live --topic g-one"),
    group("live, delete other offsets", "--delete-offsets --group g-live --topic g-two"),
    member(2, "partitions_assigned"),
    group(
        "two live, describe members",
        "--describe --group g-live --members --verbose",
        order=Order.SORTED,
    ),
    group("two live, describe state", "--describe --group g-live --state"),
    group("two live, describe", "--describe --group g-live"),
    Stop(
        "member 1 ends",
        "member 1",
        order=Order.SORTED,
        hide=((r'^.*"(records_consumed|offsets_committed)".*\n', ""),),
    ),
    Stop(
        "member 2 ends",
        "member 2",
        order=Order.SORTED,
        hide=((r'^.*"(records_consumed|offsets_committed)".*\n', ""),),
    ),
)

GONE = (
    # Static members do not leave when they end: they are missed after their session.
    group("static, describe members", "--describe --group g-live --members", order=Order.SORTED),
    group("static, describe state", "--describe --group g-live --state"),
    group("static, delete", "--delete --group g-live"),
    Step("topic", "topics --create --topic g-gone", silent=True),
    Step("fill", "console-producer --topic g-gone", stdin="a\nb\n", silent=True),
    Step(
        "read",
        "console-consumer --topic g-gone --group g-orphan --from-beginning"
        " --max-messages 2 --timeout-ms 15000",
        silent=True,
    ),
    group("topic there", "--describe --group g-orphan"),
    Step("delete its topic", "topics --delete --topic g-gone", silent=True),
    group("topic gone", "--describe --group g-orphan"),
    group("topic gone, state", "--describe --group g-orphan --state"),
    Step("topic", "topics --create --topic g-gone", silent=True),
    group("topic made again", "--describe --group g-orphan"),
    group(
        "topic made again, reset",
        "--reset-offsets --group g-orphan --topic g-gone --to-latest --execute",
    ),
)

RESET = "--reset-offsets --group g-group"


def reset(name, options, **more):
    return group(f"reset, {name}", f"{RESET} {options}", **more)


RESETS = (
    *(
        reset(name, f"--topic g-one {scenario} --dry-run")
        for name, scenario in (
            ("to earliest", "--to-earliest"),
            ("to latest", "--to-latest"),
            ("to current", "--to-current"),
            ("to offset", "--to-offset 5"),
            ("to offset beyond the end", "--to-offset 1000"),
            ("to negative offset", "--to-offset -5"),
            ("shift back", "--shift-by -3"),
            ("shift back beyond the beginning", "--shift-by -1000"),
            ("shift on beyond the end", "--shift-by 100"),
            ("by duration, a day", "--by-duration P1D"),
            ("by duration, nothing", "--by-duration PT0S"),
            ("to datetime, long ago", "--to-datetime 2020-01-01T00:00:00.000"),
            ("to datetime, between", "--to-datetime {middle_datetime}"),
            ("to datetime, with zone", "--to-datetime {middle_datetime}Z"),
            ("to datetime, in the future", "--to-datetime 2090-01-01T00:00:00.000"),
        )
    ),
    reset("neither dry run nor execute", "--topic g-one --to-earliest"),
    reset(
        "no scenario",
        "--topic g-one --dry-run",
        code=1,
        hide=((r"scenarios: .*", "scenarios: LIST"),),
    ),
    reset("no topic", "--to-earliest --dry-run", code=1),
    reset("bad duration", "--topic g-one --by-duration soon --dry-run"),
    reset("bad datetime", "--topic g-one --to-datetime soon --dry-run"),
    reset("unknown topic", "--topic g-unknown --to-earliest --dry-run"),
    reset("unknown partition", "--topic g-one:9 --to-earliest --dry-run"),
    reset("a partition", "--topic g-one:1 --to-earliest --execute"),
    reset("two partitions", "--topic g-one:0,2 --to-offset 2 --execute"),
    group("reset, described", "--describe --group g-group"),
    reset("all topics", "--all-topics --to-latest --execute"),
    reset("export", "--all-topics --to-current --export --dry-run"),
    File("offsets.csv", "g-one,0,3\ng-one,1,4\ng-two,0,1\n"),
    File("bad.csv", "g-one;0;3\n"),
    reset("from file, dry run", "--from-file {dir}/offsets.csv --dry-run"),
    reset("from file", "--from-file {dir}/offsets.csv --execute"),
    reset("from bad file", "--from-file {dir}/bad.csv --dry-run"),
    reset("export after file", "--topic g-one --to-current --export --dry-run"),
    group("reset, described again", "--describe --group g-group"),
    group(
        "reset, a new group", "--reset-offsets --group g-new --topic g-one --to-offset 4 --execute"
    ),
    group("reset, a new group described", "--describe --group g-new"),
    group(
        "reset, two groups",
        "--reset-offsets --group g-new --group g-group --topic g-two"
        " --to-earliest --export --dry-run",
    ),
    listed("reset, all groups", "--reset-offsets --all-groups --topic g-two --to-latest --dry-run"),
)

DELETIONS = (
    group("delete offsets", "--delete-offsets --group g-group --topic g-two"),
    group("delete offsets of a partition", "--delete-offsets --group g-group --topic g-one:0"),
    group("delete offsets again", "--delete-offsets --group g-group --topic g-two"),
    group("delete offsets of unknown topic", "--delete-offsets --group g-group --topic g-unknown"),
    group("delete offsets of unknown group", "--delete-offsets --group g-unknown --topic g-one"),
    group("delete offsets, described", "--describe --group g-group"),
    group("delete", "--delete --group g-group"),
    group("delete again", "--delete --group g-group"),
    group("delete one of two", "--delete --group g-new --group g-unknown"),
    group("deleted, described", "--describe --group g-group"),
    listed("deleted, listed", "--list"),
    group("regex", "--validate-regex 'g-.*'"),
    group("bad regex", "--validate-regex 'g-('"),
)

GROUPS = Suite(
    "consumer-groups", [*TOPICS, *LISTS, *DESCRIPTIONS, *LIVE, *GONE, *RESETS, *DELETIONS]
)

ALL_GROUPS = Suite(
    "groups",
    [
        Step("topic", "topics --create --topic a-one", silent=True),
        Step(
            "group",
            "consumer-groups --reset-offsets --group a-group --topic a-one --to-earliest --execute",
            silent=True,
        ),
        Step("list", "groups --list", order=Order.SET, hide=(OTHERS,)),
        Step("list classic", "groups --list --group-type classic", order=Order.SET, hide=(OTHERS,)),
        Step("list consumer", "groups --list --consumer", order=Order.SET, hide=(OTHERS,)),
        Step("list share", "groups --list --share", order=Order.SET, hide=(OTHERS,)),
        Step(
            "list by protocol", "groups --list --protocol consumer", order=Order.SET, hide=(OTHERS,)
        ),
        Step("list no such type", "groups --list --group-type none", code=1),
    ],
)

SUITES = (GROUPS, ALL_GROUPS)
