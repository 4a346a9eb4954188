"""A `bulla serve` that a test starts, uses and ends by its id. Needs python3 alone.

    from serving import Server, can_serve
    if not can_serve():
        checks.skip("this build has no bulla serve")
    with Server(model) as server:               # TLS 1.3 on a free port of loopback, with a certificate made for it
        server.url                              # "https://127.0.0.1:34567"
        server.certificate                      # path of its certificate, which clients take as CA
        server.json("GET", "/v1/models")
    with Server(model, tls=False, arguments=["--max-tokens", "5"], environment={"BULLA_ISA": "portable"}) as server: ...
    with Server(config={"models": [...]}) as server: ...        # a configuration, written to a file

    server.kill()           # SIGKILL; server.start() again
    server.stop()           # SIGTERM, waits; server.status is its exit status
    server.log()            # the lines of its log so far, as dicts
    server.workers()        # ids of its child processes

What a server leaves (certificate, log, configuration) lies in a folder of its own that goes with it; its log is printed
where it does not start.
"""
import http.client
import json
import os
import re
import select
import shutil
import signal
import ssl
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BULLA_BUILD", os.path.join(ROOT, "build", "release"))
PROGRAM = os.path.join(BUILD, "src", "bulla")
START_SECONDS = 60
STOP_SECONDS = 60
LISTENING = re.compile(r"^listening on (\S+)$", re.MULTILINE)


def can_serve(program=PROGRAM):
    """Whether this build has the verb and more than a stub of it."""
    if not os.path.exists(program):
        return False
    done = subprocess.run([program, "serve", "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    return done.returncode == 0 and b"--listen" in done.stdout


def children(process):
    """Ids of the processes that a process started and that still run."""
    found = []
    for task in os.listdir(f"/proc/{process}/task"):
        try:
            with open(f"/proc/{process}/task/{task}/children", encoding="ascii") as file:
                found += [int(word) for word in file.read().split()]
        except OSError:
            pass  # the thread has just ended
    return found


def cpu_seconds(process):
    """User and system time of one process so far, without its children's."""
    with open(f"/proc/{process}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(process, kind="VmRSS"):
    """Resident memory; "RssAnon": without mapped files."""
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(kind + ":")) << 10


class Server:
    def __init__(self, model=None, *, tls=True, arguments=(), config=None, environment=None, listen="127.0.0.1:0",
                 program=PROGRAM, start=True):
        self.folder = tempfile.mkdtemp(prefix="bulla-serve-")
        self.program, self.model, self.tls, self.listen = program, model, tls, listen
        self.arguments, self.environment = list(arguments), dict(environment or {})
        self.state = os.path.join(self.folder, "state")
        self.log_path = os.path.join(self.folder, "log")
        self.config = None
        if config is not None:
            self.config = os.path.join(self.folder, "config.json")
            with open(self.config, "w", encoding="utf-8") as file:
                json.dump(config, file)
        self.process = self.url = self.status = None
        if start:
            try:
                self.start()
            except BaseException:
                self.remove()
                raise

    # --- its life ---

    def command(self):
        command = [*(self.program if isinstance(self.program, list) else [self.program]), "serve"]
        command += [self.model] if self.model else []
        command += ["--config", self.config] if self.config else []
        command += ["--listen", self.listen] if self.listen else []
        command += [] if self.tls else ["--http"]
        return command + ["--log", self.log_path] + self.arguments

    def spawn(self):
        """Starts it and does not wait until it is ready: wait_ready does."""
        environment = {key: value for key, value in os.environ.items() if key != "BULLA_ISA"}
        environment.setdefault("ASAN_OPTIONS", "detect_leaks=1")
        environment.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1")
        environment.update({"BULLA_STATE": self.state, **self.environment})
        self.status = None
        self.url = None
        with open(os.path.join(self.folder, "errors"), "ab") as errors:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=errors, env=environment)

    def wait_ready(self, seconds=START_SECONDS):
        output, deadline = b"", time.monotonic() + seconds
        while not LISTENING.search(output.decode("utf-8", "replace")):
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self.process.stdout], [], [], left)[0]
            part = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not part:
                self.kill()
                raise RuntimeError(f"bulla serve did not say that it listens; exit status {self.status}\n"
                                   f"{output.decode('utf-8', 'replace')}{self.errors()}{self.read(self.log_path)}")
            output += part
        self.url = LISTENING.search(output.decode()).group(1)
        return self

    def start(self):
        self.spawn()
        return self.wait_ready()

    def end(self, number, seconds=STOP_SECONDS):
        """Sends a signal and waits; one that does not end in time is killed and an exception says so."""
        if self.process is None:
            return self.status
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.status = self.process.wait()
            raise
        finally:
            self.process.stdout.close()
            self.process = None
        return self.status

    def stop(self, seconds=STOP_SECONDS):
        return self.end(signal.SIGTERM, seconds)

    def kill(self):
        return self.end(signal.SIGKILL)

    def remove(self):
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        try:
            if self.process is not None:
                self.stop()
        finally:
            self.remove()

    # --- what is seen of it ---

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        host, port = re.fullmatch(r"https?://(.*):(\d+)", self.url).groups()
        return host.strip("[]"), int(port)

    @property
    def certificate(self):
        for root, _, files in os.walk(self.state):
            if "certificate.pem" in files:
                return os.path.join(root, "certificate.pem")
        raise FileNotFoundError("the server made no certificate in " + self.state)

    def workers(self):
        return children(self.pid)

    @staticmethod
    def read(path):
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def errors(self):
        """What it wrote to standard error."""
        return self.read(os.path.join(self.folder, "errors"))

    def log(self):
        return [json.loads(line) for line in self.read(self.log_path).splitlines()]

    # --- talking to it without a client library ---

    def connect(self, timeout=60):
        host, port = self.address
        if self.url.startswith("https:"):
            return http.client.HTTPSConnection(host, port, timeout=timeout,
                                               context=ssl.create_default_context(cafile=self.certificate))
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=60):
        """(status, headers by lower-case name, bytes). `body` is bytes, or a value that is sent as JSON."""
        connection = self.connect(timeout)
        try:
            own = dict(headers or {})
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
                own.setdefault("Content-Type", "application/json")
            connection.request(method, path, body, own)
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, headers=None, timeout=60):
        """(status, value)."""
        status, _, answer = self.request(method, path, body, headers, timeout)
        return status, json.loads(answer)

    def events(self, path, body, headers=None, timeout=60):
        """The values of a streamed answer's events, without the [DONE] that has to end it."""
        status, _, answer = self.request("POST", path, {**body, "stream": True}, headers, timeout)
        if status != 200:
            raise RuntimeError(f"{path}: status {status}: {answer[:1000]!r}")
        lines = [line[6:] for line in answer.decode().split("\n") if line.startswith("data: ")]
        if lines[-1:] != ["[DONE]"]:
            raise RuntimeError(f"{path}: the stream ends with {answer[-200:]!r}")
        return [json.loads(line) for line in lines[:-1]]

    def wait(self, condition, seconds=20, what="a condition"):
        """Until condition() holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds} s for {what}")
            time.sleep(0.02)

    def metric(self, name):
        """The sum of a metric's samples, 0 where there is none."""
        _, _, text = self.request("GET", "/metrics")
        values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text.decode(), re.MULTILINE)
        return sum(float(value) for value in values)
