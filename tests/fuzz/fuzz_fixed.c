/* fuzz_fixed.c - any bytes as a file of fixed records, for libFuzzer.
 *
 * The first 8 bytes choose where things lie, the rest is the file. */
#include "ingest/fixed.h"
#include "one_file.h"
#include "storage/schema.h"

static mdn_status
open_fixed(const void *options, uint32_t threads, mdn_reader **out,
           mdn_error *err)
{
    mdn_fixed_options own = *(const mdn_fixed_options *)options;

    own.file.threads = threads;
    return mdn_fixed_open(&own, out, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "a: bool\nb: float32[2]\nc: uint16\n";
    memory file = {.bytes = data + 8, .size = size - 8};
    const mdn_io io = memory_io(&file);
    uint64_t offsets[3];
    const bool big[3] = {true, size % 2, size % 3};
    mdn_schema *schema;
    mdn_fixed_options options = {.file = {.io = &io, .path = "fuzz.bin"}};

    if (size < 8)
        return 0;
    require(mdn_schema_parse(text, sizeof text - 1, &schema, NULL) == MDN_OK);
    offsets[0] = data[0] & 15;
    offsets[1] = data[1] & 15;
    offsets[2] = data[2] & 15;
    options.file.schema = schema;
    options.file.growing = data[3] & 1;
    options.first_record = data[3] >> 1 & 15;
    options.record_size = data[4];
    options.offsets = offsets;
    options.big_endian = big;
    options.label = (mdn_number_at){.offset = data[5] & 15,
                                    .size = data[6] & 15,
                                    .is_signed = data[5] & 16,
                                    .big_endian = data[5] & 32};
    options.timestamp = (mdn_number_at){.offset = data[7] & 15,
                                        .size = data[6] >> 4,
                                        .is_signed = data[7] & 16,
                                        .big_endian = data[7] & 32};
    check_reader(schema, open_fixed, &options);
    mdn_schema_free(schema);
    return 0;
}
