/* fuzz_jsonl.c - any bytes as a file of JSON lines, for libFuzzer.
 *
 * The first byte of the input chooses options; the rest is the file, served
 * from memory in short reads.  Reading it in tiny pieces (now and then by two
 * threads) must give the same samples, position and outcome as reading it at
 * once; and what is put into fields of bytes is UTF-8. */
#include "ingest/jsonl.h"
#include "ingest/utf8.h"
#include "memory.h"

#include <stdlib.h>
#include <string.h>

/* What one reader of the whole file says. */
typedef struct {
    mdn_block *block;
    mdn_status status;
    uint64_t position;
    mdn_error err;
} outcome;

static void
read_file(const mdn_jsonl_options *options, uint64_t size_max, outcome *out)
{
    mdn_progress progress = MDN_READER_MORE;
    mdn_block *part;
    mdn_reader *reader;

    *out = (outcome){.err.message = ""};
    require(mdn_block_new(options->file.schema, options->label != NULL, true,
                          &out->block, NULL)
            == MDN_OK);
    require(mdn_block_new(options->file.schema, options->label != NULL, true,
                          &part, NULL)
            == MDN_OK);
    out->status = mdn_jsonl_open(options, &reader, &out->err);
    require((out->status == MDN_OK) == (reader != NULL));
    while (out->status == MDN_OK && progress != MDN_READER_END) {
        mdn_block_clear(part);
        out->status =
            mdn_reader_fill(reader, part, size_max, &progress, &out->err);
        require(mdn_block_append(out->block, part, NULL) == MDN_OK);
    }
    if (reader != NULL)
        out->position = mdn_reader_position(reader);
    require(out->status == MDN_OK || strlen(out->err.message) > 0);
    mdn_reader_free(reader);
    mdn_block_free(part);
}

static void
compare(const mdn_schema *schema, const outcome *a, const outcome *b)
{
    uint64_t count = a->block->count;

    require(a->status == b->status && a->position == b->position
            && count == b->block->count);
    require(a->status == MDN_OK || strcmp(a->err.message, b->err.message) == 0);
    require(memcmp(a->block->timestamps, b->block->timestamps, count * 8) == 0);
    for (uint32_t f = 0; f < schema->field_count; f++) {
        const mdn_column *x = &a->block->columns[f], *y = &b->block->columns[f];
        uint64_t size = count * schema->fields[f].size_bytes;

        if (schema->fields[f].dtype == MDN_BYTES) {
            require(memcmp(x->offsets, y->offsets, (count + 1) * 8) == 0);
            size = (uint64_t)x->offsets[count];
        }
        require(memcmp(x->values, y->values, size) == 0);
    }
}

static void
require_utf8(const mdn_column *column, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t size = (uint64_t)(column->offsets[i + 1] - column->offsets[i]);
        char *copy = calloc(1, size + 1); /* ends with a NUL, so never late */
        const char *at = copy;

        require(copy != NULL);
        memcpy(copy, (const char *)column->values + column->offsets[i], size);
        while (at < copy + size) {
            at = (uint8_t)*at < 0x80 ? at + 1 : mdn_utf8_next(at);
            require(at != NULL);
        }
        free(copy);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "a: float32[2]\nb: int16\nc: bytes\nd: float16\n"
                               "e: bool\nf: float64[1,2]\ng: bytes\n";
    static const mdn_jsonl_source sources[] = {{.key = "a"},
                                               {.key = "o.b"},
                                               {.key = "o.c"},
                                               {.key = "o.p.d"},
                                               {.key = "o.p.e"},
                                               {.key = "f"},
                                               {.key = "g", .base64 = true}};
    static const mdn_jsonl_source simple[] = {{.key = "c"}};
    memory file = {.bytes = data + 1, .size = size ? size - 1 : 0};
    const mdn_io io = memory_io(&file);
    mdn_jsonl_options options = {.fields = sources, .timestamp = "t"};
    static mdn_schema *schemas[2];
    mdn_schema *schema;
    outcome whole, pieces;

    if (size == 0)
        return 0;
    if (schemas[0] == NULL) {
        require(mdn_schema_parse(text, sizeof text - 1, &schemas[0], NULL)
                == MDN_OK);
        require(mdn_schema_parse("c: bytes\n", 9, &schemas[1], NULL) == MDN_OK);
    }
    schema = schemas[data[0] & 1];
    if (data[0] & 1)
        options.fields = simple;
    options.label = data[0] & 2 ? "o.b" : NULL;
    if (data[0] & 1 && options.label != NULL)
        options.label = "t";
    options.file = (mdn_reader_file){.io = &io,
                                     .path = "fuzz.jsonl",
                                     .schema = schema,
                                     .threads = 1,
                                     .growing = data[0] & 4};
    read_file(&options, UINT64_MAX, &whole);
    options.piece_size = 1 + size % 40;
    options.file.threads = data[0] >> 5 == 7 && size % 8 == 0 ? 2 : 1;
    read_file(&options, data[0] & 8 ? 50 : UINT64_MAX, &pieces);
    compare(schema, &whole, &pieces);
    require_utf8(&whole.block->columns[data[0] & 1 ? 0 : 2],
                 whole.block->count);
    mdn_block_free(whole.block);
    mdn_block_free(pieces.block);
    return 0;
}
