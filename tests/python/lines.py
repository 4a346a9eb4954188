"""Mixed lines of text for tests: many languages, code, emoji, odd white space, control characters, bytes
that are no UTF-8.

    from lines import lines
    for line in lines(10000, seed=1): ...     # bytes, any of them may hold line ends or NUL

The same count and seed give the same lines on a machine with the same gettext catalogues installed (some of the
lines are sentences of theirs, in whatever languages there are); lines(..., catalogues=False) gives the same
everywhere. lines(..., valid=True) leaves the lines out that are no UTF-8.
"""
import glob
import random
import struct

# Article 1 of the Universal Declaration of Human Rights, and a sentence of everyday words.
SENTENCES = {
    "en": "All human beings are born free and equal in dignity and rights. Don't you think they'll say it's what we've "
          "always known? I'm sure they'd agree.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。今天天气很好，我们去公园吧！",
    "zh-tw": "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神相對待。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。カタカナとｶﾅも。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 오늘 날씨가 좋네요.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Ёлка, подъезд и объявление.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Ґанок, їжак, п’ять.",
    "ar": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وُهبوا عقلاً وضميرًا ٣٤٥.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. שָׁלוֹם עוֹלָם.",
    "fa": "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। १२३",
    "bn": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "ta": "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "my": "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် မွေးဖွားလာသူများ ဖြစ်သည်။",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Straße, Übergröße, Ärger.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. L’été, où ça ? « Là-bas » !",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos. ¿Mañana? ¡Sí, señor!",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Ação, coração.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Perché no? È così.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Zażółć gęślą jaźń.",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Příliš žluťoučký kůň.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul'da ILIK ığdır.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "sw": "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa.",
    "ka": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "am": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።",
}
CODE = [
    "int main(void)\n{\n    for (size_t i = 0; i < count; i++)\n\t\tsum += values[i] * 0x1F;\n    return 0;\n}\n",
    "def f(x: int = 3) -> str:\n    \"\"\"Doc.\"\"\"\n    return f\"{x!r:>10}\" if x != 0 else 'it''s'\n\n\n",
    "SELECT a.id, COUNT(*) FROM t AS a WHERE a.x >= 10.5e-3 AND a.s LIKE '%it''s%' GROUP BY 1;",
    "<table class=\"t\"><tr><td>1 &lt; 2</td></tr></table>\n<h1>Title</h1><p>a<b>b</b><i>c</i></p><br/>",
    "{\"key\": [1, 2.50, -3e+10, null, true], \"k\\u00e9y\": \"\\\"quoted\\\"\\n\"}",
    "for f in *.c; do gcc -O2 -Wall \"$f\" -o \"${f%.c}\" 2>&1 | tee log.txt || exit 1; done",
    "fn main() { let v: Vec<u8> = vec![0; 1_000]; println!(\"{:?}\", &v[..]); }",
    "$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$ where $x \\in \\mathbb{R}$",
    "# Heading\n\n* item **bold**\n  1. nested `code`\n\n```c\nreturn;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "import React from 'react';\nexport default () => <div className='x'>{items.map(i => i?.id ?? 0)}</div>;\n",
    "https://example.org/path/file.tar.gz?query=1&b=%20#frag user.name+tag@example.org 192.168.0.1 ::1",
    "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,4 @@\n-old\n+new //comment\n",
    "HTTPServerError parseXMLDocument getURLFromID fooBAR_baz SCREAMING_SNAKE kebab-case XMLHttpRequest iPhone12Pro",
]
EMOJI = ["😀", "🎉🎉", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇯🇵", "☃️", "❤️‍🔥", "🤖", "1️⃣", "©®™", "𝔹𝕠𝕝𝕕", "♠♥"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\n\n\n", "\v", "\f", "\x85", "\xa0", "\u1680", "\u2003",
          "\u2009", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", " \t ", " \n ", "\t\t\t"]
CONTROLS = [chr(c) for c in range(32)] + ["\x7f", "\x80", "\x9f", "\u200d", "\u200e", "\u202e", "\ufffd", "\uffff",
                                          "\u2066", "\U000e0001", "\U0010ffff", "\u00ad"]
MARKERS = ["<|endoftext|>", "<|im_start|>user\n", "<|im_end|>\n", "<s>", "</s>", "<unk>", "<bos>", "<eos>", "<pad>",
           "<start_of_turn>model\n", "<end_of_turn>", "<|eot_id|>", "<|begin_of_text|>", "<|user|>  \n", "<|end|>",
           "<|start_header_id|>", "[INST]", "[/INST]", "<0x41>", "<0x0A>", "[multimodal]", "<unused1>", "<table>",
           "</h1>", "<tool_call>", "</think>", "<|im_", "<|", "|>", "<mask>", "▁", "▁▁", "Ġ", "Ċ", "<start_of_image>"]
ODD = ["'s", "'S", "'ſ", "'LL", "'ve", "'Re", "'d'm", "it's", "DON'T", "o'clock", "l'été", "ǅ", "ǈa", "ŉ", "ß", "ẞ",
       "İ", "ﬁ", "ªº", "ʰʲ", "Ⅷ", "½", "²³", "١٢٣", "四五", "〇", "①", "1234567890", "3.14159", "1,000,000", "v1.2.3", "__",
       "e\u0301", "a\u0308\u0323", "a\u0323\u0308", "ḍ\u0307", "q\u0307\u0323", "\u0301", "\u0344", "Å", "Ω", "한\u11a8",
       "\u1112\u1161\u11ab", "क़", "ש\u05c1\u05bc", "\u0f71\u0f72", "豈", "~~~", "....", "!?!?", "—", "–", "“”", "…", "//", "\\\\"]
BROKEN = [b"\x80", b"\xbf\xbf", b"\xc0\xaf", b"\xc3", b"\xe2\x82", b"\xe2\x28\xa1", b"\xed\xa0\x80", b"\xed\xb0\x80",
          b"\xf0\x9f\x98", b"\xf0\x9f", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xff\xfe", b"\xe0\x80\x80",
          b"\xf0\x80\x80\xaf", b"\xe4\xbd\xe4\xbd\xa0", b"\xfe"]


def catalogue_sentences(most_per_language=400):
    """{language: sentences} of the gettext catalogues on this machine (the MO format of the gettext manual)."""
    found = {}
    for path in sorted(glob.glob("/usr/share/locale/*/LC_MESSAGES/*.mo")):
        language = path.split("/")[4]
        sentences = found.setdefault(language, [])
        if len(sentences) >= most_per_language:
            continue
        with open(path, "rb") as file:
            data = file.read()
        if data[:4] != b"\xde\x12\x04\x95":
            continue
        count, _, translations = struct.unpack_from("<III", data, 8)
        for index in range(1, count):
            length, offset = struct.unpack_from("<II", data, translations + 8 * index)
            text = data[offset:offset + length]
            if 20 <= length <= 400:
                sentences.append(text)
    return {language: sentences for language, sentences in found.items() if sentences}


def _words(random_source, text):
    words = text.split(" ") if " " in text else list(text)
    start = random_source.randrange(len(words))
    part = words[start:start + random_source.randint(1, 14)]
    return (" " if " " in text else "").join(part)


def _scalar(random_source):
    while True:
        code = random_source.choice([random_source.randrange(0x80, 0x800), random_source.randrange(0x800, 0x3400),
                                     random_source.randrange(0xA000, 0x10000),
                                     random_source.randrange(0x10000, 0x11200),
                                     random_source.randrange(0x1D000, 0x20000), random_source.randrange(0x110000)])
        if not 0xD800 <= code <= 0xDFFF:
            return chr(code)


def _repeated(random_source):
    what = random_source.choice([" ", "\n", "\t", "a", "A", "=", "-", "ab", "あ", "0", "!", "é", "😀", "▁", " a", "\n ",
                                 "\r\n", "x" * 16, "\u0301", "'", "\u3000"])
    return what * random_source.randint(2, 70)


def _part(random_source):
    choice = random_source.randrange(15)
    if choice < 5:
        return _words(random_source, SENTENCES[random_source.choice(list(SENTENCES))])
    if choice < 7:
        code = random_source.choice(CODE)
        start = random_source.randrange(len(code))
        return code[start:start + random_source.randint(3, 80)]
    if choice == 7:
        return random_source.choice(EMOJI)
    if choice == 8:
        return "".join(random_source.choice(SPACES) for _ in range(random_source.randint(1, 4)))
    if choice == 9:
        return "".join(random_source.choice(CONTROLS) for _ in range(random_source.randint(1, 3)))
    if choice == 10:
        return random_source.choice(MARKERS)
    if choice < 13:
        return random_source.choice(ODD)
    if choice == 13:
        return _repeated(random_source)
    return "".join(_scalar(random_source) for _ in range(random_source.randint(1, 12)))


def _mixed(random_source):
    joint = random_source.choice(["", " ", " ", "\n", ", "])
    return joint.join(_part(random_source) for _ in range(random_source.randint(1, 9))).encode()


def _broken(random_source):
    line = _mixed(random_source)
    for _ in range(random_source.randint(1, 3)):
        at = random_source.randint(0, len(line))
        line = line[:at] + random_source.choice(BROKEN) + line[at:]
    return line


def lines(count=10000, seed=1, catalogues=True, valid=False):
    """`count` lines: a third from catalogues where there are any, sentences and code, mixtures, broken UTF-8."""
    random_source = random.Random(seed)
    found = catalogue_sentences() if catalogues else {}
    languages = sorted(found)
    result = [b"", b" ", b"  ", b"\n", b"a", b"\x00"]
    result += [text.encode() for text in SENTENCES.values()] + [text.encode() for text in CODE]
    while len(result) < count:
        choice = random_source.randrange(10)
        if choice < 4 and languages:
            line = random_source.choice(found[random_source.choice(languages)])
        elif choice == 4:
            line = random_source.choice(CODE).encode() + _mixed(random_source)
        elif choice == 5:
            line = _broken(random_source)
        else:
            line = _mixed(random_source)
        if valid:
            try:
                line.decode()
            except UnicodeDecodeError:
                continue
        result.append(line)
    return result[:count]
