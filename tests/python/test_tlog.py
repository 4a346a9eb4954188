"""The transparency log from outside: its verbs, witnesses and monitors, logs that fork and shrink, processes that are killed or
hand over, and every loss of power.
"""
import base64
import concurrent.futures
import functools
import hashlib
import http.server
import json
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time

import power
from checks import Checks
from serving import BUILD, PROGRAM

checks = Checks()
TOOL = os.path.join(BUILD, "tests", "tool_log")
RECORD = os.path.join(BUILD, "tests", "record-writes.so")
IS_FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
SEED = int(os.environ.get("BULLA_TEST_SEED", "20250"))
ACK = re.compile(r"^ack ([0-9a-f]{32}) (\d+) (\d+) (\S+)$")


def run(*arguments, text=None):
    done = subprocess.run([str(part) for part in arguments], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def bulla(*arguments):
    return run(PROGRAM, "log", *arguments)


def append(folder, count):
    status, output, errors = run(TOOL, "append", folder, count, 50)
    checks.equal((status, errors), (0, ""), f"append {count} to {folder}")
    return [line for line in output.splitlines() if ACK.match(line)]


def documents(folder, count):
    """As append, of receipts that are JSON; their ids."""
    status, output, errors = run(TOOL, "documents", folder, count)
    checks.equal((status, errors), (0, ""), f"documents: {count}")
    return [ACK.match(line).group(1) for line in output.splitlines() if ACK.match(line)]


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)


def copy(folder, other):
    shutil.copytree(folder, other)
    return other


def make_log(folder, size):
    append(folder, size)
    return bulla("key", folder)[1].strip()


# --- A verifier of its own ---

def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def leaf_hash(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def root_of(hashes):
    if len(hashes) == 0:
        return hashlib.sha256(b"").digest()
    while len(hashes) > 1:
        pairs = [node(*hashes[i:i + 2]) for i in range(0, len(hashes) - 1, 2)]
        hashes = pairs + hashes[len(hashes) // 2 * 2:]
    return hashes[0]


def follow_path(leaf, index, size, path):
    path = list(path)
    while size > 1:
        if index ^ 1 < size:
            sibling = path.pop(0)
            leaf = node(sibling, leaf) if index & 1 else node(leaf, sibling)
        index, size = index // 2, (size + 1) // 2
    return leaf if not path else None


def read_note(text):
    head, _, signatures = text.rpartition("\n\n")
    origin, size, root = head.split("\n")[:3]
    lines = [line.split(" ") for line in signatures.splitlines()]
    return head + "\n", origin, int(size), base64.b64decode(root), [(name, base64.b64decode(data)) for _, name, data in lines]


def ed25519_holds(folder, key, message, signature):
    """By the program openssl."""
    der = bytes.fromhex("302a300506032b6570032100") + key
    for name, data in (("key.der", der), ("message", message), ("signature", signature)):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
    return run("openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", f"{folder}/key.der", "-rawin", "-in",
               f"{folder}/message", "-sigfile", f"{folder}/signature")[0] == 0


def read(path):
    with open(path, "rb") as file:
        return file.read()


def entries(folder, size):
    """From the bundles."""
    found = []
    for index in range((size + 255) // 256):
        width = min(256, size - 256 * index)
        data = read(f"{folder}/tile/entries/{index:03d}" + (f".p/{width}" if width < 256 else ""))
        for _ in range(width):
            length = int.from_bytes(data[:2], "big")
            found.append(data[2:2 + length])
            data = data[2 + length:]
        checks.equal(data, b"", "what follows the entries of a bundle")
    return found


# --- The verbs of its operator ---

def operator_verbs(work):
    folder = f"{work}/log"
    acks = append(folder, 700)
    status, key, _ = bulla("key", folder)
    checks.equal(status, 0, "log key")
    name, number, data = key.strip().split("+", 2)
    public = base64.b64decode(data)[1:]
    checks.equal(number, hashlib.sha256(name.encode() + b"\n\1" + public).digest()[:4].hex(), "the key's id")
    text, origin, size, root, signatures = read_note(read(f"{folder}/checkpoint").decode())
    checks.equal((origin, size, len(signatures)), (name, 700, 1), "the checkpoint")
    checks.true(ed25519_holds(work, public, text.encode(), signatures[0][1][4:]), "openssl takes the checkpoint's signature")
    leaves = [leaf_hash(entry) for entry in entries(folder, size)]
    checks.equal(root_of(leaves), root, "the root of the entries")
    tiles = b"".join(read(f"{folder}/tile/0/{part}") for part in ("000", "001", "002.p/188"))
    checks.equal(tiles, b"".join(leaves), "the tiles of level 0")
    checks.equal(read(f"{folder}/tile/1/000.p/2"), root_of(leaves[:256]) + root_of(leaves[256:512]), "the tile of level 1")
    for line in random.Random(SEED).sample(acks, 20):
        ident, index, _, _ = ACK.match(line).groups()
        status, output, _ = run(PROGRAM, "log", "proof", folder, ident)
        checks.equal(status, 0, "log proof")
        # the tool's receipts are no JSON: what stands between is cut out
        head, body = output.rstrip("\n")[:-1].split(',"signed":')
        document = json.loads(head + "}")
        entry = hashlib.sha256(body.encode()).digest()
        _, _, size, root, _ = read_note(document["log"]["checkpoint"])
        path = [bytes.fromhex(part) for part in document["log"]["path"]]
        checks.equal(document["log"]["index"], int(index), "the index of a proof")
        checks.equal(follow_path(leaf_hash(entry), int(index), size, path), root, "where a proof leads")
    status, output, _ = bulla("check", folder)
    checks.equal(status, 0, "log check")
    checks.contains(output, "700 receipts, 700 of them published", "log check")
    for arguments, expected in ((("proof", folder, "00" * 16), 1), (("proof", folder, "xyz"), 2), (("proof", folder), 2),
                                (("check", work), 1), (("key", work), 1), (("nothing", folder), 2), (("check", folder, "x"), 2)):
        checks.equal(bulla(*arguments)[0], expected, f"the status of log {arguments[0]} {arguments[-1][-8:]}")
    data = read(f"{folder}/tile/entries/001")
    with open(f"{folder}/tile/entries/001", "wb") as file:
        file.write(data[:-1] + bytes([data[-1] ^ 1]))
    status, _, errors = bulla("check", folder)
    checks.equal(status, 1, "log check of a folder with another bundle")
    checks.contains(errors, "tile/entries/001: is not what the database gives", "log check")


# --- Witnesses and monitors ---

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):  # pylint: disable=arguments-differ
        pass


def serve(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


def conflicts(work, state):
    return sorted(name for name in os.listdir(work) if name.startswith(f"{state}.conflict-"))


def witnesses(work):
    folder, state, key_file = f"{work}/log", f"{work}/state", f"{work}/witness.key"
    key = make_log(folder, 5)
    server, url = serve(work)
    arguments = ["witness", "--log", key, "--key", key_file, "--state", state]
    checks.equal(bulla(*arguments, folder)[0], 2, "a witness without a key")
    status, output, errors = bulla(*arguments, "--name", "witness.example", folder)
    checks.equal(status, 0, f"a witness: {errors}")
    checks.equal(os.stat(key_file).st_mode & 0o777, 0o600, "the rights of its key")
    witness = re.search(r"witness\.example\+[0-9a-f]{8}\+\S+", errors).group()
    public = base64.b64decode(witness.split("+", 2)[2])
    checks.equal(public[0], 4, "the algorithm of a witness's key")
    for place, size in ((folder, 5), (url + "/log", 5), (url + "/log/", 300), (folder, 300), (url + "/log", 300), (folder, 600)):
        if size > read_note(read(f"{folder}/checkpoint").decode())[2]:
            append(folder, size - read_note(read(f"{folder}/checkpoint").decode())[2])
        before = int(time.time())
        status, output, errors = bulla(*arguments, place)
        checks.equal((status, errors), (0, ""), f"a witness of {size} receipts")
        text, _, found, _, signatures = read_note(output)
        checks.equal((found, len(signatures), signatures[1][0]), (size, 2, "witness.example"), "what is cosigned")
        data = signatures[1][1]
        seconds = int.from_bytes(data[4:12], "big")
        checks.true(before <= seconds <= time.time(), "the time of a cosignature")
        message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
        checks.true(ed25519_holds(work, public[1:], message, data[12:]), "openssl takes the cosignature")
        checks.equal(data[:4].hex(), witness.split("+")[1], "the key id of a cosignature")
    out = f"{work}/cosigned"
    checks.equal(bulla(*arguments, "--out", out, folder)[:2], (0, ""), "a witness with --out")
    checks.equal(len(read_note(read(out).decode())[4]), 2, "signatures in --out")
    checks.equal(bulla(*arguments, "--name", "another", folder)[0], 2, "a witness of another name")
    # It goes on from what was cosigned elsewhere, and does not sign twice.
    shutil.copy(out, f"{work}/log/checkpoint")
    status, output, _ = bulla(*arguments, folder)
    checks.equal((status, len(read_note(output)[4])), (0, 2), "a witness of what it has cosigned")
    checks.equal(read(state), read(out), "its state")
    # A state that is lost: it does not know any more what it has cosigned.
    os.rename(state, f"{state}.lost")
    status, output, errors = bulla(*arguments, folder)
    checks.equal((status, output), (1, ""), "a witness whose state is lost")
    checks.contains(errors, "--first", "why, and what to do")
    checks.equal(bulla(*arguments, "--first", folder)[0], 0, "begun anew")
    os.rename(f"{state}.lost", state)
    # Where the log's server has gone, or says something else.
    for place, part in ((url + "/none", "is not there"), ("http://127.0.0.1:9/log", "no connection"), (f"{work}/none", "none")):
        status, output, errors = bulla(*arguments, place)
        checks.equal((status, output), (1, ""), f"a witness of {part}")
        checks.contains(errors, part, "why")
    server.shutdown()
    server.server_close()
    over_tls(work, folder, arguments)
    checks.equal(conflicts(work, "state"), [], "evidence of nothing")


def over_tls(work, folder, arguments):
    """A server's certificate must be by who is named, and for its address."""
    for name, address in (("right", "127.0.0.1"), ("wrong", "127.0.0.2")):
        status, _, errors = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                                "-subj", "/CN=test", "-addext", f"subjectAltName=IP:{address}", "-keyout", f"{work}/{name}.key",
                                "-out", f"{work}/{name}.pem")
        checks.equal(status, 0, f"a certificate: {errors}")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{work}/{name}.pem", f"{work}/{name}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_address[1]}"
        status, output, errors = bulla(*arguments, url)
        checks.equal((status, output), (1, ""), "a witness of a server whose certificate nobody knows")
        checks.contains(errors, "TLS", "why")
        status, output, errors = bulla(*arguments, "--ca", f"{work}/{name}.pem", url)
        checks.equal(status, 0 if name == "right" else 1, f"a witness over TLS, the address is {name}: {errors}")
        server.shutdown()
        server.server_close()


def set_checkpoint(folder, text):
    with open(f"{folder}/checkpoint", "wb") as file:
        file.write(text)


def forks(work):
    """Each way of following finds a log that forks, keeps both checkpoints, and stays where it was."""
    short = f"{work}/short"
    key = make_log(short, 300)
    left, right = copy(short, f"{work}/left"), copy(short, f"{work}/right")
    append(left, 50)
    append(right, 50)
    longer = copy(right, f"{work}/longer")
    append(longer, 300)
    # A checkpoint of the other half that is older than what was seen, beside tiles that show it.
    behind = copy(short, f"{work}/behind")
    append(behind, 20)
    older = copy(left, f"{work}/older")
    set_checkpoint(older, read(f"{behind}/checkpoint"))
    key_file = f"{work}/witness.key"
    for verb in ("witness", "monitor"):
        state = f"{work}/{verb}.state"
        arguments = [verb, "--log", key, "--state", state]
        arguments += ["--key", key_file, "--name", "w"] if verb == "witness" else ["--once"]
        checks.equal(bulla(*arguments, left)[0], 0, f"{verb} of the one half")
        kept = read(state)
        for folder, part in ((right, "two roots"), (longer, "did not begin"), (older, "did not begin")):
            status, output, errors = bulla(*arguments, folder)
            checks.equal((status, output), (1, ""), f"{verb}: {part}")
            checks.contains(errors, part, "what it says")
            checks.equal(read(state), kept, "its state")
            stem = re.search(r"checkpoints are in (\S+)\.kept", errors).group(1)
            checks.equal(read(stem + ".kept"), kept, "the one checkpoint")
            checks.equal(read(stem + ".shown"), read(f"{folder}/checkpoint"), "the other")
        checks.equal(len(conflicts(work, f"{verb}.state")), 6, "files of evidence")
        replayed(work, arguments, left, short, state)
        bulla(*arguments, right)
        checks.equal(len(conflicts(work, f"{verb}.state")), 6, "files of evidence, seen again")
        checks.equal(bulla(*arguments, left)[0], 0, f"{verb} of the one half again")
        # Somebody else's checkpoint, a signature that is wrong, a state that is none.
        other = copy(left, f"{work}/other-{verb}")
        text = read(f"{other}/checkpoint")
        for spoilt in (text.replace(b"\n350\n", b"\n351\n"), text[:-6] + b"AAA=\n", b"", text.replace(b"bulla-", b"bullb-")):
            set_checkpoint(other, spoilt)
            status, output, errors = bulla(*arguments, other)
            checks.equal((status, output), (1, ""), f"{verb} of a checkpoint that is not the log's")
        set_checkpoint(other, text)
        shutil.rmtree(f"{other}/tile/0")
        status, _, errors = bulla(*arguments, other)
        checks.equal(status, 1, f"{verb} without tiles")
        checks.contains(errors, "tile/0/001.p/94 is not there", "why")
        checks.equal(len(conflicts(work, f"{verb}.state")), 6, "no evidence of a fork")
        with open(state + "2", "wb") as file:
            file.write(kept[:30] + bytes([kept[30] ^ 1]) + kept[31:])
        arguments[arguments.index(state)] = state + "2"
        checks.equal(bulla(*arguments, left)[0], 1, f"{verb} with a damaged state")


def replayed(work, arguments, folder, short, state):
    """A checkpoint that is older than what was seen contradicts nothing."""
    before, kept = conflicts(work, os.path.basename(state)), read(state)
    old = copy(folder, f"{state}.folder")
    set_checkpoint(old, read(f"{short}/checkpoint"))
    for place, has_tiles in ((old, True), (short, False)):
        status, output, errors = bulla(*arguments, place)
        checks.equal((status, output), (1, ""), f"{arguments[0]} of an old checkpoint")
        checks.contains(errors, "old checkpoint, of 300 leaves where 350 were seen", "what it says")
        checks.equal("no tiles that show" in errors, not has_tiles, f"whether it is shown: {errors}")
        checks.equal((conflicts(work, os.path.basename(state)), read(state)), (before, kept), "no evidence, the same state")
    if arguments[0] == "monitor":
        following = [part for part in arguments if part != "--once"]
        with subprocess.Popen([PROGRAM, "log", *following, "--every", "1", old], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            for _ in range(2):
                checks.contains(process.stderr.readline(), "old checkpoint", "a monitor that follows says it each time")
            set_checkpoint(old, read(f"{folder}/checkpoint"))
            append(old, 7)
            checks.contains(process.stdout.readline(), ": 357 receipts, 7 new", "and goes on with what is new")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        os.remove(state)
        checks.equal(bulla(*arguments, folder)[0], 0, "begun anew")


class Trickle(Quiet):
    """Gives each tile byte by byte, so that it never ends and never rests."""

    def do_GET(self):
        if "/tile/" not in self.path:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", "8192")
        self.end_headers()
        try:
            for _ in range(8192):
                self.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            pass


def stalls(work):
    folder = f"{work}/log"
    key = make_log(folder, 300)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Trickle, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    arguments = ["monitor", "--log", key, "--state", f"{work}/state", "--timeout", "1", "--every", "1"]
    url = f"http://127.0.0.1:{server.server_address[1]}"
    status, output, errors = bulla(*arguments, "--once", url)
    checks.equal((status, output), (1, ""), "a monitor of a server whose tiles never come")
    checks.contains(errors, "did not come whole within 1 seconds", "why")
    with subprocess.Popen([PROGRAM, "log", *arguments, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(2):
            checks.contains(process.stderr.readline(), "tried again", "a monitor that follows says it each time")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    server.shutdown()
    server.server_close()


def monitors(work):
    folder, state = f"{work}/log", f"{work}/state"
    key = make_log(folder, 10)
    arguments = ["monitor", "--log", key, "--state", state, "--once"]
    server, url = serve(work)
    size = known = 0
    for more, place in ((10, folder), (3, url + "/log"), (0, folder), (500, folder), (300, url + "/log")):
        if size:
            append(folder, more)
        size += more
        status, output, errors = bulla(*arguments, place)
        checks.equal((status, errors), (0, ""), "a monitor")
        root = read_note(read(f"{folder}/checkpoint").decode())[3].hex()
        checks.contains(output, f": {size} receipts, {size - known} new, root {root}", "what a monitor says")
        known = size
    receipts(work, url)
    # Entries that are not the tree's; the tiles are.
    spoilt = copy(folder, f"{work}/spoilt")
    for state_size in (0, 10):
        if state_size == 0:
            own = [*arguments]
            own[own.index(state)] = f"{work}/fresh"
        else:
            append(folder, 50)
            shutil.rmtree(spoilt)
            copy(folder, spoilt)
            own = arguments
        name = sorted(os.listdir(f"{spoilt}/tile/entries"))[-1]
        path = f"{spoilt}/tile/entries/{name}"
        path = os.path.join(path, sorted(os.listdir(path), key=int)[-1]) if os.path.isdir(path) else path
        data = read(path)
        with open(path, "wb") as file:
            file.write(data[:-1] + bytes([data[-1] ^ 1]))
        status, output, errors = bulla(*own, spoilt)
        checks.equal((status, output), (1, ""), "a monitor of other entries")
        checks.contains(errors, "do not give the root", "why")
    follows(work, key, folder)
    server.shutdown()
    server.server_close()


def receipts(work, url):
    """--receipt."""
    folder, path = f"{work}/documents", f"{work}/receipt.json"
    idents = documents(folder, 20)
    key = bulla("key", folder)[1].strip()
    arguments = ["monitor", "--log", key, "--state", f"{work}/documents.state"]
    for number in (0, 7, 19):
        document = json.loads(bulla("proof", folder, idents[number])[1])
        documents(folder, 3)  # the receipt's checkpoint is an older one
        write_json(path, document)
        status, output, errors = bulla(*arguments, "--receipt", path, f"{url}/documents")
        checks.equal((status, errors), (0, ""), "a monitor with a receipt")
        checks.contains(output, f"is receipt {number} of the log", "what it says")
        for member, value in (("index", number ^ 1), ("index", -1), ("path", document["log"]["path"][1:]), ("checkpoint", "x")):
            write_json(path, {**document, "log": {**document["log"], member: value}})
            checks.equal(bulla(*arguments, "--receipt", path, folder)[0], 1, f"a receipt with another {member}")
        checks.equal(bulla(*arguments, "--receipt", path, "http://127.0.0.1:9/")[0], 1, "a receipt of a log that is not there")
        write_json(path, {**document, "signed": {"receipt": {}, "signature": ""}})
        status, output, errors = bulla(*arguments, "--receipt", path, folder)
        checks.equal(status, 1, "a monitor with another receipt")
        checks.contains(errors, "own proof does not lead to its checkpoint", "why")
        for value in ([], {}, {"signed": {}}, {"signed": {}, "log": None}):
            write_json(path, value)
            checks.equal(bulla(*arguments, "--receipt", path, folder)[0], 1, "a receipt that is none")
    # Of a log that was thrown away after it was shown.
    short = copy(folder, f"{work}/documents-old")
    documents(folder, 4)
    last = documents(short, 6)[-1]
    write_json(path, json.loads(bulla("proof", short, last)[1]))
    status, _, errors = bulla(*arguments, "--receipt", path, folder)
    checks.equal(status, 1, "a receipt of a fork")
    documents(folder, 10)
    status, _, errors = bulla(*arguments, "--receipt", path, folder)
    checks.equal(status, 1, "a receipt of a fork that is shorter")
    checks.contains(errors, "forked", "why")


def follows(work, key, folder):
    """Without --once: says what comes, until it is told to end."""
    with subprocess.Popen([PROGRAM, "log", "monitor", "--log", key, "--state", f"{work}/follow", "--every", "1", folder],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        size = int(re.search(r": (\d+) receipts", first).group(1))
        status, _, errors = bulla("monitor", "--log", key, "--state", f"{work}/follow", "--once", folder)
        checks.equal(status, 1, "a second monitor with the same state")
        checks.contains(errors, "another process", "why")
        append(folder, 7)
        checks.contains(process.stdout.readline(), f": {size + 7} receipts, 7 new", "what a monitor sees")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        checks.equal(process.returncode, 130, "the status of a monitor that is ended")


# --- Processes that are killed, and that hand over ---

def spawn(folder, waiting=20):
    return subprocess.Popen([TOOL, "append", folder, "0", str(waiting), "120"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def whole_lines(output):
    text = output.decode()
    return text[:text.rfind("\n") + 1].splitlines()


def collect(process, into):
    """Reads its acknowledgements in a thread of its own."""
    def read_all():
        rest = b""
        while part := os.read(process.stdout.fileno(), 65536):
            *lines, rest = (rest + part).split(b"\n")
            into.extend(line.decode() for line in lines)
    thread = threading.Thread(target=read_all)
    thread.start()
    return thread


class Watcher:
    """Reads the published checkpoint again and again: never torn, never backwards."""

    def __init__(self, folder):
        self.path, self.trees, self.is_over, self.wrong = f"{folder}/checkpoint", [], False, None
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.is_over:
            time.sleep(0.005)
            try:
                _, _, size, root, _ = read_note(read(self.path).decode())
            except FileNotFoundError:
                continue
            except ValueError as problem:
                self.wrong = f"torn: {problem}"
                continue
            line = f"tree {size} {base64.b64encode(root).decode()}"
            if self.trees and size < int(self.trees[-1].split()[1]):
                self.wrong = f"from {self.trees[-1]} back to {line}"
            if not self.trees or line != self.trees[-1]:
                self.trees.append(line)

    def end(self):
        self.is_over = True
        self.thread.join()
        checks.equal(self.wrong, None, "the published checkpoint")
        return self.trees


def recovered(folder, lines, what):
    status, output, errors = run(TOOL, "recovered", folder, text="\n".join(lines) + "\n")
    checks.equal((status, errors), (0, ""), what)
    match = re.search(r"recovered (\d+)", output)
    return int(match.group(1)) if match else 0


def kills(work):
    folder, dice, acks = f"{work}/log", random.Random(SEED), []
    watcher = Watcher(folder)
    for number in range(60 if IS_FULL else 8):
        process = spawn(folder, waiting=dice.choice([1, 5, 40]))
        if dice.random() < 0.7:
            process.stdout.read(5)  # it is open
        time.sleep(dice.random() * 0.5)
        process.kill()
        acks += [line for line in whole_lines(process.communicate()[0]) if ACK.match(line)]
        if number % 4 == 3:
            recovered(folder, acks + watcher.trees, f"after {number + 1} kills")
    trees = watcher.end()
    size = recovered(folder, acks + trees, "after all kills")
    checks.true(size >= len(acks) > 50, f"{len(acks)} acknowledged, {size} in the log")
    # What was not acknowledged before a kill may be there, but little of it.
    checks.equal(len({line.split()[2] for line in acks}), len(acks), "each index is acknowledged once")


def handovers(work):
    """As a server that drains beside its successor."""
    folder, lines, threads = f"{work}/log", [], []
    process, watcher = spawn(folder), Watcher(folder)
    threads.append(collect(process, lines))
    count = 50 if IS_FULL else 8
    for _ in range(count):
        successor = spawn(folder)
        before = len(lines)
        threads.append(collect(successor, lines))
        while len(lines) < before + 60 and successor.poll() is None:
            time.sleep(0.01)
        process.stdin.close()
        checks.equal(process.wait(60), 0, "the status of a process that has handed over")
        process.stderr.close()
        process = successor
    process.stdin.close()
    checks.equal(process.wait(60), 0, "the status of the last")
    process.stderr.close()
    for thread in threads:
        thread.join()
    acks = [line for line in lines if ACK.match(line)]
    checks.equal([line for line in lines if line.startswith("failed")], [], "appends that failed")
    size = recovered(folder, acks + watcher.end(), "after all handovers")
    checks.equal(sorted(int(line.split()[2]) for line in acks), list(range(size)), "every receipt was acknowledged once")


def checked_beside_a_server(work):
    """Files that were written since the database was read are no damage."""
    folder = f"{work}/log"
    append(folder, 3000)
    process, lines = spawn(folder, waiting=200), []
    thread = collect(process, lines)
    done, statuses = 0, []
    while done < (20 if IS_FULL else 15):  # each takes longer: the log grows by tens of thousands a second
        before = len(lines)
        statuses.append(bulla("check", folder)[::2])
        done += len(lines) > before + 256  # it has grown by a tile
    process.stdin.close()
    checks.equal(process.wait(60), 0, "the status of the process beside which it was checked")
    process.stderr.close()
    thread.join()
    checks.equal(set(statuses), {(0, "")}, "log check beside a server")


# --- Loss of power ---

def memory_folder():
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def put_files(folder, files):
    for path, data in files.items():
        full = os.path.join(folder, path)
        if data is None:
            os.mkdir(full)
        else:
            with open(full, "wb") as file:
                file.write(data)


def try_crash(files, lines, what):
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        put_files(folder, files)
        status, output, errors = run(TOOL, "recovered", f"{folder}/log", "append", text="\n".join(lines) + "\n")
        if status != 0:
            return f"{what}: {errors or output} with {sorted((path, data and len(data)) for path, data in files.items())}"
    return None


def record_runs(work, runs):
    folder, record = os.path.realpath(f"{work}/disk"), f"{work}/record"
    os.mkdir(folder)
    environment = {**os.environ, "LD_PRELOAD": RECORD, "RECORD_ROOT": folder, "RECORD_FILE": record}
    for count, waiting in runs:
        done = subprocess.run([TOOL, "append", f"{folder}/log", str(count), str(waiting)], env=environment, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        checks.equal((done.returncode, done.stderr), (0, b""), "a run that is recorded")
    return folder, list(power.events(read(record)))


def actual_files(folder):
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(parent, name)
            found[os.path.relpath(path, folder)] = None if name in folders else read(path)
    return found


def older_database(work, runs, seed):
    """Whatever of the files a loss of power leaves: a database from before the last run is known for an older copy."""
    _, events = record_runs(work, runs)
    disk, older, begun = power.Disk(), None, 0
    for event in events:
        begun += event.operation == power.ROOT
        if begun == len(runs) and older is None:
            older = disk.read(b"log/log.db")
        disk.apply(event)
    for choice in [power.LOST, power.KEPT, power.NAMES, power.DATA] + [random.Random(seed + turn) for turn in range(6)]:
        files = {path: data for path, data in disk.crash(choice).items() if not path.startswith("log/log.db")}
        with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
            put_files(folder, {**files, "log/log.db": older})
            status, _, errors = run(TOOL, "recovered", f"{folder}/log", text="")
            checks.equal(status, 1, f"a database that was put back: {choice}")
            checks.contains(errors, "older copy", "why")
            if "log/checkpoint" in files:
                status, _, errors = bulla("check", f"{folder}/log")
                checks.equal(status, 1, f"log check of it: {choice}")


def power_loss(work, runs, seed, most):
    """Every prefix of what was done (or, with reduced counts, some), with what was not durable lost, kept, or torn."""
    folder, events = record_runs(work, runs)
    choices = [power.LOST, power.KEPT, power.NAMES, power.DATA] + ["torn"] * (3 if IS_FULL else 4)
    every = [(number, turn) for number in range(len(events)) for turn in range(len(choices))]
    chosen = set(every if IS_FULL else random.Random(seed).sample(every, min(most, len(every))))
    disk, trees, seen, problems = power.Disk(), [], set(), []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, event in enumerate(events):
            disk.apply(event)
            if event.operation == power.RENAME and event.second == b"log/checkpoint":
                _, _, size, root, _ = read_note(disk.read(event.second).decode())
                trees.append(f"tree {size} {base64.b64encode(root).decode()}")
            for turn, choice in enumerate(choices):
                if (number, turn) not in chosen:
                    continue
                what = f"event {number} of {len(events)}, {choice}"
                files = disk.crash(random.Random(f"{seed} {number} {turn}") if choice == "torn" else choice)
                lines = [line for line in whole_lines(bytes(disk.output)) if ACK.match(line)] + trees
                key = hashlib.sha256(repr((sorted(files.items()), len(lines))).encode()).digest()
                if key not in seen:
                    seen.add(key)
                    problems.append(pool.submit(try_crash, files, lines, what))
                while sum(not problem.done() for problem in problems[-20:]) > 8:
                    time.sleep(0.005)  # files that wait are in memory
    checks.equal(disk.crash(power.KEPT), actual_files(folder), "the files that the record gives are those that are there")
    checks.true(len(problems) > 30, f"{len(problems)} different crashes")
    for problem in problems:
        checks.true(problem.result() is None, problem.result())


def main():
    tests = [operator_verbs, witnesses, forks, stalls, monitors, kills, handovers, checked_beside_a_server]
    if not os.path.exists(TOOL):
        checks.skip("tests/tool_log is not built")
    for test in tests:
        with tempfile.TemporaryDirectory(prefix="bulla-tlog-") as work:
            test(work)
    with tempfile.TemporaryDirectory(prefix="bulla-tlog-") as work:  # small batches, restarts
        power_loss(work, [(6, 2), (5, 3)], SEED, 120)
    with tempfile.TemporaryDirectory(prefix="bulla-tlog-") as work:  # whole tiles, a database that is written back
        power_loss(work, [(258, 130), (3, 1)], SEED + 1, 120)
    for number, runs in enumerate([[(6, 2), (5, 3)], [(250, 50), (20, 5)], [(500, 99), (300, 99)]]):
        with tempfile.TemporaryDirectory(prefix="bulla-tlog-") as work:
            older_database(work, runs, SEED + number)
    checks.finish()


if __name__ == "__main__":
    main()
