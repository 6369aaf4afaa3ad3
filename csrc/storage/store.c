/* store.c - mapping the files of a dataset, segment by segment. */
#include "storage/store.h"

#include "base/bytes.h"
#include "base/file.h"
#include "storage/columns.h"

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
static void
lock(mdn_store *store)
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

static void
unlock(mdn_store *store)
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
    for (int kind = 0; kind < MDN_KINDS; kind++)
        free(store->verified[kind]);
    free(store->records);
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
              const mdn_layout *layout, uint64_t capacity, mdn_store **out,
              mdn_error *err)
{
    mdn_store *store = calloc(1, sizeof *store);
    mdn_status st = MDN_OK;

    *out = NULL;
    if (store == NULL)
        return mdn_fail_nomem(err, sizeof *store);
    store->io = io;
    store->layout = *layout;
    store->capacity = capacity;
    store->path = strdup(path);
    store->schema = copy_schema(schema);
    store->records = calloc(capacity, sizeof *store->records);
    store->segments = calloc(capacity, sizeof *store->segments);
    if (!store->path || !store->schema || !store->records || !store->segments)
        st = mdn_fail_nomem(err, capacity * sizeof *store->segments);
    for (int kind = 0; kind < MDN_KINDS && st == MDN_OK; kind++)
        st = allocate_kind(store, (mdn_kind)kind, err);
    if (st != MDN_OK) {
        destroy(store);
        return st;
    }
    atomic_init(&store->references, 1);
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

/* Under the lock, once per segment: the lock is held during this I/O, so that
 * nobody maps the same file twice; who waits would need the result anyway. */
static mdn_status
map_columns(mdn_store *store, uint64_t segment, mdn_error *err)
{
    const mdn_layout *layout = &store->layout;
    uint8_t *checksums;
    mdn_file file;
    mdn_status st;

    st = mdn_columns_open(store->io, store->path, layout, segment, false, &file,
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

mdn_status
mdn_store_map_columns(mdn_store *store, uint64_t segment, mdn_error *err)
{
    mdn_segment *seg = &store->segments[segment];
    mdn_status st = MDN_OK;

    if (atomic_load_explicit(&seg->checksums, memory_order_acquire) != NULL)
        return MDN_OK;
    lock(store);
    if (atomic_load_explicit(&seg->checksums, memory_order_relaxed) == NULL)
        st = map_columns(store, segment, err);
    unlock(store);
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
        atomic_store_explicit(&store->records[segment], base,
                              memory_order_release);
    }
    return st;
}

static mdn_status
open_seg(const mdn_store *store, uint64_t segment, mdn_file *out,
         mdn_error *err)
{
    char *path = mdn_layout_path(store->path, segment, "seg");
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
    if (st == MDN_OK && seg->mapped < bytes)
        st = map_anew(store, &file, segment, bytes, err);
    if (st == MDN_OK)
        atomic_store_explicit(&seg->readable,
                              size < seg->mapped ? size : seg->mapped,
                              memory_order_release);
    mdn_file_close(&file);
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
    lock(store);
    if (atomic_load_explicit(&seg->readable, memory_order_relaxed) < bytes)
        st = map_records(store, segment, bytes, err);
    unlock(store);
    return st;
}
