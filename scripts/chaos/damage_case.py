"""One case from the copy of a base to its verdicts: damage, `log verify`, start, read, scrub, read,
append, stop or kill, start, read, compare the files.
"""

import random
import re
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import damage_base as bases
import damage_format as disk
import kafka_frames as kafka
from damage_kinds import KINDS, Damage, NotHere
from damage_reading import READY_AGAIN_S, READY_S, Reader, group_partition
from damage_reports import CHANNELS, Reports, verify

VERDICTS = (
    "wrong bytes", "wrong offset", "silent gap", "silent loss", "unreported", "unverified",
    "overreach", "offset reuse", "duplicate", "changed", "verify silent", "crash",
)
CASE_S_MAX = 120
STOP_S = 30
DUPLICATE_SEQUENCE = 46
FILE_WORD = re.compile(r"superblock|metadata|marks|topics/|checkpoint")
REMEDY_WORD = re.compile(r"restore|remove|move|copy|use the|run |repair|start", re.IGNORECASE)


@dataclass
class Result:
    """What came of one case."""

    kind: str
    variant: str
    seed: int
    done: list = field(default_factory=list)
    violations: list = field(default_factory=list)  # (verdict, text)
    outcome: str = ""  # served, holes, refused, not here
    destroyed: int = 0  # records in damaged batches
    kept_back: int = 0  # undamaged records not served, within the stated reach
    rolled_back: int = 0
    refused_by_crc: int = 0  # batches a client's CRC had to refuse before the scrub
    found_by_verify: list = field(default_factory=list)
    seconds: float = 0.0

    def accuse(self, verdict, text):
        if (verdict, text) not in self.violations:
            self.violations.append((verdict, text))

    def verdicts(self):
        return sorted({verdict for verdict, _ in self.violations})


class Case:
    def __init__(self, binary, base, directory, kind, seed, sets):
        self.binary, self.base, self.sets = binary, base, sets
        self.directory = directory
        self.result = Result(kind, base.variant, seed)
        self.damage = Damage(base, directory, kind, seed)
        self.model = base.model
        self.appended = {}
        self.broker = None
        self.earlier_log = []
        self.ready_s = READY_S
        self.rng = random.Random(seed)

    def run(self):
        began = time.monotonic()
        shutil.copytree(self.base.directory, self.directory)
        signal.signal(signal.SIGALRM, self.too_long)
        signal.alarm(CASE_S_MAX)
        try:
            KINDS[self.result.kind](self.damage)
            self.steps()
        except NotHere as reason:
            self.result.outcome = f"not here: {reason}"
        except Exception as error:  # whatever it is, the other cases go on
            code = self.broker.process.poll() if self.broker else None
            self.result.accuse("crash", f"{type(error).__name__}: {error} (exit code {code})")
        finally:
            signal.alarm(0)
            if self.broker and self.broker.process.poll() is None:
                self.broker.process.kill()
                self.broker.process.wait()
            self.damage.close()
        self.result.done = self.damage.done
        self.result.seconds = time.monotonic() - began
        return self.result

    def too_long(self, *_):
        raise TimeoutError(f"the case takes longer than {CASE_S_MAX} s")

    def steps(self):
        self.lost = self.damage.destroyed()
        self.allowed = self.damage.allowed(self.lost)
        self.result.destroyed = self.records(self.lost)
        self.before = self.contents()
        self.verified = self.verify()
        if not self.start():
            self.compare_files()
            return
        self.not_served = set()
        self.judge(self.read(), first=True)
        self.scrub()
        self.judge(self.read(), first=False)
        self.report_of_marks()
        self.append()
        self.stop()
        self.earlier_log = list(self.broker.log)
        if not self.start():
            self.result.accuse("crash", "it does not start again")
            return
        self.judge(self.read(), first=False)
        self.broker.kill()
        self.compare_files()
        if self.not_served and not self.verified and not self.damage.rolled_back:
            self.result.accuse("verify silent", f"no damage found, {self.not_served} not served")
        self.result.outcome = "holes" if self.not_served else "all served"

    def records(self, bases_of):
        count = 0
        for key, starts in bases_of.items():
            known = {batch.base: batch for batch in self.base.partitions[key].batches}
            count += sum(known[start].end - start for start in starts)
        return count

    # Steps.

    def verify(self):
        code, kinds, said = verify(self.binary, self.directory)
        if code not in (0, 1):
            self.result.accuse("crash", f"log verify ends with {code}: {said[-300:]}")
        self.result.found_by_verify = kinds
        return code != 0

    def start(self):
        try:
            self.broker = bases.start(self.binary, self.directory, self.sets)
            return True
        except RuntimeError as error:
            self.broker = None
            said = str(error)
            sentence = said.strip().splitlines()[-1]
            self.result.outcome = f"refused: {sentence[-200:]}"
            if "panicked" in said:
                self.result.accuse("crash", said[-600:])
            if not self.damage.may_refuse:
                self.result.accuse("crash", f"the node does not start: {sentence}")
            elif not (FILE_WORD.search(sentence) and REMEDY_WORD.search(sentence)):
                self.result.accuse("crash", f"refused without file and remedy: {sentence}")
            return False

    def read(self):
        touched = set(self.lost) | set(self.damage.reach)
        reader = Reader(
            lambda: bases.connect(self.broker), self.base, touched, self.rng,
            self.damage.end_unknown or self.damage.rolled_back, self.ready_s,
        )
        reading = reader.everything(self.appended)
        self.ready_s = READY_AGAIN_S if reader.waited_in_vain else READY_S
        for line in self.broker.log:
            if "panicked" in line:
                self.result.accuse("crash", line.strip())
        return reading

    def scrub(self):
        """Asks for a pass of the scrubber and waits for it, where the binary has one."""

    def stop(self):
        """A clean stop, or a kill; what was acknowledged since must be there after it."""
        if self.rng.randrange(3) == 0:
            self.broker.kill()
            return
        self.broker.process.send_signal(signal.SIGTERM)
        code = self.broker.process.wait(timeout=STOP_S)
        self.broker.reader.join()
        assert code == 0, f"clean stop ended with code {code}: {''.join(self.broker.log[-5:])}"

    # Judging what was read.

    def judge(self, reading, first):
        for verdict, text in reading.violations:
            self.result.accuse(verdict, text)
        reports = None if first else Reports(self.binary, self.broker, self.earlier_log)
        for key, found in reading.partitions.items():
            missing = self.missing(key, found)
            if first:
                self.result.refused_by_crc += len(found.unverified)
            else:
                self.judge_damage_met(key, found)
            self.judge_missing(key, found, missing, reports)
        for group, answer in reading.commits.items():
            self.judge_commit(group, answer, reports)

    def judge_damage_met(self, key, found):
        """After the scrub a fetch that meets damage answers with an error."""
        if found.unverified:
            offsets = sorted(found.unverified)[:5]
            self.result.accuse("unverified", f"{key}: bad bytes served at {offsets}")
        closed = [offset for offset, answer in found.refused.items() if answer == "closed"]
        if closed:
            self.result.accuse(
                "crash", f"{key}: connection closed at a fetch of {closed[:5]} instead of an error"
            )

    def missing(self, key, found):
        """Batches with acknowledged records that were not served."""
        end = self.model.ends[key]
        known = {batch.base for batch in self.base.partitions[key].batches if batch.base < end}
        known |= {base for base, _ in self.appended.get(key, [])}
        return known - found.served

    def judge_missing(self, key, found, missing, reports):
        if key in self.damage.ambiguous:
            missing = {base for base in missing if base < self.damage.ambiguous[key]}
        if self.damage.rolled_back:
            gone = missing & self.lost.get(key, set())
            self.result.rolled_back = max(self.result.rolled_back, len(gone))
            missing = missing - gone
        beyond = missing - self.allowed.get(key, set())
        if beyond:
            self.result.accuse(
                "overreach", f"{key}: {len(beyond)} undamaged batches not served: "
                f"{sorted(beyond)[:4]}; {self.answers(found)}"
            )
        if reports is None:
            return
        kept_back = missing & self.allowed.get(key, set()) - self.lost.get(key, set())
        self.result.kept_back = max(self.result.kept_back, len(kept_back))
        if not missing:
            return
        self.not_served.add(key)
        silent = reports.silent(key)
        if len(silent) == len(CHANNELS):
            self.result.accuse("silent loss", f"{key}: {len(missing)} batches; {self.answers(found)}")
        elif silent:
            self.result.accuse("unreported", f"{key}: not told by {', '.join(silent)}")
        ends_early = found.latest[0] == 0 and found.latest[1] < self.model.ends[key]
        if ends_early and "log" in silent:
            self.result.accuse("silent gap", f"{key}: ends at {found.latest[1]} without a report")

    def answers(self, found):
        refused = sorted(found.refused.items(), key=lambda it: it[0])[:4]
        return f"latest {found.latest}, earliest {found.earliest}, refused {refused}"

    def judge_commit(self, group, answer, reports):
        error, offsets = answer
        home = (disk.OFFSETS, group_partition(group))
        wanted = self.model.commits[group]
        if self.damage.rolled_back:
            return
        if error:
            self.judge_refused_group(group, home, error, reports)
            return
        if offsets != wanted:
            self.result.accuse("silent loss", f"{group}: committed {wanted}, answered {offsets}")

    def judge_refused_group(self, group, home, error, reports):
        """Its commits may lie in the damage: then that is told."""
        if reports is None:
            return
        self.not_served.add(home)
        if len(reports.silent(home)) < len(CHANNELS):
            return
        hit = home in self.lost or home in self.damage.reach
        verdict = "silent loss" if hit else "overreach"
        self.result.accuse(verdict, f"{group}: OffsetFetch answers error {error}, nothing tells why")

    def report_of_marks(self):
        if self.damage.not_vouched and not any(
            re.search(r"ledger|marks|vouch|superblock", line) for line in self.broker.log
        ):
            self.result.accuse("unreported", "lost marks are not told by the log")

    # Appending.

    def append(self):
        connection = bases.connect(self.broker)
        for key, end in self.model.ends.items():
            producer = self.model.producers.get(key)
            known = (-1, -1, -1)
            if producer:
                self.resend(connection, key, producer)
                known = (producer.id, producer.epoch, producer.sequence)
            values = [b"after-%d-%d" % (self.result.seed, number) for number in range(3)]
            batch = kafka.record_batch(values, *known, int(time.time() * 1000))
            error, offset = self.produce(connection, key, batch)
            if error == 0:
                self.appended.setdefault(key, []).append((offset, batch))
            self.judge_append(key, end, error, offset)
        connection.close()

    def produce(self, connection, key, batch):
        answer = connection.call(kafka.PRODUCE, 8, kafka.produce_body(*key, batch))
        return kafka.parse_produce(answer)[1:]

    def judge_append(self, key, end, error, offset):
        intact = key not in self.lost and key not in self.damage.reach
        if error:
            if intact:
                self.result.accuse("overreach", f"{key}: append to it: error {error}")
            return
        if key in self.damage.ambiguous or self.damage.rolled_back:
            return
        highest = max(self.base.partitions[key].end, end)
        if offset < end and not self.damage.end_unknown:
            self.result.accuse("offset reuse", f"{key}: appended at {offset}, acknowledged to {end}")
        elif intact and offset > highest:
            self.result.accuse("wrong offset", f"{key}: appended at {offset}, the end was {highest}")

    def resend(self, connection, key, producer):
        """The last batch once more: it must be known, or refused."""
        batch, original = producer.last
        error, offset = self.produce(connection, key, batch)
        if error == 0 and offset != original and not self.damage.rolled_back:
            self.result.accuse("duplicate", f"{key}: resent batch of {original} is now at {offset}")
            self.appended.setdefault(key, []).append((offset, batch))

    # The files.

    def contents(self):
        """Bytes of batches in every segment as damaged, and every file that was added."""
        kept = {}
        for key, partition in self.base.partitions.items():
            if key in self.damage.ambiguous:
                continue
            for segment in partition.segments:
                content = self.damage.content(segment.path)
                if content is not None:
                    # Zeros behind all else are room: what is appended may come there.
                    kept[segment.path] = content[disk.BLOCK : segment.stop].rstrip(b"\0")
        for relative in self.damage.added:
            kept[relative] = self.damage.content(relative)
        return kept

    def compare_files(self):
        for relative, before in self.before.items():
            if not before:
                continue
            whole = relative in self.damage.added
            after = self.damage.content(relative)
            after = self.in_quarantine(relative) if after is None else after
            if after is None:
                self.result.accuse("changed", f"{relative} is gone")
                continue
            after = after if whole else after[disk.BLOCK :]
            if after[: len(before)] != before:
                self.result.accuse("changed", f"{relative}: {difference(before, after)}")

    def in_quarantine(self, relative):
        """A file that was put aside: by its name and its partition's directory."""
        parts = Path(relative).parts
        for path in self.damage.path("quarantine").glob("**/" + "/".join(parts[-2:])):
            # All but `topics`: topic, its id, the partition, the name.
            if all(part in str(path) for part in parts[1:]):
                return path.read_bytes()
        return None


def difference(before, after):
    if len(after) < len(before):
        return f"{len(before) - len(after)} bytes cut"
    at = next(at for at in range(len(before)) if before[at] != after[at])
    zeros = not any(after[at : len(before)])
    return f"byte {at + disk.BLOCK} and following {'zeroed' if zeros else 'changed'}"
