/* fuzz_manifest.c - any bytes are a manifest that makes sense, or refused.
 *
 * The file lies in memory.  Random bytes hardly ever have the right checksums,
 * so that the mutator puts them right: what is behind the checks is reached
 * then.  (It leaves them wrong in one of four.) */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "memory.h"
#include "storage/survey.h"

#include <errno.h>
#include <stdlib.h>

#define SECTOR 512
#define RECORD 128

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was accepted is what a writer could have written. */
static void
check(const mdn_manifest *manifest, const mdn_layout *layout)
{
    const mdn_tail *tail = &manifest->tail;
    uint64_t row = mdn_layout_row(layout, tail->count);

    bool journals = tail->journal[MDN_EVENTS].size_bytes > 0
                    || tail->journal[MDN_SOURCES].size_bytes > 0;

    if (tail->count > MDN_COUNT_MAX)
        abort();
    if (!journals && manifest->sequence > tail->count)
        abort();
    if ((tail->count == 0 && !journals) != (manifest->sequence == 0))
        abort();
    if (!layout->has[MDN_OFFSETS]
        && tail->segment_bytes != row * layout->record_size)
        abort();
    if (tail->journal[MDN_EVENTS].size_bytes == 0
        && tail->segment_bytes < row * layout->record_size)
        abort();
    if (row == 0 && tail->segment_bytes != 0)
        abort();
    if (layout->segment_shift < MDN_SHIFT_MIN
        || layout->segment_shift > MDN_SHIFT_MAX)
        abort();
}

static mdn_status
count_good(void *ctx, uint64_t sequence, const uint8_t *record,
           const mdn_tail *tail, mdn_error *err)
{
    (void)sequence, (void)record, (void)err;
    *(uint64_t *)ctx += tail != NULL;
    return MDN_OK;
}

/* The survey goes on past damage; where there is none it says the same. */
static void
check_survey(const mdn_io *io, const mdn_manifest *manifest, bool advanced)
{
    mdn_survey survey;
    mdn_error err = {.status = MDN_OK};
    uint64_t good = 0;

    if (mdn_survey_open(io, "d", &survey, &err) != MDN_OK) {
        if (advanced || err.message[0] == '\0')
            abort();
        return;
    }
    if (mdn_survey_records(&survey, count_good, &good, &err) != MDN_OK
        || good != survey.last - survey.bad || survey.last > survey.present)
        abort();
    if (advanced != (survey.bad == 0 && survey.lost == 0))
        abort();
    if (advanced
        && (survey.last != manifest->sequence
            || survey.tail.count != manifest->tail.count))
        abort();
    mdn_survey_close(&survey);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool advanced;
    memory file = {data, size};
    mdn_io io = memory_io(&file);
    mdn_error err = {.status = MDN_OK};
    mdn_schema *schema;
    mdn_layout layout;
    mdn_manifest manifest;

    if (mdn_manifest_open(&io, "d", false, &manifest, &layout, &schema, &err)
        != MDN_OK) {
        if (schema != NULL || err.message[0] == '\0')
            abort();
        return 0;
    }
    advanced = mdn_manifest_advance(&manifest, &layout, &err) == MDN_OK;
    if (advanced)
        check(&manifest, &layout);
    else if (manifest.sequence != 0 || err.message[0] == '\0')
        abort();
    check_survey(&io, &manifest, advanced);
    mdn_manifest_close(&manifest);
    mdn_schema_free(schema);
    return 0;
}

static void
repair_reach(uint8_t *data)
{
    for (uint8_t *slot = data + SECTOR; slot <= data + 2 * SECTOR;
         slot += SECTOR) {
        uint32_t crc = mdn_crc32c(0, data + 16, 16);

        mdn_store_u32(slot + 4, mdn_crc32c(crc, slot + 8, 8));
    }
}

/* Checksums of header, slots and records; records in a chain. */
static void
repair(uint8_t *data, size_t size)
{
    uint64_t schema_size, records;
    uint32_t chain;

    if (size < 3 * SECTOR)
        return;
    schema_size = mdn_load_u32(data + 40);
    records = 3 * SECTOR + (schema_size + SECTOR - 1) / SECTOR * SECTOR;
    repair_reach(data);
    if (schema_size > 65536 || records > size)
        return;
    chain = mdn_crc32c(0, data, 508);
    chain = mdn_crc32c(chain, data + 3 * SECTOR, records - 3 * SECTOR);
    mdn_store_u32(data + 508, chain);
    for (uint64_t n = 1; records + n * RECORD <= size; n++) {
        uint8_t *record = data + records + (n - 1) * RECORD;
        uint32_t crc = mdn_crc32c(0, data + 16, 16);

        mdn_store_u64(record + 8, n);
        mdn_store_u32(record + 120, chain);
        chain = mdn_crc32c(crc, record, 124);
        mdn_store_u32(record + 124, chain);
    }
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                        unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 4 != 0)
        repair(data, size);
    return size;
}
