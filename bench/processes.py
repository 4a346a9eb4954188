"""What is seen of a program from outside: when its output comes, and its memory."""
import os
import re
import subprocess
import sys
import time

SAMPLE_SECONDS = 0.01
CHUNK = 65536


def start(command, stdout):
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.DEVNULL)


def finish(process):
    if process.wait():
        sys.exit("%s\nended with %d" % (" ".join(process.args), process.returncode))


def output_times(command):
    """Seconds from the program's start to the first and to the last byte of its output."""
    begin = time.perf_counter()
    process = start(command, subprocess.PIPE)
    first = last = None
    while os.read(process.stdout.fileno(), CHUNK):
        last = time.perf_counter() - begin
        first = first or last
    finish(process)
    if first is None:
        sys.exit("%s\nprinted nothing" % " ".join(command))
    return first, last


def peak_pss(command):
    """Highest proportional set size, MiB, sampled: its own memory and its share of mapped files."""
    process = start(command, subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            with open("/proc/%d/smaps_rollup" % process.pid, encoding="ascii") as file:
                found = re.search(r"^Pss:\s+(\d+)", file.read(), re.M)
                peak = max(peak, int(found.group(1)) if found else 0)
        except OSError:
            pass  # it has just ended
        time.sleep(SAMPLE_SECONDS)
    finish(process)
    return peak / 1024
