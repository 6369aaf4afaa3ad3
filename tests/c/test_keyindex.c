/* test_keyindex.c - ids to keys: any ids, any growth, any number of threads. */
#include "check.h"

#include "base/keyindex.h"
#include "base/random.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__
#define THREADS_ONLY 1 /* TSan does not follow a fork with threads */
#else
#define THREADS_ONLY 0
#endif

/* Different numbers that look like nothing. */
static void
draw_ids(uint64_t *ids, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        ids[i] = mdn_mix(first + i);
}

static bool
answers(mdn_keyindex *index, const uint64_t *ids, uint64_t count,
        uint64_t first_key, uint32_t threads)
{
    uint64_t *keys = calloc(count + 1, sizeof *keys);
    bool right = mdn_keyindex_find(index, ids, count, keys, NULL, threads, NULL)
                 == MDN_OK;

    for (uint64_t i = 0; i < count && right; i++)
        right = keys[i] == first_key + i;
    free(keys);
    return right;
}

static void
every_id_is_found_however_many_came_at_a_time(void)
{
    enum { COUNT = 40000 };
    uint64_t *ids = malloc(COUNT * sizeof *ids);

    draw_ids(ids, 0, COUNT);
    for (uint64_t step = 1; step <= COUNT; step = step * 7 + 3) {
        mdn_keyindex *index;

        CHECK(mdn_keyindex_new(&index, NULL) == MDN_OK);
        for (uint64_t at = 0; at < COUNT; at += step) {
            uint64_t n = COUNT - at < step ? COUNT - at : step;

            CHECK(mdn_keyindex_add(index, ids + at, NULL, n, 2, NULL)
                  == MDN_OK);
            if (at % 4000 < step)
                CHECK(answers(index, ids + at / 2, at / 2 + n - at % 2, at / 2,
                              1));
        }
        CHECK(mdn_keyindex_count(index) == COUNT);
        CHECK(mdn_keyindex_size_bytes(index) <= 26 * COUNT);
        CHECK(answers(index, ids, COUNT, 0, 3));
        mdn_keyindex_free(index);
    }
    free(ids);
}

/* Ids whose hashes begin with the same bits, so that all of them are at home in
 * a few buckets: at the end of what the first of two threads fills, or at the
 * end of the table, where a search goes on at its beginning. */
static void
collisions_cost_time_only(void)
{
    enum { PLAIN = 33000, CROWD = 700, COUNT = PLAIN + CROWD };
    static const uint64_t ends[] = {0x7ff, 0xfff, 0};
    uint64_t *ids = malloc(COUNT * sizeof *ids);

    for (int e = 0; e < 3; e++) {
        uint64_t number = 0, missing = 77, key;

        draw_ids(ids, UINT64_C(1) << 40, PLAIN);
        for (uint64_t i = PLAIN; i < COUNT; number++) {
            if (mdn_mix(number) >> 52 == ends[e])
                ids[i++] = number;
        }
        for (uint32_t threads = 1; threads <= 3; threads++) {
            mdn_keyindex *index;

            CHECK(mdn_keyindex_new(&index, NULL) == MDN_OK);
            CHECK(mdn_keyindex_add(index, ids, NULL, COUNT, threads, NULL)
                  == MDN_OK);
            CHECK(mdn_keyindex_count(index) == COUNT);
            CHECK(answers(index, ids, COUNT, 0, threads));
            while (mdn_mix(number) >> 52 != ends[e])
                number++;
            CHECK(mdn_keyindex_find(index, &number, 1, &key, &missing, 1, NULL)
                  == MDN_OK);
            CHECK(key == 77);
            mdn_keyindex_free(index);
        }
    }
    free(ids);
}

static void
the_last_key_of_an_id_counts_whatever_the_threads(void)
{
    enum { COUNT = 70000, DIFFERENT = 1000 };
    uint64_t *ids = malloc(COUNT * sizeof *ids);
    uint64_t different[DIFFERENT];

    draw_ids(different, 9, DIFFERENT);
    for (uint64_t i = 0; i < COUNT; i++)
        ids[i] = different[i * 37 % DIFFERENT];
    for (uint32_t threads = 1; threads <= 4; threads++) {
        mdn_keyindex *index;
        uint64_t key, id;

        CHECK(mdn_keyindex_new(&index, NULL) == MDN_OK);
        CHECK(mdn_keyindex_add(index, ids, NULL, COUNT, threads, NULL)
              == MDN_OK);
        CHECK(mdn_keyindex_count(index) == DIFFERENT);
        CHECK(mdn_keyindex_size_bytes(index) <= 27 * DIFFERENT);
        CHECK(answers(index, ids + COUNT - DIFFERENT, DIFFERENT,
                      COUNT - DIFFERENT, threads));
        id = 3; /* what comes next follows the largest key */
        CHECK(mdn_keyindex_add(index, &id, NULL, 1, 1, NULL) == MDN_OK);
        CHECK(mdn_keyindex_find(index, &id, 1, &key, NULL, 1, NULL) == MDN_OK);
        CHECK(key == COUNT);
        mdn_keyindex_free(index);
    }
    free(ids);
}

static void
the_first_id_that_is_missing_is_named_whatever_the_threads(void)
{
    enum { COUNT = 50000 };
    uint64_t *ids = malloc(COUNT * sizeof *ids);
    uint64_t *keys = malloc(COUNT * sizeof *keys), none = UINT64_MAX;
    mdn_keyindex *index;
    mdn_error err;

    draw_ids(ids, 1, COUNT); /* 0 is drawn from 0 */
    CHECK(mdn_keyindex_new(&index, NULL) == MDN_OK);
    CHECK(mdn_keyindex_add(index, ids, NULL, COUNT, 1, NULL) == MDN_OK);
    ids[41000] = 12;
    ids[30001] = 0;
    ids[30002] = UINT64_MAX;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        CHECK(mdn_keyindex_find(index, ids, COUNT, keys, NULL, threads, &err)
              == MDN_NO_KEY);
        CHECK(strstr(err.message, "id 0, ids[30001]") != NULL);
        CHECK(mdn_keyindex_find(index, ids, COUNT, keys, &none, threads, &err)
              == MDN_OK);
        CHECK(keys[30000] == 30000 && keys[30003] == 30003);
        CHECK(keys[30001] == none && keys[30002] == none
              && keys[41000] == none);
    }
    mdn_keyindex_free(index);
    free(ids);
    free(keys);
}

static void
keys_reach_as_far_as_is_said(void)
{
    uint64_t ids[7] = {0, UINT64_MAX, 1, 2, 3, 4, 5}, got[7], key = 0;
    uint64_t keys[7] = {MDN_KEYINDEX_KEY_MAX,
                        UINT64_C(1) << 32,
                        (UINT64_C(1) << 32) - 1,
                        0,
                        UINT64_C(0x2aaaaaaaaa),
                        UINT64_C(0x1555555555),
                        UINT32_MAX};
    mdn_keyindex *index;
    mdn_error err;

    CHECK(mdn_keyindex_new(&index, NULL) == MDN_OK);
    CHECK(mdn_keyindex_find(index, ids, 0, got, NULL, 1, NULL) == MDN_OK);
    CHECK(mdn_keyindex_find(index, ids, 1, got, NULL, 1, NULL) == MDN_NO_KEY);
    CHECK(mdn_keyindex_add(index, ids, keys, 7, 1, NULL) == MDN_OK);
    CHECK(mdn_keyindex_find(index, ids, 7, got, NULL, 1, NULL) == MDN_OK);
    CHECK(memcmp(got, keys, sizeof keys) == 0);
    CHECK(mdn_keyindex_add(index, ids, NULL, 1, 1, &err) == MDN_INVALID);
    keys[6]++;
    keys[3] = MDN_KEYINDEX_KEY_MAX + 1;
    CHECK(mdn_keyindex_add(index, ids, keys, 7, 1, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "keys[3]") != NULL);
    CHECK(mdn_keyindex_find(index, ids + 6, 1, &key, NULL, 1, NULL) == MDN_OK);
    CHECK(key == UINT32_MAX); /* nothing was added */
    mdn_keyindex_free(index);
    mdn_keyindex_free(NULL);
}

/* Threads. */

enum { FIRST = 2000, MORE = 300, ROUNDS = 30 };

typedef struct {
    mdn_keyindex *index;
    const uint64_t *ids;
    atomic_bool stop;
    atomic_int wrong;
} stage;

static void *
look_up(void *argument)
{
    stage *s = argument;

    while (!atomic_load(&s->stop)) {
        uint64_t have = mdn_keyindex_count(s->index);

        if (!answers(s->index, s->ids, have, 0, 1))
            atomic_fetch_add(&s->wrong, 1);
    }
    return NULL;
}

static void
threads_look_up_while_one_adds(void)
{
    enum { COUNT = FIRST + MORE * ROUNDS };
    uint64_t *ids = malloc(COUNT * sizeof *ids);
    stage s = {.ids = ids};
    pthread_t readers[3];

    draw_ids(ids, 0, COUNT);
    CHECK(mdn_keyindex_new(&s.index, NULL) == MDN_OK);
    CHECK(mdn_keyindex_add(s.index, ids, NULL, FIRST, 1, NULL) == MDN_OK);
    for (int t = 0; t < 3; t++)
        CHECK(pthread_create(&readers[t], NULL, look_up, &s) == 0);
    for (uint64_t i = 0; i < ROUNDS; i++)
        CHECK(mdn_keyindex_add(s.index, ids + FIRST + i * MORE, NULL, MORE, 2,
                               NULL)
              == MDN_OK);
    atomic_store(&s.stop, true);
    for (int t = 0; t < 3; t++)
        pthread_join(readers[t], NULL);
    CHECK(atomic_load(&s.wrong) == 0);
    CHECK(answers(s.index, ids, COUNT, 0, 2));
    mdn_keyindex_free(s.index);
    free(ids);
}

/* Nobody who looked up in the parent is there to be waited for. */
static void
a_child_adds_to_its_own_copy(void)
{
    enum { COUNT = 3000 };
    uint64_t ids[COUNT];
    stage s = {.ids = ids};
    pthread_t reader;

    draw_ids(ids, 0, COUNT);
    CHECK(mdn_keyindex_new(&s.index, NULL) == MDN_OK);
    CHECK(mdn_keyindex_add(s.index, ids, NULL, COUNT - 10, 1, NULL) == MDN_OK);
    CHECK(pthread_create(&reader, NULL, look_up, &s) == 0);
    for (int i = 0; i < 20; i++) {
        int status = 1;
        pid_t child = fork();

        if (child == 0) {
            alarm(20);
            status =
                mdn_keyindex_add(s.index, ids + COUNT - 10, NULL, 10, 1, NULL)
                            == MDN_OK
                        && answers(s.index, ids, COUNT, 0, 1)
                    ? 0
                    : 1;
            _exit(status);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    atomic_store(&s.stop, true);
    pthread_join(reader, NULL);
    CHECK(atomic_load(&s.wrong) == 0);
    CHECK(mdn_keyindex_count(s.index) == COUNT - 10);
    mdn_keyindex_free(s.index);
}

int
main(void)
{
    RUN(every_id_is_found_however_many_came_at_a_time);
    RUN(collisions_cost_time_only);
    RUN(the_last_key_of_an_id_counts_whatever_the_threads);
    RUN(the_first_id_that_is_missing_is_named_whatever_the_threads);
    RUN(keys_reach_as_far_as_is_said);
    RUN(threads_look_up_while_one_adds);
    if (!THREADS_ONLY)
        RUN(a_child_adds_to_its_own_copy);
    return check_report("test_keyindex");
}
