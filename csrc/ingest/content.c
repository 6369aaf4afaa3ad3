/* content.c - bytes and decimal texts into columns. */
#include "ingest/content.h"

#include "ingest/number.h"

#include <stdio.h>
#include <string.h>

#define SHOWN 48 /* bytes of a text in a message */

typedef unsigned long long ull;

static bool
is_blank(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Printable bytes of a text, the others as '?'. */
static void
show(const char *text, uint64_t size, char out[SHOWN + 4])
{
    uint64_t shown = size < SHOWN ? size : SHOWN;

    for (uint64_t i = 0; i < shown; i++)
        out[i] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
    strcpy(out + shown, shown < size ? "..." : "");
}

static mdn_status
read_number(const mdn_content *content, mdn_dtype dtype, const char *role,
            void *out, mdn_error *err)
{
    char text[MDN_CONTENT_TEXT_MAX], shown[SHOWN + 4];
    uint64_t from = 0, end = content->size;
    mdn_number_result result;
    mdn_status st;

    if (content->size > sizeof text)
        return mdn_fail(err, MDN_INVALID,
                        "%s: %llu bytes, which is no %s (a number as text of "
                        "%u bytes at most)",
                        content->what, (ull)content->size, role,
                        MDN_CONTENT_TEXT_MAX);
    st = mdn_input_read(content->input, text, content->size, content->at, err);
    if (st != MDN_OK)
        return st;
    while (from < end && is_blank(text[from]))
        from++;
    while (end > from && is_blank(text[end - 1]))
        end--;
    result = mdn_number_parse(dtype, text + from, end - from, out);
    if (result == MDN_NUMBER_OK)
        return MDN_OK;
    show(text + from, end - from, shown);
    return mdn_fail(err, MDN_INVALID, "%s: '%s' %s %s %s (%s)", content->what,
                    shown,
                    result == MDN_NUMBER_RANGE ? "does not fit" : "is not",
                    mdn_dtype_name(dtype)[0] == 'i' ? "an" : "a",
                    mdn_dtype_name(dtype), role);
}

static mdn_status
read_bytes(const mdn_content *content, mdn_block *block, uint32_t field,
           const char *name, mdn_error *err)
{
    uint8_t *room = NULL;
    mdn_status st;

    if (content->size > MDN_CONTENT_MAX)
        return mdn_fail(
            err, MDN_INVALID, "%s: %llu bytes, but field %s holds %llu at most",
            content->what, (ull)content->size, name, (ull)MDN_CONTENT_MAX);
    st = mdn_block_payload_room(block, field, content->size, &room, err);
    if (st == MDN_OK)
        st = mdn_input_read(content->input, room, content->size, content->at,
                            err);
    if (st == MDN_OK)
        mdn_block_payload_end(block, field, content->size);
    return st;
}

mdn_status
mdn_content_field(const mdn_content *content, mdn_block *block,
                  const mdn_schema *schema, uint32_t field, mdn_error *err)
{
    const mdn_field *to = &schema->fields[field];
    uint64_t size = to->size_bytes;
    uint8_t *column = (uint8_t *)block->columns[field].values;
    char role[MDN_NAME_SIZE + 8];
    mdn_status st;

    if (to->dtype == MDN_BYTES)
        return read_bytes(content, block, field, to->name, err);
    column += block->count * size;
    snprintf(role, sizeof role, "field %s", to->name);
    if (to->ndim == 0)
        return read_number(content, to->dtype, role, column, err);
    if (content->size != size)
        return mdn_fail(err, MDN_INVALID,
                        "%s: %llu bytes, but %s of %s has %llu", content->what,
                        (ull)content->size, role, mdn_dtype_name(to->dtype),
                        (ull)size);
    st = mdn_input_read(content->input, column, size, content->at, err);
    for (uint64_t i = 0; st == MDN_OK && to->dtype == MDN_BOOL && i < size;
         i++) {
        if (column[i] > 1)
            st = mdn_fail(err, MDN_INVALID,
                          "%s: byte %llu is %u, which is no bool of %s",
                          content->what, (ull)i, column[i], role);
    }
    return st;
}

mdn_status
mdn_content_integer(const mdn_content *content, const char *role, int64_t *out,
                    mdn_error *err)
{
    return read_number(content, MDN_INT64, role, out, err);
}
