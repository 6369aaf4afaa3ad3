/* layout.c - the arithmetic of docs/format.md. */
#include "storage/layout.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <stdio.h>

#define RECORD_BLOCK_BYTES UINT64_C(65536) /* a record block has at least */
#define RECORD_BLOCK_SHIFT_MAX 12
#define SEGMENT_BYTES (UINT64_C(256) << 20) /* a segment has at most */
#define SEGMENT_SHIFT_CHOSEN_MAX 20

static uint32_t
choose_segment_shift(uint64_t record_size)
{
    uint32_t shift = SEGMENT_SHIFT_CHOSEN_MAX;

    while (shift > MDN_SHIFT_MIN && record_size << shift > SEGMENT_BYTES)
        shift--;
    return shift;
}

static uint32_t
record_block_shift(const mdn_schema *schema)
{
    uint32_t shift = 0;

    if (schema->bytes_count > 0)
        return 0;
    while (shift < RECORD_BLOCK_SHIFT_MAX
           && schema->head_size << shift < RECORD_BLOCK_BYTES)
        shift++;
    return shift;
}

static uint64_t
round_up(uint64_t size)
{
    return (size + MDN_COL_ALIGN - 1) & ~(MDN_COL_ALIGN - 1);
}

/* header | columns | checksums of all kinds, one kind after the other */
static void
place_columns(mdn_layout *layout)
{
    uint64_t at = MDN_COL_ALIGN, checksums = 0;

    layout->column_size = UINT64_C(8) << layout->segment_shift;
    for (int kind = MDN_TIMESTAMPS; kind < MDN_KINDS; kind++) {
        layout->column_at[kind] = at;
        if (layout->has[kind])
            at += layout->column_size;
    }
    layout->checksums_at = at;
    for (int kind = 0; kind < MDN_KINDS; kind++) {
        layout->checksum_of[kind] = checksums;
        if (layout->has[kind])
            checksums += UINT64_C(4)
                         << (layout->segment_shift - layout->block_shift[kind]);
    }
    layout->checksums_size = round_up(checksums);
    layout->col_size = at + layout->checksums_size;
}

mdn_status
mdn_layout_init(mdn_layout *layout, const mdn_schema *schema, bool has_labels,
                uint32_t segment_shift, mdn_error *err)
{
    if (segment_shift == 0)
        segment_shift = choose_segment_shift(schema->head_size);
    if (segment_shift < MDN_SHIFT_MIN || segment_shift > MDN_SHIFT_MAX)
        return mdn_fail(err, MDN_INVALID,
                        "segment shift must be %d to %d, got %u", MDN_SHIFT_MIN,
                        MDN_SHIFT_MAX, segment_shift);
    *layout = (mdn_layout){
        .segment_shift = segment_shift,
        .block_shift = {record_block_shift(schema), MDN_COLUMN_BLOCK_SHIFT,
                        MDN_COLUMN_BLOCK_SHIFT, MDN_COLUMN_BLOCK_SHIFT},
        .has = {true, true, has_labels, schema->bytes_count > 0},
        .record_size = schema->head_size,
    };
    place_columns(layout);
    return MDN_OK;
}

uint32_t
mdn_layout_seed(const mdn_layout *layout, mdn_kind kind, uint64_t block)
{
    uint8_t identity[MDN_UUID_SIZE + 12];

    memcpy(identity, layout->uuid, MDN_UUID_SIZE);
    mdn_store_u32(identity + MDN_UUID_SIZE, (uint32_t)kind);
    mdn_store_u64(identity + MDN_UUID_SIZE + 4, block);
    return mdn_crc32c(0, identity, sizeof identity);
}

uint64_t
mdn_layout_checksum_at(const mdn_layout *layout, mdn_kind kind, uint64_t block)
{
    uint32_t blocks_shift = layout->segment_shift - layout->block_shift[kind];
    uint64_t in_segment = block & ((UINT64_C(1) << blocks_shift) - 1);

    return layout->checksums_at + layout->checksum_of[kind] + 4 * in_segment;
}

char *
mdn_layout_path(const char *directory, uint64_t segment, uint64_t generation,
                const char *suffix)
{
    char *path;
    int size;

    if (generation == 0)
        size = asprintf(&path, "%s/%06llu.%s", directory,
                        (unsigned long long)segment, suffix);
    else
        size = asprintf(&path, "%s/%06llu-%llu.%s", directory,
                        (unsigned long long)segment,
                        (unsigned long long)generation, suffix);
    return size < 0 ? NULL : path;
}

const char *
mdn_kind_name(mdn_kind kind)
{
    switch (kind) { /* no default: -Wswitch rejects a missing case */
    case MDN_RECORDS: return "records";
    case MDN_TIMESTAMPS: return "timestamps";
    case MDN_LABELS: return "labels";
    case MDN_OFFSETS: return "offsets";
    }
    return "?";
}
