/* keyindex.c - a hash table of buckets that are one cache line each.
 *
 *   offset  size  field
 *        0    40  id[5]
 *       40    20  low[5], the low 32 bits of 38 of each entry's mark
 *       60     4  high, the upper 6 bits of each, entry 0 lowest
 *
 * A mark is the key + 1, or 0 for an entry that is not taken.  Entries of a
 * bucket are taken in order.  The home of an id is a bucket drawn from its
 * hash; an id whose home is full goes to the next bucket, and so on, around the
 * end. Nothing is ever removed, so a search ends at the first bucket that is
 * not full.
 *
 *     entries / (5 * buckets) <= MAX_LOAD; a larger table begins at NEW_LOAD
 *
 * so that an id costs 16 to 21 bytes, and 9 of 10 are found in their home: one
 * line of memory.  A search works in steps of STEP ids, whose lines are asked
 * for AHEAD ids earlier.  All five ids of a bucket are compared at once where
 * the processor can.
 *
 * Several threads build a table by each of them taking the ids of a range of
 * homes, in the order they came in.  What does not fit before the end of its
 * range waits until all are done; if that is too much to remember, all is
 * inserted once more by one thread, which changes nothing that is right.
 *
 * `state` holds the pid of the process in its upper half, and in its lower half
 * how many are looking up, or WRITING.  Those counted in another process are
 * not here. */
#include "base/keyindex.h"

#include "base/parallel.h"
#include "base/random.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ENTRIES 5
#define MIN_BUCKETS UINT64_C(16)
#define STEP UINT64_C(16)
#define AHEAD UINT64_C(32) /* a multiple of STEP */
#define RING (STEP + AHEAD)
#define NEAR 2 /* as __builtin_prefetch has it: the second-level cache */
#define IDS_PER_THREAD UINT64_C(16384) /* fewer are not worth a thread */
#define LATE_MAX 64                    /* ids a thread remembers for the end */
#define HUGE_PAGE ((uint64_t)2 << 20)
#define WRITING UINT32_MAX
#define ANYWHERE UINT64_MAX

__extension__ typedef unsigned __int128 uint128;

typedef struct {
    uint64_t id[ENTRIES];
    uint32_t low[ENTRIES];
    uint32_t high;
} bucket;

_Static_assert(sizeof(bucket) == 64, "a bucket is a cache line");

typedef struct {
    bucket *buckets; /* owned */
    uint64_t size;   /* buckets */
} table;

struct mdn_keyindex {
    _Atomic uint64_t state;
    /* Written by who is WRITING. */
    table table;
    _Atomic uint64_t count;
    _Atomic uint64_t size_bytes;
    uint64_t next_key; /* the largest so far, and one more */
};

/* Entries. */

static inline uint64_t
home_of(const table *t, uint64_t id)
{
    return (uint64_t)(((uint128)mdn_mix(id) * t->size) >> 64);
}

static inline uint64_t
next_of(const table *t, uint64_t at)
{
    return at + 1 == t->size ? 0 : at + 1;
}

static inline uint64_t
mark_of(const bucket *b, unsigned entry)
{
    return b->low[entry] | (uint64_t)((b->high >> 6 * entry) & 63) << 32;
}

static inline void
set_mark(bucket *b, unsigned entry, uint64_t mark)
{
    b->low[entry] = (uint32_t)mark;
    b->high &= ~(UINT32_C(63) << 6 * entry);
    b->high |= (uint32_t)(mark >> 32) << 6 * entry;
}

/* Ways to compare: bit i of the answer is set if id[i] is this one; so are, for
 * id 0, those of entries that are not taken, behind all others. */

#define INLINE static inline __attribute__((always_inline))
#define PLAIN

INLINE unsigned
match_plain(const bucket *b, uint64_t id)
{
    unsigned found = 0;

#pragma GCC unroll 5
    for (unsigned i = 0; i < ENTRIES; i++)
        found |= (unsigned)(b->id[i] == id) << i;
    return found;
}

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,bmi")))
#define AVX512 __attribute__((target("avx512f,bmi")))

AVX2 static inline unsigned
match_avx2(const bucket *b, uint64_t id)
{
    __m256i four = _mm256_load_si256((const __m256i *)(const void *)b);
    __m256i same = _mm256_cmpeq_epi64(four, _mm256_set1_epi64x((long long)id));

    return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(same))
           | (unsigned)(b->id[4] == id) << 4;
}

AVX512 static inline unsigned
match_avx512(const bucket *b, uint64_t id)
{
    __m512i line = _mm512_load_si512(b);

    return _mm512_cmpeq_epi64_mask(line, _mm512_set1_epi64((long long)id))
           & 31u;
}
#endif

/* The mark of an id, from its home on; 0 if it is not there. */
#define SEEK(name, target, match)                                              \
    target static inline uint64_t name(const table *t, uint64_t home,          \
                                       uint64_t id)                            \
    {                                                                          \
        for (uint64_t at = home;; at = next_of(t, at)) {                       \
            const bucket *b = &t->buckets[at];                                 \
            unsigned found = match(b, id);                                     \
                                                                               \
            if (__builtin_expect(found != 0, 1))                               \
                return mark_of(b, (unsigned)__builtin_ctz(found));             \
            if (mark_of(b, ENTRIES - 1) == 0)                                  \
                return 0;                                                      \
        }                                                                      \
    }

/* Searching. */

typedef struct {
    const table *table;
    const uint64_t *ids;
    uint64_t *keys;
    const uint64_t *missing;
    uint64_t count;
    uint32_t parts;
    uint64_t first_missing[MDN_PARTS_MAX]; /* per part; or count */
} search;

/* Where the ids of a step are at home; their lines are requested. */
static inline void
request(const search *s, uint64_t first, uint64_t last, uint64_t *homes)
{
    for (uint64_t i = first; i < last; i++, homes++) {
        *homes = home_of(s->table, s->ids[i]);
        __builtin_prefetch(&s->table->buckets[*homes], 0, NEAR);
    }
}

static inline uint64_t
least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Rows first .. last-1: the first that is missing and must not be, or count. */
#define FIND(name, target, seek)                                               \
    target static uint64_t name(const search *s, uint64_t first,               \
                                uint64_t last)                                 \
    {                                                                          \
        const uint64_t other = s->missing != NULL ? *s->missing : 0;           \
        uint64_t ring[RING];                                                   \
                                                                               \
        for (uint64_t at = 0; at < AHEAD; at += STEP)                          \
            request(s, least(first + at, last),                                \
                    least(first + at + STEP, last), ring + at);                \
        for (uint64_t step = first; step < last; step += STEP) {               \
            uint64_t end = least(step + STEP, last);                           \
            const uint64_t *homes = ring + (step - first) % RING;              \
                                                                               \
            request(s, least(step + AHEAD, last),                              \
                    least(step + AHEAD + STEP, last),                          \
                    ring + (step + AHEAD - first) % RING);                     \
            for (uint64_t i = step; i < end; i++) {                            \
                uint64_t mark = seek(s->table, homes[i - step], s->ids[i]);    \
                                                                               \
                if (__builtin_expect(mark == 0, 0) && s->missing == NULL)      \
                    return i;                                                  \
                s->keys[i] = mark == 0 ? other : mark - 1;                     \
            }                                                                  \
        }                                                                      \
        return s->count;                                                       \
    }

SEEK(seek_plain, PLAIN, match_plain)
FIND(find_plain, PLAIN, seek_plain)

#if defined(__x86_64__)
SEEK(seek_avx2, AVX2, match_avx2)
FIND(find_avx2, AVX2, seek_avx2)
SEEK(seek_avx512, AVX512, match_avx512)
FIND(find_avx512, AVX512, seek_avx512)
#endif

static void
search_part(void *ctx, uint32_t part)
{
    search *s = ctx;
    uint64_t first = mdn_part_first(s->count, s->parts, part);
    uint64_t last = mdn_part_first(s->count, s->parts, part + 1);
    uint64_t (*find)(const search *, uint64_t, uint64_t) = find_plain;

#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        find = find_avx512;
    else if (__builtin_cpu_supports("avx2"))
        find = find_avx2;
#endif
    s->first_missing[part] = find(s, first, last);
}

/* Inserting. */

typedef struct {
    uint64_t id, mark;
} entry;

/* Put it where it belongs, if that is before bucket `end`, or ANYWHERE, also
 * around the end.  False if it is not.  *added counts ids that were not there.
 */
static bool
insert(const table *t, uint64_t home, uint64_t end, entry e, uint64_t *added)
{
    for (uint64_t at = home;;) {
        bucket *b = &t->buckets[at];

        for (unsigned i = 0; i < ENTRIES; i++) {
            bool taken = mark_of(b, i) != 0;

            if (taken && b->id[i] != e.id)
                continue;
            b->id[i] = e.id;
            set_mark(b, i, e.mark);
            *added += !taken;
            return true;
        }
        at++;
        if (at == end)
            return false;
        at = at == t->size ? 0 : at;
    }
}

/* Ids and keys for a table: those of another table and then those of arrays. */
typedef struct {
    const table *to, *from; /* from may be empty */
    const uint64_t *ids, *keys;
    uint64_t count, first_key; /* keys NULL: first_key, first_key + 1, ... */
    uint32_t parts;
    struct {
        uint64_t added;
        uint64_t late_count; /* beyond LATE_MAX: not all of them are here */
        entry late[LATE_MAX];
    } part[];
} filling;

/* What one part has on its way, in order. */
typedef struct {
    filling *f;
    uint32_t number;
    uint64_t begin, end;   /* homes */
    uint64_t limit;        /* of where they may go: end, or ANYWHERE */
    uint64_t first, count; /* in the ring */
    entry ring[RING];
    uint64_t homes[RING];
} flow;

static void
pour(flow *p, uint64_t leave)
{
    while (p->count > leave) {
        uint64_t at = p->first % RING;
        filling *f = p->f;

        if (!insert(f->to, p->homes[at], p->limit, p->ring[at],
                    &f->part[p->number].added)) {
            uint64_t n = f->part[p->number].late_count++;

            if (n < LATE_MAX)
                f->part[p->number].late[n] = p->ring[at];
        }
        p->first++;
        p->count--;
    }
}

static inline void
push(flow *p, uint64_t id, uint64_t mark)
{
    uint64_t home = home_of(p->f->to, id);
    uint64_t at = (p->first + p->count) % RING;

    if (home < p->begin || home >= p->end)
        return;
    __builtin_prefetch(&p->f->to->buckets[home], 1, NEAR);
    p->ring[at] = (entry){id, mark};
    p->homes[at] = home;
    p->count++;
    pour(p, RING - 1);
}

static void
fill_range(filling *f, uint32_t part, uint64_t begin, uint64_t end,
           uint64_t limit)
{
    flow p = {
        .f = f, .number = part, .begin = begin, .end = end, .limit = limit};

    for (uint64_t b = 0; b < f->from->size; b++) {
        for (unsigned i = 0; i < ENTRIES; i++) {
            uint64_t mark = mark_of(&f->from->buckets[b], i);

            if (mark != 0)
                push(&p, f->from->buckets[b].id[i], mark);
        }
    }
    for (uint64_t i = 0; i < f->count; i++)
        push(&p, f->ids[i],
             (f->keys != NULL ? f->keys[i] : f->first_key + i) + 1);
    pour(&p, 0);
}

static void
fill_part(void *ctx, uint32_t part)
{
    filling *f = ctx;
    uint64_t end = mdn_part_first(f->to->size, f->parts, part + 1);

    fill_range(f, part, mdn_part_first(f->to->size, f->parts, part), end,
               f->parts == 1 ? ANYWHERE : end);
}

/* How many ids came to be in the table. */
static uint64_t
fill(filling *f)
{
    uint64_t added = 0;
    bool again = false;

    mdn_parallel(f->parts, fill_part, f);
    for (uint32_t p = 0; p < f->parts; p++) {
        again |= f->part[p].late_count > LATE_MAX;
        for (uint64_t i = 0; i < f->part[p].late_count && i < LATE_MAX; i++) {
            entry e = f->part[p].late[i];

            insert(f->to, home_of(f->to, e.id), ANYWHERE, e, &f->part[p].added);
        }
        added += f->part[p].added;
    }
    if (again) {
        f->part[0].added = 0;
        fill_range(f, 0, 0, f->to->size, ANYWHERE);
        added += f->part[0].added;
    }
    return added;
}

/* Tables. */

/* Buckets for so many entries: 3 / 5 of them are taken then. */
static uint64_t
buckets_for(uint64_t entries)
{
    uint64_t buckets = entries / 3 + 1;

    return buckets < MIN_BUCKETS ? MIN_BUCKETS : buckets;
}

/* At most 4 / 5 of the entries of a table are taken. */
static bool
has_room(const table *t, uint64_t entries)
{
    return entries <= t->size / 5 * 4 * ENTRIES;
}

static mdn_status
make_table(uint64_t buckets, table *out, mdn_error *err)
{
    uint64_t size = buckets * sizeof(bucket);
    uint64_t align = size >= HUGE_PAGE ? HUGE_PAGE : sizeof(bucket);

    if (buckets > UINT64_C(1) << 44)
        return mdn_fail_nomem(err, UINT64_MAX);
    size = (size + align - 1) / align * align;
    out->buckets = aligned_alloc(align, size);
    if (out->buckets == NULL)
        return mdn_fail_nomem(err, size);
    if (align == HUGE_PAGE)
        madvise(out->buckets, size, MADV_HUGEPAGE);
    memset(out->buckets, 0, size);
    out->size = buckets;
    return MDN_OK;
}

/* One at a time, or many. */

static const struct timespec PAUSE = {0, 50000};

static uint64_t
pack(uint32_t holders)
{
    return (uint64_t)(uint32_t)getpid() << 32 | holders;
}

/* Count this thread in as one that looks up, or as the one that writes. */
static mdn_status
enter(mdn_keyindex *index, bool writes, mdn_error *err)
{
    for (;;) {
        uint64_t seen = atomic_load(&index->state), next;
        bool here = seen >> 32 == pack(0) >> 32;
        uint32_t holders = (uint32_t)seen;

        if (!here && holders == WRITING)
            return mdn_fail(err, MDN_INVALID,
                            "this process was forked while ids were added to "
                            "the index; make it anew here");
        if (!here)
            holders = 0;
        next = pack(writes ? WRITING : holders + 1);
        if (holders < (writes ? 1 : WRITING - 1)) {
            if (atomic_compare_exchange_strong(&index->state, &seen, next))
                return MDN_OK;
        } else
            nanosleep(&PAUSE, NULL);
    }
}

static void
leave(mdn_keyindex *index, bool writes)
{
    if (writes)
        atomic_store(&index->state, pack(0));
    else
        atomic_fetch_sub(&index->state, 1);
}

/* The index. */

mdn_status
mdn_keyindex_new(mdn_keyindex **out, mdn_error *err)
{
    mdn_keyindex *index = calloc(1, sizeof *index);
    mdn_status st;

    *out = NULL;
    if (index == NULL)
        return mdn_fail_nomem(err, sizeof *index);
    if ((st = make_table(MIN_BUCKETS, &index->table, err)) != MDN_OK) {
        free(index);
        return st;
    }
    atomic_init(&index->state, pack(0));
    atomic_init(&index->count, 0);
    atomic_init(&index->size_bytes, MIN_BUCKETS * sizeof(bucket));
    *out = index;
    return MDN_OK;
}

void
mdn_keyindex_free(mdn_keyindex *index)
{
    if (index == NULL)
        return;
    free(index->table.buckets);
    free(index);
}

uint64_t
mdn_keyindex_count(const mdn_keyindex *index)
{
    return atomic_load(&index->count);
}

uint64_t
mdn_keyindex_size_bytes(const mdn_keyindex *index)
{
    return atomic_load(&index->size_bytes);
}

/* The largest key and one more; MDN_INVALID names one that is too large. */
static mdn_status
check_keys(const mdn_keyindex *index, const uint64_t *keys, uint64_t count,
           uint64_t *next, mdn_error *err)
{
    *next = index->next_key;
    if (keys == NULL) {
        if (count > MDN_KEYINDEX_KEY_MAX + 1 - index->next_key)
            return mdn_fail(err, MDN_INVALID,
                            "%llu ids from key %llu on are too many: keys are "
                            "at most %llu",
                            (unsigned long long)count,
                            (unsigned long long)index->next_key,
                            (unsigned long long)MDN_KEYINDEX_KEY_MAX);
        *next += count;
        return MDN_OK;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (keys[i] > MDN_KEYINDEX_KEY_MAX)
            return mdn_fail(err, MDN_INVALID,
                            "keys[%llu] is %llu; keys are at most %llu",
                            (unsigned long long)i, (unsigned long long)keys[i],
                            (unsigned long long)MDN_KEYINDEX_KEY_MAX);
        if (keys[i] >= *next)
            *next = keys[i] + 1;
    }
    return MDN_OK;
}

static filling *
plan_filling(const mdn_keyindex *index, const uint64_t *ids,
             const uint64_t *keys, uint64_t count, uint32_t threads)
{
    uint32_t parts =
        mdn_parallel_parts(count + index->count, IDS_PER_THREAD, threads);
    filling *f = calloc(1, sizeof *f + parts * sizeof f->part[0]);

    if (f == NULL)
        return NULL;
    f->ids = ids;
    f->keys = keys;
    f->count = count;
    f->first_key = index->next_key;
    f->parts = parts;
    return f;
}

/* A table that was made for more ids than came, as most were there before,
 * gives way to one for those, if there is memory for it. */
static void
shrink(filling *f, table *t, uint64_t count)
{
    const table old = *t;
    table fitting;

    if (old.size <= buckets_for(count) / 4 * 5
        || make_table(buckets_for(count), &fitting, NULL) != MDN_OK)
        return;
    f->to = &fitting;
    f->from = &old;
    f->count = 0;
    for (uint32_t p = 0; p < f->parts; p++)
        f->part[p].added = f->part[p].late_count = 0;
    fill(f);
    *t = fitting;
    free(old.buckets);
}

/* By who is WRITING. */
static mdn_status
add(mdn_keyindex *index, const uint64_t *ids, const uint64_t *keys,
    uint64_t count, uint32_t threads, mdn_error *err)
{
    const table none = {.size = 0}, old = index->table;
    table larger = {.size = 0};
    uint64_t next_key, before = index->count;
    mdn_status st = check_keys(index, keys, count, &next_key, err);
    filling *f;

    if (st != MDN_OK)
        return st;
    if ((f = plan_filling(index, ids, keys, count, threads)) == NULL)
        return mdn_fail_nomem(err, sizeof *f);
    f->to = &index->table;
    f->from = &none;
    if (!has_room(&index->table, before + count)) {
        if ((st = make_table(buckets_for(before + count), &larger, err))
            != MDN_OK) {
            free(f);
            return st;
        }
        f->to = &larger;
        f->from = &old;
        before = 0;
    }
    index->count = before + fill(f);
    index->next_key = next_key;
    if (larger.buckets != NULL) {
        shrink(f, &larger, index->count);
        index->table = larger;
        index->size_bytes = larger.size * sizeof(bucket);
        free(old.buckets);
    }
    free(f);
    return MDN_OK;
}

mdn_status
mdn_keyindex_add(mdn_keyindex *index, const uint64_t *ids, const uint64_t *keys,
                 uint64_t count, uint32_t threads, mdn_error *err)
{
    mdn_status st = enter(index, true, err);

    if (st != MDN_OK)
        return st;
    st = add(index, ids, keys, count, threads, err);
    leave(index, true);
    return st;
}

mdn_status
mdn_keyindex_find(mdn_keyindex *index, const uint64_t *ids, uint64_t count,
                  uint64_t *keys, const uint64_t *missing, uint32_t threads,
                  mdn_error *err)
{
    search s = {.table = &index->table,
                .ids = ids,
                .keys = keys,
                .missing = missing,
                .count = count,
                .parts = mdn_parallel_parts(count, IDS_PER_THREAD, threads)};
    uint64_t first = count;
    mdn_status st = enter(index, false, err);

    if (st != MDN_OK)
        return st;
    mdn_parallel(s.parts, search_part, &s);
    leave(index, false);
    for (uint32_t p = 0; p < s.parts && first == count; p++)
        first = s.first_missing[p];
    if (first == count)
        return MDN_OK;
    return mdn_fail(err, MDN_NO_KEY, "no sample has id %llu, ids[%llu]",
                    (unsigned long long)ids[first], (unsigned long long)first);
}
