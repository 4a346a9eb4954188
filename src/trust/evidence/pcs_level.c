/* Levels of TCB, as the PCS's documentation has it ("Get TDX TCB Info", "Determining TCB status"): lists of levels,
 * best first; a machine, QE or module is of the first level whose numbers it reaches. Their statuses make one, as
 * Intel's quote verification library joins them. */
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "trust/evidence/dcap.h"

enum { OUT_OF_DATE = 1, CONFIGURATION = 2, HARDENING = 4, REVOKED = 8, RELAUNCH = 16 };

static const struct status {
    const char *name;
    unsigned bits;
    const char *advice;
} statuses[] = {
    {"UpToDate", 0, NULL},
    {"SWHardeningNeeded", HARDENING,
     "the program must hold mitigations of these advisories; where it does, the policy's \"tcb_status\" may accept it"},
    {"ConfigurationNeeded", CONFIGURATION, "the machine's configuration leaves it open to these advisories: change it"},
    {"ConfigurationAndSWHardeningNeeded", CONFIGURATION | HARDENING,
     "change the machine's configuration; the program must hold mitigations of these advisories"},
    {"OutOfDate", OUT_OF_DATE,
     "update microcode, firmware, SGX software and TDX module of the machine, start anew what ran"},
    {"OutOfDateConfigurationNeeded", OUT_OF_DATE | CONFIGURATION,
     "update microcode, firmware, SGX software and TDX module of the machine, and change its configuration"},
    {"Revoked", REVOKED, "Intel has withdrawn its trust in this TCB: use another machine, or update this one"},
    {"TDRelaunchAdvised", RELAUNCH, NULL},
    {"TDRelaunchAdvisedConfigurationNeeded", RELAUNCH | CONFIGURATION, NULL},
};
enum { STATUSES = sizeof statuses / sizeof *statuses };

static const struct status *find_status(const char *name)
{
    for (size_t i = 0; i < STATUSES; i++)
        if (strcmp(statuses[i].name, name) == 0)
            return &statuses[i];
    return NULL;
}

/* The worst of what was joined: a revoked part outdoes all, one that is out of date all but configuration. */
static const char *status_of(unsigned bits)
{
    if (bits & REVOKED)
        bits = REVOKED;
    else if (bits & OUT_OF_DATE)
        bits &= OUT_OF_DATE | CONFIGURATION;
    else if (bits & RELAUNCH)
        bits &= RELAUNCH | CONFIGURATION;
    for (size_t i = 0; i < STATUSES; i++)
        if (statuses[i].bits == bits)
            return statuses[i].name;
    return "";
}

/* ---- Finding levels ---- */

struct level {
    const struct json *content; /* NULL: none is reached */
    size_t number, count;       /* from 1 */
};

/* Whether each number from `from` on is at least the level's. */
static int reaches(struct pcs_statement *tcb_info, const struct json *tcb, const char *member,
                   const uint8_t svns[SVN_COMPONENTS], size_t from)
{
    const struct json *components = pcs_list(tcb_info, tcb, member);
    if (!components || components->length != SVN_COMPONENTS) {
        pcs_problem(tcb_info, member);
        return 0;
    }
    for (size_t i = from; i < SVN_COMPONENTS; i++)
        if (svns[i] < pcs_number(tcb_info, components->items[i], "svn", UINT8_MAX))
            return 0;
    return 1;
}

/* The machine's level. The numbers of the TDX module (the first two) are rated apart from version 1 of the module on.
 */
static struct level machine_level(struct pcs *pcs, const struct pck *pck, const uint8_t *tee_tcb_svn)
{
    struct pcs_statement *tcb_info = &pcs->tcb_info;
    const struct json *levels = pcs_list(tcb_info, tcb_info->content, "tcbLevels");
    for (size_t i = 0; levels && i < levels->length; i++) {
        const struct json *tcb = json_get(levels->items[i], "tcb");
        if (reaches(tcb_info, tcb, "sgxtcbcomponents", pck->svns, 0) &&
            pck->pce_svn >= pcs_number(tcb_info, tcb, "pcesvn", UINT16_MAX) &&
            (!tee_tcb_svn || reaches(tcb_info, tcb, "tdxtcbcomponents", tee_tcb_svn, tee_tcb_svn[1] ? 2 : 0)))
            return (struct level){levels->items[i], i + 1, levels->length};
    }
    return (struct level){0};
}

/* Of an identity (a QE's, a module's; NULL: there is none) by one number. */
static struct level identity_level(struct pcs_statement *statement, const struct json *identity, unsigned svn)
{
    const struct json *levels = identity ? pcs_list(statement, identity, "tcbLevels") : NULL;
    for (size_t i = 0; levels && i < levels->length; i++)
        if (svn >= pcs_number(statement, json_get(levels->items[i], "tcb"), "isvsvn", UINT16_MAX))
            return (struct level){levels->items[i], i + 1, levels->length};
    return (struct level){0};
}

/* ---- What they mean ---- */

struct rating {
    unsigned bits;
    int is_missing;  /* a part is of no level, or of one whose status is unknown */
    uint64_t oldest; /* date of the oldest level, yyyymmdd */
};

static void append_advisories(const struct json *level, struct buffer *out)
{
    const struct json *list = json_get(level, "advisoryIDs");
    for (size_t i = 0; json_is(list, JSON_ARRAY) && i < list->length; i++)
        if (json_is(list->items[i], JSON_STRING))
            buffer_append_format(out, "%s%s", i ? ", " : ": ", list->items[i]->text);
}

static void advise(struct verdict *verdict, const struct level *level, const char *advice)
{
    struct buffer text = {0};
    buffer_append_text(&text, advice);
    append_advisories(level->content, &text);
    if (text.error.code == BULLA_OK)
        verdict_advise(verdict, "%s", (const char *)text.data);
    else
        bulla_fail(&verdict->error, text.error.code, "%s", text.error.text);
    buffer_free(&text);
}

/* States of which level something is, and joins its status. */
static void rate(struct verdict *verdict, struct pcs_statement *statement, const char *check, struct level level,
                 struct rating *rating)
{
    unsigned year = 0, month = 0, day = 0;
    const char *name = level.content ? pcs_text(statement, level.content, "tcbStatus") : "";
    const struct status *status = find_status(name);
    if (!status) {
        rating->is_missing = 1;
        if (level.content)
            verdict_fails(verdict, check, "level %zu has the status \"%.40s\"", level.number, name);
        else
            verdict_fails(verdict, check, "older than every level");
        return;
    }
    pcs_time(statement, level.content, "tcbDate");
    const char *date = pcs_text(statement, level.content, "tcbDate");
    sscanf(date, "%4u-%2u-%2u", &year, &month, &day);
    uint64_t number = year * 10000ull + month * 100 + day;
    if (!rating->oldest || number < rating->oldest)
        rating->oldest = number;
    rating->bits |= status->bits;
    verdict_holds(verdict, check, 1, "a level that is known", "%s: level %zu of %zu, %.10s", name, level.number,
                  level.count, date);
    if (status->advice)
        advise(verdict, &level, status->advice);
}

static unsigned level_bits(struct pcs_statement *statement, struct level level)
{
    const struct status *status = level.content ? find_status(pcs_text(statement, level.content, "tcbStatus")) : NULL;
    return status ? status->bits : REVOKED;
}

/* A domain keeps the module that launched it in its TCB; where that is out of date, but the one that runs now is not,
 * it suffices to launch the domain again. */
static unsigned relaunch(struct pcs *pcs, const struct pck *pck, const struct pcs_td *td, unsigned bits,
                         unsigned qe_bits)
{
    const uint8_t *svn = td->tee_tcb_svn_2;
    if (!svn || !(bits & OUT_OF_DATE) || bits & REVOKED)
        return bits;
    unsigned now = qe_bits | level_bits(&pcs->tcb_info, machine_level(pcs, pck, svn));
    if (svn[1])
        now |= level_bits(&pcs->tcb_info, identity_level(&pcs->tcb_info, pcs_module(pcs, svn[1]), svn[0]));
    return now & (OUT_OF_DATE | REVOKED) ? bits : RELAUNCH | ((bits | now) & CONFIGURATION);
}

void pcs_rate(struct pcs *pcs, const struct pck *pck, const uint8_t *qe_report, const struct pcs_td *td)
{
    struct verdict *verdict = pcs->evidence->verdict;
    struct pcs_statement *tcb_info = &pcs->tcb_info, *identity = &pcs->qe_identity;
    struct rating rating = {0};
    rate(verdict, identity, "pcs.qe.level",
         identity_level(identity, identity->content, (unsigned)evidence_number(qe_report + ENCLAVE_SVN, 2)), &rating);
    unsigned qe_bits = rating.bits;
    rate(verdict, tcb_info, "pcs.machine.level", machine_level(pcs, pck, td ? td->tee_tcb_svn : NULL), &rating);
    if (td && td->tee_tcb_svn[1])
        rate(verdict, tcb_info, "pcs.module.level",
             identity_level(tcb_info, pcs_module(pcs, td->tee_tcb_svn[1]), td->tee_tcb_svn[0]), &rating);
    else if (td)
        verdict_not_made(verdict, "pcs.module.level", "a module of version 0 is rated with the machine");
    uint64_t tcb_number = pcs_number(tcb_info, tcb_info->content, "tcbEvaluationDataNumber", UINT32_MAX),
             qe_number = pcs_number(identity, identity->content, "tcbEvaluationDataNumber", UINT32_MAX);
    if (rating.is_missing)
        return;
    evidence_claim_text(pcs->evidence, "tcb_status",
                        status_of(td ? relaunch(pcs, pck, td, rating.bits, qe_bits) : rating.bits));
    evidence_claim_number(pcs->evidence, "tcb_date", rating.oldest);
    evidence_claim_number(pcs->evidence, "tcb.evaluation", tcb_number < qe_number ? tcb_number : qe_number);
}
