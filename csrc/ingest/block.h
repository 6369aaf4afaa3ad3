/* block.h - samples on their way into a dataset, column by column.
 *
 * Readers of incoming files put samples into blocks; a block is laid out as
 * mdn_dataset_append takes it.  The memory of a block grows and never shrinks;
 * what was put stays where it is until the next call that grows it. */
#ifndef MDN_INGEST_BLOCK_H
#define MDN_INGEST_BLOCK_H

#include "storage/dataset.h"
#include "storage/schema.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t count;      /* whole samples */
    uint64_t size_bytes; /* of the samples, payloads included, roughly */
    mdn_column *columns; /* one per field */
    int64_t *labels;     /* NULL if the reader gives none */
    int64_t *timestamps; /* NULL if the reader gives none */
    /* Its own. */
    uint32_t field_count;
    uint64_t capacity;          /* in samples */
    uint64_t sample_size;       /* bytes of a sample without payloads */
    uint64_t *field_sizes;      /* 0 for bytes */
    uint64_t *payload_capacity; /* bytes, of bytes fields */
} mdn_block;

/* An empty block with room for one sample. */
mdn_status mdn_block_new(const mdn_schema *schema, bool labels, bool timestamps,
                         mdn_block **out, mdn_error *err);
void mdn_block_free(mdn_block *block); /* accepts NULL */
/* No samples; the memory is kept. */
void mdn_block_clear(mdn_block *block);

/* Room for `more` samples behind those that are there, at least. */
mdn_status mdn_block_reserve(mdn_block *block, uint64_t more, mdn_error *err);

/* The payload of bytes field `field` of sample `count`, the one that is being
 * put; room for the sample has been reserved.  Once per sample and field. */
mdn_status mdn_block_put_payload(mdn_block *block, uint32_t field,
                                 const void *data, uint64_t size,
                                 mdn_error *err);
/* The same in two steps: where `size` bytes may be written, and how many of
 * them have been. */
mdn_status mdn_block_payload_room(mdn_block *block, uint32_t field,
                                  uint64_t size, uint8_t **out, mdn_error *err);
void mdn_block_payload_end(mdn_block *block, uint32_t field, uint64_t size);

/* Sample `count` is whole: its fixed fields, label and timestamp were written
 * to the columns, its payloads put.  Counts it. */
void mdn_block_end_sample(mdn_block *block);
/* The same for `more` samples without bytes fields. */
void mdn_block_end_samples(mdn_block *block, uint64_t more);

/* All samples of `from` behind those of `to`; both of one schema. */
mdn_status mdn_block_append(mdn_block *to, const mdn_block *from,
                            mdn_error *err);
/* The same with samples first .. first + count only. */
mdn_status mdn_block_append_part(mdn_block *to, const mdn_block *from,
                                 uint64_t first, uint64_t count,
                                 mdn_error *err);

#endif
