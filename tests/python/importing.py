"""Running `bulla import` for tests: with a time limit, what it printed, the memory it took; killed, or watched."""
import os
import re
import resource
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
RELEASE = os.path.join(BUILD, "src", "bulla")
SANITIZE = os.environ.get("BULLA_SANITIZE_BUILD", os.path.join(ROOT, "build", "sanitize"))
SANITIZE = os.path.join(SANITIZE, "src", "bulla")


class Outcome:
    def __init__(self, status, output, peak, seconds):
        self.status, self.output, self.peak, self.seconds = status, output, peak, seconds
        found = re.search(r"^model root  ([0-9a-f]{64})$", output, re.MULTILINE)
        self.root = found.group(1) if found else None
        errors = re.findall(r"^bulla import: (.*)$", output, re.MULTILINE)
        self.sentence = errors[-1] if errors else None

    def refused(self):
        """Ended by itself with one sentence and without a result."""
        return self.status == 1 and self.sentence is not None and self.root is None

    def __repr__(self):
        return f"exit {self.status}, {self.root or self.sentence or self.output[-600:]!r}"


def environment(isa=None):
    own = dict(os.environ)
    own.pop("BULLA_ISA", None)
    own.setdefault("ASAN_OPTIONS", "detect_leaks=1")
    own.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
    if isa:
        own["BULLA_ISA"] = isa
    return own


def available_isas():
    """Instruction sets that run here by what `bulla doctor` says, portable first, the best last."""
    done = subprocess.run([RELEASE, "doctor"], env=environment(), stdout=subprocess.PIPE, check=True)
    return re.search(rb"^  BULLA_ISA +can be (.*)$", done.stdout, re.MULTILINE).group(1).decode().split()[::-1]


def start(program, source, target, *options, isa=None, limit_file=None):
    def limits():
        if limit_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file, limit_file))
    command = program if isinstance(program, list) else [program]
    return subprocess.Popen([*command, "import", source, "-o", target, *options], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(isa), preexec_fn=limits)


def finish(process, began, timeout=120):
    """Waits; the peak is that of the whole process (ru_maxrss, bytes)."""
    with process.stdout:
        deadline = time.monotonic() + timeout
        os.set_blocking(process.stdout.fileno(), False)
        text = b""
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            text += process.stdout.read() or b""
            if done:
                break
            if time.monotonic() > deadline:
                process.kill()
                os.wait4(process.pid, 0)
                process.returncode = -signal.SIGKILL
                return Outcome("took too long", text.decode("utf-8", "replace"), 0, timeout)
            time.sleep(0.003)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Outcome(process.returncode, text.decode("utf-8", "replace"), usage.ru_maxrss * 1024, time.monotonic() - began)


def run(program, source, target, *options, **arguments):
    timeout = arguments.pop("timeout", 120)
    began = time.monotonic()
    return finish(start(program, source, target, *options, **arguments), began, timeout)


def run_watched(program, source, target, *options, timeout=1800):
    """As run(), and the largest anonymous memory seen (RssAnon of /proc/PID/status, sampled)."""
    began, anonymous = time.monotonic(), 0
    process = start(program, source, target, *options)
    os.set_blocking(process.stdout.fileno(), False)
    text = b""
    while True:
        try:
            with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
                found = re.search(r"^RssAnon:\s*(\d+) kB", file.read(), re.MULTILINE)
            anonymous = max(anonymous, int(found.group(1)) * 1024 if found else 0)
        except (OSError, ProcessLookupError):
            pass
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        text += process.stdout.read() or b""
        if done:
            break
        if time.monotonic() - began > timeout:
            process.kill()
        time.sleep(0.01)
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    return Outcome(process.returncode, text.decode("utf-8", "replace"), usage.ru_maxrss * 1024,
                   time.monotonic() - began), anonymous


def loads(path, program=RELEASE):
    """Whether `inspect` accepts a model file, and its sentence or output."""
    done = subprocess.run([program, "inspect", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=environment(), check=False)
    return done.returncode == 0, done.stdout.decode("utf-8", "replace")
