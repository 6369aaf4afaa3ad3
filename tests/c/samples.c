#include "samples.h"

#include "base/random.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAYLOAD_MAX 48

const char *
samples_path(void)
{
    static char path[128];
    static int number;
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    snprintf(path, sizeof path, "%s/mdn-test-%ld-%d", root, (long)getpid(),
             number++);
    return path;
}

void
samples_remove(const char *path)
{
    char name[600];
    DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        unlink(name); /* . and .. stay */
    }
    if (dir != NULL)
        closedir(dir);
    rmdir(path);
}

mdn_dataset *
samples_create(const mdn_io *io, const char *path, const char *schema,
               bool labels)
{
    mdn_dataset_options options = {.schema = schema,
                                   .has_labels = labels,
                                   .time_unit = MDN_MS,
                                   .segment_shift = 13};
    mdn_dataset *dataset;
    mdn_error err;

    if (mdn_dataset_create(io, path, &options, &dataset, &err) != MDN_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    return dataset;
}

/* The value of one fixed field, size bytes. */
static void
fill(uint8_t *to, uint64_t key, uint64_t field, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += 8) {
        uint64_t word = mdn_mix(key * 1024 + field * 64 + i / 8);

        memcpy(to + i, &word, size - i < 8 ? size - i : 8);
    }
}

static uint64_t
payload(uint8_t *to, uint64_t key, uint64_t field)
{
    uint64_t random = mdn_mix(key * 4 + field);
    uint64_t size = random % (PAYLOAD_MAX + 1);

    if (random >> 62 == 0)
        size = 0; /* a quarter is empty */
    fill(to, key, 8 + field, size);
    return size;
}

static int64_t
timestamp(uint64_t key)
{
    return (int64_t)(mdn_mix(key) >> 8);
}

static int64_t
label(uint64_t key)
{
    return (int64_t)(mdn_mix(key + 77) % 10) - 1;
}

static void *
allocate(uint64_t size)
{
    void *room = malloc(size + 1);

    if (room == NULL)
        abort();
    return room;
}

mdn_status
samples_append(mdn_dataset *dataset, uint64_t first, uint64_t count,
               mdn_error *err)
{
    mdn_view *view;
    mdn_column columns[8] = {{NULL, NULL}};
    int64_t *labels = allocate(count * 8), *timestamps = allocate(count * 8);
    uint64_t first_key = 0;
    mdn_status st;

    if ((st = mdn_dataset_view(dataset, &view, err)) != MDN_OK)
        goto done;
    const mdn_schema *schema = mdn_view_schema(view);
    for (uint32_t f = 0; f < schema->field_count; f++) {
        uint64_t size = schema->fields[f].size_bytes;
        bool bytes = schema->fields[f].dtype == MDN_BYTES;
        uint8_t *values = allocate(count * (bytes ? PAYLOAD_MAX : size));
        int64_t *offsets = bytes ? allocate((count + 1) * 8) : NULL;

        columns[f] = (mdn_column){values, offsets};
        if (bytes)
            offsets[0] = 0;
        for (uint64_t i = 0; i < count; i++) {
            if (bytes)
                offsets[i + 1] =
                    offsets[i]
                    + (int64_t)payload(values + offsets[i], first + i, f);
            else
                fill(values + i * size, first + i, f, size);
        }
    }
    for (uint64_t i = 0; i < count; i++) {
        timestamps[i] = timestamp(first + i);
        labels[i] = label(first + i);
    }
    st = mdn_dataset_append(dataset, count, columns,
                            mdn_view_has_labels(view) ? labels : NULL,
                            timestamps, &first_key, err);
    if (st == MDN_OK && first_key != first)
        abort();
    for (uint32_t f = 0; f < schema->field_count; f++) {
        free((void *)(uintptr_t)columns[f].values);
        free((void *)(uintptr_t)columns[f].offsets);
    }
    mdn_view_release(view);
done:
    free(labels);
    free(timestamps);
    return st;
}

#define FILE_HEADER 16
#define FILE_RECORD 40

void
samples_write_file(const char *file, uint64_t first, uint64_t count)
{
    const struct timespec old[2] = {{1000000000, 5}, {1000000000, 5}};
    uint64_t size = FILE_HEADER + count * FILE_RECORD;
    uint8_t *all = allocate(size);
    FILE *out = fopen(file, "wb");

    memset(all, 0xee, size);
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *record = all + FILE_HEADER + i * FILE_RECORD;
        uint64_t time = (uint64_t)timestamp(first + i);

        for (uint64_t k = 0; k < 8; k++)
            record[k] = (uint8_t)(time >> (56 - 8 * k));
        record[8] = (uint8_t)label(first + i);
        fill(record + 9, first + i, 0, 4);
        fill(record + 13, first + i, 1, 24);
    }
    if (out == NULL || fwrite(all, 1, size, out) != size || fclose(out) != 0
        || utimensat(AT_FDCWD, file, old, 0) != 0)
        abort();
    free(all);
}

mdn_link_options
samples_link_options(const char *file, uint32_t threads)
{
    return (mdn_link_options){
        .path = file,
        .first_record = FILE_HEADER,
        .record_size = FILE_RECORD,
        .fields_at = 9,
        .label = {.offset = 8, .size = 1, .is_signed = true},
        .timestamp = {.size = 8, .is_signed = true, .big_endian = true},
        .threads = threads,
    };
}

static bool
field_is_right(const mdn_target *target, const mdn_field *field,
               const uint64_t *keys, uint64_t count)
{
    uint8_t room[256];
    uint64_t size = field->size_bytes;

    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *got = (const uint8_t *)target->values + i * size;

        if (field->dtype == MDN_BYTES) {
            size = payload(room, keys[i], target->field);
            got = (const uint8_t *)target->values + target->offsets[i];
            if (target->offsets[i + 1] - target->offsets[i] != (int64_t)size)
                return false;
        } else {
            fill(room, keys[i], target->field, size);
        }
        if (memcmp(got, room, size) != 0)
            return false;
        size = field->size_bytes;
    }
    return true;
}

static bool
columns_are_right(const mdn_view *view, const int64_t *labels,
                  const int64_t *timestamps, const uint64_t *keys,
                  uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (timestamps[i] != timestamp(keys[i]))
            return false;
        if (mdn_view_has_labels(view) && labels[i] != label(keys[i]))
            return false;
    }
    return true;
}

mdn_status
samples_check_keys(mdn_view *view, const uint64_t *keys, uint64_t count,
                   uint32_t threads, mdn_error *err)
{
    const mdn_schema *schema = mdn_view_schema(view);
    mdn_target targets[8];
    int64_t *labels = allocate(count * 8), *timestamps = allocate(count * 8);
    mdn_status st = MDN_OK;
    uint32_t ready = 0;

    for (; ready < schema->field_count && st == MDN_OK; ready++) {
        const mdn_field *field = &schema->fields[ready];
        uint64_t size = count * field->size_bytes;
        int64_t *offsets = NULL;

        if (field->dtype == MDN_BYTES) {
            offsets = allocate((count + 1) * 8);
            st = mdn_view_offsets(view, keys, count, ready, offsets, err);
            size = st == MDN_OK ? (uint64_t)offsets[count] : 0;
        }
        targets[ready] = (mdn_target){ready, allocate(size), offsets};
    }
    if (st == MDN_OK)
        st = mdn_view_fetch(view, keys, count, targets, ready,
                            mdn_view_has_labels(view) ? labels : NULL,
                            timestamps, threads, err);
    for (uint32_t f = 0; f < ready; f++) {
        if (st == MDN_OK
            && !field_is_right(&targets[f], &schema->fields[f], keys, count))
            st = mdn_fail(err, MDN_INVALID, "field %u has wrong values", f);
        free(targets[f].values);
        free(targets[f].offsets);
    }
    if (st == MDN_OK
        && !columns_are_right(view, labels, timestamps, keys, count))
        st = mdn_fail(err, MDN_INVALID, "a column has wrong values");
    free(labels);
    free(timestamps);
    return st;
}

mdn_status
samples_check(mdn_view *view, uint32_t threads, mdn_error *err)
{
    uint64_t count = mdn_view_count(view);
    uint64_t *keys = allocate((count + 3) * 8), step = 7919;
    const int64_t *labels, *timestamps;
    mdn_status st;

    while (count > 0 && step % 2 == 0)
        step++;
    for (uint64_t i = 0; i < count; i++)
        keys[i] = i * step % count; /* scrambled, a few twice */
    for (uint64_t i = 0; i < 3 && count > 0; i++)
        keys[count + i] = count - 1 - i % count;
    st =
        samples_check_keys(view, keys, count > 0 ? count + 3 : 0, threads, err);
    for (uint64_t i = 0; i < count; i++)
        keys[i] = i; /* and each once, in order */
    if (st == MDN_OK)
        st = samples_check_keys(view, keys, count, threads, err);
    if (st == MDN_OK)
        st = mdn_view_columns(view, 0, count, &timestamps, &labels, err);
    if (st == MDN_OK
        && !columns_are_right(view, labels, timestamps, keys, count))
        st = mdn_fail(err, MDN_INVALID, "a mapped column is wrong");
    free(keys);
    return st;
}

mdn_status
samples_check_path(const char *path, uint64_t *count, mdn_error *err)
{
    mdn_dataset *dataset;
    mdn_view *view = NULL;
    mdn_status st =
        mdn_dataset_open(&mdn_io_system, path, false, &dataset, err);

    *count = 0;
    if (st != MDN_OK)
        return st;
    if ((st = mdn_dataset_view(dataset, &view, err)) == MDN_OK) {
        *count = mdn_view_count(view);
        st = samples_check(view, 1, err);
    }
    mdn_view_release(view);
    mdn_dataset_free(dataset);
    return st;
}
