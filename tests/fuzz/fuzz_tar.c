/* fuzz_tar.c - any bytes as a tar archive, for libFuzzer.
 *
 * The first byte chooses options and whether the sums of headers are put
 * right, so that what lies behind them is reached. */
#include "ingest/tar.h"
#include "one_file.h"
#include "storage/schema.h"

#include <stdio.h>

static mdn_status
open_tar(const void *options, uint32_t threads, mdn_reader **out,
         mdn_error *err)
{
    mdn_tar_options own = *(const mdn_tar_options *)options;

    own.file.threads = threads;
    return mdn_tar_open(&own, out, err);
}

/* Put right the sums of all blocks that say they are headers. */
static void
repair(uint8_t *bytes, uint64_t size)
{
    for (uint64_t at = 0; at + 512 <= size; at += 512) {
        unsigned sum = 0;
        char text[8];

        if (memcmp(bytes + at + 257, "ustar", 5) != 0)
            continue;
        memset(bytes + at + 148, ' ', 8);
        for (uint64_t i = 0; i < 512; i++)
            sum += bytes[at + i];
        snprintf(text, sizeof text, "%06o", sum);
        memcpy(bytes + at + 148, text, 7);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "a: bytes\nn: int16\nv: uint8[3]\n";
    static const char *const extensions[] = {"a;b", "n", "v"};
    memory file = {.size = size - 1};
    const mdn_io io = memory_io(&file);
    mdn_tar_options options = {.file = {.io = &io, .path = "fuzz.tar"},
                               .extensions = extensions};
    uint64_t length;
    mdn_schema *schema;
    uint8_t *bytes;

    if (size == 0 || (bytes = malloc(size)) == NULL)
        return 0;
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & 1)
        repair(bytes, size - 1);
    file.bytes = bytes;
    length = data[0] & 2 ? 9 : sizeof text - 1; /* a alone, or all */
    require(mdn_schema_parse(text, length, &schema, NULL) == MDN_OK);
    options.file.schema = schema;
    options.file.growing = data[0] & 4;
    options.label = data[0] & 8 ? "cls" : NULL;
    options.timestamp = data[0] & 16 ? "t" : NULL;
    options.time_unit_ns = data[0] & 32 ? 1000 : 0;
    check_reader(schema, open_tar, &options);
    mdn_schema_free(schema);
    free(bytes);
    return 0;
}
