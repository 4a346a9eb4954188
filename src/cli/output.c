#define _GNU_SOURCE
#include "cli/output.h"

#include <inttypes.h>
#include <unistd.h>

#include "base/utf8.h"

static int is_harmless(uint32_t code_point)
{
    if (code_point == '\n' || code_point == '\t')
        return 1;
    return code_point >= 0x20 && code_point != 0x7F && (code_point < 0x80 || code_point > 0x9F);
}

static void write_cleaned(FILE *file, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        uint32_t code_point;
        size_t size = utf8_decode(text + at, length - at, &code_point);
        if (size > 0 && is_harmless(code_point))
            fwrite(text + at, 1, size, file);
        else
            fputs("\xEF\xBF\xBD", file);
        at += size > 0 ? size : 1;
    }
}

int output_is_terminal(FILE *file)
{
    return isatty(fileno(file));
}

int output_text(FILE *file, const char *text, size_t length)
{
    if (output_is_terminal(file))
        write_cleaned(file, text, length);
    else
        fwrite(text, 1, length, file);
    return fflush(file) == 0 && !ferror(file);
}

const char *output_number(uint64_t number, char text[OUTPUT_NUMBER])
{
    char digits[OUTPUT_NUMBER];
    int count = snprintf(digits, sizeof digits, "%" PRIu64, number);
    char *out = text;
    for (int i = 0; i < count; i++) {
        if (i > 0 && (count - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = 0;
    return text;
}

const char *output_bytes(uint64_t bytes, char text[OUTPUT_NUMBER])
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double amount = (double)bytes;
    int unit = 0;
    while (amount >= 999.95 && unit < 4) {
        amount /= 1000;
        unit++;
    }
    if (unit == 0)
        snprintf(text, OUTPUT_NUMBER, "%" PRIu64 " bytes", bytes);
    else
        snprintf(text, OUTPUT_NUMBER, "%.1f %s", amount, units[unit]);
    return text;
}
