#!/usr/bin/env python3
"""`bulla chat` as a person uses it, through a pseudo-terminal, and as a script does, through a pipe: several turns,
Ctrl-C, pastes, wide characters, sizes, a full context, every command, the terminal's state afterwards."""
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time

from checks import Checks
from screen import Screen
from small_source import PROGRAM, cleaned, make_model, make_source, render

PASTE_ON, PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"
PROMPT = PASTE_ON + b"\r\x1b[J> \r\x1b[2C"
UP, LEFT = b"\x1b[A", b"\x1b[D"
PATIENCE = 60
TOKENS = "40"


def take_terminal():
    """In the child: the terminal is its own, and its signals count also where who started the tests ignores them (nohup, a
    shell's background)."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


class Chat:
    """`bulla chat` on a pseudo-terminal of its own."""

    def __init__(self, model, *options, rows=24, columns=80, kind="xterm"):
        self.leader, follower = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.leader)
        environment = dict(os.environ, TERM=kind)
        self.process = subprocess.Popen([PROGRAM, "chat", model, *options], stdin=follower, stdout=follower,
                                        stderr=follower, env=environment, start_new_session=True,
                                        preexec_fn=take_terminal)
        self.follower = follower  # kept open, so that the terminal's state can be read after the end
        self.output = b""
        self.screen = Screen(rows, columns)

    def resize(self, rows, columns):
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data):
        os.write(self.leader, data if isinstance(data, bytes) else data.encode())

    def read(self, seconds):
        ready = select.select([self.leader], [], [], seconds)[0]
        data = os.read(self.leader, 65536) if ready else b""
        self.output += data
        return data

    def read_until(self, mark):
        """All output up to and with `mark`, which is taken away; None when it does not come."""
        end = time.monotonic() + PATIENCE
        while mark not in self.output:
            if time.monotonic() > end or (not self.read(0.2) and self.process.poll() is not None):
                return None
        found, self.output = self.output.split(mark, 1)
        return found + mark

    def settle(self):
        """Everything that comes until nothing does for a while, drawn on the screen."""
        while self.read(0.4):
            pass
        drawn, self.output = self.output, b""
        self.screen.write(drawn.decode())
        return drawn

    def ask(self, line, keys=b"\r"):
        """Enters a line; what stands between it and the next prompt, as text."""
        self.type(line)
        self.type(keys)
        if self.read_until(PASTE_OFF) is None:
            return None
        answer = self.read_until(PROMPT)
        return answer and answer[:-len(PROMPT)].decode().replace("\r\n", "\n")

    def end(self):
        """Exit status, and whether the terminal is as it was. The last output stays in self.output."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.05)
        while self.read(0.05):
            pass
        restored = termios.tcgetattr(self.leader) == self.before
        if self.process.poll() is None:
            self.process.kill()
            return None, restored
        return self.process.returncode, restored

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.leader)
        os.close(self.follower)


def run(model, question, *options):
    done = subprocess.run([PROGRAM, "run", model, question, "--max-tokens", TOKENS, *options], capture_output=True)
    return cleaned(done.stdout.decode()).rstrip("\n") if done.returncode == 0 else done.stderr.decode()


def answer_of(shown):
    """An answer without the remark that it was cut."""
    return shown if shown is None else shown.replace(f"(cut after {TOKENS} tokens: --max-tokens)\n", "").rstrip("\n")


VARIED = ("--presence-penalty", "20")
SAMPLED = ("--temperature", "0.5", "--seed", "1", *VARIED)


def check_turns(checks, model):
    chat = Chat(model, "--max-tokens", TOKENS, *SAMPLED)
    greeting = chat.read_until(PROMPT)
    checks.true(greeting and b"/help" in greeting, f"the greeting: {greeting}")
    messages, questions = [], ["hello there", "second question", "你好, e\u0301", "and a fourth"]
    for question in questions:
        answer = answer_of(chat.ask(question))
        messages.append(("user", question))
        text = render(messages)
        expected = run(model, text, "--raw", *SAMPLED)
        checks.equal(answer, expected, f"turn {len(messages)}: the same as of the whole conversation at once")
        messages.append(("assistant", expected))
        if "\ufffd" in expected or expected != expected.rstrip("\n"):
            break  # what was shown is not what the model wrote: later prompts can't be rebuilt here
    checks.true(len(messages) >= 6, f"at least three turns: {messages}")
    first = run(model, questions[0], *SAMPLED)
    chat.type(b"/reset\r")
    checks.true(chat.read_until(PROMPT) is not None, "/reset gives a prompt")
    checks.equal(answer_of(chat.ask(questions[0])), first, "after /reset the first answer again")
    chat.type(UP + UP + UP)
    checks.true(questions[-1].encode() in chat.settle() or len(messages) < 8,
                "the history")
    chat.type(b"\x15\x04")
    checks.equal(chat.end(), (0, True), "Ctrl-D leaves, and the terminal is as it was")
    chat.close()


def check_commands(checks, model):
    chat = Chat(model, "--max-tokens", TOKENS, *VARIED)
    chat.read_until(PROMPT)
    checks.contains(chat.ask("/help") or "", "/reset", "/help")
    checks.contains(chat.ask("/nonsense") or "", "no such command", "an unknown command")
    checks.contains(chat.ask("/temperature hot") or "", "--temperature needs a number", "/temperature hot")
    checks.contains(chat.ask("/seed -1") or "", "--seed needs a whole number", "/seed -1")
    checks.equal(chat.ask("/temperature 0.5"), "", "/temperature 0.5")
    checks.equal(chat.ask("/seed 1"), "", "/seed 1")
    checks.equal(answer_of(chat.ask("hello")), run(model, "hello", *SAMPLED), "temperature and seed by commands")
    checks.equal(chat.ask("/reset"), "", "/reset")
    checks.equal(chat.ask("/system Be brief."), "", "/system")
    checks.equal(answer_of(chat.ask("hello")), run(model, "hello", "--system", "Be brief.", *SAMPLED), "/system TEXT")
    checks.equal(chat.ask("/system"), "", "/system without text")
    checks.equal(chat.ask("/reset"), "", "/reset")
    checks.equal(answer_of(chat.ask("//x")), run(model, "/x", *SAMPLED), "// starts a message with a /")
    checks.equal(chat.ask("   "), "", "blanks are no message")
    chat.type(b"/quit\r")
    checks.equal(chat.end(), (0, True), "/quit")
    chat.close()


def check_editing(checks, model):
    chat = Chat(model, "--max-tokens", TOKENS, *SAMPLED)
    chat.settle()
    chat.type("你吗")
    chat.type(LEFT)
    chat.type("好")
    chat.settle()
    row = chat.screen.row
    checks.equal((chat.screen.lines()[row], chat.screen.column), ("> 你好吗", 6), "a wide character between two")
    chat.type(b"\x01x\x05!\x7f\x7f")
    chat.settle()
    checks.equal((chat.screen.lines()[row], chat.screen.column), ("> x你好", 7), "start, end, backspace")
    chat.type("\U0001F600e\u0301".encode() + b"\x7f")
    chat.settle()
    checks.equal((chat.screen.lines()[row], chat.screen.column), ("> x你好\U0001F600", 9), "an accent goes with its letter")
    chat.type("word " * 20)
    chat.settle()
    checks.equal(chat.screen.row, row + 1, "a long line goes on in the next row")
    chat.resize(24, 40)
    chat.screen = Screen(24, 40)  # what it showed before is not looked at
    chat.settle()
    shown = "".join(chat.screen.lines()[:chat.screen.row + 1]).replace(" ", "")
    checks.equal(shown.count("word"), 20, "all of it is drawn again on a narrower terminal")
    chat.type(b"\x15")
    pasted = "first line\nsecond 行\n\tthird"
    answer = answer_of(chat.ask(b"\x1b[200~" + pasted.replace("\n", "\r").encode() + b"\x1b[201~"))
    checks.equal(answer, run(model, pasted, *SAMPLED), "a paste of three lines is one message")
    chat.ask("/reset")
    checks.equal(answer_of(chat.ask(b"one\ntwo\x1b\rthree")), run(model, "one\ntwo\nthree", *SAMPLED),
                 "Ctrl-J and Alt-Enter are new lines")
    chat.ask("/reset")
    expected = run(model, "ahead", *SAMPLED)
    chat.type(b"/reset\r" + b"ahead\r")
    chat.read_until(PROMPT)
    chat.read_until(PASTE_OFF)
    checks.equal(answer_of((chat.read_until(PASTE_ON) or b"")[:-len(PASTE_ON)].decode().replace("\r\n", "\n")), expected,
                 "what was typed ahead is not lost")
    chat.close()


def check_interrupt(checks, model):
    chat = Chat(model, "--max-tokens", "0")
    chat.read_until(PROMPT)
    chat.type(b"tell me much\r")
    chat.read_until(PASTE_OFF)
    while len(chat.output) < 20 and chat.process.poll() is None:
        chat.read(0.2)
    chat.type(b"\x03")
    shown = chat.read_until(PROMPT)
    checks.true(shown and b"(stopped)" in shown, "Ctrl-C stops the answer")
    checks.true(shown and len(shown) < 200000, "soon")
    checks.equal(chat.process.poll(), None, "and only that")
    chat.type(b"half a line\x03")
    checks.true(chat.read_until(b"^C") is not None and chat.read_until(PROMPT) is not None, "Ctrl-C gives a line up")
    chat.type(b"\x03")
    checks.true(chat.read_until(b"(Ctrl-C once more leaves") is not None, "Ctrl-C without text says what it does")
    chat.read_until(PROMPT)
    chat.type(b"/seed 1\r")
    chat.read_until(PROMPT)
    chat.type(b"\x03")
    checks.true(chat.read_until(PROMPT) is not None, "after something else it counts anew")
    chat.type(b"\x03")
    checks.equal(chat.end(), (0, True), "two in a row leave")
    chat.close()


def check_signals(checks, model):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        for answering in (False, True):
            chat = Chat(model, "--max-tokens", "0")
            chat.read_until(PROMPT)
            if answering:
                chat.type(b"go\r")
                chat.read_until(PASTE_OFF)
                chat.read(0.3)
            checks.true(termios.tcgetattr(chat.leader) != chat.before, "the terminal is in another mode meanwhile")
            chat.process.send_signal(number)
            when = "during an answer" if answering else "at the prompt"
            checks.equal(chat.end(), (-number, True), f"{number.name} {when}: ended by it, the terminal as it was")
            if not answering:
                checks.contains(chat.output, PASTE_OFF, "pastes are not bracketed any more")
            chat.close()
    chat = Chat(model, "--max-tokens", TOKENS)
    chat.read_until(PROMPT)
    chat.type(b"kept\x1a")
    checks.true(stopped(chat.process), "Ctrl-Z stops the program")
    checks.equal(termios.tcgetattr(chat.leader), chat.before, "with the terminal as it was")
    chat.settle()
    chat.process.send_signal(signal.SIGCONT)
    checks.true(chat.read_until(b"> kept") is not None, "continued, it draws its line again")
    checks.true(termios.tcgetattr(chat.leader) != chat.before, "and takes up its mode")
    chat.close()
    chat = Chat(model)
    chat.read_until(PROMPT)
    os.close(chat.follower)
    os.close(chat.leader)
    try:
        checks.true(chat.process.wait(PATIENCE) is not None, "it ends with its terminal")
    except subprocess.TimeoutExpired:
        checks.true(False, "it ends with its terminal")
        chat.process.kill()


def stopped(process):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if os.waitpid(process.pid, os.WNOHANG | os.WUNTRACED)[1] & 0xFF == 0x7F:
            return True
        time.sleep(0.02)
    return False


def check_full_context(checks, model):
    chat = Chat(model, "--max-tokens", "0")
    chat.read_until(PROMPT)
    shown = chat.ask("x" * 20) or ""
    checks.contains(shown, "(the model's context of 128 tokens is full. /reset", "an answer that fills the context")
    shown = chat.ask("y") or ""
    checks.contains(shown, "the model's context is 128: your message was not sent", "a conversation that is too long")
    checks.equal(chat.ask("/reset"), "", "/reset")
    checks.contains(chat.ask("short") or "", "is full", "and it goes on")
    chat.close()
    done = piped(model, b"x\n" + b"long " * 100 + b"\n/reset\nx\n")
    checks.equal(done.returncode, 1, "a turn without answer makes the status 1")
    lines = done.stdout.decode().split("\n")
    checks.true(lines[0] and lines[0] == lines[1] and lines[2:] == [""], f"two equal answers: {lines}")
    checks.contains(done.stderr.decode(), "your message was not sent", "it is said why")


def piped(model, data, *options):
    return subprocess.run([PROGRAM, "chat", model, "--max-tokens", TOKENS, *options], input=data, capture_output=True,
                          timeout=PATIENCE)


def check_piped(checks, model, folder):
    done = piped(model, b"hello\n\n/seed 1\n/temperature 0.5\r\n/reset\nhello\nsecond", *VARIED)
    checks.equal(done.returncode, 0, f"through a pipe: {done.stderr}")
    checks.true(b"\x1b" not in done.stdout + done.stderr, "no control sequences")
    text = done.stdout.decode()
    checks.true(text.startswith(run(model, "hello", *VARIED) + "\n"), "the first answer")
    whole = subprocess.run([PROGRAM, "run", model, "hello", "--max-tokens", TOKENS, *SAMPLED], capture_output=True)
    checks.contains(done.stdout, whole.stdout.rstrip(b"\n"), "the second with its seed")
    done = piped(model, b"")
    checks.equal((done.returncode, done.stdout), (0, b""), "no turn at all")
    done = piped(model, b"a\xff\nhello\n")
    checks.equal(done.returncode, 1, "a line that is no UTF-8")
    checks.contains(done.stderr.decode(), "byte 0xFF at offset 1 of 2", "is said")
    checks.equal(cleaned(done.stdout.decode()).rstrip("\n"), run(model, "hello"), "and the next goes on")
    done = piped(make_model(folder, "bare", template=None), b"hello\n")
    checks.equal((done.returncode, done.stdout), (1, b""), "a model without a template")
    checks.contains(done.stderr.decode(), "no chat template", "is said")
    thrower = "{% if messages|length > 1 %}{{ raise_exception('too much talk') }}{% endif %}{{ messages[0].content }}"
    done = piped(make_model(folder, "thrower", template=thrower), b"hello\nagain\n/reset\nhello\n")
    checks.equal((done.returncode, done.stdout.count(b"\n") >= 2), (1, True), "a template that refuses a turn")
    checks.contains(done.stderr.decode(), "too much talk", "its words")
    with open("/dev/full", "w") as full:
        result = subprocess.run([PROGRAM, "chat", model, "--max-tokens", TOKENS], input=b"hello\n" * 3, stdout=full,
                                stderr=subprocess.PIPE, timeout=PATIENCE)
    checks.equal(result.returncode, 1, "a full disk under the answers")
    checks.contains(result.stderr.decode(), "could not be written", "is said")


def check_dumb_terminal(checks, model):
    chat = Chat(model, "--max-tokens", TOKENS, kind="dumb")
    chat.type(b"hello\n/quit\n")
    checks.equal(chat.end(), (0, True), "a terminal without cursor movement")
    checks.true(b"\x1b" not in chat.output, "gets no control sequences")
    chat.close()


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BULLA_CACHE"] = os.path.join(folder, "cache")
        model = make_model(folder, "model")
        long_model = make_model(folder, "long", context=100000)
        check_turns(checks, model)
        check_commands(checks, model)
        check_editing(checks, model)
        check_interrupt(checks, long_model)
        check_signals(checks, long_model)
        check_full_context(checks, make_model(folder, "short", context=128))
        check_piped(checks, model, folder)
        check_dumb_terminal(checks, model)
    checks.finish()


if __name__ == "__main__":
    main()
