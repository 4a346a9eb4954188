"""docs/verify_receipt.py, run by a Python that has what it needs (tests/receipts/requirements.txt)."""
import os
import subprocess

from serving import ROOT

SCRIPT = os.path.join(ROOT, "docs", "verify_receipt.py")


def find_python():
    """The interpreter, or None where its packages cannot be had: then it says that the script is not tried."""
    done = subprocess.run([os.path.join(ROOT, "scripts", "python-env"), os.path.join(ROOT, "tests", "receipts", "requirements.txt")],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        print("docs/verify_receipt.py is not tried:", done.stderr.strip()[-300:])
    return done.stdout.strip() if done.returncode == 0 else None


def check_script(checks, python, paths, log_key, prefix=()):
    """It verifies each receipt document; `prefix` is what runs the command."""
    for path in paths if python else ():
        done = subprocess.run([*prefix, python, SCRIPT, path, log_key], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        checks.equal(done.returncode, 0, f"docs/verify_receipt.py {os.path.basename(path)}: {done.stdout[-2000:]}")
