/* create.c - a dataset where there was none.
 *
 * The directory, the lock, and then the manifest under a temporary name: the
 * rename makes the dataset. */
#include "storage/handle.h"

#include "storage/zstd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static mdn_status
refuse_existing(const mdn_io *io, const char *path, mdn_error *err)
{
    char *manifest = mdn_path_join(path, "manifest");
    mdn_file file;
    mdn_error inner;
    mdn_status st;

    if (manifest == NULL)
        return mdn_fail_nomem(err, strlen(path) + 10);
    st = mdn_file_open(io, manifest, O_RDONLY | O_NONBLOCK, &file, &inner);
    free(manifest);
    if (st == MDN_IO && inner.sys_errno == ENOENT)
        return MDN_OK;
    if (st != MDN_OK) {
        if (err != NULL)
            *err = inner;
        return st;
    }
    mdn_file_close(&file);
    return mdn_fail_errno(err, EEXIST, "%s: a dataset is there already", path);
}

static mdn_status
make_directory(const mdn_io *io, const char *path, mdn_error *err)
{
    int result;

    do
        result = io->mkdir(io->self, path, 0777);
    while (result == -EINTR);
    if (result < 0 && result != -EEXIST)
        return mdn_fail_errno(err, -result, "%s: the directory cannot be made",
                              path);
    return MDN_OK;
}

static mdn_status
draw_uuid(uint8_t uuid[MDN_UUID_SIZE], mdn_error *err)
{
    if (getrandom(uuid, MDN_UUID_SIZE, 0) != MDN_UUID_SIZE)
        return mdn_fail_errno(err, errno, "no random numbers for a uuid");
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40); /* version 4: random */
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
    return MDN_OK;
}

/* Header and schema from the options, into the handle's own layout. */
static mdn_status
plan(const mdn_dataset_options *options, mdn_layout *layout, char **text,
     mdn_error *err)
{
    mdn_schema *schema;
    mdn_status st;

    st = mdn_schema_parse(options->schema, strlen(options->schema), &schema,
                          err);
    if (st != MDN_OK)
        return st;
    st = mdn_layout_init(layout, schema, options->has_labels,
                         options->segment_shift, err);
    if (st == MDN_OK)
        st = draw_uuid(layout->uuid, err);
    layout->time_unit = options->time_unit;
    layout->compressed = options->compressed;
    if (st == MDN_OK && options->compressed)
        st = schema->bytes_count > 0
                 ? mdn_zstd_load(err)
                 : mdn_fail(err, MDN_INVALID,
                            "compression is for schemas with bytes fields; "
                            "this one has none");
    *text = mdn_schema_text(schema);
    mdn_schema_free(schema);
    if (st == MDN_OK && *text == NULL)
        st = mdn_fail_nomem(err, strlen(options->schema));
    return st;
}

/* Creating failed late: leave no dataset that the caller does not know of. */
static void
remove_manifest(const mdn_io *io, const char *path)
{
    char *manifest = mdn_path_join(path, "manifest");

    if (manifest != NULL)
        io->unlink(io->self, manifest);
    free(manifest);
}

mdn_status
mdn_dataset_create(const mdn_io *io, const char *path,
                   const mdn_dataset_options *options, mdn_dataset **out,
                   mdn_error *err)
{
    mdn_dataset *dataset = NULL;
    mdn_layout layout;
    char *schema = NULL;
    bool ours = false; /* the manifest, if there is one by now */
    mdn_status st;

    *out = NULL;
    if ((st = plan(options, &layout, &schema, err)) != MDN_OK
        || (st = mdn_handle_new(io, path, true, &dataset, err)) != MDN_OK
        || (st = refuse_existing(io, path, err)) != MDN_OK
        || (st = make_directory(io, path, err)) != MDN_OK
        || (st = mdn_handle_lock(dataset, err)) != MDN_OK
        || (st = refuse_existing(io, path, err)) != MDN_OK /* in the meantime */
        || (st = mdn_parent_sync(io, path, err)) != MDN_OK)
        goto fail;
    ours = true;
    st = mdn_manifest_create(io, path, &layout, schema, err);
    if (st != MDN_OK || (st = mdn_handle_start(dataset, err)) != MDN_OK)
        goto fail;
    free(schema);
    *out = dataset;
    return MDN_OK;

fail:
    if (ours)
        remove_manifest(io, path);
    free(schema);
    mdn_dataset_free(dataset);
    return st;
}
