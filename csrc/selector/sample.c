/* sample.c - uniform and class-balanced sampling over blocks of metadata. */
#include "selector/sample.h"

#include "base/bytes.h"
#include "base/random.h"
#include "selector/bottom.h"
#include "selector/classes.h"
#include "selector/sort.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 4096     /* keys offered at a time: slack of a buffer of draws */
#define DRAWS 512      /* computed at a time: they stay in the nearest cache */
#define CLASS_SLACK 16 /* the same for one class, in draws */

/* Room for count words, at least one. */
static mdn_status
words_new(uint64_t count, uint64_t **out, mdn_error *err)
{
    uint64_t bytes = UINT64_MAX;

    *out = NULL;
    if (!mdn_mul_overflows(count > 0 ? count : 1, sizeof **out, &bytes))
        *out = malloc(bytes);
    return *out != NULL ? MDN_OK : mdn_fail_nomem(err, bytes);
}

/* Whether some word stands twice in an ascending array; which one. */
static bool
repeats(const uint64_t *values, uint64_t count, uint64_t *which)
{
    for (uint64_t i = 1; i < count; i++) {
        if (values[i] == values[i - 1]) {
            *which = values[i];
            return true;
        }
    }
    return false;
}

/* Give back what the answer does not need; it stays where it is otherwise. */
static uint64_t *
shrink(uint64_t *keys, uint64_t count)
{
    uint64_t *smaller = realloc(keys, (count > 0 ? count : 1) * sizeof *keys);

    return smaller != NULL ? smaller : keys;
}

/* ---- uniform ---- */

static mdn_status
offer_stream(mdn_bottom *bottom, mdn_metadata_stream *stream, uint64_t start,
             mdn_error *err)
{
    mdn_metadata_block block;
    mdn_status st;

    stream->rewind(stream);
    for (;;) {
        if ((st = stream->next(stream, &block, err)) != MDN_OK)
            return st;
        if (block.count == 0)
            return MDN_OK;
        for (uint64_t i = 0; i < block.count; i += CHUNK) {
            uint64_t rest = block.count - i;

            mdn_bottom_offer(bottom, start, block.keys + i,
                             rest < CHUNK ? rest : CHUNK);
        }
    }
}

/* From the draws in the buffer to keys in order; the buffer has room for them
 * twice. */
static void
finish(mdn_bottom *bottom, uint64_t start)
{
    mdn_bottom_trim(bottom);
    mdn_bottom_keys(start, bottom->draws, bottom->count);
    mdn_sort_words(bottom->draws, bottom->count, bottom->draws + bottom->count);
}

/* One reading in which a repeated key counts as often as it comes.  If the
 * answer holds no key twice, then no repeated key has taken the place of
 * another, and the answer is right. */
static mdn_status
sample_once(mdn_bottom *bottom, mdn_metadata_stream *stream, uint64_t start,
            bool *again, mdn_error *err)
{
    uint64_t which;
    mdn_status st = offer_stream(bottom, stream, start, err);

    if (st != MDN_OK)
        return st;
    finish(bottom, start);
    *again = repeats(bottom->draws, bottom->count, &which);
    return MDN_OK;
}

/* The same with equal draws merged at every trim. */
static mdn_status
sample_merging(mdn_bottom *bottom, mdn_metadata_stream *stream, uint64_t start,
               mdn_error *err)
{
    mdn_status st;

    mdn_bottom_init(bottom, bottom->draws, bottom->capacity, bottom->limit);
    if ((st = words_new(bottom->capacity, &bottom->scratch, err)) != MDN_OK)
        return st;
    if ((st = offer_stream(bottom, stream, start, err)) == MDN_OK)
        finish(bottom, start);
    free(bottom->scratch);
    return st;
}

mdn_status
mdn_sample_uniform(mdn_metadata_stream *stream, uint64_t count, uint64_t seed,
                   uint64_t **keys, uint64_t *key_count, mdn_error *err)
{
    uint64_t limit = count < stream->count ? count : stream->count;
    uint64_t start = mdn_stream(seed, MDN_STREAM_UNIFORM);
    uint64_t capacity, *draws;
    mdn_bottom bottom;
    bool again = false;
    mdn_status st;

    *keys = NULL;
    if (mdn_mul_overflows(limit, 2, &capacity)
        || mdn_add_overflows(capacity, CHUNK, &capacity))
        return mdn_fail_nomem(err, UINT64_MAX);
    if ((st = words_new(capacity, &draws, err)) != MDN_OK)
        return st;
    mdn_bottom_init(&bottom, draws, capacity, limit);
    if (limit > 0) {
        st = sample_once(&bottom, stream, start, &again, err);
        if (st == MDN_OK && again)
            st = sample_merging(&bottom, stream, start, err);
        if (st != MDN_OK) {
            free(draws);
            return st;
        }
    }
    *keys = shrink(draws, bottom.count);
    *key_count = bottom.count;
    return MDN_OK;
}

/* ---- balanced ---- */

typedef struct {
    mdn_classes classes;
    uint64_t *shares;     /* owned: how many of each class are wanted */
    mdn_bottom *bottoms;  /* owned: one for each class */
    uint64_t *draws;      /* owned: the buffers of all classes */
    uint64_t share_count; /* sum of shares */
    uint64_t start;
} balance;

static void
balance_free(balance *b)
{
    mdn_classes_free(&b->classes);
    free(b->shares);
    free(b->bottoms);
    free(b->draws);
}

/* Words for the buffer of one class: no more than it has samples. */
static uint64_t
class_capacity(uint64_t share, uint64_t size)
{
    uint64_t capacity = 2 * share + CLASS_SLACK; /* share <= stream length */

    return share == 0 ? 0 : capacity < size ? capacity : size;
}

/* Fix the shares and give every class a piece of one buffer. */
static mdn_status
prepare(balance *b, uint64_t count, mdn_shares_mode mode, uint64_t seed,
        mdn_error *err)
{
    const mdn_classes *classes = &b->classes;
    uint64_t total = 0, bytes = classes->count * sizeof *b->bottoms;
    mdn_status st;

    if ((st = words_new(classes->count, &b->shares, err)) != MDN_OK)
        return st;
    b->bottoms = malloc(bytes > 0 ? bytes : 1);
    if (b->bottoms == NULL)
        return mdn_fail_nomem(err, bytes);
    st = mdn_shares_fill(classes->sizes, classes->count, count, mode, seed,
                         b->shares, err);
    if (st != MDN_OK)
        return st;
    for (uint32_t c = 0; c < classes->count; c++) {
        total += class_capacity(b->shares[c], classes->sizes[c]);
        b->share_count += b->shares[c];
    }
    if ((st = words_new(total, &b->draws, err)) != MDN_OK)
        return st;
    total = 0;
    for (uint32_t c = 0; c < classes->count; c++) {
        uint64_t capacity = class_capacity(b->shares[c], classes->sizes[c]);

        mdn_bottom_init(&b->bottoms[c], b->draws + total, capacity,
                        b->shares[c]);
        total += capacity;
    }
    b->start = mdn_stream(seed, MDN_STREAM_BALANCED);
    return MDN_OK;
}

/* Offer some samples of a block, at most DRAWS. */
static mdn_status
offer_some(balance *b, const uint64_t *keys, const int64_t *labels,
           uint64_t count, mdn_error *err)
{
    uint64_t draws[DRAWS];

    mdn_bottom_draws(b->start, keys, count, draws);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t number = mdn_classes_number(&b->classes, labels[i]);
        mdn_bottom *bottom;

        if (number == 0)
            return mdn_fail(err, MDN_INVALID,
                            "the candidates changed while they were sampled: "
                            "label %" PRId64 " of key %" PRIu64 " is new",
                            labels[i], keys[i]);
        bottom = &b->bottoms[number - 1];
        if (!mdn_bottom_put(bottom, draws[i]))
            return mdn_fail(err, MDN_INVALID,
                            "the candidates changed while they were sampled: "
                            "label %" PRId64 " has more samples than before",
                            labels[i]);
    }
    return MDN_OK;
}

static mdn_status
offer_block(balance *b, const mdn_metadata_block *block, mdn_error *err)
{
    mdn_status st;

    for (uint64_t i = 0; i < block->count; i += DRAWS) {
        uint64_t rest = block->count - i;

        st = offer_some(b, block->keys + i, block->labels + i,
                        rest < DRAWS ? rest : DRAWS, err);
        if (st != MDN_OK)
            return st;
    }
    return MDN_OK;
}

static mdn_status
offer_labelled(balance *b, mdn_metadata_stream *stream, mdn_error *err)
{
    mdn_metadata_block block;
    mdn_status st;

    stream->rewind(stream);
    for (;;) {
        if ((st = stream->next(stream, &block, err)) != MDN_OK)
            return st;
        if (block.count == 0)
            return MDN_OK;
        if (block.labels == NULL)
            return mdn_fail(err, MDN_INVALID, "the candidates have no labels");
        if ((st = offer_block(b, &block, err)) != MDN_OK)
            return st;
    }
}

/* All classes' draws into one array, as keys in order. */
static mdn_status
collect(balance *b, uint64_t **keys, uint64_t *key_count, mdn_error *err)
{
    uint64_t *out, count = 0, which;
    mdn_status st;

    if ((st = words_new(2 * b->share_count, &out, err)) != MDN_OK)
        return st;
    for (uint32_t c = 0; c < b->classes.count; c++) {
        mdn_bottom *bottom = &b->bottoms[c];

        mdn_bottom_trim(bottom);
        memcpy(out + count, bottom->draws, bottom->count * sizeof *out);
        count += bottom->count;
    }
    mdn_bottom_keys(b->start, out, count);
    mdn_sort_words(out, count, out + count);
    if (repeats(out, count, &which))
        st = mdn_fail(err, MDN_INVALID,
                      "key %" PRIu64 " comes more than once among the "
                      "candidates",
                      which);
    else if (count < b->share_count)
        st = mdn_fail(err, MDN_INVALID,
                      "the candidates changed while they were sampled: %" PRIu64
                      " of %" PRIu64 " samples are left",
                      count, b->share_count);
    if (st != MDN_OK) {
        free(out);
        return st;
    }
    *keys = shrink(out, count);
    *key_count = count;
    return MDN_OK;
}

mdn_status
mdn_sample_balanced(mdn_metadata_stream *stream, uint64_t count,
                    mdn_shares_mode mode, uint64_t seed, uint64_t **keys,
                    uint64_t *key_count, mdn_error *err)
{
    balance b = {0};
    mdn_status st;

    *keys = NULL;
    if ((st = mdn_classes_count(stream, &b.classes, err)) == MDN_OK
        && (st = prepare(&b, count, mode, seed, err)) == MDN_OK
        && (st = offer_labelled(&b, stream, err)) == MDN_OK)
        st = collect(&b, keys, key_count, err);
    balance_free(&b);
    return st;
}
