"""Small random templates: every construct, operator, filter, test and method that the interpreter knows, with
values of all kinds, sensible or not. random_template(random) gives (source, variables)."""

TEXTS = ["", "a", "abc", "Hello World", "  padded\t", "x,y,,z", "a-b c_d", "line\nnext\r\nlast\n", "ÄÖÜ straße",
         "你好 世界", "👍🏽 ok", "ΑΣ ΟΔΟΣ σ.", "it's", 'say "hi"', "<b> & 'q'", "%s and %d", "{} {0}", "12", "-3.5", " 7 ",
         "1e3", "true", "\u00a0nb\u2028sp", "ǆ ŉ ﬁ İı", "tab\there", "back\\slash", "0x1F", "1_000", "aXbXc", "AAA"]
NUMBERS = [0, 1, 2, 3, -1, -7, 10, 255, 1000000, 2**53, 0.0, 0.5, -2.5, 3.14159, 1e16, 1e-7, 123456.789, 2.675]

VARIABLES = {
    "t": "Hello World", "u": "Grüße, 世界 👍", "s": "  a, b ,c  ", "e": "", "n": 7, "z": 0, "f": 2.5, "neg": -3,
    "yes": True, "no": False, "nil": None, "xs": [3, 1, 2], "ws": ["b", "A", "c", "a"],
    "mix": [1, "1", 1.0, None, True],
    "em": [], "d": {"b": 1, "a": 2, "C": 3}, "ed": {}, "dd": {"k": {"x": [1, {"y": "z"}]}, "items": 5, "get": "g"},
    "ms": [{"role": "user", "content": "hi", "n": 2}, {"role": "assistant", "content": "Yo ✓", "n": 1},
           {"role": "tool", "content": None}, {"role": "User", "content": ["p", "q"], "n": 3}],
    "nest": [[1, 2], [3, [4]], []], "big": 123456789012345678901234567890, "esc": "<a href=\"x\">'&'</a>",
    "lines": "one\n  two\n\nthree\n",
}
KINDS = {
    "text": ["t", "u", "s", "e", "esc", "lines", "dd['get']", "ms[0].role", "ms[1].content"],
    "number": ["n", "z", "f", "neg", "yes", "no", "d.a", "ms[0].n"],
    "list": ["xs", "ws", "mix", "em", "nest", "ms", "ms", "dd.k.x", "xs", "ws"],
    "dict": ["d", "ed", "dd", "ms[0]", "dd.k", "ns"],
}
NAMES = list(VARIABLES)
ATTRIBUTES = ["role", "content", "n", "k", "x", "items", "b", "a", "0", "missing", "upper", "keys", "role", "content"]
TESTS0 = ["defined", "undefined", "none", "boolean", "false", "true", "integer", "float", "number", "string", "mapping",
          "iterable", "sequence", "callable", "escaped", "lower", "upper", "odd", "even"]
ANY_TESTS = TESTS0[:-2]
TESTS1 = ["eq", "ne", "lt", "le", "gt", "ge", "in", "divisibleby", "equalto", "sameas"]
ANY_FILTERS = ["string", "tojson", "default", "d", "escape", "safe", "e", "upper", "lower", "capitalize", "title",
               "trim", "forceescape", "wordcount", "int", "float"]
FILTERS = {
    "text": ANY_FILTERS + ["length", "first", "last", "list", "reverse", "indent", "join", "unique", "count"],
    "number": ["abs", "round", "int", "float", "string", "tojson", "default", "e"],
    "list": ["length", "first", "last", "list", "join", "sort", "reverse", "unique", "min", "max", "sum", "tojson",
             "string", "default", "count"],
    "dict": ["length", "items", "dictsort", "list", "tojson", "first", "last", "join", "string"],
}
FILTERS0 = sorted({name for names in FILTERS.values() for name in names})
METHODS = {
    "text": ["strip()", "lstrip()", "rstrip()", "upper()", "lower()", "title()", "capitalize()", "split()", "rsplit()",
             "splitlines()", "isdigit()", "isalpha()", "isspace()", "isupper()", "islower()", "isalnum()", "casefold()",
             "isnumeric()", "isdecimal()", "isprintable()", "isascii()"],
    "dict": ["items()", "keys()", "values()", "copy()"],
    "list": ["copy()", "count(1)", "index(1)"],
    "number": ["real", "imag"],
}
LOOP_ATTRIBUTES = ["index", "index0", "first", "last", "length", "revindex", "previtem", "nextitem",
                   "cycle('a', 'b')", "changed(n)", "depth"]
TOJSON = ["indent=2", "indent=4", "ensure_ascii=true", "separators=(',', ':')", "sort_keys=true", "indent=0",
          r"indent='\t'"]
PERCENT_TEXTS = ["'%s'", "'%5s|'", "'%-4s|'", "'%r'", "'%.2s'"]
PERCENT_NUMBERS = ["'%d'", "'%5.2f'", "'%03d'", "'%+i'", "'%x'", "'%e'"]
WILD = 0.06  # how often a value of any kind stands where one kind makes sense


class Generator:
    def __init__(self, random):
        self.random = random
        self.in_loop = 0
        self.macros = []
        self.locals = ["a1", "a2"]

    def pick(self, options):
        return self.random.choice(options)

    def maybe(self, *options):
        return self.pick(["", *options])

    # Literals

    def text(self):
        return self.quote(self.pick(TEXTS))

    def quote(self, text):
        quote = self.pick("'\"")
        out = ""
        for c in text:
            if c == quote or c == "\\":
                out += "\\" + c
            elif c in "\n\r":
                out += "\\n" if c == "\n" else "\\r"
            elif self.random.random() < 0.03 and ord(c) < 0x10000:
                out += "\\u%04x" % ord(c)
            else:
                out += c
        return quote + out + quote

    def number(self):
        value = self.pick(NUMBERS)
        return repr(value) if value >= 0 else f"({value!r})"

    def small(self):
        return str(self.random.randint(-4, 6))

    def part(self):
        """A text that is likely to stand in another."""
        return self.quote(self.pick([",", "a", " ", "l", "X", "b", "o", "  ", "\n", "", "界", "abc"]))

    def literal(self, kind, depth):
        if kind == "text":
            return self.text()
        if kind == "number":
            return self.pick([self.number(), self.number(), "true", "false"])
        if kind == "list":
            return self.pick([
                lambda: "[" + ", ".join(self.expression(depth - 1) for _ in range(self.random.randrange(4))) + "]",
                lambda: "(" + ", ".join(self.expression(depth - 1) for _ in range(self.random.randrange(1, 4))) + ",)",
                lambda: f"range({self.random.randint(-1, 5)}{self.maybe(', ' + self.small())})",
                lambda: "[" + ", ".join(self.pick(TEXTS[:6]).__repr__() for _ in range(3)) + "]",
                lambda: "[" + ", ".join(self.number() for _ in range(self.random.randrange(5))) + "]",
            ])()
        keys = [self.pick([self.text(), self.number(), "'k'", "yes"]) for _ in range(self.random.randrange(4))]
        return "{" + ", ".join(f"{key}: {self.expression(depth - 1)}" for key in keys) + "}"

    # Expressions

    def primary(self, kind, depth):
        chance = self.random.random()
        if kind is None or chance < WILD:
            kind = self.pick(["text", "text", "number", "list", "dict"])
        if chance > 0.97:
            return self.pick(["none", "missing", "nil", "big", *self.locals])
        if chance > 0.9 and self.in_loop:
            return "loop." + self.pick(LOOP_ATTRIBUTES)
        if chance > 0.84:
            return self.pick(self.locals)
        if chance > 0.7 and depth > 0:
            return f"({self.expression(depth - 1, kind)})"
        if chance > 0.45:
            return self.literal(kind, depth)
        return self.pick(KINDS[kind])

    def values(self, depth, low, high):
        return ", ".join(self.expression(depth - 1) for _ in range(self.random.randint(low, high)))

    def method(self, kind, depth):
        if kind == "dict" and self.random.random() < 0.5:
            key = self.pick([self.text(), "'a'", "'role'", "'content'"])
            return f"get({key}{self.maybe(', ' + self.text())})"
        if kind != "text" or self.random.random() < 0.3:
            return self.pick(METHODS[kind])
        return self.pick([
            lambda: f"{self.pick(['strip', 'lstrip', 'rstrip', 'split', 'rsplit'])}({self.part()})",
            lambda: f"{self.pick(['startswith', 'endswith'])}({self.part()}{self.maybe(', ' + self.small())})",
            lambda: f"{self.pick(['startswith', 'endswith'])}(({self.part()}, {self.text()}))",
            lambda: f"{self.pick(['split', 'rsplit'])}({self.pick(['none', self.part(), repr(',')])}, {self.small()})",
            lambda: f"replace({self.part()}, {self.text()}{self.maybe(', ' + self.small())})",
            lambda: f"{self.pick(['find', 'rfind', 'count'])}({self.part()}{self.maybe(', ' + self.small())})",
            lambda: f"{self.pick(['index', 'rindex'])}({self.part()})",
            lambda: f"join({self.pick(['ws', 'ms[0]', 't', self.expression(depth - 1, 'list')])})",
            lambda: f"format({self.values(depth, 2, 3)})",
            lambda: f"{self.pick(['center', 'ljust', 'rjust', 'zfill'])}({self.random.randint(0, 12)})",
            lambda: f"{self.pick(['partition', 'rpartition', 'removeprefix', 'removesuffix'])}({self.part()})",
            lambda: f"splitlines({self.pick(['true', 'false'])})",
        ])()

    def text_filter(self, depth):
        return self.pick([
            lambda: f"default({self.text()}{self.maybe(', true', ', boolean=true')})",
            lambda: f"replace({self.part()}, {self.text()}{self.maybe(', ' + self.small())})",
            lambda: f"trim({self.part()})",
            lambda: f"indent({self.pick(['2', repr('> '), 'width=3'])}"
                    f"{self.maybe(', true', ', first=true, blank=true')})",
            lambda: f"truncate({self.random.randint(3, 12)}{self.maybe(', true', ', false, ' + repr('~') + ', 0')})",
            lambda: f"center({self.random.randint(0, 14)})",
            lambda: f"format({self.values(depth, 0, 2)})",
            lambda: f"int({self.pick(['5', 'base=16', 'default=none', '0, 0'])})",
            lambda: f"float({self.pick(['1.5', 'default=none'])})",
            lambda: f"batch({self.random.randint(0, 4)}{self.maybe(', ' + self.text())})|list",
        ])()

    def list_filter(self):
        attribute = repr(self.pick(ATTRIBUTES))
        comparing = repr(self.pick(["eq", "equalto", "ne", "in"]))
        return self.pick([
            lambda: f"join({self.text()}{self.maybe(', attribute=' + attribute)})",
            lambda: f"map({self.quote(self.pick(ANY_FILTERS))}){self.pick(['|list', '|join(' + self.part() + ')'])}",
            lambda: f"map(attribute={attribute}{self.maybe(', default=' + self.text())})"
                    f"{self.pick(['|list', '|first'])}",
            lambda: f"{self.pick(['select', 'reject'])}"
                    f"({self.maybe(repr(self.pick(ANY_TESTS)), repr('in') + ', ' + self.pick(KINDS['list']))})|list",
            lambda: f"{self.pick(['selectattr', 'rejectattr'])}({attribute}"
                    f"{self.maybe(', ' + repr(self.pick(ANY_TESTS)), ', ' + comparing + ', ' + self.text())})|list",
            lambda: f"sort({self.pick(['reverse=true', 'case_sensitive=true', 'true, true'])})",
            lambda: f"sort(attribute={attribute})",
            lambda: f"unique({self.pick(['case_sensitive=true', 'attribute=' + attribute])})|list",
            lambda: f"{self.pick(['min', 'max'])}(attribute={attribute})",
            lambda: f"sum({self.pick(['attribute=' + repr('n'), 'start=' + self.number(), 'start=[]'])})",
            lambda: f"batch({self.random.randint(0, 4)}{self.maybe(', ' + self.text())})|list",
            lambda: f"slice({self.random.randint(1, 4)}{self.maybe(', ' + self.text())})|list",
            lambda: "reverse|list",
        ])()

    def any_filter(self):
        return self.pick([
            lambda: f"tojson({self.pick(TOJSON)})",
            lambda: f"default({self.text()}{self.maybe(', true')})",
            lambda: f"attr({self.pick(ATTRIBUTES)!r})",
            lambda: self.pick(ANY_FILTERS),
        ])()

    def filter(self, kind, depth):
        chance = self.random.random()
        if chance < 0.4:
            return self.pick(FILTERS[kind])
        if chance < 0.4 + WILD:
            return self.pick(FILTERS0)
        if chance < 0.6:
            return self.any_filter()
        if kind == "text":
            return self.text_filter(depth)
        if kind == "list":
            return self.list_filter()
        if kind == "number":
            return f"round({self.random.randint(0, 3)}{self.maybe(', ' + repr('ceil'), ', ' + repr('floor'))})"
        return f"dictsort({self.pick(['true', 'by=' + repr('value'), 'reverse=true', 'false, ' + repr('key')])})"

    def subscript(self, kind, depth):
        if kind == "dict":
            return self.pick([f".{self.pick(['role', 'content', 'k', 'a', 'b', 'n', 'missing'])}",
                              f"[{self.pick(ATTRIBUTES)!r}]", f"[{self.expression(depth - 1)}]"])
        return self.pick([
            lambda: f"[{self.small()}]",
            lambda: "." + self.pick(["0", "1", "missing", "role"]),
            lambda: f"[{self.maybe(self.small())}:{self.maybe(self.small())}]",
            lambda: f"[{self.maybe(self.small())}:{self.maybe(self.small())}:{self.maybe('2', '-1', '-2', '3')}]",
        ])()

    def test(self, depth):
        negated = self.maybe("not ")
        if self.random.random() < 0.7:
            return f"is {negated}{self.pick(ANY_TESTS)}"
        return f"is {negated}{self.pick(['eq', 'ne', 'equalto', 'sameas', 'in'])}({self.expression(depth - 1)})"

    def arithmetic(self, depth, kind):
        if kind == "text":
            return self.pick([
                lambda: f"{self.expression(depth - 1, 'text')} + {self.expression(depth - 1, 'text')}",
                lambda: f"{self.expression(depth - 1, 'text')} * {self.small()}",
                lambda: f"{self.pick(PERCENT_TEXTS)} % ({self.expression(depth - 1)},)",
                lambda: f"{self.pick(PERCENT_NUMBERS)} % {self.primary('number', 0)}",
            ])()
        if kind == "list":
            return f"{self.literal('list', depth - 1)} + {self.literal('list', depth - 1)}"
        operator = self.pick(["+", "-", "*", "/", "//", "%", "+", "-"])
        return f"{self.expression(depth - 1, 'number')} {operator} {self.expression(depth - 1, 'number')}"

    def comparison(self, depth):
        kind = self.pick(["text", "number", "number", "list", None])
        if kind is None:
            return f"{self.expression(depth - 1)} {self.pick(['==', '!='])} {self.expression(depth - 1)}"
        chance = self.random.random()
        if chance < 0.2:
            return f"{self.primary('text', 0)} {self.pick(['in', 'not in'])} {self.expression(depth - 1, 'text')}"
        if chance < 0.4:
            container = self.expression(depth - 1, self.pick(["list", "dict"]))
            return f"{self.primary(None, 0)} {self.pick(['in', 'not in'])} {container}"
        middle = self.maybe(f"{self.pick(['<', '<=', '=='])} {self.primary(kind, 0)} ")
        operator = self.pick(["==", "!=", "<", "<=", ">", ">="])
        return f"{self.expression(depth - 1, kind)} {middle}{operator} {self.expression(depth - 1, kind)}"

    def call(self, depth):
        name, parameters = self.pick(self.macros)
        values = [self.expression(depth - 1) for _ in range(self.random.randint(0, len(parameters)))]
        values += [f"{p}={self.expression(depth - 1)}" for p in parameters[len(values):] if self.random.random() < .5]
        return f"{name}({', '.join(values)})"

    def expression(self, depth, kind=None):
        if depth <= 0:
            return self.primary(kind, 0)
        kind = kind or self.pick(["text", "text", "number", "list", "dict"])
        chance = self.random.random()
        if chance < 0.2:
            return self.primary(kind, depth)
        if chance < 0.3:
            return self.pick(KINDS[kind] + [self.text()] * 2) + self.subscript(kind, depth)
        if chance < 0.45:
            return f"{self.primary(kind, depth - 1)}.{self.method(kind, depth)}"
        if chance < 0.65:
            return f"{self.primary(kind, depth - 1)}{self.maybe(' ')}|{self.filter(kind, depth)}"
        if chance < 0.78:
            return self.arithmetic(depth, kind)
        if chance < 0.84:
            return self.comparison(depth)
        if chance < 0.87:
            return f"{self.expression(depth - 1)} ~ {self.expression(depth - 1)}"
        if chance < 0.9:
            return f"{self.expression(depth - 1)} {self.pick(['and', 'or'])} {self.expression(depth - 1)}"
        if chance < 0.93:
            return f"{self.primary(None, depth - 1)} {self.test(depth)}"
        if chance < 0.96:
            otherwise = self.maybe(" else " + self.expression(depth - 1))
            return f"({self.expression(depth - 1)} if {self.expression(depth - 1)}{otherwise})"
        if chance < 0.98 and self.macros:
            return self.call(depth)
        if chance < 0.99:
            return self.pick(["not ", "-", "+"]) + self.primary("number", depth - 1)
        return f"{self.primary('number', depth - 1)} ** {self.random.randint(-1, 4)}"

    # Statements

    def tag(self, body):
        return "{%" + self.pick(["", "", "-", "+"]) + f" {body} " + self.pick(["", "", "-", "+"]) + "%}"

    def space(self):
        return self.pick(["", "", " ", "\n", "\n  ", "  \n\n ", "text", "x\n", "\t", "é\u00a0"])

    def body(self, depth):
        return "".join(self.statement(depth) for _ in range(self.random.randint(1, 3)))

    def target(self):
        return self.pick(["a1", "a2"])

    def statement(self, depth):
        kind = self.random.randrange(20 if depth > 0 else 8)
        space = self.space()
        if kind < 5:
            expression = self.expression(self.random.randint(1, 3))
            return space + "{{" + self.maybe("-") + f" {expression} " + self.maybe("-") + "}}"
        if kind == 5:
            note = self.pick([" note ", "", "{{ x }}"])
            return space + "{#" + self.maybe("-", "+") + note + self.maybe("-", "+") + "#}"
        if kind < 8:
            return space + self.tag(f"set {self.target()} = {self.expression(2)}")
        body = self.body(depth - 1)
        if kind < 11:
            middle = self.pick(["", self.tag(f"elif {self.expression(2)}") + self.body(depth - 1),
                                self.tag("else") + self.body(depth - 1)])
            return space + self.tag(f"if {self.expression(2)}") + body + middle + self.tag("endif")
        if kind < 14:
            return space + self.loop(depth)
        if kind == 14:
            filters = self.maybe(" | " + self.filter("text", 1))
            return space + self.tag(f"set {self.target()}{filters}") + body + self.tag("endset")
        if kind == 15:
            return space + self.tag(f"with a1 = {self.expression(2)}, a2 = a1") + body + self.tag("endwith")
        if kind == 16:
            return space + self.tag(f"filter {self.filter('text', 1)}") + body + self.tag("endfilter")
        if kind == 17:
            return space + self.macro(depth)
        if kind == 18:
            return space + self.tag("generation") + body + self.tag("endgeneration")
        raw = self.pick(["{{ x }}", "  {% if %}\n", "\n raw \n"])
        return space + self.tag("raw") + raw + self.tag("endraw").replace("+%}", "%}")

    def loop(self, depth):
        target, items = self.pick([("a1", self.expression(2, "list")),
                                   ("a1", self.pick(["xs", "ws", "ms", "u", "d", "nest"])),
                                   ("a1, a2", self.pick(["d.items()", "dd|items", "d|dictsort", "nest"]))])
        condition = self.pick(["", "", f" if {self.expression(2)}"])
        self.in_loop += 1
        body = self.body(depth - 1)
        if self.random.random() < 0.2:
            control = self.tag(self.pick(["break", "continue"]))
            body += self.tag(f"if {self.expression(1)}") + control + self.tag("endif")
            body += self.body(0)
        self.in_loop -= 1
        end = self.pick(["", self.tag("else") + self.body(0)])
        return self.tag(f"for {target} in {items}{condition}") + body + end + self.tag("endfor")

    def macro(self, depth):
        name = self.pick(["m1", "m2", "m3"])
        parameters = self.pick([[], ["p"], ["p", "q"]])
        signature = ", ".join(p if self.random.random() < .6 and p == "p" else f"{p}={self.expression(1)}"
                              for p in parameters)
        loops, self.in_loop, names, macros = self.in_loop, 0, self.locals, self.macros
        self.locals, self.macros = self.locals + parameters * 3, []
        extra = self.pick(["", "", "{{ caller() if caller is defined }}", "{{ varargs }}", "{{ kwargs }}"])
        body = self.body(depth - 1) + extra
        self.in_loop, self.locals, self.macros = loops, names, macros
        macro = self.tag(f"macro {name}({signature})") + body + self.tag("endmacro")
        if self.random.random() < 0.3:
            return macro + self.tag(f"call {name}({self.values(2, 0, 2)})") + self.body(0) + self.tag("endcall")
        self.macros = self.macros + [(name, parameters)]
        return macro

    def template(self):
        start = self.maybe("{% set ns = namespace(x=1, role='r') %}")
        middle = "{% set ns.x = ns.x ~ n %}{{ ns.x }}" if start else ""
        body = self.statement(self.pick([0, 0, 1, 2]))
        return start + body + middle + self.maybe(self.body(1)) + self.maybe("\n", "end\n\n")


def random_template(random):
    return Generator(random).template(), VARIABLES


ROUNDING = ["", "", ", 'ceil'", ", 'floor'"]
READING = ["int", "float", "int(7, 16)", "int(base=0)", "int(base=2)", "float(none)"]


def random_format(random):
    """One value formatted, by %, str.format, a filter that reads or rounds numbers, or strftime_now."""
    pick = random.choice
    values = ["x", "y", "t", "n", "true", "none", "1.5e300", "0.1", "-0.0", "12345.678", "[1]", "u"]
    numbers = {"x": random.randint(-10**random.randint(1, 17), 10**random.randint(1, 17)),
               "y": random.uniform(-1, 1) * 10.0**random.randint(-8, 18), "t": pick(TEXTS), "u": "né👍",
               "n": round(random.uniform(-100, 100), random.randint(0, 4))}
    digits = pick(["", "", str(random.randint(0, 12))])
    precision = pick(["", "", "." + str(random.randint(0, 9))])
    flags = "".join(pick(["", "", flag]) for flag in "-+ 0")
    number_text = pick([f"{numbers['x']}", f"{numbers['y']}", f" {numbers['n']} ", "1_0", "0x1f", "1e5", "-.5", "5.",
                        "+7", "inf", "nan", "_1", "1__0", "0b11", "0o17", "", "1e", "0_0", "\u00a05\n", *TEXTS])
    return pick([
        lambda: f"{{{{ '[%{flags}{digits}{precision}{pick('dsfixXreEgGouc')}]' % {pick(values)} }}}}",
        lambda: f"{{{{ '%(a){digits}{pick('sdf')}|%(b)s|%%' % {{'a': {pick(values)}, 'b': {pick(values)}}} }}}}",
        lambda: f"{{{{ '%*d|%.*f' % ({random.randint(0, 9)}, x, {random.randint(0, 9)}, y) }}}}",
        lambda: f"{{{{ '[{{:{pick(['', '', '<', '>', '^', '*^', '=', '0='])}{pick(['', '', '+', '-', ' '])}{digits}"
                f"{pick(['', '', ','])}{precision}{pick(['', 's', 'd', 'f', 'x', 'b', 'o', 'e', 'g', '%', 'F'])}}}]'"
                f".format({pick(values)}) }}}}",
        lambda: f"{{{{ '{{0}}{{1!r}}{{0!s:>5}}{{k}}{{k[0]}}{{k.real}}'"
                f".format({pick(values)}, t, k={pick(values)}) }}}}",
        lambda: f"{{{{ {pick(['x', 'y', 'n'])} | round({random.randint(0, 6)}{pick(ROUNDING)}) }}}}",
        lambda: f"{{{{ {number_text!r} | {pick(READING)} }}}}",
        lambda: f"{{{{ x {pick(['//', '%', '/', '*', '-', '+'])} {pick(['7', '-3', 'n', '0.5', '1000003'])} }}}}",
        lambda: f"{{{{ y {pick(['//', '%', '/', '*', '-', '+', '**', '<', '=='])} "
                f"{pick(['7', '-3', 'n', '0.5', 'x', '2'])} }}}}",
    ])(), numbers
