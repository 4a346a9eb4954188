#!/usr/bin/env python3
"""The HTTP server against hostile clients: requests that two parsers could read differently, slow and greedy ones,
those that hang up, and many that wait. `tests/tool_http.c` is the server.

    test_http.py            the checks
    test_http.py --table    what libevent's own server (tests/tool_evhttp.c) makes of the same list, as in docs/http.md
"""
import concurrent.futures
import json
import os
import select
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

from checks import Checks
from http_cases import CASES, PROBE

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
SANITIZED = os.path.join(ROOT, "build", "sanitize", "tests", "tool_http")
FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
PATIENCE = 30    # seconds until something that must happen is taken for missing
SILENCE = 0.5    # seconds without an answer after which libevent's server is taken to wait for more
GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"


class Server:
    """A server of tests/; lines() are those it printed."""

    def __init__(self, name, *options, path=None):
        self.process = subprocess.Popen([path or os.path.join(BUILD, "tests", name), *options], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.printed = b""
        self.port = int(self.line().split()[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.status = self.stop()

    def stop(self):
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.status = self.process.wait()
        self.process.stdout.close()
        return self.status

    def line(self, patience=PATIENCE):
        """The next that is printed, "" where none comes."""
        while b"\n" not in self.printed:
            ready, _, _ = select.select([self.process.stdout], [], [], patience)
            part = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not part:
                return ""
            self.printed += part
        line, _, self.printed = self.printed.partition(b"\n")
        return line.decode()

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port))
        client.settimeout(PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def processor_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def parse_answers(data):
    """[(status, headers, body)] of whole answers with a length, and the bytes that are left."""
    answers = []
    while True:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            return answers, data
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return answers, data
        answers.append((int(lines[0].split()[1]), headers, rest[:length]))
        data = rest[length:]


def receive(client, count, silence=PATIENCE):
    """Answers until there are `count` or the server closes: (answers, bytes left, "open", "closed" or "reset")."""
    data, state = b"", "open"
    client.settimeout(silence)
    while True:
        answers, left = parse_answers(data)
        if len(answers) >= count:
            return answers, left, state
        try:
            part = client.recv(1 << 16)
        except (TimeoutError, socket.timeout):
            return answers, left, "open"
        except OSError:
            return answers, left, "reset"
        if not part:
            return answers, left, "closed"
        data += part


def send(client, data):
    try:
        client.sendall(data)
    except OSError:
        pass  # the server has closed already


def meaning(answer):
    status, _, body = answer
    if status != 200:
        return status
    try:
        told = json.loads(body)
    except ValueError:  # libevent's answers to CONNECT have no body
        return ("?", "", "", body.decode("latin-1"))
    return (told["method"], told["path"], told["query"], told["body"])


def ends(client):
    """Whether the server closes, in order or by reset."""
    try:
        while client.recv(1 << 16):
            pass
    except (TimeoutError, socket.timeout):
        return False
    except OSError:
        return True
    return True


# The smuggling list

def check_case(checks, server, case, pieces):
    """`pieces`: whether each byte is sent alone."""
    expected = case.expected
    wanted = [expected] if isinstance(expected, int) else [] if expected is None else list(expected)
    if isinstance(expected, list) and not case.closes:
        wanted.append(("GET", "/probe", "", ""))
    with server.connect() as client:
        data = case.bytes + (PROBE if expected is not None else b"")
        if pieces:
            for i in range(len(data)):
                send(client, data[i:i + 1])
        else:
            send(client, data)
        if expected is None:
            client.shutdown(socket.SHUT_WR)
        must_close = isinstance(expected, int) or expected is None or case.closes
        answers, left, state = receive(client, 100 if must_close else len(wanted))
        name = case.name + (", byte by byte" if pieces else "")
        checks.equal([meaning(answer) for answer in answers], wanted, f"{name}: what is answered")
        checks.equal(left, b"", f"{name}: nothing else is sent")
        if must_close:
            checks.equal(state, "closed", f"{name}: the connection is closed in order")
        if isinstance(expected, int) and answers:
            status, headers, body = answers[0]
            checks.equal(headers.get("connection"), "close", f"{name}: says that it closes")
            checks.true(isinstance(json.loads(body)["error"]["message"], str), f"{name}: says why, as the API does")


def check_list(checks, server):
    checks.true(len(CASES) >= 60, "the list is long")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for pieces in (False, True):
            for job in [pool.submit(check_case, checks, server, case, pieces) for case in CASES]:
                job.result()


def ask_libevent(server, case):
    """What libevent's server makes of a case: the list of meanings, and how it ended."""
    with server.connect() as client:
        send(client, case.bytes + (PROBE if case.expected is not None else b""))
        if case.expected is None:
            client.shutdown(socket.SHUT_WR)
        answers, left, state = receive(client, 100, SILENCE)
        if left and answers and "content-length" not in answers[-1][1]:  # to HTTP/1.0: until the end
            answers[-1] = answers[-1][:2] + (left,)
        return [meaning(answer) for answer in answers], state


def judge_libevent(case, answers):
    """"" where it does as expected, else what is wrong."""
    accepted = [answer for answer in answers if not isinstance(answer, int)]
    if isinstance(case.expected, list):
        wanted = list(case.expected) + ([] if case.closes else [("GET", "/probe", "", "")])
        # Of what is fine it may understand less: that is no danger.
        return "" if answers == wanted or not accepted else "reads " + describe(answers)
    return "takes it as " + describe(answers) if accepted else ""


def describe(answers):
    shown = []
    for answer in answers:
        if isinstance(answer, int):
            shown.append(str(answer))
        else:
            body = answer[3].replace("\r\n", " ").strip()
            shown.append(f"{answer[0]} {answer[1]}" + (f" with body \"{body[:24]}\"" if body else ""))
    return ", then ".join(shown) if shown else "nothing"


def libevent_table():
    with Server("tool_evhttp") as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: ask_libevent(server, case), CASES))
    return [(case, judge_libevent(case, answers)) for case, (answers, _) in zip(CASES, found)]


def check_libevent(checks):
    """The reason for a parser of our own; where a newer libevent takes none of these, it may serve."""
    wrong = [(case, what) for case, what in libevent_table() if what]
    print(f"libevent's own parser is wrong about {len(wrong)} of {len(CASES)} requests")
    names = {case.name for case, _ in wrong}
    for name in ("CL twice, different", "TE 'xchunked'", "all lines with bare LF"):
        checks.true(name in names, f"libevent's server takes \"{name}\", as docs/http.md says")


# Slow and greedy clients

def check_slow(checks):
    with Server("tool_http", "header_seconds=1", "body_seconds=1", "idle_seconds=6", "write_seconds=1") as server:
        with server.connect() as header, server.connect() as body, server.connect() as chunks, server.connect() as idle:
            send(body, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
            send(chunks, b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            line = b"GET /echo HTTP/1.1\r\nX: "
            # A byte in every fifth of a second would keep a limit for each byte alive for ever.
            for i in range(25):
                send(header, line[i:i + 1] or b"a")
                send(body, b"a")
                send(chunks, b"1\r\na\r\n")
                time.sleep(0.2)
            for name, client in (("header", header), ("body", body), ("chunks", chunks)):
                answers, _, state = receive(client, 100)
                checks.equal([answer[0] for answer in answers], [408], f"slow {name}: told so")
                checks.true(state != "open", f"slow {name}: closed")
            checks.equal(idle.recv(1), b"", "an idle connection is closed without a word")
        with server.connect() as client:
            for i in range(3):
                send(client, GET % b"/echo")
                checks.equal(receive(client, 1)[0][0][0], 200, "a connection that is used is kept")
                time.sleep(0.2)


def check_bombs(checks):
    with Server("tool_http", "most_body_bytes=100000") as server:
        for name, data, status in (
                ("header", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (4 << 20), 431),
                ("lines", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200000, 431),
                ("target", b"GET /" + b"a" * (4 << 20), 414),
                ("method", b"A" * (4 << 20), 414),
                ("body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n", 413),
                ("chunk", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", 413),
                ("chunks", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 + b"1\r\na\r\n" * 100001, 413),
                ("extensions", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 + b"1;" + b"a" * (1 << 20), 400),
                ("trailers", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
                 + b"X: y\r\n" * 200000, 431)):
            with server.connect() as client:
                send(client, data[:60000])
                answers, _, _ = receive(client, 1) if len(data) <= 60000 else ([], b"", "")
                if len(data) > 60000:
                    send(client, data[60000:])
                    answers, _, _ = receive(client, 1)
                # A client that sends megabytes behind a refusal may find a reset before it has read the answer.
                told = [answer[0] for answer in answers]
                is_fine = told == [status] or (len(data) > 1 << 20 and told == [])
                checks.true(is_fine, f"{name} bomb: {told}, not {status}")
        before = server.memory()
        clients = []
        for _ in range(100):
            client = server.connect()
            send(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            clients.append(client)
        with server.connect() as client:
            send(client, GET % b"/echo")
            receive(client, 1)
        checks.true(server.memory() - before < 4 << 20, "announced bodies take no memory")
        for client in clients:
            client.close()


def check_pipelining(checks, server):
    with server.connect() as client:
        count = 500
        data = b"".join(b"GET /echo?%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(count))
        send(client, b"GET /slow?ms=200 HTTP/1.1\r\nHost: a\r\n\r\n" + data)
        answers, _, _ = receive(client, count + 1)
        checks.equal(answers[0][2], b"slow", "the slow one comes first")
        checks.equal([json.loads(answer[2])["query"] for answer in answers[1:]], [str(i) for i in range(count)],
                     "the others in their order")
    before = server.memory()
    with server.connect() as client:  # a flood that nobody reads the answers of
        client.setblocking(False)
        block, sent, quiet = (GET % b"/echo") * 1000, 0, 0
        while quiet < 20 and sent < 64 << 20:
            try:
                sent += client.send(block)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.02)
        checks.true(quiet == 20, "a flood that reads nothing is held up")
        checks.true(server.memory() - before < 2 << 20, "and takes no memory")
        with server.connect() as other:
            send(other, GET % b"/echo")
            checks.equal(receive(other, 1)[0][0][0], 200, "others are served meanwhile")
    before = server.memory()
    with server.connect() as client:  # behind an answer that never comes
        client.setblocking(False)
        send(client, GET % b"/hang")
        quiet = 0
        while quiet < 20:
            try:
                client.send(block)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.02)
        checks.true(server.memory() - before < 1 << 20, "what is pipelined behind an answer under way takes no memory")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    checks.equal(server.line(), "closed /hang", "and its reset is seen all the same")


def check_hang_ups(checks, server, wrap=lambda client: client):
    for how in ("close", "half", "reset"):
        for path in (b"/hang", b"/stream"):
            client = wrap(server.connect())
            send(client, GET % path)
            if path == b"/stream":
                client.recv(100)
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if how == "half":
                socket.socket.shutdown(client, socket.SHUT_WR)
            else:
                client.close()
            checks.equal(server.line(), "closed " + path.decode(), f"{how} while {path.decode()} is under way is told")
            client.close()


def check_unread_stream(checks, *options, wrap=lambda client: client):
    with Server("tool_http", "most_unsent=1000000", "write_seconds=2", *options) as server:
        clients = []
        for _ in range(8):
            client = wrap(server.connect())
            send(client, GET % b"/stream")
            clients.append(client)
        peak = 0
        for _ in clients:
            line, give_up = "", time.monotonic() + PATIENCE
            while not line and time.monotonic() < give_up:
                line = server.line(0.05)
                peak = max(peak, server.memory())
            checks.equal(line, "closed /stream", "a stream that nobody reads is cut off")
        checks.true(peak < 64 << 20, f"8 of them take {peak >> 20} MiB")
        for client in clients:
            checks.true(ends(client), "and its client sees an end that is no end of an answer")
            client.close()
        with wrap(server.connect()) as client:  # one that is read is not
            send(client, b"GET /stream?n=200000 HTTP/1.0\r\n\r\n")
            data = b""
            while not data.endswith(b"data: [DONE]\n\n"):
                part = client.recv(1 << 16)
                if not part:
                    break
                data += part
            numbers = [int(line[14:-1]) for line in data.split(b"\n") if line.startswith(b'data: {"left":')]
            checks.equal(numbers, list(range(200000, 0, -1)), "a stream that is read comes whole and in order")


def check_idle(checks, *options, count, wrap=lambda client: client, name, most):
    with Server("tool_http", "idle_seconds=600", "header_seconds=60", *options) as server:
        with wrap(server.connect()) as client:  # what the first connection needs once
            send(client, GET % b"/echo")
            receive(client, 1)
        before = server.memory()
        clients = []
        for i in range(count):
            client = wrap(server.connect())
            clients.append(client)
            if i % 2 == 0:
                send(client, GET % b"/echo")
                receive(client, 1)
        with wrap(server.connect()) as client:
            send(client, GET % b"/connections")
            checks.equal(int(receive(client, 1)[0][0][2]), count + 1, f"{count} idle connections {name} are held")
        each = (server.memory() - before) / count
        print(f"{count} idle connections {name}: {each:.0f} bytes each")
        checks.true(each < most, f"{each:.0f} bytes an idle connection {name}")
        spent = server.processor_seconds()
        time.sleep(1)
        checks.true(server.processor_seconds() - spent < 0.5, "idle connections cost no time")
        for client in clients[::97]:
            send(client, GET % b"/echo")
            checks.equal(receive(client, 1)[0][0][0], 200, "each still answers")
        for client in clients:
            client.close()


def check_drain(checks):
    with Server("tool_http") as server:
        with server.connect() as idle, server.connect() as slow, server.connect() as asker:
            send(idle, GET % b"/echo")
            receive(idle, 1)
            send(slow, GET % b"/slow?ms=300")
            time.sleep(0.1)
            send(asker, GET % b"/drain")
            checks.equal(receive(asker, 1)[0][0][1].get("connection"), "close", "the drain's own answer closes")
            checks.true(ends(idle), "an idle connection is closed")
            answers, _, state = receive(slow, 100)
            checks.equal([answer[2] for answer in answers], [b"slow"], "an answer under way is finished")
            checks.equal(state, "closed", "and its connection closed")
            try:
                server.connect().close()
                checks.true(False, "no new connections")
            except ConnectionRefusedError:
                checks.true(True, "no new connections")


def check_no_descriptors(checks):
    """With accept failing for want of descriptors the server neither spins nor stops."""
    path = os.path.join(BUILD, "tests", "tool_http")
    with LimitedServer(path) as server:
        clients = [server.connect() for _ in range(60)]
        time.sleep(0.3)
        spent = server.processor_seconds()
        time.sleep(1)
        checks.true(server.processor_seconds() - spent < 0.5, "accept without descriptors does not spin")
        for client in clients[:50]:
            client.close()
        send(clients[-1], GET % b"/echo")
        checks.equal(receive(clients[-1], 1)[0][0][0], 200, "the last of those who waited is served in the end")
        for client in clients:
            client.close()


class LimitedServer(Server):
    def __init__(self, path):
        self.process = subprocess.Popen(["sh", "-c", 'ulimit -n 32; exec "$0"', path], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.printed = b""
        self.port = int(self.line().split()[1])


def check_tls(checks):
    with tempfile.TemporaryDirectory() as folder:
        with Server("tool_http", "header_seconds=60", "tls=" + folder) as server:
            context = ssl.create_default_context(cafile=os.path.join(folder, "certificate.pem"))

            def wrap(client):
                return context.wrap_socket(client, server_hostname="localhost")
            with wrap(server.connect()) as client:
                checks.equal(client.version(), "TLSv1.3", "TLS 1.3, with the certificate checked for localhost")
                send(client, GET % b"/echo")
                checks.equal(receive(client, 1)[0][0][0], 200, "an answer over TLS")
                session = client.session
            with context.wrap_socket(server.connect(), server_hostname="localhost", session=session) as client:
                send(client, GET % b"/echo")
                checks.equal(receive(client, 1)[0][0][0], 200, "an answer in a resumed session")
                checks.true(client.session_reused, "the session was resumed")
            old = ssl.create_default_context(cafile=os.path.join(folder, "certificate.pem"))
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            try:
                old.wrap_socket(server.connect(), server_hostname="localhost")
                checks.true(False, "TLS 1.2 is refused")
            except ssl.SSLError as problem:
                checks.contains(str(problem).lower(), "protocol version", "TLS 1.2 is refused, and told so")
            check_hang_ups(checks, server, wrap)
            for job in (case for case in CASES if case.name in ("CL.TE", "three pipelined", "chunked", "HTTP/1.0")):
                check_tls_case(checks, wrap(server.connect()), job)
        checks.equal(server.status, 0, "the server ends in order")
        checks.equal(os.stat(os.path.join(folder, "key.pem")).st_mode & 0o777, 0o600, "the key is its owner's")
        check_unread_stream(checks, "tls=" + folder, wrap=wrap)
        check_idle(checks, "tls=" + folder, count=3000 if FULL else 500, wrap=wrap, name="over TLS", most=40000)


def check_tls_case(checks, client, case):
    with client:
        send(client, case.bytes + PROBE)
        is_end = isinstance(case.expected, int) or case.closes
        answers, _, _ = receive(client, 100 if is_end else len(case.expected) + 1)
        wanted = [case.expected] if isinstance(case.expected, int) else case.expected
        checks.equal([meaning(answer) for answer in answers][:len(wanted)], wanted, f"{case.name} over TLS")


def check_half_closed(checks, server):
    with server.connect() as client:
        send(client, GET % b"/echo")
        client.shutdown(socket.SHUT_WR)
        answers, _, state = receive(client, 100)
        checks.equal([answer[0] for answer in answers], [200], "an answer at once reaches a client that half-closed")
        checks.equal(state, "closed", "and the connection is closed")


def print_table(found):
    print("| | must be refused | libevent takes | which |\n|---|---:|---:|---|")
    for group in dict.fromkeys(case.group for case, _ in found):
        own = [(case, what) for case, what in found if case.group == group and not isinstance(case.expected, list)]
        wrong = [case.name for case, what in own if what]
        print(f"| {group} | {len(own)} | {len(wrong)} | {'; '.join(wrong)} |")


def main(arguments):
    if arguments == ["--table"]:
        print_table(libevent_table())
        return
    checks = Checks()
    hostile = SANITIZED if os.path.exists(SANITIZED) else None
    with Server("tool_http", "header_seconds=60", path=hostile) as server:
        check_list(checks, server)
        check_hang_ups(checks, server)
        check_half_closed(checks, server)
    checks.equal(server.status, 0, "the server ends in order")
    with Server("tool_http") as server:
        check_pipelining(checks, server)
    check_libevent(checks)
    check_slow(checks)
    check_bombs(checks)
    check_unread_stream(checks)
    check_drain(checks)
    check_no_descriptors(checks)
    check_tls(checks)
    check_idle(checks, count=10000 if FULL else 2000, name="in the clear", most=6000)
    checks.finish()


if __name__ == "__main__":
    main(sys.argv[1:])
