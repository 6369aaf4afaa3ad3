/* store.c - mapping the files of a dataset, segment by segment. */
#include "storage/store.h"

#include "base/bytes.h"
#include "base/file.h"
#include "storage/columns.h"
#include "storage/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Segments up to this size are mapped whole at once, also what is not in the
 * file yet; larger ones, and those with bytes fields, as they grow. */
#define MAP_WHOLE (UINT64_C(1) << 30)
#define MAP_MIN (UINT64_C(16) << 20)

/* Mapping happens once per segment, so that waiting may be simple. */
void
mdn_store_lock(mdn_store *store)
{
    const struct timespec pause = {0, 50000};
    int self = (int)getpid();

    for (;;) {
        int holder = 0;

        if (atomic_compare_exchange_strong(&store->lock, &holder, self))
            return;
        if (holder != self
            && atomic_compare_exchange_strong(&store->lock, &holder, self))
            return;
        nanosleep(&pause, NULL);
    }
}

void
mdn_store_unlock(mdn_store *store)
{
    atomic_store(&store->lock, 0);
}

static uint64_t
full_size(const mdn_layout *layout)
{
    return layout->record_size << layout->segment_shift;
}

static void
destroy(mdn_store *store)
{
    mdn_reserve_free(store->ranges);
    mdn_history_release(store->history);
    mdn_history_release(store->now);
    for (uint64_t i = 0; i < store->kept_count; i++)
        mdn_history_release(store->kept[i]);
    free(store->kept);
    for (int kind = 0; kind < MDN_KINDS; kind++)
        free(store->verified[kind]);
    for (uint64_t s = 0; store->segments != NULL && s < store->capacity; s++)
        mdn_link_release(store->segments[s].link);
    free(store->places);
    free(store->segments);
    free(store->schema);
    free(store->path);
    free(store);
}

static mdn_schema *
copy_schema(const mdn_schema *schema)
{
    size_t size =
        sizeof *schema + schema->field_count * sizeof schema->fields[0];
    mdn_schema *copy = malloc(size);

    return copy == NULL ? NULL : memcpy(copy, schema, size);
}

static mdn_status
allocate_kind(mdn_store *store, mdn_kind kind, mdn_error *err)
{
    const mdn_layout *layout = &store->layout;
    uint64_t blocks, size;

    if (!layout->has[kind])
        return MDN_OK;
    blocks = store->capacity
             << (layout->segment_shift - layout->block_shift[kind]);
    store->verified[kind] = calloc(blocks / 64 + 1, sizeof(uint64_t));
    if (store->verified[kind] == NULL)
        return mdn_fail_nomem(err, blocks / 8);
    if (kind == MDN_RECORDS)
        return MDN_OK;
    if (mdn_mul_overflows(store->capacity, layout->column_size, &size))
        return mdn_fail_nomem(err, UINT64_MAX);
    return mdn_reserve_add(&store->ranges, size, &store->column[kind], err);
}

mdn_status
mdn_store_new(const mdn_io *io, const char *path, const mdn_schema *schema,
              const mdn_layout *layout, mdn_history *history, uint64_t capacity,
              mdn_store **out, mdn_error *err)
{
    mdn_store *store = calloc(1, sizeof *store);
    mdn_status st = MDN_OK;

    *out = NULL;
    if (store == NULL)
        return mdn_fail_nomem(err, sizeof *store);
    store->io = io;
    store->layout = *layout;
    store->capacity = capacity;
    store->history = mdn_history_retain(history);
    store->path = strdup(path);
    store->schema = copy_schema(schema);
    store->places = calloc(capacity, sizeof *store->places);
    store->segments = calloc(capacity, sizeof *store->segments);
    if (!store->path || !store->schema || !store->places || !store->segments)
        st = mdn_fail_nomem(err, capacity * sizeof *store->segments);
    for (int kind = 0; kind < MDN_KINDS && st == MDN_OK; kind++)
        st = allocate_kind(store, (mdn_kind)kind, err);
    for (uint64_t s = 0; st == MDN_OK && s < capacity; s++)
        store->places[s].stride = layout->record_size;
    for (uint64_t s = 0; s < history->segment_count && s < capacity; s++) {
        if (st == MDN_OK)
            store->segments[s].generation = history->fates[s].generation;
    }
    if (st != MDN_OK) {
        destroy(store);
        return st;
    }
    atomic_init(&store->references, 1);
    atomic_init(&store->any_late, false);
    atomic_init(&store->lock, 0);
    *out = store;
    return MDN_OK;
}

mdn_store *
mdn_store_retain(mdn_store *store)
{
    atomic_fetch_add_explicit(&store->references, 1, memory_order_relaxed);
    return store;
}

void
mdn_store_release(mdn_store *store)
{
    if (store == NULL
        || atomic_fetch_sub_explicit(&store->references, 1,
                                     memory_order_acq_rel)
               != 1)
        return;
    destroy(store);
}

static mdn_status
map(const mdn_store *store, const mdn_file *file, uint64_t at, uint64_t size,
    void *want, mdn_error *err)
{
    void *place = NULL;
    int result =
        store->io->map(store->io->self, want, size, file->fd, at, &place);

    if (result < 0)
        return mdn_fail_errno(err, -result, "%s: cannot be mapped", file->path);
    return MDN_OK;
}

/* Compaction in the meantime. */

/* The history of the dataset as it is now, read anew. */
static mdn_status
look_again(mdn_store *store, mdn_error *err)
{
    mdn_history *before = store->now ? store->now : store->history, *now;
    mdn_manifest manifest = MDN_MANIFEST_CLOSED;
    mdn_schema *schema = NULL;
    mdn_layout layout;
    mdn_status st;

    st = mdn_manifest_open(store->io, store->path, false, &manifest, &layout,
                           &schema, err);
    if (st == MDN_OK
        && memcmp(layout.uuid, store->layout.uuid, MDN_UUID_SIZE) != 0)
        st = mdn_fail(err, MDN_CORRUPT, "%s: another dataset lies here now",
                      store->path);
    if (st == MDN_OK)
        st = mdn_manifest_advance(&manifest, &layout, err);
    if (st == MDN_OK)
        st = mdn_history_extend(before, store->io, store->path, &layout,
                                &manifest.tail, &now, err);
    if (st == MDN_OK) {
        mdn_history *old = store->now;

        store->now = now; /* first: a fork may come between */
        mdn_history_release(old);
    }
    mdn_schema_free(schema);
    mdn_manifest_close(&manifest);
    return st;
}

/* Let the bits of a history live as long as the store.  The list is copied, not
 * moved, so that a fork at any moment finds one in place. */
static mdn_status
keep(mdn_store *store, mdn_history *history, mdn_error *err)
{
    uint64_t count = store->kept_count;
    mdn_history **old = store->kept;
    mdn_history **kept = malloc((count + 1) * sizeof *kept);

    if (kept == NULL)
        return mdn_fail_nomem(err, (count + 1) * sizeof *kept);
    if (count > 0)
        memcpy(kept, old, count * sizeof *kept);
    kept[count] = mdn_history_retain(history);
    store->kept = kept;
    store->kept_count = count + 1;
    free(old);
    return MDN_OK;
}

/* The files of a segment are gone: where is it now?  *moved is false when the
 * manifest names no other files, so that they are missing. */
static mdn_status
follow(mdn_store *store, uint64_t segment, bool *moved, mdn_error *err)
{
    mdn_segment *seg = &store->segments[segment];
    const mdn_fate *fate;
    mdn_status st = look_again(store, err);

    *moved = false;
    if (st != MDN_OK)
        return st;
    fate = mdn_history_fate(store->now, segment);
    if (fate == NULL || fate->generation == seg->generation)
        return MDN_OK;
    if ((st = keep(store, store->now, err)) != MDN_OK)
        return st;
    seg->generation = fate->generation;
    atomic_store(&store->any_late, true);
    atomic_store(&seg->late, fate->erased);
    *moved = true;
    return MDN_OK;
}

static mdn_status
fail_late(const mdn_store *store, uint64_t key, mdn_error *err)
{
    return mdn_fail(err, MDN_NO_KEY,
                    "sample %llu of %s was erased, and its bytes were removed, "
                    "after this view of it was made; refresh",
                    (unsigned long long)key, store->path);
}

mdn_status
mdn_store_check_late(const mdn_store *store, const uint64_t *keys,
                     uint64_t count, mdn_error *err)
{
    const mdn_layout *layout = &store->layout;

    if (!atomic_load(&store->any_late))
        return MDN_OK;
    for (uint64_t i = 0; i < count; i++) {
        const mdn_bits *late = atomic_load(
            &store->segments[keys[i] >> layout->segment_shift].late);

        if (late != NULL && mdn_bits_has(late, mdn_layout_row(layout, keys[i])))
            return fail_late(store, keys[i], err);
    }
    return MDN_OK;
}

/* Under the lock, once per segment: the lock is held during this I/O, so that
 * nobody maps the same file twice; who waits would need the result anyway. */
static mdn_status
map_columns(mdn_store *store, uint64_t segment, uint64_t unused, mdn_error *err)
{
    const mdn_layout *layout = &store->layout;
    uint8_t *checksums;
    mdn_file file;
    mdn_status st;

    (void)unused;
    st = mdn_columns_open(store->io, store->path, layout, segment,
                          store->segments[segment].generation, false, &file,
                          err);
    if (st != MDN_OK)
        return st;
    for (int kind = MDN_TIMESTAMPS; kind < MDN_KINDS && st == MDN_OK; kind++) {
        if (layout->has[kind])
            st = map(store, &file, layout->column_at[kind], layout->column_size,
                     store->column[kind] + segment * layout->column_size, err);
    }
    if (st == MDN_OK)
        st = mdn_reserve_add(&store->ranges, layout->checksums_size, &checksums,
                             err);
    if (st == MDN_OK)
        st = map(store, &file, layout->checksums_at, layout->checksums_size,
                 checksums, err);
    if (st == MDN_OK)
        atomic_store_explicit(&store->segments[segment].checksums,
                              (const uint32_t *)(const void *)checksums,
                              memory_order_release);
    mdn_file_close(&file);
    return st;
}

/* How much address space to take for records of which `bytes` are needed. */
static uint64_t
mapping_size(const mdn_layout *layout, uint64_t bytes)
{
    uint64_t full = full_size(layout), size = MAP_MIN;

    if (!layout->has[MDN_OFFSETS] && full <= MAP_WHOLE)
        return full;
    while (size < bytes)
        size *= 2;
    return !layout->has[MDN_OFFSETS] && size > full ? full : size;
}

/* An earlier, smaller mapping stays for those who are reading in it. */
static mdn_status
map_anew(mdn_store *store, const mdn_file *file, uint64_t segment,
         uint64_t bytes, mdn_error *err)
{
    mdn_segment *seg = &store->segments[segment];
    uint64_t size = mapping_size(&store->layout, bytes);
    uint8_t *base;
    mdn_status st = mdn_reserve_add(&store->ranges, size, &base, err);

    if (st == MDN_OK)
        st = map(store, file, 0, size, base, err);
    if (st == MDN_OK) {
        seg->mapped = size;
        atomic_store_explicit(&store->places[segment].base, base,
                              memory_order_release);
    }
    return st;
}

static mdn_status
open_seg(const mdn_store *store, uint64_t segment, mdn_file *out,
         mdn_error *err)
{
    char *path = mdn_layout_path(store->path, segment,
                                 store->segments[segment].generation, "seg");
    mdn_status st;

    *out = MDN_FILE_CLOSED;
    if (path == NULL)
        return mdn_fail_nomem(err, strlen(store->path) + 16);
    st = mdn_file_open(store->io, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, out,
                       err);
    free(path);
    return st;
}

/* Under the lock, as map_columns. */
static mdn_status
map_records(mdn_store *store, uint64_t segment, uint64_t bytes, mdn_error *err)
{
    mdn_segment *seg = &store->segments[segment];
    uint64_t size = 0;
    mdn_file file;
    mdn_status st = open_seg(store, segment, &file, err);

    if (st != MDN_OK)
        return st;
    st = mdn_file_size(&file, &size, err);
    if (st == MDN_OK && size < bytes)
        st = mdn_fail(err, MDN_CORRUPT,
                      "%s: truncated: %llu bytes, of %llu committed", file.path,
                      (unsigned long long)size, (unsigned long long)bytes);
    /* With bytes fields the whole file: a mapping that had to grow later would
     * find no file after a compaction. */
    if (st == MDN_OK && seg->mapped < bytes)
        st = map_anew(store, &file, segment,
                      store->layout.has[MDN_OFFSETS] ? size : bytes, err);
    if (st == MDN_OK)
        atomic_store_explicit(&seg->readable,
                              size < seg->mapped ? size : seg->mapped,
                              memory_order_release);
    mdn_file_close(&file);
    return st;
}

/* One of map_columns and map_records; when the file is gone because of a
 * compaction, from the files that are there now, and the columns first: rows
 * and columns have to be of one generation. */
static mdn_status
map_current(mdn_store *store, uint64_t segment,
            mdn_status (*step)(mdn_store *, uint64_t, uint64_t, mdn_error *),
            uint64_t bytes, mdn_error *err)
{
    mdn_error inner;
    bool moved = true;
    mdn_status st = step(store, segment, bytes, &inner);

    for (int tries = 0; tries < 3; tries++) {
        if (st != MDN_IO || inner.sys_errno != ENOENT)
            break;
        if ((st = follow(store, segment, &moved, err)) != MDN_OK)
            return st;
        if (!moved) {
            st = MDN_IO;
            break;
        }
        st = map_columns(store, segment, 0, &inner);
        if (st == MDN_OK && step != map_columns)
            st = step(store, segment, bytes, &inner);
    }
    if (st != MDN_OK && err != NULL)
        *err = inner;
    return st;
}

mdn_status
mdn_store_map_columns(mdn_store *store, uint64_t segment, mdn_error *err)
{
    mdn_segment *seg = &store->segments[segment];
    mdn_status st = MDN_OK;

    if (atomic_load_explicit(&seg->checksums, memory_order_acquire) != NULL)
        return MDN_OK;
    mdn_store_lock(store);
    if (atomic_load_explicit(&seg->checksums, memory_order_relaxed) == NULL)
        st = map_current(store, segment, map_columns, 0, err);
    mdn_store_unlock(store);
    return st;
}

mdn_status
mdn_store_map_records(mdn_store *store, uint64_t segment, uint64_t bytes,
                      mdn_error *err)
{
    mdn_segment *seg = &store->segments[segment];
    mdn_status st = MDN_OK;

    if (atomic_load_explicit(&seg->readable, memory_order_acquire) >= bytes)
        return MDN_OK;
    mdn_store_lock(store);
    if (atomic_load_explicit(&seg->readable, memory_order_relaxed) < bytes)
        st = map_current(store, segment, map_records, bytes, err);
    mdn_store_unlock(store);
    return st;
}
