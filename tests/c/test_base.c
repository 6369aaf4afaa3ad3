/* test_base.c - checksums, digests, permutations, draws, sizes, errors. */
#include "base/blake2b.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/parallel.h"
#include "base/permutation.h"
#include "base/random.h"
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *
random_bytes(uint64_t size)
{
    uint8_t *bytes = malloc(size);

    if (bytes == NULL)
        abort();
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)mdn_draw(7, i);
    return bytes;
}

/* Vectors of RFC 3720, B.4, and the usual check value. */
static void
crc32c_matches_known_vectors(void)
{
    uint8_t zeros[32] = {0}, ones[32], up[32];

    memset(ones, 0xff, sizeof ones);
    for (uint8_t i = 0; i < 32; i++)
        up[i] = i;
    CHECK(mdn_crc32c(0, "123456789", 9) == 0xe3069283);
    CHECK(mdn_crc32c(0, zeros, 32) == 0x8a9136aa);
    CHECK(mdn_crc32c(0, ones, 32) == 0x62a8ab43);
    CHECK(mdn_crc32c(0, up, 32) == 0x46dd794e);
    CHECK(mdn_crc32c(0, "", 0) == 0);
    CHECK(mdn_crc32c_portable(0, "123456789", 9) == 0xe3069283);
}

static void
crc32c_is_the_same_by_table_and_by_hardware(void)
{
    enum { SIZE = 3 * 3072 + 64 };
    uint8_t *bytes = random_bytes(SIZE);

    for (uint64_t start = 0; start < 9; start++) {
        for (uint64_t size = 0; size < 80; size++)
            CHECK(mdn_crc32c(1, bytes + start, size)
                  == mdn_crc32c_portable(1, bytes + start, size));
        for (uint64_t size = 3000; size + start < SIZE; size += 61)
            CHECK(mdn_crc32c(1, bytes + start, size)
                  == mdn_crc32c_portable(1, bytes + start, size));
    }
    free(bytes);
}

static void
crc32c_of_a_whole_continues_over_its_parts(void)
{
    enum { SIZE = 7000 };
    uint8_t *bytes = random_bytes(SIZE);
    uint32_t whole = mdn_crc32c(0, bytes, SIZE);

    for (uint64_t cut = 0; cut <= SIZE; cut += 13)
        CHECK(mdn_crc32c(mdn_crc32c(0, bytes, cut), bytes + cut, SIZE - cut)
              == whole);
    free(bytes);
}

static void
check_digest(const void *data, uint64_t size, const char *hex)
{
    mdn_blake2b hash;
    uint8_t digest[MDN_DIGEST_SIZE];
    char text[2 * MDN_DIGEST_SIZE + 1];

    mdn_blake2b_init(&hash);
    mdn_blake2b_update(&hash, data, size);
    mdn_blake2b_final(&hash, digest);
    mdn_digest_hex(digest, text);
    CHECK(strcmp(text, hex) == 0);
}

static void
blake2b_matches_known_digests(void)
{
    uint8_t up[256];

    for (int i = 0; i < 256; i++)
        up[i] = (uint8_t)i;
    check_digest("", 0,
                 "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe"
                 "3a8");
    check_digest("abc", 3,
                 "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52"
                 "319");
    check_digest(
        up, 128,
        "c3582f71ebb2be66fa5dd750f80baae97554f3b015663c8be377cfcb2488c1d1");
    check_digest(
        up, 129,
        "f7f3c46ba2564ff4c4c162da1f5b605f9f1c4aa6a20652a9f9a337c1a2f5b9c9");
    check_digest(
        up, 256,
        "39a7eb9fedc19aabc83425c6755dd90e6f9d0c804964a1f4aaeea3b9fb599835");
}

/* A digest over the digests of inputs of every length, each fed in pieces of
 * growing size; the expected one was made with Python's hashlib. */
static void
blake2b_does_not_depend_on_how_input_is_cut(void)
{
    mdn_blake2b outer, inner;
    uint8_t digest[MDN_DIGEST_SIZE];
    char text[2 * MDN_DIGEST_SIZE + 1];
    uint8_t *bytes = random_bytes(1100);

    mdn_blake2b_init(&outer);
    for (uint64_t size = 0; size <= 1100; size++) {
        mdn_blake2b_init(&inner);
        for (uint64_t at = 0, step = 1; at < size;
             at += step, step = 2 * step) {
            if (step > size - at)
                step = size - at;
            mdn_blake2b_update(&inner, bytes + at, step);
        }
        mdn_blake2b_final(&inner, digest);
        mdn_blake2b_update(&outer, digest, sizeof digest);
    }
    mdn_blake2b_final(&outer, digest);
    mdn_digest_hex(digest, text);
    CHECK(
        strcmp(
            text,
            "3b6b9d290cff94cc7150266e9a6726d5472e6ec885f92ad9de3be77a8cc59316")
        == 0);
    free(bytes);
}

static void
check_bijection(uint64_t count, uint64_t seed)
{
    mdn_permutation perm;
    uint64_t *order = malloc(count * sizeof *order);
    uint8_t *seen = calloc(count, 1);

    if (order == NULL || seen == NULL)
        abort();
    mdn_permutation_init(&perm, count, seed, seed / 2);
    mdn_permutation_range(&perm, 0, count, order);
    for (uint64_t i = 0; i < count; i++) {
        CHECK(order[i] < count);
        if (order[i] < count)
            CHECK(!seen[order[i]]++);
    }
    for (uint64_t i = 0; i < count; i += 1 + count / 50)
        CHECK(mdn_permutation_at(&perm, i) == order[i]);
    free(order);
    free(seen);
}

static void
a_permutation_is_a_bijection(void)
{
    for (uint64_t count = 1; count < 700; count++)
        check_bijection(count, count % 5);
    for (uint64_t count = 65534; count < 65539; count++)
        check_bijection(count, 3);
    check_bijection(1000003, 11);
}

static void
a_range_is_the_same_wherever_it_starts(void)
{
    const uint64_t counts[] = {5000, UINT64_C(1) << 32,
                               UINT64_C(1000000007) * 998244353,
                               MDN_PERMUTATION_MAX};
    uint64_t out[1300];
    mdn_permutation perm;

    for (int c = 0; c < 4; c++) {
        const uint64_t firsts[] = {
            0, 1, 70, 700, counts[c] / 2, counts[c] - 1300};
        mdn_permutation_init(&perm, counts[c], 5, 1);
        for (int f = 0; f < 6; f++) {
            mdn_permutation_range(&perm, firsts[f], 1300, out);
            for (uint64_t i = 0; i < 1300; i++) {
                CHECK(out[i] < counts[c]);
                CHECK(out[i] == mdn_permutation_at(&perm, firsts[f] + i));
            }
        }
    }
    mdn_permutation_range(&perm, MDN_PERMUTATION_MAX, 0, out);
}

/* Over many epochs every element comes to every place about equally often,
 * and every ordered pair of elements is neighboured about equally often. */
static void
permutations_favour_no_place_and_no_neighbour(void)
{
    enum { N = 17, EPOCHS = 20000 };
    static uint32_t place[N][N], pair[N][N];
    double expected = (double)EPOCHS / N, chi = 0.0, chi_pair = 0.0;
    uint64_t order[N];
    mdn_permutation perm;

    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        mdn_permutation_init(&perm, N, 1, epoch);
        mdn_permutation_range(&perm, 0, N, order);
        for (int i = 0; i < N; i++) {
            place[i][order[i]]++;
            if (i > 0)
                pair[order[i - 1]][order[i]]++;
        }
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            double off = place[i][j] - expected,
                   off_pair = pair[i][j] - expected;
            chi += off * off / expected;
            if (i != j)
                chi_pair += off_pair * off_pair / expected;
        }
    }
    /* 256 and about 270 degrees of freedom: mean of as many, sigma about 23. */
    CHECK(chi > 150 && chi < 380);
    CHECK(chi_pair > 150 && chi_pair < 400);
}

static void
seeds_and_epochs_give_different_orders(void)
{
    mdn_permutation a, b, c, d;
    int same_ab = 0, same_ac = 0, same_ad = 0;

    mdn_permutation_init(&a, 1000, 1, 0);
    mdn_permutation_init(&b, 1000, 1, 1);
    mdn_permutation_init(&c, 1000, 2, 0);
    mdn_permutation_init(&d, 1000, 1, 0);
    for (uint64_t i = 0; i < 1000; i++) {
        same_ab += mdn_permutation_at(&a, i) == mdn_permutation_at(&b, i);
        same_ac += mdn_permutation_at(&a, i) == mdn_permutation_at(&c, i);
        same_ad += mdn_permutation_at(&a, i) == mdn_permutation_at(&d, i);
    }
    CHECK(same_ab < 12 && same_ac < 12 && same_ad == 1000);
}

/* A seed means the same order for ever; see tests/reference/permutation.py. */
static void
the_order_of_a_seed_never_changes(void)
{
    static const uint64_t small[10] = {3, 0, 6, 7, 4, 9, 8, 5, 2, 1};
    static const uint64_t large[4] = {
        UINT64_C(549129378275), UINT64_C(950616334176), UINT64_C(480571666784),
        UINT64_C(610187857637)};
    mdn_permutation perm;

    mdn_permutation_init(&perm, 10, 42, 3);
    for (uint64_t i = 0; i < 10; i++)
        CHECK(mdn_permutation_at(&perm, i) == small[i]);
    mdn_permutation_init(&perm, UINT64_C(1000000000000), 42, 3);
    for (uint64_t i = 0; i < 4; i++)
        CHECK(mdn_permutation_at(&perm, i) == large[i]);
}

static int
by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void
draws_of_one_stream_are_all_different(void)
{
    enum { N = 100000 };
    uint64_t *draws = malloc(N * sizeof *draws), start = mdn_stream(9, 2);

    if (draws == NULL)
        abort();
    for (uint64_t i = 0; i < N; i++)
        draws[i] = mdn_draw(start, i);
    qsort(draws, N, sizeof *draws, by_value);
    for (int i = 1; i < N; i++)
        CHECK(draws[i - 1] != draws[i]);
    /* Uniform: the median lies near the middle. */
    CHECK(draws[N / 2] > UINT64_MAX / 100 * 49);
    CHECK(draws[N / 2] < UINT64_MAX / 100 * 51);
    free(draws);
}

/* Each bit of a draw is set half of the time, and changing one bit of seed,
 * stream or index changes half of the bits. */
static void
draws_depend_on_every_bit(void)
{
    enum { TRIES = 4000 };
    int set[64] = {0};
    double changed[3] = {0.0, 0.0, 0.0};

    for (uint64_t i = 0; i < TRIES; i++) {
        uint64_t bit = UINT64_C(1) << (i % 64), index = mdn_mix(i);
        uint64_t draw = mdn_draw(mdn_stream(i, 3), index);
        for (int b = 0; b < 64; b++)
            set[b] += (int)((draw >> b) & 1);
        changed[0] += __builtin_popcountll(
            draw ^ mdn_draw(mdn_stream(i ^ bit, 3), index));
        changed[1] += __builtin_popcountll(
            draw ^ mdn_draw(mdn_stream(i, 3 ^ bit), index));
        changed[2] += __builtin_popcountll(
            draw ^ mdn_draw(mdn_stream(i, 3), index ^ bit));
    }
    for (int b = 0; b < 64; b++)
        CHECK(set[b] > TRIES / 2 - 160 && set[b] < TRIES / 2 + 160);
    for (int k = 0; k < 3; k++)
        CHECK(changed[k] / TRIES > 31.5 && changed[k] / TRIES < 32.5);
}

static void
sizes_that_do_not_fit_are_noticed(void)
{
    uint64_t out = 5;

    CHECK(mdn_mul_overflows(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
    CHECK(mdn_add_overflows(UINT64_MAX, 1, &out));
    CHECK(out == 5);
    CHECK(!mdn_mul_overflows(UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, &out));
    CHECK(out == UINT64_MAX - UINT32_MAX);
    CHECK(!mdn_add_overflows(UINT64_MAX - 1, 1, &out) && out == UINT64_MAX);
    CHECK(!mdn_mul_overflows(0, UINT64_MAX, &out) && out == 0);
}

static void
numbers_are_stored_at_any_alignment(void)
{
    uint8_t bytes[16] = {0};

    for (int at = 0; at < 8; at++) {
        mdn_store_u64(bytes + at, UINT64_C(0x0123456789abcdef));
        CHECK(bytes[at] == 0xef && bytes[at + 7] == 0x01);
        CHECK(mdn_load_u64(bytes + at) == UINT64_C(0x0123456789abcdef));
        CHECK(mdn_load_u32(bytes + at) == 0x89abcdef);
        mdn_store_u32(bytes + at, 7);
        CHECK(mdn_load_u64(bytes + at) == UINT64_C(0x0123456700000007));
    }
}

static void
an_error_names_thing_and_reason(void)
{
    mdn_error err;
    char name[1000];

    CHECK(mdn_fail(&err, MDN_INVALID, "%s: not a segment", "x") == MDN_INVALID);
    CHECK(err.status == MDN_INVALID && err.sys_errno == 0);
    CHECK(strcmp(err.message, "x: not a segment") == 0);
    CHECK(mdn_fail_errno(&err, ENOSPC, "y: written %d", 3) == MDN_IO);
    CHECK(err.status == MDN_IO && err.sys_errno == ENOSPC);
    CHECK(strcmp(err.message, "y: written 3: No space left on device") == 0);
    CHECK(mdn_fail_nomem(&err, 12) == MDN_NOMEM);
    CHECK(strcmp(err.message, "no memory for 12 bytes") == 0);
    CHECK(mdn_fail(NULL, MDN_BUSY, "z") == MDN_BUSY);
    CHECK(mdn_fail_errno(NULL, EIO, "z") == MDN_IO);

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK(mdn_fail_errno(&err, EIO, "%s", name) == MDN_IO);
    CHECK(strlen(err.message) == sizeof err.message - 1);
}

static void
count_part(void *ctx, uint32_t part)
{
    unsigned *done = ctx;

    done[part]++;
}

static void
every_part_is_done_once(void)
{
    for (uint32_t parts = 1; parts < 400; parts += 57) {
        unsigned done[400] = {0};

        mdn_parallel(parts, count_part, done);
        for (uint32_t p = 0; p < 400; p++)
            CHECK(done[p] == (p < parts));
    }
}

static void
parts_meet_and_cover_all(void)
{
    static const uint64_t counts[] = {0, 1, 7, 1000, UINT64_MAX};

    for (int i = 0; i < 5; i++) {
        for (uint32_t parts = 1; parts < 9; parts++) {
            CHECK(mdn_part_first(counts[i], parts, 0) == 0);
            CHECK(mdn_part_first(counts[i], parts, parts) == counts[i]);
            for (uint32_t p = 0; p < parts; p++)
                CHECK(mdn_part_first(counts[i], parts, p)
                      <= mdn_part_first(counts[i], parts, p + 1));
        }
    }
    CHECK(mdn_parallel_parts(100, 10, 4) == 4);
    CHECK(mdn_parallel_parts(25, 10, 4) == 2);
    CHECK(mdn_parallel_parts(5, 10, 4) == 1);
    CHECK(mdn_parallel_parts(UINT64_MAX, 1, 9999) == MDN_PARTS_MAX);
}

int
main(void)
{
    RUN(crc32c_matches_known_vectors);
    RUN(crc32c_is_the_same_by_table_and_by_hardware);
    RUN(crc32c_of_a_whole_continues_over_its_parts);
    RUN(blake2b_matches_known_digests);
    RUN(blake2b_does_not_depend_on_how_input_is_cut);
    RUN(a_permutation_is_a_bijection);
    RUN(a_range_is_the_same_wherever_it_starts);
    RUN(permutations_favour_no_place_and_no_neighbour);
    RUN(seeds_and_epochs_give_different_orders);
    RUN(the_order_of_a_seed_never_changes);
    RUN(draws_of_one_stream_are_all_different);
    RUN(draws_depend_on_every_bit);
    RUN(sizes_that_do_not_fit_are_noticed);
    RUN(numbers_are_stored_at_any_alignment);
    RUN(an_error_names_thing_and_reason);
    RUN(every_part_is_done_once);
    RUN(parts_meet_and_cover_all);
    return check_report("test_base");
}
