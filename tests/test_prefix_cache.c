/* The prefix cache: whatever is opened, computed, cut, continued otherwise and
 * closed, logits and RANGE are the reference's, a prompt gets just the pages that
 * a plain model of the cache says, and no page is lost. */
#include "test.h"

#include "base/memory.h"
#include "bulla/engine.h"
#include "exec/cpu/engine_internal.h"
#include "exec/ref/run.h"
#include "random_program.h"

enum { STREAMS = 5, FIRSTS = 6, SLOTS = 5, TENANTS = 3, LENGTH = 290, BLOCKS = LENGTH / BULLA_PAGE_POSITIONS };

static const uint8_t salt[BULLA_PREFIX_SALT_BYTES] = {3, 1, 4, 1, 5};
static const char *const tenants[TENANTS] = {NULL, "ada", "adah"}; /* NULL shares nothing */

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state * UINT64_C(0x2545F4914F6CDD1D)) >> 33) % n;
}

/* What the reference says of a stream of tokens and a first sampled position. */
struct expected {
    int32_t *logits; /* [LENGTH - first_sampled][vocabulary]; NULL: not asked yet */
    int code;
    uint64_t position;
    uint32_t operation;
};

struct slot {
    bulla_sequence *sequence; /* NULL: empty */
    uint32_t stream, first, tenant;
    uint64_t shared; /* full pages that entered the cache, or came from it */
};

/* The plain model's entry. */
struct known {
    int is_known;
    uint32_t first; /* index of its first sampled position */
    uint32_t page;
};

struct world {
    bulla_program *program;
    bulla_engine *engine;
    int has_pressure; /* pages are evicted, which the plain model does not follow */
    uint32_t streams[STREAMS][LENGTH], firsts[FIRSTS];
    uint64_t *lowest[FIRSTS]; /* [operation_count], from the reference */
    struct expected expected[STREAMS][FIRSTS];
    struct slot slots[SLOTS];
    struct known known[TENANTS][STREAMS][BLOCKS];
};

/* How often something happened, so that no test passes because it never did. */
struct seen {
    uint64_t opened, reused, uncovered, ranges, copies, forgotten, replaced, joined, limits, evictions;
};

/* --- the world --- */

/* A stream begins like an earlier one, and may come back to the same tokens. */
static void make_streams(struct world *world)
{
    for (uint32_t s = 0; s < STREAMS; s++) {
        uint32_t other = s ? random_below(s) : 0, from = s ? random_below(LENGTH) : 0;
        uint32_t to = s && random_below(2) ? from + 1 + random_below(LENGTH - from) : LENGTH;
        memcpy(world->streams[s], world->streams[other], sizeof world->streams[s]);
        for (uint32_t i = from; i < to; i++)
            world->streams[s][i] = random_below(world->program->vocabulary);
    }
}

static const uint32_t windows[] = {0, 10, 33, 64, 90};

/* Windows in the last layers, so that less is evaluated of a longer prompt's first positions. */
static void set_windows(bulla_program *program)
{
    bulla_operation *operations = (bulla_operation *)(uintptr_t)program->operations;
    for (uint32_t i = 0; i < program->operation_count; i++)
        if (operations[i].kind == BULLA_ATTEND)
            operations[i].window = windows[operations[i].layer == 0 ? random_below(5) : 1 + random_below(4)];
}

/* Many so that they, or the first key that they need of the last layer, lie at a page's edge, or side by side. */
static void choose_firsts(struct world *world)
{
    for (uint32_t f = 0; f < FIRSTS; f++) {
        uint32_t edge = (1 + random_below(BLOCKS)) * BULLA_PAGE_POSITIONS, what = random_below(f ? 4 : 3);
        world->firsts[f] = what == 0 ? random_below(LENGTH) : what == 1 ? edge - 1 + random_below(2)
                         : what == 2 ? edge - 2 + windows[1 + random_below(4)] : world->firsts[f - 1] + 1;
        world->firsts[f] = world->firsts[f] < LENGTH ? world->firsts[f] : LENGTH - 1;
    }
}

static uint32_t common_length(const struct world *world, uint32_t a, uint32_t b)
{
    uint32_t length = 0;
    while (length < LENGTH && world->streams[a][length] == world->streams[b][length])
        length++;
    return length;
}

/* The lowest stream with the same tokens up to the end of the block. */
static uint32_t same_stream(const struct world *world, uint32_t stream, uint64_t block)
{
    for (uint32_t s = 0; s < stream; s++)
        if (common_length(world, s, stream) >= (block + 1) * BULLA_PAGE_POSITIONS)
            return s;
    return stream;
}

static void ask_lowest(struct world *world, uint32_t first)
{
    bulla_error error = {0};
    struct reference_run *run;
    uint32_t count = world->program->operation_count;
    assert_ok(reference_run_open(world->program, world->firsts[first], &run, &error), error);
    world->lowest[first] = memory_alloc(count, sizeof(uint64_t), &error);
    for (uint32_t i = 0; i < count; i++)
        world->lowest[first][i] = reference_run_lowest(run, i);
    reference_run_close(run);
}

static const struct expected *expect(struct world *world, uint32_t stream, uint32_t first)
{
    struct expected *expected = &world->expected[stream][first];
    if (expected->logits)
        return expected;
    bulla_error error = {0};
    struct reference_run *run;
    size_t rows = LENGTH - world->firsts[first];
    expected->logits = memory_alloc(rows * world->program->vocabulary, sizeof(int32_t), &error);
    assert_ok(reference_run_open(world->program, world->firsts[first], &run, &error), error);
    expected->code = reference_run_append(run, world->streams[stream], LENGTH, expected->logits, &error);
    assert_true(expected->code == BULLA_OK || expected->code == BULLA_E_RANGE);
    reference_run_range(run, &expected->position, &expected->operation);
    reference_run_close(run);
    return expected;
}

static void world_open(struct world *world, uint64_t seed, int family, int strain, uint64_t pages)
{
    bulla_error error = {0};
    memset(world, 0, sizeof *world);
    random_state = seed * 77777 + 5;
    world->has_pressure = pages < SLOTS * (BLOCKS + 1);
    assert_ok(random_program_new(seed, family, strain, &world->program, &error), error);
    if (random_below(4))
        set_windows(world->program);
    static const uint32_t rows[] = {7, 64, 256};
    bulla_engine_options options = {.threads = 1 + (unsigned)seed % 2, .pages = pages, .shuffle_pages = seed % 3 == 0,
                                    .batch_rows = rows[random_below(3)], .prefix_salt = salt};
    assert_ok(bulla_engine_open_program(world->program, NULL, &options, &world->engine, &error), error);
    make_streams(world);
    choose_firsts(world);
    for (uint32_t f = 0; f < FIRSTS; f++)
        ask_lowest(world, f);
}

static void world_close(struct world *world)
{
    bulla_engine_close(world->engine);
    for (uint32_t f = 0; f < FIRSTS; f++) {
        memory_free(world->lowest[f]);
        for (uint32_t s = 0; s < STREAMS; s++)
            memory_free(world->expected[s][f].logits);
    }
    random_program_free(world->program);
}

/* --- the plain model --- */

/* Whether every pair (operation, position) of the block that is evaluated for `first` is so for `other`. */
static int is_evaluated(const struct world *world, uint32_t first, uint32_t other, uint64_t block)
{
    for (uint32_t i = 0; i < world->program->operation_count; i++)
        for (uint64_t p = block * BULLA_PAGE_POSITIONS; p < (block + 1) * BULLA_PAGE_POSITIONS; p++)
            if (p >= world->lowest[first][i] && p < world->lowest[other][i])
                return 0;
    return 1;
}

static struct known *entry_of(struct world *world, const struct slot *slot, uint64_t block)
{
    return &world->known[slot->tenant][same_stream(world, slot->stream, block)][block];
}

/* Full pages of the prompt's start that the cache should give. */
static uint64_t predict(struct world *world, const struct slot *slot, uint64_t count, struct seen *seen)
{
    uint64_t first = world->firsts[slot->first], block = 0;
    for (; (block + 1) * BULLA_PAGE_POSITIONS <= (count < first ? count : first); block++) {
        const struct known *known = entry_of(world, slot, block);
        if (slot->tenant == 0 || !known->is_known)
            break;
        if (!is_evaluated(world, slot->first, known->first, block)) {
            seen->uncovered++;
            break;
        }
    }
    return block;
}

/* The page that the slot goes on within, UINT32_MAX at a page's end. */
static uint32_t end_page(const struct slot *slot)
{
    uint64_t length = bulla_sequence_length(slot->sequence);
    return length % BULLA_PAGE_POSITIONS ? slot->sequence->pages[length / BULLA_PAGE_POSITIONS] : UINT32_MAX;
}

/* Before the slots of a step write into their last pages, one after another. */
static void foresee_write(struct world *world, struct slot *const *slots, size_t number, struct seen *seen)
{
    uint32_t page = end_page(slots[number]);
    if (page == UINT32_MAX)
        return;
    uint32_t holders = world->engine->pool.pages[page].references;
    for (size_t i = 0; i < number; i++)
        holders -= end_page(slots[i]) == page; /* has a copy by then */
    seen->copies += holders > 1;
    if (holders > 1 || !world->engine->pool.pages[page].prefix.is_cached || world->has_pressure)
        return;
    seen->forgotten++;
    struct known *all = &world->known[0][0][0];
    for (uint32_t i = 0; i < TENANTS * STREAMS * BLOCKS; i++)
        if (all[i].page == page)
            all[i].is_known = 0;
}

/* The blocks of the slot that have become full since its pages last entered the cache. */
static void foresee_pages(struct world *world, struct slot *slot, struct seen *seen)
{
    uint64_t block = slot->shared;
    slot->shared = bulla_sequence_length(slot->sequence) / BULLA_PAGE_POSITIONS;
    for (; slot->tenant && (block + 1) * BULLA_PAGE_POSITIONS <= bulla_sequence_length(slot->sequence); block++) {
        struct known *known = entry_of(world, slot, block);
        int is_enough = known->is_known && is_evaluated(world, slot->first, known->first, block);
        seen->joined += is_enough;
        seen->replaced += known->is_known && !is_enough;
        if (is_enough && !world->has_pressure)
            assert_int_equal(slot->sequence->pages[block], known->page);
        if (!is_enough)
            *known = (struct known){1, slot->first, slot->sequence->pages[block]};
    }
}

/* Every page is held as often as it says, idle or free. */
static void check_pages(const struct world *world)
{
    const struct pool *pool = &world->engine->pool;
    uint32_t *holders = memory_alloc(pool->total, sizeof *holders, NULL);
    uint64_t held = 0, idle = 0;
    for (uint32_t s = 0; s < SLOTS; s++)
        for (uint64_t i = 0; world->slots[s].sequence && i < world->slots[s].sequence->page_count; i++)
            held += holders[world->slots[s].sequence->pages[i]]++ == 0;
    for (uint64_t i = 0; i < pool->total; i++)
        assert_int_equal(pool->pages[i].references, holders[i]);
    for (uint64_t i = 0; i < pool->free_count; i++) {
        assert_int_equal(holders[pool->free_pages[i]]++, 0);
        assert_false(pool->pages[pool->free_pages[i]].prefix.is_cached);
    }
    for (uint32_t i = pool->pages[pool->total].newer; i != pool->total; i = pool->pages[i].newer, idle++) {
        assert_int_equal(holders[i]++, 0);
        assert_true(pool->pages[i].prefix.is_cached);
    }
    assert_int_equal(idle, pool->idle_count);
    assert_int_equal(bulla_engine_pages_free(world->engine) + held, pool->total);
    memory_free(holders);
}

/* --- what happens in it --- */

static void open_slot(struct world *world, struct slot *slot, struct seen *seen)
{
    bulla_error error = {0};
    slot->stream = random_below(STREAMS);
    slot->first = random_below(FIRSTS);
    slot->tenant = random_below(TENANTS);
    uint32_t first = world->firsts[slot->first];
    size_t count = random_below(3) ? first + 1 : random_below(LENGTH + 1);
    bulla_prefix_counters before, after;
    bulla_engine_prefix_counters(world->engine, &before);
    uint64_t blocks = predict(world, slot, count, seen);
    int is_foreseen = count % 2 == 1;
    uint64_t foreseen = is_foreseen ? bulla_engine_prefix_find(world->engine, first, tenants[slot->tenant],
                                                               world->streams[slot->stream], count) : 0;
    assert_ok(bulla_sequence_open_prefix(world->engine, first, tenants[slot->tenant], world->streams[slot->stream],
                                         count, &slot->sequence, &error), error);
    uint64_t length = bulla_sequence_length(slot->sequence);
    if (world->has_pressure ? length > blocks * BULLA_PAGE_POSITIONS : length != blocks * BULLA_PAGE_POSITIONS)
        fail_msg("%llu positions came from the cache, expected %llu", (unsigned long long)length,
                 (unsigned long long)(blocks * BULLA_PAGE_POSITIONS));
    assert_int_equal(length % BULLA_PAGE_POSITIONS, 0);
    assert_int_equal(foreseen, is_foreseen ? length : 0);
    slot->shared = length / BULLA_PAGE_POSITIONS;
    bulla_engine_prefix_counters(world->engine, &after);
    assert_int_equal(after.positions_queried - before.positions_queried, slot->tenant ? count : 0);
    assert_int_equal(after.positions_reused - before.positions_reused, length);
    assert_int_equal(after.hits - before.hits, length > 0);
    assert_int_equal(after.misses - before.misses, slot->tenant && length == 0);
    seen->opened++;
    seen->reused += length > 0;
}

static void close_slot(struct slot *slot)
{
    bulla_sequence_close(slot->sequence);
    slot->sequence = NULL;
}

/* Cuts a sequence to `most` positions or fewer, and may go on with another stream that begins with what is left. */
static void cut_slot(struct world *world, struct slot *slot, uint64_t most)
{
    uint64_t length = random_below((uint32_t)most + 1), full = length / BULLA_PAGE_POSITIONS;
    bulla_sequence_truncate(slot->sequence, length);
    slot->shared = slot->shared < full ? slot->shared : full;
    uint32_t stream = random_below(STREAMS);
    if (common_length(world, stream, slot->stream) >= length)
        slot->stream = stream;
}

static bulla_piece piece_of(struct world *world, const struct slot *slot, int32_t *logits)
{
    uint64_t length = bulla_sequence_length(slot->sequence), left = LENGTH - length;
    uint64_t first = world->firsts[slot->first];
    uint32_t count = 1 + random_below(random_below(2) ? 5 : 150);
    count = count < left ? count : (uint32_t)left;
    uint64_t from = length < first ? first - length : 0;
    return (bulla_piece){.sequence = slot->sequence, .ids = world->streams[slot->stream] + length, .count = count,
                         .logits_from = from < count ? (uint32_t)from : count, .logits = logits};
}

static void check_piece(struct world *world, const struct slot *slot, uint64_t start, const bulla_piece *piece)
{
    const struct expected *expected = expect(world, slot->stream, slot->first);
    uint64_t end = start + piece->count, vocabulary = world->program->vocabulary;
    int is_out = expected->code == BULLA_E_RANGE && expected->position < end;
    if (piece->code != (is_out ? BULLA_E_RANGE : BULLA_OK))
        fail_msg("%s at position %llu, expected %s at %llu", bulla_code_name(piece->code),
                 (unsigned long long)piece->range_position, bulla_code_name(expected->code),
                 (unsigned long long)expected->position);
    if (is_out) {
        assert_int_equal(piece->range_position, expected->position);
        assert_int_equal(piece->range_operation, expected->operation);
        end = expected->position;
    }
    for (uint64_t p = start + piece->logits_from; p < end; p++)
        assert_memory_equal(piece->logits + (p - start - piece->logits_from) * vocabulary,
                            expected->logits + (p - world->firsts[slot->first]) * vocabulary,
                            vocabulary * sizeof(int32_t));
}

/* Some of the open sequences together, if they have something left; where pages are short, one is closed. */
static void step(struct world *world, struct seen *seen)
{
    bulla_error error = {0};
    bulla_piece pieces[SLOTS];
    struct slot *of[SLOTS];
    uint64_t starts[SLOTS];
    size_t count = 0;
    for (uint32_t s = 0; s < SLOTS; s++) {
        struct slot *slot = &world->slots[s];
        if (!slot->sequence || random_below(3) == 0 || bulla_sequence_length(slot->sequence) == LENGTH)
            continue;
        starts[count] = bulla_sequence_length(slot->sequence);
        of[count] = slot;
        pieces[count++] = piece_of(world, slot, memory_alloc((size_t)LENGTH * world->program->vocabulary, 4, &error));
    }
    for (size_t i = 0; i < count; i++)
        foresee_write(world, of, i, seen);
    int code = bulla_engine_step(world->engine, pieces, count, &error);
    assert_true(code == BULLA_OK || (code == BULLA_E_LIMIT && world->has_pressure));
    seen->limits += code != BULLA_OK;
    for (size_t i = 0; i < count; i++) {
        if (code == BULLA_OK)
            check_piece(world, of[i], starts[i], &pieces[i]);
        else
            assert_int_equal(bulla_sequence_length(of[i]->sequence), starts[i]);
        memory_free(pieces[i].logits);
        if (code != BULLA_OK && i > 0)
            continue;
        int is_range = code == BULLA_OK && pieces[i].code == BULLA_E_RANGE;
        if (code == BULLA_OK && !is_range)
            foresee_pages(world, of[i], seen);
        else if (is_range && random_below(4))
            cut_slot(world, of[i], pieces[i].range_position);
        else
            close_slot(of[i]);
        seen->ranges += is_range;
    }
}

static void live(struct world *world, int events, struct seen *seen)
{
    for (int event = 0; event < events; event++) {
        struct slot *slot = &world->slots[random_below(SLOTS)];
        uint32_t what = random_below(8);
        if (!slot->sequence)
            open_slot(world, slot, seen);
        else if (what == 0)
            close_slot(slot);
        else if (what == 1)
            cut_slot(world, slot, bulla_sequence_length(slot->sequence));
        else
            step(world, seen);
        check_pages(world);
    }
    bulla_prefix_counters counters;
    bulla_engine_prefix_counters(world->engine, &counters);
    seen->evictions += counters.evictions;
    for (uint32_t s = 0; s < SLOTS; s++)
        close_slot(&world->slots[s]);
    assert_int_equal(bulla_engine_pages_free(world->engine), bulla_engine_pages_total(world->engine));
}

static void print_seen(const struct seen *seen)
{
    const struct { const char *what; uint64_t count; } lines[] = {
        {"opened", seen->opened}, {"began with pages", seen->reused}, {"lacked values", seen->uncovered},
        {"RANGE", seen->ranges}, {"copies", seen->copies}, {"forgotten", seen->forgotten},
        {"replaced", seen->replaced}, {"joined", seen->joined}, {"limits", seen->limits},
        {"evictions", seen->evictions}};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        print_message("%s%s %llu", i ? ", " : "", lines[i].what, (unsigned long long)lines[i].count);
    print_message("\n");
}

static void run_worlds(int family, int strain, uint64_t pages, uint64_t worlds, struct seen *seen)
{
    for (uint64_t seed = 1; seed <= worlds; seed++) {
        struct world world;
        world_open(&world, seed, family, strain, pages);
        live(&world, 400, seen);
        world_close(&world);
    }
    print_seen(seen);
}

static void test_room(void **state)
{
    struct seen seen = {0};
    run_worlds(RANDOM_ODD, 0, 100, test_count(4, 300), &seen);
    assert_true(seen.reused && seen.uncovered && seen.copies && seen.forgotten && seen.replaced && seen.joined);
}

static void test_pressure(void **state)
{
    struct seen seen = {0};
    run_worlds(RANDOM_ODD, 0, 11, test_count(4, 300), &seen);
    assert_true(seen.reused && seen.uncovered && seen.copies && seen.limits && seen.evictions);
}

static void test_range(void **state)
{
    struct seen seen = {0};
    run_worlds(RANDOM_ODD, 1, 100, test_count(8, 600), &seen);
    assert_true(seen.reused && seen.uncovered && seen.ranges);
}

/* --- single cases --- */

enum { PROMPT = 150 }; /* two full pages and a part */

static bulla_engine *open_salted(const bulla_program *program, uint64_t pages, const uint8_t *prefix_salt)
{
    bulla_error error = {0};
    bulla_engine *engine;
    bulla_engine_options options = {.threads = 1, .pages = pages, .prefix_salt = prefix_salt};
    assert_ok(bulla_engine_open_program(program, NULL, &options, &engine, &error), error);
    return engine;
}

static bulla_engine *open_engine(const bulla_program *program, uint64_t pages)
{
    return open_salted(program, pages, salt);
}

/* A sequence for `count` times this token; `reused` positions have to come from the cache. */
static bulla_sequence *open_sampled(bulla_engine *engine, uint64_t first_sampled, const char *tenant, uint32_t token,
                                    size_t count, uint64_t reused)
{
    bulla_error error = {0};
    uint32_t ids[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++)
        ids[i] = token;
    bulla_sequence *sequence;
    assert_ok(bulla_sequence_open_prefix(engine, first_sampled, tenant, ids, count, &sequence, &error), error);
    assert_int_equal(bulla_sequence_length(sequence), reused);
    return sequence;
}

static bulla_sequence *open_prompt(bulla_engine *engine, const char *tenant, uint32_t token, uint64_t reused)
{
    return open_sampled(engine, PROMPT - 1, tenant, token, PROMPT, reused);
}

static int append(bulla_sequence *sequence, uint32_t token, uint32_t count, bulla_error *error)
{
    uint32_t ids[PROMPT];
    for (uint32_t i = 0; i < count; i++)
        ids[i] = token;
    bulla_piece piece = {.sequence = sequence, .ids = ids, .count = count, .logits_from = count};
    return bulla_engine_step(sequence->engine, &piece, 1, error);
}

/* The whole prompt, computed and closed. */
static void run_prompt(bulla_engine *engine, const char *tenant, uint32_t token, uint64_t reused)
{
    bulla_error error = {0};
    bulla_sequence *sequence = open_prompt(engine, tenant, token, reused);
    assert_ok(append(sequence, token, PROMPT - (uint32_t)reused, &error), error);
    bulla_sequence_close(sequence);
}

static bulla_program *open_program(void)
{
    bulla_error error = {0};
    bulla_program *program;
    assert_ok(random_program_new(6, RANDOM_ODD, 0, &program, &error), error);
    return program;
}

static void test_off(void **state)
{
    bulla_error error = {0};
    bulla_program *program = open_program();
    bulla_engine *engine = open_salted(program, 20, NULL);
    bulla_prefix_counters counters;
    run_prompt(engine, "ada", 1, 0);
    run_prompt(engine, "ada", 1, 0);
    bulla_engine_prefix_counters(engine, &counters);
    assert_int_equal(counters.misses, 0);
    bulla_engine_close(engine);

    engine = open_engine(program, 20);
    run_prompt(engine, NULL, 1, 0); /* gives nothing */
    run_prompt(engine, "ada", 1, 0);
    run_prompt(engine, NULL, 1, 0); /* takes nothing */
    run_prompt(engine, "ada", 1, 128);
    run_prompt(engine, "", 1, 0);
    bulla_sequence *sequence;
    assert_ok(bulla_sequence_open(engine, PROMPT - 1, &sequence, &error), error);
    assert_int_equal(bulla_sequence_length(sequence), 0);
    bulla_engine_close(engine);
    random_program_free(program);
}

static void run_sampled(bulla_engine *engine, uint64_t first_sampled, uint64_t reused)
{
    bulla_error error = {0};
    bulla_sequence *sequence = open_sampled(engine, first_sampled, "ada", 1, PROMPT, reused);
    assert_ok(append(sequence, 1, PROMPT - (uint32_t)reused, &error), error);
    bulla_sequence_close(sequence);
}

/* The same tenant and tokens have other keys where the salt is another. */
static void test_salt(void **state)
{
    static const uint8_t other_salt[BULLA_PREFIX_SALT_BYTES] = {[BULLA_PREFIX_SALT_BYTES - 1] = 1};
    const uint8_t *salts[] = {salt, other_salt, salt};
    bulla_program *program = open_program();
    struct prefix_key keys[3][2];
    for (int i = 0; i < 3; i++) {
        bulla_engine *engine = open_salted(program, 20, salts[i]);
        bulla_sequence *sequence = open_prompt(engine, "ada", 1, 0);
        memcpy(keys[i], sequence->prefix.keys, sizeof keys[i]);
        bulla_engine_close(engine);
    }
    assert_memory_equal(keys[0], keys[2], sizeof keys[0]);
    for (int key = 0; key < 2; key++)
        assert_memory_not_equal(&keys[0][key], &keys[1][key], sizeof keys[0][key]);
    random_program_free(program);
}

/* The position sampled first is always computed, and no more is taken than the prompt has. */
static void test_whole_pages(void **state)
{
    bulla_program *program = open_program();
    bulla_engine *engine = open_engine(program, 20);
    run_sampled(engine, 0, 0); /* everything is evaluated */
    bulla_sequence_close(open_sampled(engine, 127, "ada", 1, 128, 64));
    bulla_sequence_close(open_sampled(engine, 127, "ada", 1, PROMPT, 64));
    bulla_sequence_close(open_sampled(engine, 128, "ada", 1, 128, 128));
    bulla_sequence_close(open_sampled(engine, 149, "ada", 1, 127, 64));
    bulla_sequence_close(open_sampled(engine, 0, "ada", 1, 1, 0));
    bulla_sequence_close(open_sampled(engine, 149, "ada", 1, 0, 0));
    bulla_engine_close(engine);
    random_program_free(program);
}

/* The last layer sees 20 positions. What is sampled from 147 on needs its keys from
 * 128 on, the third page; sampled from 146 on, also the last one of the second page. */
static void test_window_edge(void **state)
{
    bulla_program *program = open_program();
    bulla_operation *operations = (bulla_operation *)(uintptr_t)program->operations;
    for (uint32_t i = 0; i < program->operation_count; i++)
        if (operations[i].kind == BULLA_ATTEND)
            operations[i].window = operations[i].layer + 1u == program->layers ? 20 : 0;
    bulla_engine *engine = open_engine(program, 20);
    run_sampled(engine, 147, 0);
    run_sampled(engine, 149, 128);
    run_sampled(engine, 146, 64); /* its page takes the place of the one that lacks a key */
    run_sampled(engine, 146, 128);
    run_sampled(engine, 149, 128);
    bulla_engine_close(engine);
    random_program_free(program);
}

/* Pages go in the order of their last use, those of one prompt from its end. */
static void test_eviction_order(void **state)
{
    bulla_error error = {0};
    bulla_program *program = open_program();
    bulla_engine *engine = open_engine(program, 6);
    bulla_prefix_counters counters;
    run_prompt(engine, "ada", 1, 0);
    run_prompt(engine, "ada", 2, 0);
    run_prompt(engine, "ada", 1, 128); /* used again: now that of 2 is the oldest */
    assert_int_equal(bulla_engine_pages_free(engine), 6);
    bulla_sequence *other = open_prompt(engine, NULL, 3, 0);
    assert_ok(append(other, 3, PROMPT, &error), error); /* 2 free pages, and 1 that was cached */
    assert_int_equal(bulla_engine_pages_free(engine), 3);
    bulla_sequence *first = open_prompt(engine, "ada", 1, 128), *second = open_prompt(engine, "ada", 2, 64);
    assert_int_equal(bulla_engine_pages_free(engine), 0);
    assert_int_equal(append(first, 1, 12, &error), BULLA_E_LIMIT); /* what sequences hold is never taken */
    bulla_error_clear(&error);
    bulla_sequence_close(second);
    assert_ok(append(first, 1, 12, &error), error);
    bulla_engine_prefix_counters(engine, &counters);
    assert_int_equal(counters.evictions, 2);
    assert_int_equal(counters.hits, 3);
    assert_int_equal(counters.misses, 2);
    assert_int_equal(counters.positions_queried, 5 * PROMPT);
    assert_int_equal(counters.positions_reused, 128 + 128 + 64);
    bulla_sequence_close(first);
    bulla_sequence_close(other);
    run_prompt(engine, "ada", 2, 0);
    bulla_engine_close(engine);
    random_program_free(program);
}

/* Going on within a page that two sequences hold takes a page; within one's own, none. */
static void test_shared_end(void **state)
{
    bulla_error error = {0};
    bulla_program *program = open_program();
    bulla_engine *engine = open_engine(program, 4);
    run_prompt(engine, "ada", 1, 0);
    bulla_sequence *first = open_prompt(engine, "ada", 1, 128), *second = open_prompt(engine, "ada", 1, 128);
    bulla_sequence *other = open_prompt(engine, NULL, 1, 0);
    assert_ok(append(other, 2, 128, &error), error);
    assert_int_equal(bulla_engine_pages_free(engine), 0);
    bulla_sequence_truncate(second, 100);
    assert_int_equal(append(second, 2, 28, &error), BULLA_E_LIMIT);
    assert_non_null(strstr(error.text, "others share"));
    bulla_error_clear(&error);
    assert_int_equal(bulla_sequence_length(second), 100);
    bulla_sequence_close(first);
    assert_ok(append(second, 2, 28, &error), error);
    bulla_sequence_close(second);
    bulla_sequence_close(other);
    run_prompt(engine, "ada", 1, 64); /* the second page was written over */
    assert_int_equal(bulla_engine_pages_free(engine), 4);
    bulla_engine_close(engine);
    random_program_free(program);
}

/* Opens, computes, opens again and goes on within a shared page; the first error ends it. */
static int use_engine(bulla_engine *engine, bulla_sequence *sequences[2], bulla_error *error)
{
    uint32_t ids[PROMPT] = {0};
    int code = BULLA_OK;
    for (int i = 0; i < 2 && code == BULLA_OK; i++) {
        code = bulla_sequence_open_prefix(engine, PROMPT - 1, "ada", ids, PROMPT, &sequences[i], error);
        if (code == BULLA_OK)
            code = append(sequences[i], 0, PROMPT - (uint32_t)bulla_sequence_length(sequences[i]), error);
    }
    if (code == BULLA_OK) {
        bulla_sequence_truncate(sequences[1], 100);
        code = append(sequences[1], 1, PROMPT, error);
    }
    return code;
}

static void test_allocation_failures(void **state)
{
    bulla_program *program = open_program();
    int done = 0, opened = 0;
    for (uint64_t n = 1; !done; n++) {
        bulla_error error = {0};
        bulla_engine *engine;
        bulla_engine_options options = {.threads = 1, .pages = 9, .prefix_salt = salt};
        memory_inject_failure(n, 0);
        int code = bulla_engine_open_program(program, NULL, &options, &engine, &error);
        if (code == BULLA_OK) {
            bulla_sequence *sequences[2] = {0};
            opened++;
            code = use_engine(engine, sequences, &error);
            memory_inject_failure(0, 0);
            done = code == BULLA_OK;
            bulla_sequence_close(sequences[0]);
            bulla_sequence_close(sequences[1]);
            assert_int_equal(bulla_engine_pages_free(engine), 9);
            run_prompt(engine, "ada", 7, 0);
            run_prompt(engine, "ada", 7, 128);
        }
        memory_inject_failure(0, 0);
        assert_true(done || code == BULLA_E_MEMORY);
        bulla_engine_close(engine);
        assert_true(n < 300);
    }
    assert_true(opened > 5);
    random_program_free(program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room),           cmocka_unit_test(test_pressure),
        cmocka_unit_test(test_range),          cmocka_unit_test(test_off),
        cmocka_unit_test(test_salt),           cmocka_unit_test(test_whole_pages),
        cmocka_unit_test(test_window_edge),    cmocka_unit_test(test_eviction_order),
        cmocka_unit_test(test_shared_end),     cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
