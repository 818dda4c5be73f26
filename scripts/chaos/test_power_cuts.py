"""What a power cut leaves, by the rules of `power_cuts.replay`: python3 -B -m unittest."""

import random
import tempfile
import unittest
from pathlib import Path

from power_cuts.drive import DONE, EVENT, FLUSH, WRITE, WRITE_THROUGH
from power_cuts.replay import Replay, copy_sparse, places

DISK_BYTES = 64 << 10
SECTOR = 512


def sectors(letters):
    """A write's data: one sector of each letter."""
    return b"".join(letter.encode() * SECTOR for letter in letters)


class Story:
    """A drive's log, told event by event, and the disks that cuts of it leave."""

    def __init__(self, test, *events):
        directory = tempfile.TemporaryDirectory()
        test.addCleanup(directory.cleanup)
        root = Path(directory.name)
        self.log, self.base, self.image = root / "log", root / "base", root / "image"
        with open(self.log, "wb") as log:
            for kind, number, offset, data in events:
                log.write(EVENT.pack(kind, number, offset * SECTOR, len(data)) + data)
        self.length = len(events)

    def contents(self, position, count, cuts=150):
        """What the first sectors are after cuts at a position, each possibility once."""
        with open(self.base, "wb") as base:
            base.truncate(DISK_BYTES)
        replay, rng, found = Replay(self.log, self.base), random.Random(1), set()
        replay.advance(position)
        for _ in range(cuts):
            replay.cut(self.image, rng)
            data = self.image.read_bytes()[: count * SECTOR]
            firsts = [data[at : at + 1] for at in range(0, len(data), SECTOR)]
            whole = b"".join(first * SECTOR for first in firsts)
            assert data == whole, "a sector is mixed"
            found.add(b"".join(firsts).replace(b"\0", b"-").decode())
        replay.close()
        return found


def write(number, offset, letters, kind=WRITE):
    return kind, number, offset, sectors(letters)


def flush(number):
    return FLUSH, number, 0, b""


def done(number):
    return DONE, number, 0, b""


class PowerCuts(unittest.TestCase):
    def test_a_write_that_is_done_is_in_doubt_until_it_is_flushed(self):
        story = Story(self, write(1, 0, "a"), done(1), flush(2), done(2))
        self.assertEqual(story.contents(0, 1), {"-"})
        self.assertEqual(story.contents(2, 1), {"-", "a"})
        self.assertEqual(story.contents(3, 1), {"-", "a"})
        self.assertEqual(story.contents(4, 1), {"a"})

    def test_a_flush_covers_what_was_done_before_it_arrived_and_nothing_else(self):
        story = Story(self, write(1, 0, "a"), flush(2), done(1), done(2))
        self.assertEqual(story.contents(4, 1), {"-", "a"})

    def test_a_write_through_is_there_when_it_is_done_and_flushes_nothing(self):
        story = Story(
            self, write(1, 0, "a"), done(1), write(2, 1, "b", WRITE_THROUGH), done(2),
        )
        self.assertEqual(story.contents(3, 2), {"--", "-b", "a-", "ab"})
        self.assertEqual(story.contents(4, 2), {"-b", "ab"})

    def test_an_older_write_in_doubt_never_overwrites_a_newer_one_that_is_there(self):
        story = Story(
            self, write(1, 0, "a"), done(1), write(2, 0, "b", WRITE_THROUGH), done(2),
        )
        self.assertEqual(story.contents(4, 1), {"b"})

    def test_a_newer_write_in_doubt_leaves_the_older_one_or_itself(self):
        story = Story(
            self, write(1, 0, "a"), done(1), flush(2), done(2), write(3, 0, "b"), done(3),
        )
        self.assertEqual(story.contents(6, 1), {"a", "b"})

    def test_a_write_in_doubt_tears_at_sectors(self):
        story = Story(self, write(1, 0, "abc"))
        every = {a + b + c for a in "-a" for b in "-b" for c in "-c"}
        self.assertEqual(story.contents(1, 3, cuts=600), every)

    def test_moments_are_in_order_and_inside_and_some_are_the_last_before_a_flush_is_done(self):
        story = Story(self, *(
            event for number in range(1, 100, 2)
            for event in (write(number, 0, "a"), done(number), flush(number + 1), done(number + 1))
        ))
        chosen = places(story.log, 40, 120, 200, random.Random(3))
        self.assertEqual(chosen, sorted(chosen))
        self.assertTrue(all(40 <= place <= 120 for place in chosen))
        self.assertGreater(sum(place % 4 == 3 for place in chosen), 90)

    def test_a_sparse_copy_is_the_same(self):
        story = Story(self)
        with open(story.base, "wb") as base:
            base.truncate(8 << 20)
            base.seek(5 << 20)
            base.write(b"x" * 10_000)
        copy_sparse(story.base, story.image)
        self.assertEqual(story.base.read_bytes(), story.image.read_bytes())


if __name__ == "__main__":
    unittest.main()
