/* Whole disputes about small random programs of every family, with the referee's and the parties' own code (docs/dispute.md):
 * the honest side wins, whichever it is; nobody else's messages have an effect; the log alone gives the state. */
#include "test.h"

#include "answer_model.h"
#include "base/memory.h"
#include "dispute_court.h"
#include "random_program.h"

static uint64_t state = 88172645463325252;

static uint64_t below(uint64_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state * UINT64_C(0x2545F4914F6CDD1D) >> 16) % limit;
}

static void open_case(struct dispute_case *c, int family, int strain, uint64_t seed, uint32_t prompt, uint32_t drawn)
{
    bulla_error error = {0};
    bulla_model *model;
    bulla_sampling settings;
    bulla_sampling_defaults(&settings);
    settings.seed = seed;
    settings.temperature = seed % 3 ? 700000 * (seed % 3) : 0;
    settings.top_k = seed % 4 == 2 ? 9 : 0;
    settings.top_p = seed % 4 == 3 ? 930000 : 1000000;
    assert_ok(answer_model_open(seed, family, strain, 0, "", &model, &error), error);
    assert_ok(dispute_case_open(c, model, seed, prompt, drawn, &settings, seed % 5 == 3, &error), error);
}

static void open_court(struct court *court, struct dispute_case *c)
{
    bulla_error error = {0};
    assert_ok(court_open(court, c, &error), error);
    assert_ok(court_register(court, &error), error);
}

static void check_sizes(const struct trial *trial)
{
    const struct dispute_path *path = party_path(trial->parties[0]);
    if (trial->bytes > 65536 || trial->largest > 12000 || path->rounds > 8)
        fail_msg("%zu bytes, the largest message %zu, %u rounds", trial->bytes, trial->largest, path->rounds);
}

static size_t most_bytes;
static unsigned most_rounds, withdrawn;

static void play(struct trial *trial, int restarts)
{
    bulla_error error = {0};
    assert_ok(trial_play(trial, restarts, &error), error);
    check_sizes(trial);
    unsigned rounds = party_path(trial->parties[0])->rounds;
    most_bytes = trial->bytes > most_bytes ? trial->bytes : most_bytes;
    most_rounds = rounds > most_rounds ? rounds : most_rounds;
}

static void random_fault(struct dispute_case *c, struct dispute_fault *fault)
{
    uint32_t count = c->referee.program.operation_count;
    for (;;) {
        *fault = (struct dispute_fault){.operation = (uint32_t)below(count), .position = below(step_answer_positions(&c->answer))};
        fault->array = (uint32_t)below(step_array_count(&c->referee, fault->operation));
        if (!step_is_evaluated(&c->referee, &c->answer, fault->operation, fault->position))
            continue;
        struct step_array shape = step_array_shape(&c->referee, &c->answer, fault->operation, fault->position, fault->array);
        if (shape.count == 0 || shape.is_witness)
            continue;
        fault->index = below(shape.count);
        fault->bit = (int)below(8u * shape.width);
        dispute_fault_hook(fault);
        return;
    }
}

/* A liar proposes against an honest challenger; then the other way round. */
static void test_faults(void **unused)
{
    for (int family = 0; family < RANDOM_FAMILIES; family++) {
        struct dispute_case c;
        bulla_error error = {0};
        open_case(&c, family, 0, 500 + (uint64_t)family, 40, 4);
        for (uint64_t i = 0; i < test_count(3, 60); i++) {
            struct dispute_fault fault;
            struct court court;
            struct trial trial;
            const char *why;
            random_fault(&c, &fault);
            int is_honest = i % 2;
            open_court(&court, &c);
            if (i % 3 == 0)
                court_set_end(&court);
            assert_ok(trial_open(&trial, &court, i, is_honest ? NULL : &fault.hook, is_honest ? &fault.hook : NULL, &error), error);
            play(&trial, i % 4 == 1);
            const char *status = trial_status(&trial, &why);
            int is_withdrawn = strcmp(why, "the challenger withdrew") == 0; /* a fault without effect */
            withdrawn += (unsigned)is_withdrawn;
            if (strcmp(status, is_honest || is_withdrawn ? "proposer won" : "challenger won") != 0)
                fail_msg("family %d, fault %llu, honest proposer %d: %s: %s", family, (unsigned long long)i, is_honest, status, why);
            assert_string_equal(court_status(&court, NULL), is_honest || is_withdrawn ? "pending" : "overturned");
            assert_ok(court_restart(&court, 0, &error), error);
            if (is_honest || is_withdrawn) {
                assert_ok(court_wait(&court, COURT_WINDOW + 1, &error), error);
                assert_string_equal(court_status(&court, NULL), "final");
            }
            trial_close(&trial);
            court_close(&court);
        }
        dispute_case_close(&c);
    }
    print_message("most bytes of a dispute %zu, most rounds %u; %u without effect\n", most_bytes, most_rounds, withdrawn);
}

/* Answers that ended by RANGE, and answers that were cut off by a RANGE that is none. */
static void test_range(void **unused)
{
    unsigned ended = 0, false_ones = 0;
    for (uint64_t seed = 0; seed < test_count(20, 400); seed++) {
        struct dispute_case c;
        struct court court;
        struct trial trial;
        bulla_error error = {0};
        open_case(&c, (int)(seed % RANDOM_FAMILIES), 1, seed, 12, 12);
        int is_ended = c.answer.has_range;
        c.answer.token_count -= !is_ended;
        c.answer.has_range = 1;
        c.answer.range_position = c.answer.token_count - 1;
        c.answer.range_operation = c.referee.program.operation_count;
        ended += (unsigned)is_ended;
        open_court(&court, &c);
        assert_ok(trial_open(&trial, &court, seed, NULL, NULL, &error), error);
        play(&trial, 0);
        const char *why, *status = trial_status(&trial, &why);
        uint64_t position;
        uint32_t operation;
        struct trace *trace;
        assert_ok(dispute_case_trace(&c, NULL, &trace, &error), error);
        int has_range = trace_range(trace, &position, &operation) || is_ended;
        trace_close(trace);
        if (strcmp(status, has_range ? "proposer won" : "challenger won") != 0)
            fail_msg("seed %llu, ended %d: %s: %s", (unsigned long long)seed, is_ended, status, why);
        false_ones += !has_range;
        trial_close(&trial);
        court_close(&court);
        dispute_case_close(&c);
    }
    print_message("%u ended by RANGE, %u not\n", ended, false_ones);
    assert_true(ended > 0 && false_ones > 0);
}

/* An answer that was cut off by a RANGE that is none: the liar's sum of squares makes the next one, which it names, leave
 * its bound. */
static void test_false_range(void **unused)
{
    struct dispute_case c;
    struct court court;
    struct trial trial;
    bulla_error error = {0};
    open_case(&c, RANDOM_WIDE, 0, 904, 6, 3);
    uint32_t norm = 0;
    while (c.referee.program.operations[norm].kind != BULLA_NORM_QUANT)
        norm++;
    dispute_case_cut(&c, norm);
    struct dispute_value lie = {.operation = norm, .array = 4, .position = c.answer.range_position,
                                .value = (INT64_C(1) << 62) - 1};
    struct party_trace run = {.range_position = c.answer.range_position, .range_operation = norm};
    dispute_value_hook(&lie);
    assert_ok(dispute_case_trace(&c, &lie.hook, &run.trace, &error), error);
    open_court(&court, &c);
    assert_ok(trial_open(&trial, &court, 1, &lie.hook, NULL, &error), error);
    party_close(trial.parties[0]); /* it claims what party.c would not */
    trial.options[0].shared = &run;
    assert_ok(party_open(&trial.options[0], &court.given, court.answer, 0, &trial.parties[0], &error), error);
    assert_ok(party_take(trial.parties[0], trial.messages[0].data, trial.messages[0].length, &error), error);
    play(&trial, 0);
    const struct step_claim *claim = &party_path(trial.parties[1])->claim;
    assert_true(claim->cell.is_range);
    assert_int_equal(claim->cell.range_index, 1);
    assert_int_equal(claim->index, 0);
    assert_string_equal(trial_status(&trial, NULL), "challenger won");
    trial_close(&trial);
    party_trace_close(&run);
    court_close(&court);
    dispute_case_close(&c);
}

static void reject(struct court *court, const struct buffer *message)
{
    bulla_error error = {0};
    struct buffer before = {0}, after = {0};
    referee_write_all(court->referee, &before);
    assert_int_not_equal(court_post(court, message, &error), BULLA_OK);
    referee_write_all(court->referee, &after);
    assert_int_equal(before.length, after.length);
    assert_memory_equal(before.data, after.data, before.length);
    buffer_free(&before);
    buffer_free(&after);
}

static EVP_PKEY *stranger(void)
{
    const uint8_t seed[32] = {77};
    return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
}

/* The message again by another key, with another number, after another one, in another form. */
static void send_wrong_ones(struct trial *trial, const struct buffer *message)
{
    struct arena arena = {0};
    struct dispute_message read, changed;
    struct buffer body = {0}, out = {0};
    bulla_error error = {0};
    EVP_PKEY *other = stranger(), *own = NULL;
    uint8_t key[DISPUTE_KEY];
    assert_ok(dispute_message_read(message->data, message->length, &arena, &read, &error), error);
    json_write_canonical(&body, read.body);
    assert_ok(dispute_public_key(trial->court->proposer, key, &error), error);
    own = memcmp(key, read.key, DISPUTE_KEY) == 0 ? trial->court->proposer : trial->challenger;
    for (int i = 0; i < 5; i++) {
        changed = read;
        buffer_clear(&out);
        changed.number += i == 1;
        changed.previous[3] ^= i == 2;
        changed.dispute[3] ^= i == 3;
        assert_ok(dispute_message_write(&changed, &body, i == 0 ? other : i == 4 && own == trial->challenger
                                        ? trial->court->proposer : i == 4 ? trial->challenger : own, &out, &error), error);
        reject(trial->court, &out);
    }
    for (int i = 0; i < 4; i++) { /* a byte changed, cut off, added */
        buffer_clear(&out);
        buffer_append(&out, message->data, message->length);
        if (i < 2)
            out.data[below(out.length)] ^= (uint8_t)(1u << below(8));
        else if (i == 2)
            buffer_cut(&out, below(out.length));
        else
            buffer_append_byte(&out, ' ');
        reject(trial->court, &out);
    }
    for (unsigned i = 0; i < trial->count; i++) /* all that was said before */
        reject(trial->court, &trial->messages[i]);
    reject(trial->court, &trial->court->registration);
    EVP_PKEY_free(other);
    buffer_free(&body);
    buffer_free(&out);
    arena_free(&arena);
}

/* Whatever comes between the honest messages has no effect. */
static void test_wrong_messages(void **unused)
{
    struct dispute_case c;
    struct court court;
    struct trial trial;
    struct dispute_fault fault;
    bulla_error error = {0};
    struct buffer message = {0};
    open_case(&c, 0, 0, 900, 30, 3);
    random_fault(&c, &fault);
    open_court(&court, &c);
    assert_ok(trial_open(&trial, &court, 1, NULL, &fault.hook, &error), error);
    assert_ok(trial_next(&trial, &message, &error), error);
    while (message.length) {
        send_wrong_ones(&trial, &message);
        assert_ok(trial_post(&trial, &message, &error), error);
        assert_ok(trial_next(&trial, &message, &error), error);
    }
    assert_string_equal(trial_status(&trial, NULL), "proposer won");
    send_wrong_ones(&trial, &trial.messages[trial.count - 1]);
    trial_close(&trial);
    court_close(&court);
    dispute_case_close(&c);
    buffer_free(&message);
}

/* At each turn: who says something else that is no answer to what was asked, or nothing in time, loses. */
static void test_turns(void **unused)
{
    struct dispute_case c;
    struct dispute_fault fault;
    bulla_error error = {0};
    struct buffer message = {0}, body = {0}, out = {0};
    open_case(&c, 1, 0, 901, 30, 3);
    do
        random_fault(&c, &fault);
    while (step_array_shape(&c.referee, &c.answer, fault.operation, fault.position, fault.array).count < 200);
    for (int what = 0; what < 4; what++)
        for (unsigned turn = 0; turn < 16; turn++) {
            struct court court;
            struct trial trial;
            struct arena arena = {0};
            struct dispute_message changed;
            uint8_t key[DISPUTE_KEY];
            open_court(&court, &c);
            assert_ok(trial_open(&trial, &court, 1, &fault.hook, NULL, &error), error);
            for (unsigned i = 0; i <= turn; i++) {
                assert_ok(trial_next(&trial, &message, &error), error);
                if (message.length && i < turn)
                    assert_ok(trial_post(&trial, &message, &error), error);
            }
            if (message.length == 0) {
                trial_close(&trial);
                court_close(&court);
                break;
            }
            assert_ok(dispute_message_read(message.data, message.length, &arena, &changed, &error), error);
            assert_ok(dispute_public_key(court.proposer, key, &error), error);
            int is_proposers = memcmp(key, changed.key, DISPUTE_KEY) == 0;
            if (what == 0) { /* silence; then it is late */
                assert_ok(court_wait(&court, COURT_TURN, &error), error);
                assert_string_equal(trial_status(&trial, NULL), "open");
                assert_ok(court_wait(&court, 1, &error), error);
                reject(&court, &message);
            } else {
                buffer_clear(&body);
                buffer_clear(&out);
                buffer_append_text(&body, what == 1 ? "{}" : what == 2 ? "{\"arrays\":\"\",\"at\":[99999999],\"block\":\"\",\"hashes\":\"AAAA\"}"
                                                                       : "{\"at\":\"0\",\"opening\":7}");
                if (what == 3 && changed.kind != DISPUTE_CHOICE && changed.kind != DISPUTE_OPENING)
                    changed.kind = DISPUTE_OPENING;
                assert_ok(dispute_message_write(&changed, &body, is_proposers ? court.proposer : trial.challenger, &out, &error), error);
                assert_ok(court_post(&court, &out, &error), error);
            }
            assert_string_equal(trial_status(&trial, NULL), is_proposers ? "challenger won" : "proposer won");
            assert_string_equal(court_status(&court, NULL), is_proposers ? "overturned" : "pending");
            assert_ok(court_restart(&court, 0, &error), error);
            arena_free(&arena);
            trial_close(&trial);
            court_close(&court);
        }
    buffer_free(&message);
    buffer_free(&body);
    buffer_free(&out);
    dispute_case_close(&c);
}

/* Many challengers at once, one of them honest or none, in turns. */
static void test_many(void **unused)
{
    enum { TRIALS = 6 };
    struct dispute_case c;
    struct dispute_fault faults[TRIALS], lie;
    bulla_error error = {0};
    struct buffer message = {0};
    open_case(&c, 2, 0, 902, 30, 3);
    do
        random_fault(&c, &lie);
    while (step_array_shape(&c.referee, &c.answer, lie.operation, lie.position, lie.array).is_result == 0);
    for (int is_honest = 0; is_honest < 2; is_honest++) {
        struct court court;
        struct trial trials[TRIALS];
        open_court(&court, &c);
        for (int i = 0; i < TRIALS; i++) {
            random_fault(&c, &faults[i]);
            assert_ok(trial_open(&trials[i], &court, 10 + (uint64_t)i, is_honest ? NULL : &lie.hook,
                                 is_honest || i != 3 ? &faults[i].hook : NULL, &error), error);
        }
        assert_string_equal(court_status(&court, NULL), "disputed");
        for (int turn = 0; turn < 20 && strcmp(court_status(&court, NULL), "disputed") == 0; turn++)
            for (int i = 0; i < TRIALS; i++) {
                assert_ok(trial_next(&trials[i], &message, &error), error);
                if (message.length && strcmp(trial_status(&trials[i], NULL), "open") == 0)
                    assert_ok(trial_post(&trials[i], &message, &error), error);
            }
        assert_string_equal(court_status(&court, NULL), is_honest ? "pending" : "overturned");
        if (is_honest)
            for (int i = 0; i < TRIALS; i++)
                assert_string_equal(trial_status(&trials[i], NULL), "proposer won");
        assert_ok(court_restart(&court, 1, &error), error);
        for (int i = 0; i < TRIALS; i++)
            trial_close(&trials[i]);
        court_close(&court);
    }
    buffer_free(&message);
    dispute_case_close(&c);
}

/* Two traces of one answer, told to two challengers or found outside; two messages of one turn. */
static void test_equivocation(void **unused)
{
    struct dispute_case c;
    struct dispute_fault lie;
    struct court court;
    struct trial one, other;
    bulla_error error = {0};
    struct buffer first = {0}, second = {0}, proof = {0};
    EVP_PKEY *finder = stranger();
    open_case(&c, 0, 0, 903, 30, 3);
    do
        random_fault(&c, &lie);
    while (step_array_shape(&c.referee, &c.answer, lie.operation, lie.position, lie.array).is_result == 0);
    for (int what = 0; what < 4; what++) {
        open_court(&court, &c);
        assert_ok(trial_open(&one, &court, 1, NULL, NULL, &error), error);
        assert_ok(trial_open(&other, &court, 2, what == 3 ? NULL : &lie.hook, NULL, &error), error);
        assert_ok(trial_next(&one, &first, &error), error);
        assert_ok(trial_next(&other, &second, &error), error);
        buffer_clear(&proof);
        if (what == 0) { /* to the referee's face */
            assert_ok(trial_post(&one, &first, &error), error);
            assert_ok(court_post(&court, &second, &error), error);
        } else if (what == 1) { /* anyone may show both */
            assert_ok(party_write_equivocation(finder, court.answer, &first, &second, &proof, &error), error);
            assert_ok(court_post(&court, &proof, &error), error);
            reject(&court, &proof);
        } else if (what == 2) { /* a challenger's two messages of one turn */
            struct arena arena = {0};
            struct dispute_message read;
            struct buffer body = {0};
            assert_ok(trial_post(&one, &first, &error), error);
            assert_ok(trial_next(&one, &first, &error), error);
            assert_ok(dispute_message_read(first.data, first.length, &arena, &read, &error), error);
            buffer_append_text(&body, "{\"at\":[0],\"x\":1}");
            buffer_clear(&second);
            read.kind = DISPUTE_CHOICE;
            assert_ok(dispute_message_write(&read, &body, one.challenger, &second, &error), error);
            assert_ok(party_write_equivocation(finder, court.answer, &first, &second, &proof, &error), error);
            assert_ok(court_post(&court, &proof, &error), error);
            assert_string_equal(trial_status(&one, NULL), "proposer won");
            buffer_free(&body);
            arena_free(&arena);
        } else { /* the same claim twice is none, nor are one message and itself */
            assert_ok(party_write_equivocation(finder, court.answer, &first, &second, &proof, &error), error);
            reject(&court, &proof);
            buffer_clear(&proof);
            assert_ok(party_write_equivocation(finder, court.answer, &first, &first, &proof, &error), error);
            reject(&court, &proof);
        }
        assert_string_equal(court_status(&court, NULL), what < 2 ? "overturned" : "disputed");
        assert_ok(court_restart(&court, 0, &error), error);
        trial_close(&one);
        trial_close(&other);
        court_close(&court);
    }
    EVP_PKEY_free(finder);
    buffer_free(&first);
    buffer_free(&second);
    buffer_free(&proof);
    dispute_case_close(&c);
}

/* The challenge window, and challenges about text and tokens. */
static void test_window(void **unused)
{
    struct dispute_case c;
    struct court court;
    struct trial trial;
    bulla_error error = {0};
    struct buffer message = {0};
    uint8_t id[DISPUTE_HASH], nonce[DISPUTE_HASH] = {5};
    EVP_PKEY *key = stranger();
    open_case(&c, 0, 0, 904, 20, 3);
    open_court(&court, &c);
    assert_ok(party_write_challenge(key, court.answer, 0, DISPUTE_PROMPT, nonce, "1", &message, id, &error), error);
    assert_ok(court_post(&court, &message, &error), error);
    assert_string_equal(court_status(&court, NULL), "pending"); /* it was settled at once, in vain */
    reject(&court, &message);
    court.now += COURT_WINDOW - COURT_TURN;
    assert_ok(trial_open(&trial, &court, 1, NULL, NULL, &error), error);
    trial_close(&trial);
    assert_ok(court_wait(&court, COURT_TURN, &error), error); /* the last moment of both */
    assert_string_equal(court_status(&court, NULL), "disputed");
    assert_ok(court_restart(&court, 1, &error), error); /* the turn begins anew, the window too */
    assert_ok(court_wait(&court, COURT_TURN + 1, &error), error);
    assert_string_equal(court_status(&court, NULL), "overturned");
    court_close(&court);
    open_court(&court, &c);
    court.fault = DISPUTE_DELIVERY;
    nonce[0]++;
    buffer_clear(&message);
    assert_ok(party_write_challenge(key, court.answer, 0, DISPUTE_DELIVERY, nonce, "1", &message, id, &error), error);
    assert_ok(court_post(&court, &message, &error), error);
    assert_string_equal(court_status(&court, NULL), "overturned");
    court_close(&court);
    open_court(&court, &c);
    assert_ok(court_wait(&court, COURT_WINDOW, &error), error);
    assert_string_equal(court_status(&court, NULL), "pending");
    assert_ok(court_wait(&court, 1, &error), error);
    assert_string_equal(court_status(&court, NULL), "final");
    reject(&court, &message);
    court_close(&court);
    EVP_PKEY_free(key);
    buffer_free(&message);
    dispute_case_close(&c);
}

/* Where memory is short a message has no effect, and is taken when it comes again. */
static void play_short(int is_honest)
{
    struct dispute_case c;
    struct court court;
    struct trial trial;
    struct dispute_fault fault;
    bulla_error error = {0};
    struct buffer message = {0};
    unsigned refused = 0;
    open_case(&c, 0, 0, 905, 20, 3);
    do
        random_fault(&c, &fault);
    while (step_array_shape(&c.referee, &c.answer, fault.operation, fault.position, fault.array).is_result == 0);
    open_court(&court, &c);
    assert_ok(trial_open(&trial, &court, 1, is_honest ? NULL : &fault.hook, is_honest ? &fault.hook : NULL, &error), error);
    assert_ok(trial_next(&trial, &message, &error), error);
    while (message.length) {
        struct buffer before = {0}, after = {0}, line = {0};
        int code = BULLA_E_MEMORY;
        referee_write_all(court.referee, &before);
        for (uint64_t n = 1; code != BULLA_OK; n += 1 + n / 8) {
            bulla_error own = {0};
            memory_inject_failure(n, 0);
            code = referee_take(court.referee, court.now, message.data, message.length, &line, &own);
            memory_inject_failure(0, 0);
            buffer_free(&line);
            line = (struct buffer){0};
            buffer_clear(&after);
            referee_write_all(court.referee, &after);
            if (code != BULLA_OK) {
                refused++;
                assert_int_equal(before.length, after.length);
                assert_memory_equal(before.data, after.data, before.length);
            }
        }
        for (int i = 0; i < 2; i++)
            assert_ok(party_take(trial.parties[i], message.data, message.length, &error), error);
        buffer_free(&before);
        buffer_free(&after);
        assert_ok(trial_next(&trial, &message, &error), error);
    }
    assert_string_equal(trial_status(&trial, NULL), is_honest ? "proposer won" : "challenger won");
    assert_true(refused > 20);
    trial_close(&trial);
    court_close(&court);
    dispute_case_close(&c);
    buffer_free(&message);
}

static void test_short_memory(void **unused)
{
    play_short(0);
    play_short(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults), cmocka_unit_test(test_range), cmocka_unit_test(test_false_range), cmocka_unit_test(test_wrong_messages),
        cmocka_unit_test(test_turns), cmocka_unit_test(test_many), cmocka_unit_test(test_equivocation),
        cmocka_unit_test(test_window), cmocka_unit_test(test_short_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
