/* fuzz_csv.c - any bytes as a CSV file, for libFuzzer.
 *
 * The first byte of the input chooses options; the rest is the file, served
 * from memory in short reads.  Parsing twice, whole and in small blocks, and
 * once more in tiny pieces (now and then by two threads) must give the same
 * samples, the same position and the same outcome. */
#include "ingest/csv.h"
#include "memory.h"
#include "storage/schema.h"

#include <stdlib.h>
#include <string.h>

static mdn_status
fill_all(mdn_reader *csv, mdn_block *block, uint64_t size_max,
         mdn_progress *progress, char message[512])
{
    mdn_error err;
    mdn_status st;

    do
        st = mdn_reader_fill(csv, block, size_max, progress, &err);
    while (st == MDN_OK && *progress == MDN_READER_MORE);
    if (st != MDN_OK)
        require(st == err.status && strlen(err.message) > 0);
    if (message != NULL)
        strcpy(message, st == MDN_OK ? "" : err.message);
    return st;
}

/* Samples first .. of the whole block are those of the part. */
static void
compare(const mdn_schema *schema, const mdn_block *whole, uint64_t first,
        const mdn_block *part)
{
    require(first + part->count <= whole->count);
    if (part->count == 0)
        return;
    require(memcmp(whole->timestamps + first, part->timestamps, part->count * 8)
            == 0);
    for (uint32_t f = 0; f < schema->field_count; f++) {
        const mdn_column *a = &whole->columns[f], *b = &part->columns[f];
        uint64_t size = schema->fields[f].size_bytes;
        const char *from = (const char *)a->values + first * size;
        uint64_t bytes = part->count * size;
        if (schema->fields[f].dtype == MDN_BYTES) {
            from = (const char *)a->values + a->offsets[first];
            bytes = (uint64_t)b->offsets[part->count];
            for (uint64_t i = 0; i <= part->count; i++)
                require(a->offsets[first + i] - a->offsets[first]
                        == b->offsets[i]);
        }
        require(memcmp(from, b->values, bytes) == 0);
    }
}

/* What one reader of the whole file says. */
typedef struct {
    mdn_block *whole;
    mdn_status status;
    uint64_t position;
    char message[512];
} outcome;

static void
read_whole(const mdn_csv_options *options, mdn_reader *csv, outcome *out)
{
    mdn_progress progress = MDN_READER_MORE;

    require(mdn_block_new(options->file.schema, csv->labels, csv->timestamps,
                          &out->whole, NULL)
            == MDN_OK);
    out->status =
        fill_all(csv, out->whole, UINT64_MAX, &progress, out->message);
    require(out->status != MDN_OK || progress == MDN_READER_END);
    out->position = mdn_reader_position(csv);
}

static void
check_file(mdn_csv_options options, mdn_reader *csv, uint64_t piece_size,
           bool threads)
{
    const mdn_schema *schema = options.file.schema;
    mdn_progress progress = MDN_READER_MORE;
    outcome first, second;
    mdn_reader *other;
    mdn_status again;
    mdn_block *part;
    uint64_t seen = 0;

    read_whole(&options, csv, &first);
    require(mdn_reader_seek(csv, 0, NULL) == MDN_OK);
    do {
        uint64_t position;

        require(mdn_block_new(schema, csv->labels, csv->timestamps, &part, NULL)
                == MDN_OK);
        again = fill_all(csv, part, 100, &progress, NULL);
        compare(schema, first.whole, seen, part);
        seen += part->count;
        mdn_block_free(part);
        /* Where a reader stops is where the next one can go on. */
        position = mdn_reader_position(csv);
        require(mdn_reader_seek(csv, position, NULL) == MDN_OK);
        require(mdn_reader_position(csv) == position);
    } while (again == MDN_OK && progress != MDN_READER_END);
    require(again == first.status && seen == first.whole->count);
    require(mdn_reader_position(csv) == first.position);

    options.piece_size = piece_size;
    options.file.threads = threads ? 2 : 1;
    require(mdn_csv_open(&options, &other, NULL) == MDN_OK);
    read_whole(&options, other, &second);
    require(second.status == first.status && second.position == first.position
            && second.whole->count == first.whole->count);
    require(strcmp(first.message, second.message) == 0);
    compare(schema, first.whole, 0, second.whole);
    mdn_reader_free(other);
    mdn_block_free(first.whole);
    mdn_block_free(second.whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "a: float32[2]\nb: int16\nc: bytes\nd: float16\n"
                               "e: bool\nf: float64\ng: uint64\n";
    static const mdn_csv_source named[] = {
        {.name = "a0"}, {.name = "a1"}, {.name = "b"}, {.name = "c"},
        {.name = "d"},  {.name = "e"},  {.name = "f"}, {.name = "g"}};
    static const mdn_csv_source placed[] = {
        {.index = 0}, {.index = 1}, {.index = 2}, {.index = 1},
        {.index = 0}, {.index = 3}, {.index = 0}, {.index = 2}};
    static const mdn_csv_source third = {.index = 2};
    memory file = {.bytes = data + 1, .size = size ? size - 1 : 0};
    const mdn_io io = memory_io(&file);
    mdn_csv_options options = {.separator = ','};
    static mdn_schema *schema;
    mdn_reader *csv;
    mdn_error err;

    if (size == 0)
        return 0;
    if (schema == NULL)
        require(mdn_schema_parse(text, sizeof text - 1, &schema, NULL)
                == MDN_OK);
    options.file.io = &io;
    options.file.path = "fuzz.csv";
    options.file.schema = schema;
    options.file.threads = 1;
    options.header = data[0] & 1;
    options.quote = data[0] & 2 ? -1 : '"';
    options.separator = data[0] & 4 ? '\t' : ',';
    options.elements = options.header ? named : placed;
    options.element_count = 8;
    options.timestamp = &third;
    options.label = data[0] & 8 ? &third : NULL;
    options.file.growing = data[0] & 16;
    if (mdn_csv_open(&options, &csv, &err) == MDN_OK)
        check_file(options, csv, 1 + size % 7,
                   data[0] >> 5 == 7 && size % 8 == 0);
    else
        require(csv == NULL && strlen(err.message) > 0);
    mdn_reader_free(csv);
    return 0;
}
