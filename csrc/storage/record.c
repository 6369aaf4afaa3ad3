/* record.c - commit records and reach slots, to and from bytes.
 *
 *   record   0  4  magic "MDNC"              56 16  lengths of the journals
 *            4  4  kind of record, 1 or 2    72 32  their checks
 *            8  8  sequence                 104 16  zero
 *           16  8  count of samples         120  4  chain: checksum of the
 *           24  8  bytes of open segment            record before
 *           32 16  checksums of the last    124  4  crc32c of uuid and the
 *                  blocks, by kind                  bytes before
 *           48  8  wall time, ns
 *   reach    0  4  magic "MDNR"
 *            4  4  crc32c of uuid and the next 8 bytes
 *            8  8  sequence of a commit known to be durable
 *
 * Records are of kind 1 until a journal has an entry, and of kind 2 then; in
 * those of kind 1 there are zeros for the journals. */
#include "storage/record.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"

#define CHAIN_AT 120
#define CRC_AT 124
#define SIZES_AT 56
#define CHECKS_AT 72
#define PLAIN 1
#define JOURNALS 2

static const char RECORD_MAGIC[4] = "MDNC";
static const char REACH_MAGIC[4] = "MDNR";

static uint32_t
crc_of(const mdn_layout *layout, const void *bytes, uint64_t size)
{
    uint32_t crc = mdn_crc32c(0, layout->uuid, MDN_UUID_SIZE);

    return mdn_crc32c(crc, bytes, size);
}

bool
mdn_record_is_whole(const mdn_layout *layout, const uint8_t *record,
                    uint64_t sequence)
{
    return memcmp(record, RECORD_MAGIC, sizeof RECORD_MAGIC) == 0
           && mdn_load_u64(record + 8) == sequence
           && mdn_load_u32(record + CRC_AT) == crc_of(layout, record, CRC_AT);
}

uint32_t
mdn_record_kind(const uint8_t *record)
{
    return mdn_load_u32(record + 4);
}

bool
mdn_record_is_known(const uint8_t *record)
{
    return mdn_record_kind(record) == PLAIN
           || mdn_record_kind(record) == JOURNALS;
}

uint32_t
mdn_record_check(const uint8_t *record)
{
    return mdn_load_u32(record + CRC_AT);
}

uint32_t
mdn_record_chain(const uint8_t *record)
{
    return mdn_load_u32(record + CHAIN_AT);
}

void
mdn_record_load(const uint8_t *record, mdn_tail *out)
{
    bool journals = mdn_record_kind(record) == JOURNALS;

    *out = (mdn_tail){.count = mdn_load_u64(record + 16),
                      .segment_bytes = mdn_load_u64(record + 24)};
    for (int kind = 0; kind < MDN_KINDS; kind++)
        out->crc[kind] = mdn_load_u32(record + 32 + 4 * kind);
    for (int j = 0; j < MDN_JOURNALS && journals; j++) {
        mdn_mark *mark = &out->journal[j];

        mark->size_bytes = mdn_load_u64(record + SIZES_AT + 8 * j);
        memcpy(mark->check, record + CHECKS_AT + MDN_CHECK_SIZE * j,
               MDN_CHECK_SIZE);
    }
}

/* Journals only grow; *grown says whether one has. */
static bool
journals_follow(const mdn_tail *before, const mdn_tail *next, bool *grown)
{
    *grown = false;
    for (int j = 0; j < MDN_JOURNALS; j++) {
        const mdn_mark *a = &before->journal[j], *b = &next->journal[j];

        if (b->size_bytes < a->size_bytes || b->size_bytes > INT64_MAX
            || (b->size_bytes == a->size_bytes
                && memcmp(a->check, b->check, MDN_CHECK_SIZE) != 0))
            return false;
        *grown = *grown || b->size_bytes > a->size_bytes;
    }
    return true;
}

bool
mdn_record_follows(const mdn_layout *layout, const mdn_tail *before,
                   const mdn_tail *next)
{
    uint64_t row = mdn_layout_row(layout, next->count);
    bool grown;

    if (next->count < before->count || next->count > MDN_COUNT_MAX
        || !journals_follow(before, next, &grown)
        || (next->count == before->count && !grown))
        return false;
    if (!layout->has[MDN_OFFSETS])
        return next->segment_bytes == row * layout->record_size;
    /* Records that were erased may have become empty. */
    return (next->journal[MDN_EVENTS].size_bytes > 0
            || next->segment_bytes / layout->record_size >= row)
           && next->segment_bytes <= (uint64_t)INT64_MAX
           && (row > 0 || next->segment_bytes == 0);
}

void
mdn_record_set_journals(const mdn_tail *tail, uint8_t record[MDN_RECORD_SIZE])
{
    uint32_t record_kind = PLAIN;

    for (int j = 0; j < MDN_JOURNALS; j++) {
        const mdn_mark *mark = &tail->journal[j];

        if (mark->size_bytes > 0)
            record_kind = JOURNALS;
        mdn_store_u64(record + SIZES_AT + 8 * j, mark->size_bytes);
        memcpy(record + CHECKS_AT + MDN_CHECK_SIZE * j, mark->check,
               MDN_CHECK_SIZE);
    }
    mdn_store_u32(record + 4, record_kind);
}

void
mdn_record_renumber(const mdn_layout *layout, uint64_t sequence, uint32_t chain,
                    uint8_t record[MDN_RECORD_SIZE])
{
    mdn_store_u64(record + 8, sequence);
    mdn_store_u32(record + CHAIN_AT, chain);
    mdn_store_u32(record + CRC_AT, crc_of(layout, record, CRC_AT));
}

void
mdn_record_build(const mdn_layout *layout, uint64_t sequence, uint32_t chain,
                 const mdn_tail *tail, uint8_t record[MDN_RECORD_SIZE])
{
    memset(record, 0, MDN_RECORD_SIZE);
    memcpy(record, RECORD_MAGIC, sizeof RECORD_MAGIC);
    mdn_store_u64(record + 16, tail->count);
    mdn_store_u64(record + 24, tail->segment_bytes);
    for (int kind = 0; kind < MDN_KINDS; kind++)
        mdn_store_u32(record + 32 + 4 * kind, tail->crc[kind]);
    mdn_store_u64(record + 48, mdn_wall_ns());
    mdn_record_set_journals(tail, record);
    mdn_record_renumber(layout, sequence, chain, record);
}

mdn_reach_state
mdn_reach_load(const mdn_layout *layout, const uint8_t slot[MDN_REACH_SIZE],
               uint64_t *sequence)
{
    static const uint8_t zeros[MDN_REACH_SIZE];

    *sequence = 0;
    if (memcmp(slot, zeros, MDN_REACH_SIZE) == 0)
        return MDN_REACH_NONE;
    if (memcmp(slot, REACH_MAGIC, sizeof REACH_MAGIC) != 0
        || mdn_load_u32(slot + 4) != crc_of(layout, slot + 8, 8))
        return MDN_REACH_DAMAGED;
    *sequence = mdn_load_u64(slot + 8);
    return MDN_REACH_WHOLE;
}

void
mdn_reach_build(const mdn_layout *layout, uint64_t sequence,
                uint8_t slot[MDN_REACH_SIZE])
{
    memcpy(slot, REACH_MAGIC, sizeof REACH_MAGIC);
    mdn_store_u64(slot + 8, sequence);
    mdn_store_u32(slot + 4, crc_of(layout, slot + 8, 8));
}
