/* one_file.h - a reader over any bytes, and what must hold for its samples.
 *
 * The file is served from memory in short reads.  Read as a whole, in small
 * blocks, by several threads, and by a new reader for each block that goes on
 * where the last one stopped, the samples and the outcome must be the same. */
#ifndef TESTS_FUZZ_ONE_FILE_H
#define TESTS_FUZZ_ONE_FILE_H

#include "ingest/reader.h"
#include "memory.h"

/* Opens the file under test; any number of times. */
typedef mdn_status open_one(const void *options, uint32_t threads,
                            mdn_reader **out, mdn_error *err);

static mdn_status
fill_block(mdn_reader *reader, mdn_block *block, uint64_t size_max,
           mdn_progress *progress, mdn_error *err)
{
    mdn_status st;

    do
        st = mdn_reader_fill(reader, block, size_max, progress, err);
    while (st == MDN_OK && *progress == MDN_READER_MORE);
    if (st != MDN_OK)
        require(st == err->status && strlen(err->message) > 0);
    return st;
}

/* Samples first .. of the whole block are those of the part. */
static void
compare(const mdn_schema *schema, const mdn_block *whole, uint64_t first,
        const mdn_block *part)
{
    uint64_t count = part->count;

    require(first + count <= whole->count);
    if (count == 0)
        return;
    if (part->timestamps != NULL)
        require(memcmp(whole->timestamps + first, part->timestamps, count * 8)
                == 0);
    if (part->labels != NULL)
        require(memcmp(whole->labels + first, part->labels, count * 8) == 0);
    for (uint32_t f = 0; f < schema->field_count; f++) {
        const mdn_column *a = &whole->columns[f], *b = &part->columns[f];
        uint64_t size = schema->fields[f].size_bytes, bytes = count * size;
        const char *from = (const char *)a->values + first * size;

        if (size == 0) {
            from = (const char *)a->values + a->offsets[first];
            bytes = (uint64_t)b->offsets[count];
            for (uint64_t i = 0; i <= count; i++)
                require(a->offsets[first + i] - a->offsets[first]
                        == b->offsets[i]);
        }
        require(memcmp(from, b->values, bytes) == 0);
    }
}

static inline void
check_reader(const mdn_schema *schema, open_one *open, const void *options)
{
    mdn_reader *reader;
    mdn_block *whole, *part;
    mdn_progress progress = MDN_READER_MORE;
    mdn_error err, again_err;
    mdn_status first, again = open(options, 1, &reader, &err);
    uint64_t seen = 0, position;

    if (again != MDN_OK) {
        require(reader == NULL && again == err.status
                && strlen(err.message) > 0);
        return;
    }
    require(
        mdn_block_new(schema, reader->labels, reader->timestamps, &whole, NULL)
        == MDN_OK);
    first = fill_block(reader, whole, UINT64_MAX, &progress, &err);
    require(first != MDN_OK || progress == MDN_READER_END);
    require(mdn_reader_seek(reader, 0, NULL) == MDN_OK);
    do {
        require(mdn_block_new(schema, reader->labels, reader->timestamps, &part,
                              NULL)
                == MDN_OK);
        again = fill_block(reader, part, 40, &progress, &again_err);
        compare(schema, whole, seen, part);
        seen += part->count;
        mdn_block_free(part);
        position = mdn_reader_position(reader);
        mdn_reader_free(reader);
        require(open(options, 2, &reader, NULL) == MDN_OK);
        require(mdn_reader_seek(reader, position, NULL) == MDN_OK);
    } while (again == MDN_OK && progress != MDN_READER_END);
    require(again == first && seen == whole->count);
    if (first != MDN_OK)
        require(strcmp(err.message, again_err.message) == 0);
    mdn_reader_seek(reader, 1, NULL);
    mdn_reader_seek(reader, UINT64_MAX, NULL);
    mdn_reader_free(reader);
    mdn_block_free(whole);
}

#endif
