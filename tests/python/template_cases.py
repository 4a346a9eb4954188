"""Templates of our own, a construct or two each, that jinja2 and Bulla must render alike; and templates that must be
refused when they are compiled."""

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße, 世界!\n"},
            {"role": "assistant", "content": " Yes. ", "reasoning_content": "Hm.", "tool_calls": [
                {"function": {"name": "f", "arguments": {"a": 1, "b": [True, None, 2.50], "c": "ü\"\\\n"}}}]},
            {"role": "tool", "content": "42"}]
VARIABLES = {"messages": MESSAGES, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True,
             "tools": None, "x": 5, "s": "a,b,,c", "d": {"z": 1, "a": {"k": [1, 2]}}, "big": 10**30, "f": 1e22,
             "html": "<a href='x'>\"&\"</a>"}

TEMPLATES = [
    # White space around tags
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "a {%- if true -%}  b  {%- endif -%} c",
    "  {%+ if true +%}\n b {%+ endif %}\n",
    "x {# a comment #}\n y\n   {#- another -#}  z {#+ third +#}\n",
    "{{ 1 -}}  \n {{- 2 }}\n\n{{ 3 }}\n",
    "a\r\nb\rc{% if true %}\r\nd{% endif %}\r\n",
    "{% raw %}{{ x }} {% if %}{% endraw %}|{%- raw -%}  y  {%- endraw -%} |  {% raw %}\nz{% endraw %}\n",
    "\u00a0{%- if true -%}\u2003x\u3000{%- endif -%}\u00a0",
    "{{ '}}' }}{{ {'a': {'b': 1}} }}{{ '%}' }}",
    # Loops
    "{% for m in messages %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ m.role }};{% endfor %}",
    "{% for m in messages %}{{ (loop.previtem or m).role }}<{{ (loop.nextitem | default(m)).role }}|{{ loop.revindex }}{{ loop.length }}{% endfor %}",
    "{% for m in messages if m.role != 'system' %}{{ loop.index0 }}{{ m.role }}{% else %}none{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for i in range(9) if ns.n < 2 %}{% set ns.n = ns.n + 1 %}{{ i }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for i in range(9) if ns.n < 2 %}{{ loop.last }}{% set ns.n = ns.n + 1 %}{{ i }}{% endfor %}",
    "{% for i in range(9) if i is odd %}{{ loop.last }}{{ loop.nextitem | default('-') }}{{ loop.revindex }}{{ loop.length }};{% endfor %}",
    "{% for m in [] %}x{% else %}empty{% endfor %}{% for k in missing %}x{% else %}undefined{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}",
    "{% for i in range(6) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in range(2) %}{% break %}{% else %}jinja2 counts only whole iterations{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3)), (4, [5, 6])] %}{{ a + b + c }},{% endfor %}",
    "{% for x in 'añ👍' %}[{{ x }}]{% endfor %}{{ x }}",
    "{% for i in [1, 2, 3] %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(i // 2) }}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(i) %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    # Variables and scopes
    "{% set a = 1 %}{% for i in [1, 2] %}{{ a }}{% set a = a + i %}{{ a }}{% endfor %}{{ a }}",
    "{% set ns = namespace(n=0, last=none) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set ns.last = m.role %}{% endfor %}{{ ns.n }}{{ ns.last }}",
    "{% set a, b = 1, 'two' %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}{% if true %}{% set a = 9 %}{% endif %}{{ a }}",
    "{% set block %}  {{ x }} text {% endset %}[{{ block }}]{% set up | upper | trim %} hi {% endset %}[{{ up }}]",
    "{% with a = 1, b = x %}{{ a + b }}{% set x = 0 %}{% endwith %}{{ x }}",
    "{% generation %}{% set y = 3 %}{{ y }}{% endgeneration %}{{ y is defined }}",
    "{% filter upper | replace('A', '-') %}banana {{ x }}{% endfilter %}",
    "{% print x, 'y' %}",
    # Macros
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=3) }}|{{ m(b=5, a=4) }}|{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 'b', c=2) }}{{ m.name }}{{ m.arguments }}",
    "{% macro tree(n) %}{{ n }}{% if n > 0 %}({{ tree(n - 1) }}){% endif %}{% endmacro %}{{ tree(4) }}",
    "{% macro wrap(tag) %}<{{ tag }}>{{ caller() }}</{{ tag }}>{% endmacro %}{% call wrap('b') %}in {{ x }}{% endcall %}",
    "{% macro each(xs) %}{% for i in xs %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(i) each([1, 2]) %}<{{ i * x }}>{% endcall %}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}later{% endmacro %}{{ a() }}{{ a }}",
    # Expressions
    "{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }}",
    "{{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1e16 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ 1.0 }} {{ 100000.0 * 1e12 }} {{ f }} {{ big }}",
    "{{ 1 < 2 < 3 }} {{ 3 > 2 == 2 }} {{ 1 < 2 in [2] }} {{ not 1 == 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}",
    "{{ 'a' ~ 1 ~ none ~ 1.5 ~ [1] ~ missing }}{{ 'x' + 'y' * 3 }}{{ [1] + [2] }}{{ (1,) + (2,) }}{{ [0] * 3 }}",
    "{{ 'a' in 'abc' }} {{ 'k' in d }} {{ 'z' in d }} {{ 3 not in [1, 2] }} {{ 1 in (1,) }}",
    "{{ x if x > 3 else 0 }}{{ 'no' if false }}{{ none or 'b' }}{{ 0 and 1 }}{{ '' or [] or 'c' }}",
    "{{ s[0] }}{{ s[-1] }}{{ s[1:3] }}{{ s[::-1] }}{{ messages[-1].content }}{{ messages[1:][0]['role'] }}{{ messages[::-1][0].role }}",
    "{{ d.a.k.1 }}{{ d['a']['k'][0] }}{{ d.missing }}{{ messages.0.role }}{{ 'Grüße, 世界'[7:] }}{{ 'Grüße'[2] }}",
    "{{ 'con' 'cat' }}{{ \"it's\" }}{{ 'q\\'\\\"\\n\\t\\\\ \\x41\\u00e9\\U0001F600\\101\\q' }}{{ 0x1F + 0b11 + 0o17 + 1_000 }}",
    "{{ [1, 'a', none, true, 1.5, {'k': (1,)}, (), []] }}{{ {'a': 1, 2: 'b', none: true} }}{{ 'it\\'s \"q\" \\n é \\x07' | list | length }}",
    "{{ ['it\\'s', 'say \"q\"', '\\'\"', '\\n\\t\\x07\\u200b\\xad é 世'] }}",
    "{{ true and not false }}{{ True }}{{ None }}{{ none is none }}{{ range(3) }}{{ range(1, 9, 3) | list }}{{ (1, 2)[0] }}",
    # Tests
    "{{ x is defined }}{{ missing is defined }}{{ missing is undefined }}{{ x is not string }}{{ d is mapping }}{{ s is iterable }}",
    "{{ s is sequence }}{{ 1 is number }}{{ 1.5 is float }}{{ true is boolean }}{{ true is integer }}{{ none is none }}{{ x is odd }}{{ 4 is even }}",
    "{{ 6 is divisibleby 3 }}{{ 'a' is in 'abc' }}{{ x is eq 5 }}{{ x is gt(4) }}{{ 'A' is upper }}{{ 'a' is lower }}{{ x is sameas 5 }}{{ range is callable }}",
    # Filters
    "{{ s | length }}{{ s | upper }}{{ 'hello wORLD-x' | title }}{{ 'hELLO' | capitalize }}{{ '  x ' | trim }}{{ 'xxaxx' | trim('x') }}",
    "{{ missing | default('d') }}{{ '' | default('d') }}{{ '' | default('d', true) }}{{ none | d('e', boolean=true) }}",
    "{{ [3, 1, 2] | sort }}{{ ['b', 'A'] | sort }}{{ ['b', 'A'] | sort(case_sensitive=true) }}{{ [1, 2] | sort(reverse=true) }}{{ messages | sort(attribute='role') | map(attribute='role') | join(',') }}",
    "{{ [1, 2, 3] | first }}{{ [1, 2, 3] | last }}{{ [] | first }}{{ 'abc' | last }}{{ [1, 2] | join('-') }}{{ messages | join(',', attribute='role') }}",
    "{{ messages | map(attribute='role') | list }}{{ ['a', 'b'] | map('upper') | join }}{{ messages | map(attribute='nope', default='-') | join }}",
    "{{ [1, 0, 2, none] | select | list }}{{ [1, 2, 3] | reject('odd') | list }}{{ [1, 2, 3] | select('gt', 1) | list }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }}{{ messages | rejectattr('tool_calls') | list | length }}{{ messages | selectattr('tool_calls', 'defined') | list | length }}",
    "{{ d | items | list }}{{ d | dictsort }}{{ {'b': 1, 'A': 2} | dictsort }}{{ {'b': 1, 'A': 2} | dictsort(true) }}{{ {'b': 1, 'A': 2} | dictsort(by='value', reverse=true) }}",
    "{{ '42' | int + 1 }}{{ 'x' | int }}{{ '3.9' | int }}{{ 3.9 | int }}{{ 'ff' | int(base=16) }}{{ '1.5' | float }}{{ 'x' | float(2.5) }}{{ -3 | abs }}",
    "{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.675 | round(2) }}{{ 2.1 | round(0, 'ceil') }}{{ 2.19 | round(1, 'floor') }}{{ 7 | round }}",
    "{{ [1, 2, 2, 3] | unique | list }}{{ ['a', 'A'] | unique | list }}{{ [1, 2] | sum }}{{ messages | map(attribute='content') | map('length') | sum }}{{ [3, 1] | min }}{{ ['b', 'C'] | max }}",
    "{{ [1, 2, 3, 4, 5] | batch(2) | list }}{{ [1, 2, 3] | batch(2, 0) | list }}{{ [1, 2, 3, 4, 5] | slice(3) | list }}{{ 'abc' | reverse }}{{ [1, 2] | reverse | list }}",
    "{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent('> ', blank=true) }}|{{ 'a\n' | indent }}|",
    "{{ html | e }}{{ html | safe }}{{ html | escape | safe | e }}{{ ('<' | safe) + '&' }}{{ '&' + ('<' | safe) }}{{ ('<' | safe) ~ '&' }}{{ ['<' | safe] }}{{ html | forceescape }}",
    "{{ 'a b c d e f g' | truncate(9) }}{{ 'abcdefghijkl' | truncate(8, true) }}{{ 'one two' | wordcount }}{{ 'x' | center(5) }}|{{ '%s is %d' | format('x', 3) }}",
    "{{ x | string | length }}{{ 'abc' | list }}{{ d | list }}{{ 'a-b' | replace('-', '+') }}{{ 'aaa' | replace('a', 'b', 2) }}{{ d | attr('items') is callable }}",
    # tojson
    "{{ messages[2] | tojson }}{{ messages[2] | tojson(indent=2) }}{{ 'é/<>&\\u2028\\x7f' | tojson }}{{ 'é👍' | tojson(ensure_ascii=true) }}",
    "{{ d | tojson(separators=(',', ':')) }}{{ d | tojson(sort_keys=true, indent=4) }}{{ [] | tojson(indent=2) }}{{ {1: 1.0, none: 1e30, true: (1, 2)} | tojson }}{{ big | tojson }}{{ f | tojson }}",
    # Methods
    "{{ s.split(',') }}{{ s.split(',', 1) }}{{ s.rsplit(',', 1) }}{{ ' a  b '.split() }}{{ ' a  b c '.split(none, 1) }}{{ 'a\nb\r\nc'.splitlines() }}",
    "{{ '  x '.strip() }}|{{ 'xxyx'.strip('x') }}|{{ 'abc'.lstrip('ab') }}|{{ 'abc'.rstrip('bc') }}|{{ '</think> a'.split('</think>')[-1].lstrip('\n') }}|",
    "{{ s.startswith('a') }}{{ s.endswith(('x', 'c')) }}{{ s.replace(',', ';', 2) }}{{ s.find('b') }}{{ s.rfind(',') }}{{ s.count(',') }}{{ 'x'.join(['a', 'b']) }}{{ 'A{}B{k}{0!r:>5}'.format('v', k=1) if false else '' }}",
    "{{ '{} {}'.format(1, 'b') }}{{ '{0}{1}{0}'.format('a', 'b') }}{{ '{n:>5}|{n:<5}|{n:^5}|{p:.2f}|{i:05d}|{i:,}'.format(n='ab', p=3.14159, i=1234) }}{{ '%5.1f|%-5s|%05d|%x|%%' % (2.25, 'a', 42, 255) }}",
    "{{ 'ǆ straße ﬁ'.upper() }}{{ 'ÀÉ İ ΑΣ ΣΑ'.lower() }}{{ 'ǆ they\\'re ﬁne'.title() }}{{ 'ÄB'.capitalize() }}{{ 'a_b'.isalnum() }}{{ '12'.isdigit() }}{{ 'Aa'.isupper() }}",
    "{{ d.get('z') }}{{ d.get('q') }}{{ d.get('q', 0) }}{{ d.keys() | list }}{{ d.values() | list }}{{ d.items() }}{{ d.keys() }}{{ {'items': 1}.items is callable }}{{ {'items': 1}['items'] }}",
    "{{ [1, 2, 1].count(1) }}{{ [1, 2].index(2) }}{{ 'a.b'.partition('.') }}{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ '7'.zfill(3) }}{{ 'x'.ljust(3) }}|",
    # Functions
    "{{ strftime_now('%Y-%m-%d %d %b %B %a %A %H:%M:%S %j %y %I %p %%') }}{{ strftime_now('%-d %e %U %W %V %G %u %w %D %F %T %R') }}",
    "{{ dict(a=1, **{'b': 2}) }}{{ dict([('x', 1)]) }}{% set n = namespace({'a': 1}, b=2) %}{{ n.a }}{{ n.b }}{{ n.c is defined }}{{ n }}",
    "{% set j = joiner('; ') %}{% for i in range(3) %}{{ j() }}{{ i }}{% endfor %}{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}",
    "{% if tools is not none and tools %}t{% elif x %}{{ raise_exception is defined }}{% else %}e{% endif %}",
    # A whole conversation
    "{{ bos_token }}{% for message in messages %}{%- if message.role == 'assistant' and message.tool_calls %}\n"
    "<|a|>{% for c in message.tool_calls %}<call>{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</call>{% endfor %}\n"
    "{%- else %}\n<|{{ message['role'] }}|>{{ message['content'] | trim }}{{ eos_token }}\n{%- endif %}{% endfor %}\n"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
]
CASES = [(source, VARIABLES) for source in TEMPLATES]

# Template, line and name that the error gives.
REFUSED = [
    ("a\nb {{ x | nonsense }}", 2, "'nonsense'"),
    ("{{ x is\nfoolish }}", 2, "'foolish'"),
    ("\n\n{{ unheard_of(1) }}", 3, "'unheard_of'"),
    ("{% if x %}\n{{ x.explode() }}{% endif %}", 2, "'explode'"),
    ("{% include 'x' %}", 1, "'include'"),
    ("{% extends 'x' %}", 1, "'extends'"),
    ("{% import 'x' as y %}", 1, "'import'"),
    ("{% block x %}{% endblock %}", 1, "'block'"),
    ("{% do x %}", 1, "'do'"),
    ("{% trans %}x{% endtrans %}", 1, "'trans'"),
    ("{% autoescape true %}x{% endautoescape %}", 1, "'autoescape'"),
    ("{{ messages | map('nonsense') | list }}", 1, "'nonsense'"),
    ("{{ messages | select('foolish') | list }}", 1, "'foolish'"),
    ("{{ messages | selectattr('a', 'foolish') | list }}", 1, "'foolish'"),
    ("{% for x in y recursive %}{% endfor %}", 1, "recursive"),
    ("\n{{ x | groupby('a') }}", 2, "'groupby'"),
    ("{{ lipsum() }}", 1, "'lipsum'"),
    ("{{ 99999999999999999999 }}", 1, "64 bits"),
]
