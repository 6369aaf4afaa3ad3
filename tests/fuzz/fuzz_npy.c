/* fuzz_npy.c - any bytes as an .npy or .npz file, for libFuzzer.
 *
 * The first byte chooses options and whether the checksums of the archive's
 * members are put right, so that what lies behind them is reached. */
#include "base/bytes.h"
#include "base/crc32.h"
#include "ingest/npy.h"
#include "one_file.h"
#include "storage/schema.h"

static mdn_status
open_npy(const void *options, uint32_t threads, mdn_reader **out,
         mdn_error *err)
{
    mdn_npy_options own = *(const mdn_npy_options *)options;

    own.file.threads = threads;
    return mdn_npy_open(&own, out, err);
}

/* Put right the checksums of all entries that can be made out. */
static void
repair(uint8_t *bytes, uint64_t size)
{
    for (uint64_t at = 0; at + 46 <= size; at++) {
        uint64_t from, length;

        if (memcmp(bytes + at, "PK\1\2", 4) != 0)
            continue;
        from = mdn_load_u32(bytes + at + 42);
        length = mdn_load_u32(bytes + at + 24);
        if (from + 30 > at)
            continue;
        from += 30u + bytes[from + 26] + 256u * bytes[from + 27]
                + bytes[from + 28] + 256u * bytes[from + 29];
        if (from <= at && length <= at - from)
            mdn_store_u32(bytes + at + 16, mdn_crc32(0, bytes + from, length));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char one[] = "x: float32[2]\n", two[] = "x: float32[2]\n"
                                                         "b: bool\n";
    memory file = {.size = size - 1};
    const mdn_io io = memory_io(&file);
    mdn_npy_options options = {.file = {.io = &io, .path = "fuzz.npy"}};
    mdn_schema *schema;
    uint8_t *bytes;

    if (size == 0 || (bytes = malloc(size)) == NULL)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & 1)
        repair(bytes, size - 1);
    file.bytes = bytes;
    require(mdn_schema_parse(data[0] & 2 ? two : one,
                             data[0] & 2 ? sizeof two - 1 : sizeof one - 1,
                             &schema, NULL)
            == MDN_OK);
    options.file.schema = schema;
    options.file.growing = data[0] & 4;
    options.label = data[0] & 8 ? "y" : NULL;
    options.timestamp = data[0] & 16 ? "t" : NULL;
    check_reader(schema, open_npy, &options);
    mdn_schema_free(schema);
    free(bytes);
    return 0;
}
