#include "cli/verdicts.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/output.h"

int verdicts_read_time(const char *text, int64_t *seconds, bulla_error *error)
{
    struct tm parts = {0};
    int length = 0;
    if (!text) {
        *seconds = (int64_t)time(NULL);
        return BULLA_OK;
    }
    int found = sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ%n", &parts.tm_year, &parts.tm_mon, &parts.tm_mday, &parts.tm_hour,
                       &parts.tm_min, &parts.tm_sec, &length);
    int is_date = found == 3 && strlen(text) == 10;
    if (!is_date && (found != 6 || length == 0 || text[length]))
        return bulla_fail(error, BULLA_E_USAGE, "--time is neither like 2026-01-31 nor like 2026-01-31T12:00:00Z");
    parts.tm_year -= 1900;
    parts.tm_mon -= 1;
    *seconds = (int64_t)timegm(&parts);
    return BULLA_OK;
}

int verdicts_print(const bulla_verdict *verdict, int as_json, bulla_error *error)
{
    char *text;
    size_t length;
    int code = bulla_verdict_text(verdict, as_json, &text, &length, error);
    if (code != BULLA_OK)
        return code;
    output_text(stdout, text, length);
    if (as_json)
        output_text(stdout, "\n", 1);
    bulla_verdict_text_free(text);
    return BULLA_OK;
}
