"""One of the two sides: a broker's address, and the JVMs that run tools against it."""

import json
import re
import signal
import subprocess
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import install
from step import OWN_PROCESS, File, Mark, Start, Stop, tool_of

HERE = Path(__file__).resolve().parent
KAFKA_LIBRARIES = install.CACHE / "apache-kafka" / "lib"
CLASSES = install.CACHE / "tools" / "classes"
# Beyond a tool's own limit, for what the driver does around it.
DRIVER_GRACE_S = 30
STOP_LIMIT_S = 20


def java(heap):
    """The words in front of the main class; small and quick to start."""
    options = [f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.timezone=UTC"]
    options += [f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}"]
    return ["java", *options, "-cp", f"{CLASSES}:{KAFKA_LIBRARIES}/*"]


class Result:
    """What a tool left: its exit code (or "timeout"), and both outputs."""

    def __init__(self, code, out, err):
        self.code = code
        self.out = out
        self.err = err


class Side:
    """A context manager; leaves no JVM behind."""

    def __init__(self, name, bootstrap, directory):
        self.name = name
        self.directory = directory
        port = bootstrap.rpartition(":")[2]
        self.values = {"bootstrap": bootstrap, "port": port, "dir": str(directory)}
        self.started = {}
        self.driver = None

    def __enter__(self):
        self.directory.mkdir()
        return self

    def __exit__(self, *_):
        for process, *_ in self.started.values():
            process.kill()
            process.wait()
        self.end_driver()

    def end_driver(self):
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()
            self.driver = None

    def do(self, step):
        """Does one step; returns a Result, or None for what prints nothing."""
        if isinstance(step, Mark):
            return self.mark(step)
        if isinstance(step, File):
            (self.directory / step.name).write_text(step.text.format_map(self.values))
            return None
        if isinstance(step, Start):
            return self.start(step)
        if isinstance(step, Stop):
            return self.stop(step)
        main, *arguments = step.words(self.values)
        own = tool_of(step.command) in OWN_PROCESS
        run = self.in_own_process if own else self.in_driver
        result = run(main, arguments, step)
        if step.capture is not None:
            name, pattern = step.capture
            found = re.search(pattern, result.out)
            self.values[name] = found.group(1) if found else f"no-{name}"
        return result

    def mark(self, step):
        # Records on both sides of it have other milliseconds.
        time.sleep(0.02)
        now = time.time()
        time.sleep(0.02)
        text = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
        self.values[f"{step.name}_ms"] = str(int(now * 1000))
        self.values[f"{step.name}_datetime"] = text[:-3]

    def in_driver(self, main, arguments, step):
        if self.driver is None:
            self.driver = subprocess.Popen(
                [*java("384m"), "ToolDriver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        request = {"main": main, "arguments": arguments, "input": step.stdin}
        request["limit_ms"] = round(step.limit_s * 1000)
        answer = None
        # A driver that hangs is ended, which ends the read below.
        timer = threading.Timer(step.limit_s + DRIVER_GRACE_S, self.driver.kill)
        timer.start()
        try:
            self.driver.stdin.write(json.dumps(request) + "\n")
            self.driver.stdin.flush()
            answer = self.driver.stdout.readline()
        except OSError:
            pass
        finally:
            timer.cancel()
        if not answer:
            self.end_driver()
            return Result("hangs", "", "the tool could not be ended")
        result = Result(**json.loads(answer))
        if result.code == "timeout":
            # What it left running would print into the steps that follow.
            self.end_driver()
        return result

    def in_own_process(self, main, arguments, step):
        process = subprocess.Popen(
            [*java("256m"), main, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = process.communicate(step.stdin, timeout=step.limit_s)
            return Result(process.returncode, out, err)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate()
            return Result("timeout", out, err)

    def start(self, step):
        out = tempfile.TemporaryFile("w+")
        err = tempfile.TemporaryFile("w+")
        main, *arguments = step.words(self.values)
        process = subprocess.Popen(
            [*java("256m"), main, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        self.started[step.name] = (process, out, err)
        deadline = time.monotonic() + step.limit_s
        while step.until not in whole(out) + whole(err):
            if process.poll() is not None or time.monotonic() > deadline:
                why = f"never printed {step.until!r}"
                return Result(process.poll(), whole(out), f"{whole(err)}{why}\n")
            time.sleep(0.1)
        return Result(0, "", "")

    def stop(self, step):
        process, out, err = self.started.pop(step.started)
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_LIMIT_S)
            # Python names a death by signal with a negative number, a shell with 128 and more.
            code = 128 - code if code < 0 else code
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = "hangs"
        return Result(code, whole(out), whole(err))


def whole(file):
    file.seek(0)
    return file.read()
