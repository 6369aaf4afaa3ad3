/* payloads.c - payloads out of the frames of compressed records.
 *
 * Lengths come from the head of a record, which is checked before it is read;
 * so is that its frame claims to hold as many bytes (verify.c).  What a frame
 * really holds is known when it is unpacked, into room for that many. */
#include "storage/payloads.h"

#include <stdlib.h>

void
mdn_unpacker_free(mdn_unpacker *unpacker)
{
    mdn_zstd_free(&unpacker->zstd);
    free(unpacker->scratch);
    unpacker->scratch = NULL;
    unpacker->size = 0;
}

static mdn_status
make_room(mdn_unpacker *unpacker, uint64_t size, mdn_error *err)
{
    if (unpacker->size >= size)
        return MDN_OK;
    free(unpacker->scratch);
    unpacker->scratch = malloc(size);
    unpacker->size = unpacker->scratch == NULL ? 0 : size;
    return unpacker->scratch == NULL ? mdn_fail_nomem(err, size) : MDN_OK;
}

mdn_status
mdn_payloads_find(const mdn_view *view, mdn_unpacker *unpacker, uint64_t key,
                  const uint8_t *record, void *place, const uint8_t **out,
                  mdn_error *err)
{
    const mdn_schema *schema = view->store->schema;
    uint64_t stored = mdn_view_record_size(view, key) - schema->head_size;
    uint64_t size = mdn_payloads_before(schema, record, schema->bytes_count);
    mdn_status st;

    *out = record + schema->head_size;
    if (stored == size)
        return MDN_OK;
    if (place == NULL) {
        if ((st = make_room(unpacker, size, err)) != MDN_OK)
            return st;
        place = unpacker->scratch;
    }
    if (!mdn_zstd_unpack(&unpacker->zstd, *out, stored, place, size))
        return mdn_fail(err, MDN_CORRUPT,
                        "%s: the payloads of key %llu cannot be unpacked",
                        view->store->path, (unsigned long long)key);
    *out = place;
    return MDN_OK;
}
