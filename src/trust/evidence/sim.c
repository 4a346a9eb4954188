/* Simulated evidence, for trying things out where there is no confidential hardware: it says what anyone may write, and
 * proves nothing. It has a type of its own, no policy accepts it unless it says allow_simulated, and every verdict says
 * SIMULATED.
 *
 * Document: "report" ({"measurement": 32 bytes in hex, "report_data": 64 bytes in hex}). */
#include <string.h>

#include "trust/formats.h"

enum { MEASUREMENT_BYTES = 32, DATA_BYTES = 64 };

/* The member's bytes, of the verdict's arena, claimed under its name. */
static void claim_hex(struct evidence *evidence, const struct json *report, const char *name, const char *check, size_t length)
{
    const struct json *value = json_get(report, name);
    uint8_t *bytes = arena_alloc(&evidence->verdict->arena, length, 1, &evidence->verdict->error);
    int is_read = bytes && json_is(value, JSON_STRING) && hex_decode(value->text, value->length, bytes, length);
    if (verdict_holds(evidence->verdict, check, is_read, "bytes in hex", "%s", is_read ? value->text : "something else"))
        evidence_claim_bytes(evidence, name, bytes, length);
}

static void verify(struct evidence *evidence)
{
    const struct json *report = json_get(evidence->document, "report");
    if (!verdict_holds(evidence->verdict, "sim.report", json_is(report, JSON_OBJECT) && report->length == 2,
                       "an object of measurement and report_data", "SIMULATED: anyone may have written it"))
        return;
    claim_hex(evidence, report, "measurement", "sim.measurement", MEASUREMENT_BYTES);
    claim_hex(evidence, report, "report_data", "sim.report_data", DATA_BYTES);
}

const struct evidence_format evidence_sim = {
    .type = "sim",
    .title = "SIMULATED evidence",
    .is_simulated = 1,
    .has_met_real = 1, /* there is none to meet */
    .report_data_bytes = DATA_BYTES,
    .verify = verify,
};
