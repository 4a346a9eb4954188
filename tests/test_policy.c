/* Policies: every field, in each of its forms; what is malformed is refused by a sentence that names it. */
#include "test.h"

#include "bulla/verify.h"
#include "evidence_document.h"

static void expect_refusal(const char *policy, const char *part)
{
    char *text;
    size_t length;
    bulla_error error = {0};
    if (bulla_policy_explain(policy, strlen(policy), &text, &length, &error) == BULLA_OK)
        fail_msg("%s is taken", policy);
    if (!strstr(error.text, part) || error.code != BULLA_E_INPUT)
        fail_msg("%s: \"%s\" does not say \"%s\"", policy, error.text, part);
}

static void malformed_policies_are_refused(void **state)
{
    static const char *const cases[][2] = {
        {"", "JSON"},
        {"[]", "object"},
        {"{\"tpye\":\"snp\"}", "no field \"tpye\""},
        {"{\"attestation\":{\"memory\":\"1GB\"}}", "no field \"memory\" in attestation"},
        {"{\"resources\":{\"type\":\"snp\"}}", "no field \"type\" in resources"},
        {"{\"attestation\":[]}", "\"attestation\" is not an object"},
        {"{\"attestation\":{\"attestation\":{}}}", "no field \"attestation\" in attestation"},
        {"{\"type\":\"sev\"}", "no type of evidence \"sev\""},
        {"{\"type\":[]}", "an empty one accepts nothing"},
        {"{\"type\":7}", "\"type\""},
        {"{\"launch_measurement\":\"abc\"}", "\"launch_measurement\" is not bytes in hex"},
        {"{\"launch_measurement\":\"\"}", "\"launch_measurement\""},
        {"{\"launch_measurement\":[\"ab\",7]}", "\"launch_measurement\""},
        {"{\"launch_measurement\":\"zz\"}", "\"launch_measurement\""},
        {"{\"allow_debug\":\"no\"}", "\"allow_debug\" is not true or false"},
        {"{\"allow_debug\":0}", "\"allow_debug\""},
        {"{\"allow_simulated\":1}", "\"allow_simulated\""},
        {"{\"vmpl\":-1}", "\"vmpl\""},
        {"{\"vmpl\":1.5}", "\"vmpl\""},
        {"{\"minimum_isv_svn\":[1]}", "\"minimum_isv_svn\" is not a number"},
        {"{\"minimum_tcb\":7}", "\"minimum_tcb\""},
        {"{\"minimum_tcb\":{}}", "\"minimum_tcb\""},
        {"{\"minimum_tcb\":{\"snp\":\"7\"}}", "\"minimum_tcb\""},
        {"{\"pcr\":\"aa\"}", "\"pcr\""},
        {"{\"pcr\":{\"24\":\"aa\"}}", "\"pcr\" is not by numbers from 0 to 23"},
        {"{\"pcr\":{\"x\":\"aa\"}}", "\"pcr\""},
        {"{\"tcb_status\":[\"UpToDate\",\"\"]}", "\"tcb_status\""},
        {"{\"models\":\"aabb\"}", "\"models\" is not model roots of 32 bytes"},
        {"{\"max_age\":\"1w\"}", "\"max_age\""},
        {"{\"max_age\":0}", "\"max_age\""},
        {"{\"memory\":\"16 GB\"}", "\"memory\""},
        {"{\"gpu_memory\":\"GB\"}", "\"gpu_memory\""},
        {"{\"vmpl\":0,\"vmpl\":1}", "vmpl"},
        {"{\"pcr\":{\"+1\":\"aa\"}}", "\"pcr\" is not by numbers"},
        {"{\"pcr\":{\" 1\":\"aa\"}}", "\"pcr\" is not by numbers"},
        {"{\"pcr\":{\"1\\u0000\":\"aa\"}}", "\"pcr\" is not by numbers"},
        {"{\"pcr\":[null,null]}", "one of nothing but null accepts anything"},
        {"{\"max_age\":\"-5s\"}", "\"max_age\""},
        {"{\"max_age\":\" 5s\"}", "\"max_age\""},
        {"{\"allow_simulated\":false,\"attestation\":{\"allow_simulated\":true}}", "\"allow_simulated\" is not there once"},
        {"{\"attestation\":{\"type\":\"snp\"},\"type\":\"sgx\"}", "\"type\" is not there once"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(cases[i][0], cases[i][1]);
}

static void explanations_name_all_that_is_asked(void **state)
{
    static const char policy[] = "{\"attestation\":{\"type\":[\"snp\",\"sim\"],\"launch_measurement\":[\"aa\",\"bb\"],"
                                 "\"pcr\":{\"4\":\"cc\",\"11\":[\"dd\",\"ee\"]},\"rtmr\":[null,\"ff\"],\"allow_debug\":true,"
                                 "\"minimum_tcb\":{\"snp\":24},\"tcb_status\":[\"UpToDate\",\"SWHardeningNeeded\"],"
                                 "\"boot_loader\":[\"ab\",null,null],\"max_age\":\"24h\",\"vmpl\":[0,2],\"allow_simulated\":true},"
                                 "\"resources\":{\"memory\":\"16GB\",\"gpu_memory\":\"40GiB\"}}";
    static const char *const parts[] = {"one of snp, sim", "one of aa, bb", "pcr4 must be cc", "pcr11 must be one of dd, ee",
                                        "rtmr1 must be ff", "boot_loader0 must be ab", "not have started more than 3 programs", "debugging: allowed", "tcb.snp must be at least 24",
                                        "one of UpToDate, SWHardeningNeeded", "86400 s old", "one of 0, 2",
                                        "SIMULATED evidence is accepted", "16000000000 bytes of memory", "42949672960 bytes"};
    char *text;
    size_t length;
    bulla_error error = {0};
    assert_ok(bulla_policy_explain(policy, strlen(policy), &text, &length, &error), error);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(text, parts[i]))
            fail_msg("\"%s\" is not in\n%s", parts[i], text);
    assert_null(strstr(text, "rtmr0"));
    bulla_verdict_text_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_policies_are_refused),
        cmocka_unit_test(explanations_name_all_that_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
