/* order.c - the stored order, or what has to be done to have one.
 *
 *   the file covers ...
 *     just the view             its keys are the order
 *     more, for a later view    its keys below count are, if they ascend in
 * time fewer                     the new samples are sorted, and
 *                               - put behind, when none is earlier than the
 * last
 *                               - else merged with the keys from the first
 *                                 place that moves on; a new file
 *     other timestamps          all samples are new
 *
 * A digest over the checksums of the timestamps says which timestamps the file
 * is about, so that a file of a copy that went another way is not mistaken. */
#include "storage/order.h"

#include "base/blake2b.h"
#include "base/crc32c.h"
#include "storage/orderfile.h"
#include "storage/timesort.h"
#include "storage/verify.h"

#include <stdlib.h>
#include <string.h>

#define MERGE_AHEAD 32 /* keys between prefetch and use */
#define BLOCK_ROWS (UINT64_C(1) << MDN_COLUMN_BLOCK_SHIFT)

struct mdn_order {
    const uint64_t *keys; /* NULL: identity */
    uint64_t count;
    uint64_t *owned;   /* keys in memory, or */
    mdn_range *mapped; /* in a file */
};

/* Making an order. */
typedef struct {
    mdn_view *view;
    const int64_t *times;
    uint64_t count;
    uint32_t threads;
    mdn_orderfile file; /* covers file.head.count keys; 0: nothing usable */
    int64_t latest;     /* time of the last of them */
    mdn_order *order;   /* filled */
} job;

/* Timestamps. */

/* Rows first .. end-1 are mapped and checked. */
static mdn_status
verify_times(const job *j, uint64_t first, uint64_t end, mdn_error *err)
{
    mdn_status st = MDN_OK;

    for (uint64_t key = first; key < end && st == MDN_OK;
         key = (key & ~(BLOCK_ROWS - 1)) + BLOCK_ROWS)
        st = mdn_verify_column(j->view, MDN_TIMESTAMPS, key, err);
    return st;
}

static bool
is_ascending(const int64_t *times, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++) {
        if (times[i] < times[i - 1])
            return false;
    }
    return true;
}

/* Sample a comes before sample b. */
static inline bool
is_before(const int64_t *times, uint64_t a, uint64_t b)
{
    return times[a] < times[b] || (times[a] == times[b] && a < b);
}

/* Checksums of the full blocks among rows 0 .. count-1, as they are stored. */
static mdn_status
hash_checksums(const job *j, mdn_blake2b *hash, uint64_t count, mdn_error *err)
{
    const mdn_layout *layout = &j->view->store->layout;
    uint64_t rows = UINT64_C(1) << layout->segment_shift;
    mdn_status st;

    for (uint64_t first = 0; first + BLOCK_ROWS <= count; first += rows) {
        uint64_t segment = first >> layout->segment_shift;
        uint64_t here = count - first < rows ? count - first : rows;
        uint64_t at = mdn_layout_checksum_at(layout, MDN_TIMESTAMPS,
                                             first >> MDN_COLUMN_BLOCK_SHIFT)
                      - layout->checksums_at;
        const uint32_t *checksums;

        st = mdn_store_map_columns(j->view->store, segment, err);
        if (st != MDN_OK)
            return st;
        checksums = atomic_load_explicit(
            &j->view->store->segments[segment].checksums, memory_order_acquire);
        mdn_blake2b_update(hash, checksums + at / 4, here / BLOCK_ROWS * 4);
    }
    return MDN_OK;
}

/* What the timestamps of the first count samples are. */
static mdn_status
digest_times(const job *j, uint64_t count, uint8_t out[MDN_ORDER_DIGEST_SIZE],
             mdn_error *err)
{
    uint64_t full = count & ~(BLOCK_ROWS - 1);
    uint8_t digest[MDN_DIGEST_SIZE];
    mdn_blake2b hash;
    uint32_t crc;
    mdn_status st;

    mdn_blake2b_init(&hash);
    mdn_blake2b_update(&hash, &count, sizeof count);
    if ((st = hash_checksums(j, &hash, count, err)) != MDN_OK
        || (st = verify_times(j, full, count, err)) != MDN_OK)
        return st;
    crc = mdn_crc32c(0, j->times + full, 8 * (count - full));
    mdn_blake2b_update(&hash, &crc, sizeof crc);
    mdn_blake2b_final(&hash, digest);
    memcpy(out, digest, MDN_ORDER_DIGEST_SIZE);
    return MDN_OK;
}

/* The file. */

/* Open the file if it is about these timestamps, with its keys checked.  What
 * is wrong with it is nobody's error; that of a timestamp is. */
static mdn_status
open_file(const job *j, bool writable, mdn_orderfile *out, mdn_error *err)
{
    mdn_store *store = j->view->store;
    uint8_t digest[MDN_ORDER_DIGEST_SIZE];
    mdn_status st = MDN_OK;
    bool usable;

    usable = mdn_orderfile_open(store->io, store->path, store->layout.uuid,
                                writable, out, NULL)
             == MDN_OK;
    if (usable && out->head.count <= j->count) {
        st = digest_times(j, out->head.count, digest, err);
        usable = st == MDN_OK
                 && memcmp(digest, out->head.digest, sizeof digest) == 0;
    }
    if (!usable || mdn_orderfile_map(out, j->threads, NULL) != MDN_OK)
        mdn_orderfile_close(out);
    return st;
}

static void
take_mapping(mdn_order *order, mdn_orderfile *file)
{
    order->keys = file->keys;
    order->mapped = file->mapping;
    file->mapping = NULL;
    file->keys = NULL;
}

/* A file about more samples than the view has.  There is no digest to compare
 * with, so every key is held against the one before: count keys that ascend
 * in time are all keys there are. */
static mdn_status
filter(job *j, bool *found, mdn_error *err)
{
    const uint64_t *keys = j->file.keys;
    uint64_t taken = 0, in_place = 0;
    mdn_status st = verify_times(j, 0, j->count, err);

    *found = false;
    if (st != MDN_OK)
        return st;
    if (keys == NULL) {
        *found = is_ascending(j->times, j->count);
        return MDN_OK;
    }
    if ((j->order->owned = malloc(8 * j->count)) == NULL)
        return mdn_fail_nomem(err, 8 * j->count);
    for (uint64_t i = 0; i < j->file.head.count; i++) {
        uint64_t key = keys[i];

        if (key >= j->count)
            continue;
        if (taken > 0 && !is_before(j->times, j->order->owned[taken - 1], key))
            return MDN_OK; /* of other timestamps */
        in_place += key == taken;
        j->order->owned[taken++] = key; /* at most count: they are distinct */
    }
    *found = taken == j->count;
    j->order->keys = in_place == taken ? NULL : j->order->owned;
    return MDN_OK;
}

/* The order is in the file, or follows from it: *found. */
static mdn_status
read_order(job *j, bool writable, bool *found, mdn_error *err)
{
    mdn_status st;

    *found = false;
    mdn_orderfile_close(&j->file);
    if ((st = open_file(j, writable, &j->file, err)) != MDN_OK)
        return st;
    if (j->file.head.count > j->count) {
        st = filter(j, found, err);
        if (!*found) {
            free(j->order->owned);
            j->order->owned = NULL;
            mdn_orderfile_close(&j->file);
        }
    } else if (j->file.head.count == j->count) {
        take_mapping(j->order, &j->file);
        *found = true;
    }
    return st;
}

/* New samples. */

/* Those from `first` on, which are checked, in time order. */
static mdn_status
order_new(const job *j, uint64_t first, uint64_t **out, mdn_error *err)
{
    uint64_t count = j->count - first;
    mdn_status st =
        mdn_time_sort(j->times + first, count, j->threads, out, err);

    for (uint64_t i = 0; st == MDN_OK && i < count; i++)
        (*out)[i] += first;
    return st;
}

static inline uint64_t
old_key(const job *j, uint64_t place)
{
    return j->file.keys == NULL ? place : j->file.keys[place];
}

/* How many of the old keys stay where they are: those not later than time. */
static uint64_t
count_kept(const job *j, int64_t time)
{
    uint64_t low = 0, high = j->file.head.count;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (j->times[old_key(j, middle)] <= time)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The old keys from place `keep` on and the new ones, in time order.  A new
 * key is greater than any old one, so it comes second at the same time. */
static void
merge(const job *j, uint64_t keep, const uint64_t *fresh, uint64_t count,
      uint64_t *out)
{
    uint64_t place = keep, end = j->file.head.count, next = 0;

    while (place < end && next < count) {
        uint64_t old = old_key(j, place);

        if (place + MERGE_AHEAD < end)
            __builtin_prefetch(j->times + old_key(j, place + MERGE_AHEAD));
        if (j->times[fresh[next]] < j->times[old]) {
            *out++ = fresh[next++];
        } else {
            *out++ = old;
            place++;
        }
    }
    while (place < end)
        *out++ = old_key(j, place++);
    memcpy(out, fresh + next, 8 * (count - next));
}

/* All parts of the order: what stays of the old one, and *owned keys. */
static mdn_status
make_parts(const job *j, mdn_order_parts *parts, uint64_t **owned,
           mdn_error *err)
{
    uint64_t old = j->file.head.count, count = j->count - old, *fresh;
    mdn_status st = order_new(j, old, &fresh, err);

    *owned = fresh;
    *parts = (mdn_order_parts){j->file.keys, old, fresh, count};
    if (st != MDN_OK || old == 0 || j->times[fresh[0]] >= j->latest)
        return st;
    *owned = NULL;
    if ((st = verify_times(j, 0, old, err)) == MDN_OK) {
        parts->keep = count_kept(j, j->times[fresh[0]]);
        parts->count = j->count - parts->keep;
        parts->keys = *owned = malloc(8 * parts->count);
        if (*owned == NULL)
            st = mdn_fail_nomem(err, 8 * parts->count);
        else
            merge(j, parts->keep, fresh, count, *owned);
    }
    free(fresh);
    return st;
}

/* Put it into the file. */
static mdn_status
store_parts(job *j, const mdn_order_parts *parts, bool identity)
{
    mdn_store *store = j->view->store;
    uint64_t old = j->file.head.count;
    mdn_order_head head = {.identity = identity, .count = j->count};
    mdn_status st = digest_times(j, j->count, head.digest, NULL);

    if (st != MDN_OK)
        return st;
    if (old > 0 && parts->keep == old
        && (identity || mdn_orderfile_has_room(&j->file, j->count)))
        return mdn_orderfile_extend(&j->file, &head, parts->keys, NULL);
    return mdn_orderfile_replace(store->io, store->path, store->layout.uuid,
                                 &head, parts, NULL);
}

/* Use the keys from the file, now that they are there: what is mapped can be
 * given back and read again. */
static bool
use_stored(job *j)
{
    mdn_orderfile file;
    bool good = open_file(j, false, &file, NULL) == MDN_OK
                && file.head.count == j->count && file.keys != NULL;

    if (good)
        take_mapping(j->order, &file);
    mdn_orderfile_close(&file);
    return good;
}

/* All of it in memory.  *owned is taken where it is all. */
static mdn_status
use_memory(job *j, const mdn_order_parts *parts, uint64_t **owned,
           mdn_error *err)
{
    uint64_t *all = *owned;

    if (parts->keep > 0) {
        if ((all = malloc(8 * j->count)) == NULL)
            return mdn_fail_nomem(err, 8 * j->count);
        for (uint64_t i = 0; i < parts->keep; i++)
            all[i] = old_key(j, i);
        memcpy(all + parts->keep, parts->keys, 8 * parts->count);
    } else {
        *owned = NULL;
    }
    j->order->keys = j->order->owned = all;
    return MDN_OK;
}

/* The file covers fewer samples than there are, or there is none. */
static mdn_status
make_order(job *j, bool may_store, mdn_error *err)
{
    uint64_t old = j->file.head.count, *owned = NULL;
    mdn_order_parts parts = {.keep = old};
    mdn_status st = verify_times(j, old, j->count, err);

    if (st == MDN_OK && old > 0) {
        uint64_t last = old_key(j, old - 1);

        st = verify_times(j, last, last + 1, err);
        j->latest = st == MDN_OK ? j->times[last] : 0;
    }
    if (st != MDN_OK)
        return st;
    if (j->file.keys == NULL && (old == 0 || j->times[old] >= j->latest)
        && is_ascending(j->times + old, j->count - old)) {
        if (may_store)
            store_parts(j, &parts, true);
        return MDN_OK;
    }
    st = make_parts(j, &parts, &owned, err);
    if (st == MDN_OK
        && !(may_store && store_parts(j, &parts, false) == MDN_OK
             && use_stored(j)))
        st = use_memory(j, &parts, &owned, err);
    free(owned);
    return st;
}

static mdn_status
run(job *j, mdn_error *err)
{
    mdn_store *store = j->view->store;
    mdn_file lock = MDN_FILE_CLOSED;
    bool found, may_store;
    mdn_status st = read_order(j, false, &found, err);

    if (st != MDN_OK || found)
        return st;
    may_store =
        mdn_orderfile_lock(store->io, store->path, &lock, NULL) == MDN_OK;
    if (may_store) /* another process may just have done it */
        st = read_order(j, true, &found, err);
    if (st == MDN_OK && !found)
        st = make_order(j, may_store, err);
    mdn_file_close(&lock);
    return st;
}

mdn_status
mdn_view_time_order(mdn_view *view, uint32_t threads, mdn_order **out,
                    mdn_error *err)
{
    job j = {.view = view,
             .times = mdn_store_column(view->store, MDN_TIMESTAMPS),
             .count = view->tail.count,
             .threads = threads,
             .file = MDN_ORDERFILE_CLOSED};
    mdn_status st = MDN_OK;

    *out = NULL;
    if ((j.order = calloc(1, sizeof *j.order)) == NULL)
        return mdn_fail_nomem(err, sizeof *j.order);
    j.order->count = j.count;
    if (j.count > 1)
        st = run(&j, err);
    mdn_orderfile_close(&j.file);
    if (st != MDN_OK) {
        mdn_order_free(j.order);
        return st;
    }
    *out = j.order;
    return MDN_OK;
}

void
mdn_order_free(mdn_order *order)
{
    if (order == NULL)
        return;
    mdn_reserve_free(order->mapped);
    free(order->owned);
    free(order);
}

const uint64_t *
mdn_order_keys(const mdn_order *order)
{
    return order->keys;
}

uint64_t
mdn_order_count(const mdn_order *order)
{
    return order->count;
}

mdn_status
mdn_view_time_position(mdn_view *view, const uint64_t *keys, uint64_t count,
                       int64_t moment, uint64_t *out, mdn_error *err)
{
    const int64_t *times = mdn_store_column(view->store, MDN_TIMESTAMPS);
    uint64_t low = 0, high = count;
    mdn_status st;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2, key = keys[middle];

        if (key >= view->tail.count)
            return mdn_fail(err, MDN_NO_KEY, "no sample has key %llu",
                            (unsigned long long)key);
        st = mdn_verify_column(view, MDN_TIMESTAMPS, key, err);
        if (st != MDN_OK)
            return st;
        if (times[key] < moment)
            low = middle + 1;
        else
            high = middle;
    }
    *out = low;
    return MDN_OK;
}
