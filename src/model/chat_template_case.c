/* Letter case as Python's str has it: Unicode's full mappings (SpecialCasing.txt
 * without the rules that depend on a language). */
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "model/chat_template_internal.h"

int text_is_space(uint32_t code_point)
{
    switch (code_point) {
    case 0x20: case 0x85: case 0xA0: case 0x1680: case 0x2028: case 0x2029: case 0x202F: case 0x205F: case 0x3000:
        return 1;
    default:
        return (code_point >= 0x09 && code_point <= 0x0D) || (code_point >= 0x1C && code_point <= 0x1F) ||
               (code_point >= 0x2000 && code_point <= 0x200A);
    }
}

static utf8proc_category_t category(uint32_t code_point)
{
    return utf8proc_category((utf8proc_int32_t)code_point);
}

int text_is_alphabetic(uint32_t code_point)
{
    utf8proc_category_t kind = category(code_point);
    return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

int text_is_printable(uint32_t code_point)
{
    if (code_point == ' ')
        return 1;
    switch (category(code_point)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return 0;
    default:
        return 1;
    }
}

/* Unicode's Lowercase and Uppercase beyond the categories Ll and Lu
 * (PropList.txt: Other_Lowercase, Other_Uppercase). */
static int in_ranges(uint32_t code_point, const uint32_t (*ranges)[2], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (code_point >= ranges[i][0] && code_point <= ranges[i][1])
            return 1;
    return 0;
}

int text_is_lower(uint32_t code_point)
{
    static const uint32_t other[][2] = {
        {0xAA, 0xAA},     {0xBA, 0xBA},     {0x2B0, 0x2B8},   {0x2C0, 0x2C1},   {0x2E0, 0x2E4},     {0x345, 0x345},
        {0x37A, 0x37A},   {0x1D2C, 0x1D6A}, {0x1D78, 0x1D78}, {0x1D9B, 0x1DBF}, {0x2071, 0x2071},   {0x207F, 0x207F},
        {0x2090, 0x209C}, {0x2170, 0x217F}, {0x24D0, 0x24E9}, {0x2C7C, 0x2C7D}, {0xA69C, 0xA69D},   {0xA770, 0xA770},
        {0xA7F8, 0xA7F9}, {0xAB5C, 0xAB5F}, {0x10780, 0x10780}, {0x10783, 0x10785}, {0x10787, 0x107B0},
        {0x107B2, 0x107BA}};
    return category(code_point) == UTF8PROC_CATEGORY_LL || in_ranges(code_point, other, sizeof other / sizeof other[0]);
}

int text_is_upper(uint32_t code_point)
{
    static const uint32_t other[][2] = {
        {0x2160, 0x216F}, {0x24B6, 0x24CF}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}};
    return category(code_point) == UTF8PROC_CATEGORY_LU || in_ranges(code_point, other, sizeof other / sizeof other[0]);
}

int text_is_title(uint32_t code_point)
{
    return category(code_point) == UTF8PROC_CATEGORY_LT;
}

int text_is_cased(uint32_t code_point)
{
    return text_is_lower(code_point) || text_is_upper(code_point) || text_is_title(code_point);
}

int text_is_digit(uint32_t code_point, enum text_digit kind)
{
    utf8proc_category_t found = category(code_point);
    if (found == UTF8PROC_CATEGORY_ND)
        return 1;
    static const uint32_t digits[][2] = {{0xB2, 0xB3},     {0xB9, 0xB9},     {0x1369, 0x1371}, {0x19DA, 0x19DA},
                                         {0x2070, 0x2070}, {0x2074, 0x2079}, {0x2080, 0x2089}, {0x2460, 0x2468},
                                         {0x2474, 0x247C}, {0x2488, 0x2490}, {0x24EA, 0x24EA}, {0x24F5, 0x24FD},
                                         {0x24FF, 0x24FF}, {0x2776, 0x277E}, {0x2780, 0x2788}, {0x278A, 0x2792},
                                         {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A},
                                         {0x1F100, 0x1F10A}};
    /* Unihan: ideographs that are numbers. */
    static const uint32_t ideographs[] = {
        0x3405, 0x3483, 0x382A, 0x3B4D, 0x4E00, 0x4E03, 0x4E07, 0x4E09, 0x4E5D, 0x4E8C, 0x4E94, 0x4E96, 0x4EBF,
        0x4EC0, 0x4EDF, 0x4EE8, 0x4F0D, 0x4F70, 0x5104, 0x5146, 0x5169, 0x516B, 0x516D, 0x5341, 0x5343, 0x5344,
        0x5345, 0x534C, 0x53C1, 0x53C2, 0x53C3, 0x53C4, 0x56DB, 0x58F1, 0x58F9, 0x5E7A, 0x5EFE, 0x5EFF, 0x5F0C,
        0x5F0D, 0x5F0E, 0x5F10, 0x62FE, 0x634C, 0x67D2, 0x6F06, 0x7396, 0x767E, 0x8086, 0x842C, 0x8CAE, 0x8CB3,
        0x8D30, 0x9621, 0x9646, 0x964C, 0x9678, 0x96F6, 0xF96B, 0xF973, 0xF978, 0xF9B2, 0xF9D1, 0xF9D3, 0xF9FD,
        0x20001, 0x20064, 0x200E2, 0x20121, 0x2092A, 0x20983, 0x2098C, 0x2099C, 0x20AEA, 0x20AFD, 0x20B19, 0x22390,
        0x22998, 0x23B1B, 0x2626D, 0x2F890};
    if (kind != TEXT_DECIMAL && in_ranges(code_point, digits, sizeof digits / sizeof digits[0]))
        return 1;
    if (kind != TEXT_NUMERIC)
        return 0;
    for (size_t i = 0; i < sizeof ideographs / sizeof ideographs[0]; i++)
        if (ideographs[i] == code_point)
            return 1;
    return found == UTF8PROC_CATEGORY_NO || found == UTF8PROC_CATEGORY_NL;
}

/* SpecialCasing.txt: characters that become several. Where upper and title
 * differ, the title is the second. Greek letters with iota subscript are below. */
static const struct special {
    uint32_t code_point;
    const char *upper, *title;
} specials[] = {
    {0xDF, "SS", "Ss"},
    {0x149, "\u02BCN", "\u02BCN"},
    {0x1F0, "J\u030C", "J\u030C"},
    {0x390, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
    {0x3B0, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
    {0x587, "\u0535\u0552", "\u0535\u0582"},
    {0x1E96, "H\u0331", "H\u0331"},
    {0x1E97, "T\u0308", "T\u0308"},
    {0x1E98, "W\u030A", "W\u030A"},
    {0x1E99, "Y\u030A", "Y\u030A"},
    {0x1E9A, "A\u02BE", "A\u02BE"},
    {0x1F50, "\u03A5\u0313", "\u03A5\u0313"},
    {0x1F52, "\u03A5\u0313\u0300", "\u03A5\u0313\u0300"},
    {0x1F54, "\u03A5\u0313\u0301", "\u03A5\u0313\u0301"},
    {0x1F56, "\u03A5\u0313\u0342", "\u03A5\u0313\u0342"},
    {0x1FB2, "\u1FBA\u0399", "\u1FBA\u0345"},
    {0x1FB3, "\u0391\u0399", "\u1FBC"},
    {0x1FB4, "\u0386\u0399", "\u0386\u0345"},
    {0x1FB6, "\u0391\u0342", "\u0391\u0342"},
    {0x1FB7, "\u0391\u0342\u0399", "\u0391\u0342\u0345"},
    {0x1FBC, "\u0391\u0399", "\u1FBC"},
    {0x1FC2, "\u1FCA\u0399", "\u1FCA\u0345"},
    {0x1FC3, "\u0397\u0399", "\u1FCC"},
    {0x1FC4, "\u0389\u0399", "\u0389\u0345"},
    {0x1FC6, "\u0397\u0342", "\u0397\u0342"},
    {0x1FC7, "\u0397\u0342\u0399", "\u0397\u0342\u0345"},
    {0x1FCC, "\u0397\u0399", "\u1FCC"},
    {0x1FD2, "\u0399\u0308\u0300", "\u0399\u0308\u0300"},
    {0x1FD3, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
    {0x1FD6, "\u0399\u0342", "\u0399\u0342"},
    {0x1FD7, "\u0399\u0308\u0342", "\u0399\u0308\u0342"},
    {0x1FE2, "\u03A5\u0308\u0300", "\u03A5\u0308\u0300"},
    {0x1FE3, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
    {0x1FE4, "\u03A1\u0313", "\u03A1\u0313"},
    {0x1FE6, "\u03A5\u0342", "\u03A5\u0342"},
    {0x1FE7, "\u03A5\u0308\u0342", "\u03A5\u0308\u0342"},
    {0x1FF2, "\u1FFA\u0399", "\u1FFA\u0345"},
    {0x1FF3, "\u03A9\u0399", "\u1FFC"},
    {0x1FF4, "\u038F\u0399", "\u038F\u0345"},
    {0x1FF6, "\u03A9\u0342", "\u03A9\u0342"},
    {0x1FF7, "\u03A9\u0342\u0399", "\u03A9\u0342\u0345"},
    {0x1FFC, "\u03A9\u0399", "\u1FFC"},
    {0xFB00, "FF", "Ff"},
    {0xFB01, "FI", "Fi"},
    {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"},
    {0xFB04, "FFL", "Ffl"},
    {0xFB05, "ST", "St"},
    {0xFB06, "ST", "St"},
    {0xFB13, "\u0544\u0546", "\u0544\u0576"},
    {0xFB14, "\u0544\u0535", "\u0544\u0565"},
    {0xFB15, "\u0544\u053B", "\u0544\u056B"},
    {0xFB16, "\u054E\u0546", "\u054E\u0576"},
    {0xFB17, "\u0544\u053D", "\u0544\u056D"},
};

/* U+1F80..U+1FAF: letters with psili or dasia and iota subscript, in groups of
 * eight small then eight capital letters. */
static uint32_t greek_with_iota(uint32_t code_point)
{
    static const uint32_t bases[] = {0x1F08, 0x1F28, 0x1F68}; /* alpha, eta, omega */
    return bases[(code_point - 0x1F80) / 16] + code_point % 8;
}

/* Sigma at the end of a word is a final sigma: a cased letter before it, none
 * after it, case-ignorable characters aside. */
static int is_case_ignorable(uint32_t code_point)
{
    switch (category(code_point)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return 1;
    default: /* Word_Break MidLetter, MidNumLet, Single_Quote */
        return code_point == '\'' || code_point == '.' || code_point == ':' || code_point == 0xB7 ||
               code_point == 0x387 || code_point == 0x55F || code_point == 0x5F4 || code_point == 0x2018 ||
               code_point == 0x2019 || code_point == 0x2024 || code_point == 0x2027 || code_point == 0xFE13 ||
               code_point == 0xFE52 || code_point == 0xFE55 || code_point == 0xFF07 || code_point == 0xFF0E ||
               code_point == 0xFF1A;
    }
}

static int is_final_sigma(const struct text *text, size_t at)
{
    size_t size, before = at;
    uint32_t character = 0;
    while (before > 0) {
        before = text_previous(text, before);
        character = text_character(text, before, &size);
        if (!is_case_ignorable(character))
            break;
        character = 0;
    }
    if (character == 0 || !text_is_cased(character))
        return 0;
    text_character(text, at, &size);
    for (size_t after = at + size; after < text->length; after += size) {
        character = text_character(text, after, &size);
        if (!is_case_ignorable(character))
            return !text_is_cased(character);
    }
    return 1;
}

static void append_character(struct buffer *out, uint32_t code_point)
{
    char bytes[4];
    buffer_append(out, bytes, utf8_encode(code_point, bytes));
}

static void append_lower(struct buffer *out, const struct text *text, size_t at, uint32_t code_point)
{
    if (code_point == 0x130)
        buffer_append_text(out, "i\u0307");
    else if (code_point == 0x3A3 && is_final_sigma(text, at))
        append_character(out, 0x3C2);
    else
        append_character(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code_point));
}

void text_append_case(struct buffer *out, const struct text *text, size_t at, enum text_case mapping)
{
    size_t size;
    uint32_t code_point = text_character(text, at, &size);
    if (code_point < 0x80) {
        int letter = (int)code_point;
        if (mapping == TEXT_LOWER || mapping == TEXT_FOLD)
            letter += letter >= 'A' && letter <= 'Z' ? 32 : 0;
        else
            letter -= letter >= 'a' && letter <= 'z' ? 32 : 0;
        buffer_append_byte(out, (uint8_t)letter);
        return;
    }
    if (mapping == TEXT_LOWER) {
        append_lower(out, text, at, code_point);
        return;
    }
    if (mapping == TEXT_FOLD) {
        utf8proc_int32_t folded[8];
        utf8proc_ssize_t count =
            utf8proc_decompose_char((utf8proc_int32_t)code_point, folded, 8, UTF8PROC_CASEFOLD, NULL);
        for (utf8proc_ssize_t i = 0; i < count && i < 8; i++)
            append_character(out, (uint32_t)folded[i]);
        return;
    }
    if (code_point >= 0x1F80 && code_point <= 0x1FAF) {
        uint32_t base = greek_with_iota(code_point);
        append_character(out, mapping == TEXT_UPPER ? base : code_point | 8);
        if (mapping == TEXT_UPPER)
            append_character(out, 0x399);
        return;
    }
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++)
        if (specials[i].code_point == code_point) {
            buffer_append_text(out, mapping == TEXT_UPPER ? specials[i].upper : specials[i].title);
            return;
        }
    utf8proc_int32_t other = mapping == TEXT_UPPER ? utf8proc_toupper((utf8proc_int32_t)code_point)
                                                   : utf8proc_totitle((utf8proc_int32_t)code_point);
    append_character(out, (uint32_t)other);
}

int text_change_case(struct render *render, const struct text *text, enum text_case mapping, struct value *result)
{
    struct buffer out = {0};
    for (size_t at = 0; at < text->length;) {
        size_t size;
        text_character(text, at, &size);
        text_append_case(&out, text, at, mapping);
        at += size;
    }
    return text_from_buffer(render, &out, result) && template_spend(render, text->length / 8);
}

/* str.capitalize: the first character in title case, the rest lower. */
int text_capitalize(struct render *render, const struct text *text, struct value *result)
{
    struct buffer out = {0};
    for (size_t at = 0; at < text->length;) {
        size_t size;
        text_character(text, at, &size);
        text_append_case(&out, text, at, at == 0 ? TEXT_TITLE : TEXT_LOWER);
        at += size;
    }
    return text_from_buffer(render, &out, result) && template_spend(render, text->length / 8);
}

/* str.title: a cased character after an uncased one in title case, the rest lower. */
int text_title(struct render *render, const struct text *text, struct value *result)
{
    struct buffer out = {0};
    int previous_is_cased = 0;
    for (size_t at = 0; at < text->length;) {
        size_t size;
        uint32_t code_point = text_character(text, at, &size);
        text_append_case(&out, text, at, previous_is_cased ? TEXT_LOWER : TEXT_TITLE);
        previous_is_cased = text_is_cased(code_point);
        at += size;
    }
    return text_from_buffer(render, &out, result) && template_spend(render, text->length / 8);
}
