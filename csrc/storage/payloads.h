/* payloads.h - the payloads of a record, wherever they are. */
#ifndef MDN_STORAGE_PAYLOADS_H
#define MDN_STORAGE_PAYLOADS_H

#include "base/bytes.h"
#include "storage/verify.h"
#include "storage/zstd.h"

/* What one thread of a fetch unpacks with; {0} at first. */
typedef struct {
    mdn_zstd zstd;
    uint8_t *scratch; /* owned: the payloads of one record */
    uint64_t size;
} mdn_unpacker;

void mdn_unpacker_free(mdn_unpacker *unpacker);

/* Bytes of the payloads of a record before number `nth`. */
static inline uint64_t
mdn_payloads_before(const mdn_schema *schema, const uint8_t *record,
                    uint64_t nth)
{
    const uint8_t *lengths = record + schema->fixed_size;
    uint64_t size = 0;

    for (uint64_t i = 0; i < nth; i++)
        size += mdn_load_u32(lengths + 4 * i);
    return size;
}

/* All payloads of a verified record, one after the other: in the record, or
 * unpacked to `place`, which has room for just them; NULL: to the unpacker's
 * own, for as long as nothing else is unpacked.  MDN_CORRUPT names the key. */
mdn_status mdn_payloads_find(const mdn_view *view, mdn_unpacker *unpacker,
                             uint64_t key, const uint8_t *record, void *place,
                             const uint8_t **out, mdn_error *err);

#endif
