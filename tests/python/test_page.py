#!/usr/bin/env python3
"""The page at / in Chromium (tests/web/page.test.mjs): against a stand-in server with scripted answers and failures,
and against `bulla serve` with a small model, where this build has that verb."""
import os
import re
import shutil
import subprocess
import sys

import demo_models
from checks import Checks

from serving import Server, can_serve

ROOT = os.environ.get("BULLA_SOURCE_ROOT", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
SECONDS = 280


def find_tools():
    """The node program and the environment of page.test.mjs; ends the test where something is missing."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        Checks.skip("chromium is not installed")
    made = subprocess.run([os.path.join(ROOT, "scripts", "node-modules"), os.path.join(ROOT, "tests", "web")],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if made.returncode != 0:
        Checks.skip("the page tests' Node packages cannot be had: " + made.stderr.strip()[-300:])
    node, modules = made.stdout.split("\n")[:2]
    return node, {"BULLA_CHROMIUM": browser, "BULLA_NODE_PACKAGES": os.path.dirname(modules)}


def run(checks, node, environment, what):
    """Runs the checks in the browser and counts them as this test's."""
    try:
        done = subprocess.run([node, os.path.join(ROOT, "tests", "web", "page.test.mjs")],
                              env=dict(os.environ, **environment), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as late:
        checks.true(False, f"{what}: took longer than {SECONDS} s: {late.output}")
        return
    counted = re.search(r"^(\d+) checks", done.stdout, re.MULTILINE)
    if checks.true(done.returncode == 0 and counted, f"{what}:\n{done.stdout.strip()[-3000:]}"):
        checks.made += int(counted.group(1)) - 1


def main():
    checks = Checks()
    checks.only_in_full("it installs a browser")
    node, tools = find_tools()
    run(checks, node, tools, "with the stand-in")
    model = demo_models.model("smollm2") if can_serve() else None
    if model:
        with Server(config={"models": [{"name": "small", "path": model}]}, tls=False) as server:
            run(checks, node, dict(tools, BULLA_PAGE_URL=server.url.rstrip("/") + "/"), "with bulla serve")
    else:
        print("no `bulla serve` or no model: the page met the stand-in only")
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
