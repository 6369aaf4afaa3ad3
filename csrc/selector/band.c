/* band.c - selection by digits, over streams. */
#include "selector/band.h"

#include "base/parallel.h"
#include "selector/exact.h"
#include "selector/sort.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DIGIT_BITS 16
#define DIGITS (1u << DIGIT_BITS)
#define WIDTH 128 /* bits of an order and a key */
#define BOUNDS 2

/* What lies below a bound: words < value, of which the upper `known` bits are
 * found, and `rank` of those that begin like it. */
typedef struct {
    mdn_wide value;
    unsigned known;
    uint64_t rank;
    bool found;
    bool open; /* nothing lies above it */
} bound;

/* What one thread counts. */
typedef struct {
    const mdn_shard *shard;
    const mdn_values *values;
    const bound *bounds;
    uint64_t (*sizes)[DIGITS]; /* owned: of each digit, for each bound */
    uint64_t *out;             /* borrowed, shared: the keys between them */
    _Atomic uint64_t *out_count;
    uint64_t out_room, seen;
    mdn_status status;
    mdn_error error;
} reading;

static mdn_wide
word_of(uint64_t order, uint64_t key)
{
    return (mdn_wide)order << 64 | key;
}

static unsigned
shift_of(const bound *b)
{
    return WIDTH - b->known;
}

static mdn_status
count_digits(void *ctx, const mdn_value_block *block, uint64_t first,
             uint64_t count, mdn_error *err)
{
    reading *r = ctx;
    uint64_t orders[MDN_VALUES_CHUNK];
    mdn_status st = mdn_values_orders(block, first, count, false, orders, err);

    if (st != MDN_OK)
        return st;
    for (int at = 0; at < BOUNDS; at++) {
        const bound *b = &r->bounds[at];
        unsigned shift = shift_of(b);

        if (b->found)
            continue;
        for (uint64_t i = 0; i < count; i++) {
            mdn_wide word = word_of(orders[i], block->keys[first + i]);

            if (b->known == 0 || word >> shift == b->value >> shift)
                r->sizes[at]
                        [(uint64_t)(word >> (shift - DIGIT_BITS)) % DIGITS]++;
        }
    }
    return MDN_OK;
}

static mdn_status
collect(void *ctx, const mdn_value_block *block, uint64_t first, uint64_t count,
        mdn_error *err)
{
    reading *r = ctx;
    uint64_t orders[MDN_VALUES_CHUNK], keys[MDN_VALUES_CHUNK], found = 0, at;
    mdn_wide low = r->bounds[0].value, high = r->bounds[1].value;
    bool open = r->bounds[1].open;
    mdn_status st = mdn_values_orders(block, first, count, false, orders, err);

    if (st != MDN_OK)
        return st;
    for (uint64_t i = 0; i < count; i++) {
        mdn_wide word = word_of(orders[i], block->keys[first + i]);

        keys[found] = block->keys[first + i];
        found += word >= low && (word < high || open);
    }
    at = atomic_fetch_add(r->out_count, found);
    if (at > r->out_room || found > r->out_room - at)
        return mdn_fail(err, MDN_INVALID,
                        "the candidates changed while they were ranked");
    if (found > 0)
        memcpy(r->out + at, keys, found * sizeof *keys);
    return MDN_OK;
}

static void
count_all(void *ctx, uint32_t number)
{
    reading *r = (reading *)ctx + number;

    memset(r->sizes, 0, BOUNDS * sizeof *r->sizes);
    r->status = mdn_values_each(r->shard, r->values, count_digits, r, &r->seen,
                                &r->error);
}

static void
collect_all(void *ctx, uint32_t number)
{
    reading *r = (reading *)ctx + number;

    r->status =
        mdn_values_each(r->shard, r->values, collect, r, &r->seen, &r->error);
}

static mdn_status
first_failure(const reading *readings, uint32_t count, mdn_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (readings[i].status == MDN_OK)
            continue;
        if (err != NULL)
            *err = readings[i].error;
        return readings[i].status;
    }
    return MDN_OK;
}

/* One more digit of a bound, by the sizes of all threads. */
static mdn_status
narrow(bound *b, const reading *readings, uint32_t count, int at,
       mdn_error *err)
{
    uint64_t digit = 0;

    for (; digit < DIGITS; digit++) {
        uint64_t size = 0;

        for (uint32_t i = 0; i < count; i++)
            size += readings[i].sizes[at][digit];
        if (b->rank < size)
            break;
        b->rank -= size;
    }
    if (digit == DIGITS)
        return mdn_fail(err, MDN_INVALID,
                        "the candidates changed while they were ranked");
    b->known += DIGIT_BITS;
    b->value |= (mdn_wide)digit << shift_of(b);
    b->found = b->rank == 0;
    if (b->known == WIDTH && !b->found)
        return mdn_fail(err, MDN_INVALID,
                        "key %llu comes more than once among the candidates",
                        (unsigned long long)(uint64_t)b->value);
    return MDN_OK;
}

static mdn_status
find_bounds(bound *bounds, reading *readings, uint32_t count, mdn_error *err)
{
    while (!bounds[0].found || !bounds[1].found) {
        mdn_status st;

        mdn_parallel(count, count_all, readings);
        st = first_failure(readings, count, err);
        for (int at = 0; st == MDN_OK && at < BOUNDS; at++)
            if (!bounds[at].found)
                st = narrow(&bounds[at], readings, count, at, err);
        if (st != MDN_OK)
            return st;
    }
    return MDN_OK;
}

/* The keys between the bounds, into *out; twice the room, to sort them. */
static mdn_status
read_band(reading *readings, uint32_t count, uint64_t room, uint64_t *out,
          uint64_t *found, mdn_error *err)
{
    _Atomic uint64_t out_count = 0;
    mdn_status st;

    for (uint32_t i = 0; i < count; i++) {
        readings[i].out = out;
        readings[i].out_count = &out_count;
        readings[i].out_room = room;
    }
    mdn_parallel(count, collect_all, readings);
    st = first_failure(readings, count, err);
    *found = atomic_load(&out_count);
    if (st == MDN_OK && *found != room)
        st = mdn_fail(err, MDN_INVALID,
                      "the candidates changed while they were ranked");
    if (st == MDN_OK)
        mdn_sort_words(out, *found, out + room);
    return st;
}

static mdn_status
work(reading *readings, uint32_t count, bound *bounds, uint64_t room,
     uint64_t **keys, uint64_t *found, mdn_error *err)
{
    mdn_status st = find_bounds(bounds, readings, count, err);

    if (st != MDN_OK)
        return st;
    *keys = malloc((2 * room + 1) * sizeof **keys);
    if (*keys == NULL)
        return mdn_fail_nomem(err, (2 * room + 1) * sizeof **keys);
    st = read_band(readings, count, room, *keys, found, err);
    if (st != MDN_OK) {
        free(*keys);
        *keys = NULL;
    }
    return st;
}

mdn_status
mdn_band(const mdn_shard *shards, uint32_t shard_count,
         const mdn_values *values, uint64_t total, uint64_t first,
         uint64_t last, uint64_t **keys, uint64_t *count, mdn_error *err)
{
    bool empty = first == last, open = last == total;
    bound bounds[BOUNDS] = {
        {.rank = first, .found = empty || first == 0},
        {.rank = last, .found = empty || open, .open = open && !empty},
    };
    reading *readings = calloc(shard_count, sizeof *readings);
    mdn_status st = MDN_OK;

    *keys = NULL;
    if (readings == NULL)
        return mdn_fail_nomem(err, shard_count * sizeof *readings);
    for (uint32_t i = 0; i < shard_count; i++) {
        readings[i].shard = &shards[i];
        readings[i].values = values;
        readings[i].bounds = bounds;
        readings[i].sizes = malloc(BOUNDS * sizeof *readings[i].sizes);
        if (readings[i].sizes == NULL)
            st = mdn_fail_nomem(err, BOUNDS * sizeof *readings[i].sizes);
    }
    if (st == MDN_OK)
        st =
            work(readings, shard_count, bounds, last - first, keys, count, err);
    for (uint32_t i = 0; i < shard_count; i++)
        free(readings[i].sizes);
    free(readings);
    return st;
}
