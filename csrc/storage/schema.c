/* schema.c - reader and writer of the text form of a schema.
 *
 *     line   = name ":" type "\n"
 *     type   = "bytes" | dtype | dtype "[" number { "," number } "]"
 *
 * Blanks and tabs between these parts are skipped; mdn_schema_text writes the
 * one canonical form.  The text may come from a damaged or hostile file, so
 * nothing in it is believed before it is checked. */
#include "storage/schema.h"

#include "base/bytes.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_SIZE_MAX ((UINT64_C(1) << 31) - 1)

typedef struct {
    const char *name;
    uint64_t size_bytes;
} dtype_facts;

static const dtype_facts DTYPES[] = {
    [MDN_BOOL] = {"bool", 1},           [MDN_INT8] = {"int8", 1},
    [MDN_INT16] = {"int16", 2},         [MDN_INT32] = {"int32", 4},
    [MDN_INT64] = {"int64", 8},         [MDN_UINT8] = {"uint8", 1},
    [MDN_UINT16] = {"uint16", 2},       [MDN_UINT32] = {"uint32", 4},
    [MDN_UINT64] = {"uint64", 8},       [MDN_FLOAT16] = {"float16", 2},
    [MDN_FLOAT32] = {"float32", 4},     [MDN_FLOAT64] = {"float64", 8},
    [MDN_COMPLEX64] = {"complex64", 8}, [MDN_COMPLEX128] = {"complex128", 16},
    [MDN_BYTES] = {"bytes", 0},
};
#define DTYPE_COUNT (sizeof DTYPES / sizeof DTYPES[0])

/* One line of the text, and how far it has been read. */
typedef struct {
    const char *at, *end;
    uint32_t number; /* 1 for the first line */
    mdn_error *err;
} line_reader;

uint64_t
mdn_dtype_size(mdn_dtype dtype)
{
    return DTYPES[dtype].size_bytes;
}

const char *
mdn_dtype_name(mdn_dtype dtype)
{
    return DTYPES[dtype].name;
}

/* What is left of the line, for a message: short and printable. */
static const char *
rest_of(const line_reader *line, char out[41])
{
    int n = 0;

    for (const char *c = line->at; c < line->end && n < 40; c++)
        out[n++] = (char)(*c >= ' ' && *c <= '~' ? *c : '?');
    out[n] = '\0';
    return out;
}

static void
skip_blanks(line_reader *line)
{
    while (line->at < line->end && (*line->at == ' ' || *line->at == '\t'))
        line->at++;
}

static bool
skip_char(line_reader *line, char c)
{
    skip_blanks(line);
    if (line->at == line->end || *line->at != c)
        return false;
    line->at++;
    skip_blanks(line);
    return true;
}

static bool
is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
           || (c >= '0' && c <= '9') || c == '_';
}

/* The characters of a word; 0 when there is none. */
static uint64_t
read_word(line_reader *line, const char **word)
{
    skip_blanks(line);
    *word = line->at;
    while (line->at < line->end && is_word(*line->at))
        line->at++;
    return (uint64_t)(line->at - *word);
}

static mdn_status
read_name(line_reader *line, mdn_field *field)
{
    const char *word;
    char rest[41];
    uint64_t size = read_word(line, &word);

    if (size == 0 || size >= MDN_NAME_SIZE) {
        line->at = word;
        return mdn_fail(line->err, MDN_INVALID,
                        "schema line %u: expected a field name of 1 to %d "
                        "characters [A-Za-z0-9_] at '%s'",
                        line->number, MDN_NAME_SIZE - 1, rest_of(line, rest));
    }
    memcpy(field->name, word, size);
    field->name[size] = '\0';
    if (!skip_char(line, ':'))
        return mdn_fail(line->err, MDN_INVALID,
                        "schema line %u: expected ':' after field name '%s', "
                        "found '%s'",
                        line->number, field->name, rest_of(line, rest));
    return MDN_OK;
}

static mdn_status
read_dtype(line_reader *line, mdn_field *field)
{
    const char *word;
    char rest[41];
    uint64_t size = read_word(line, &word);

    for (uint32_t i = 0; i < DTYPE_COUNT; i++) {
        if (strlen(DTYPES[i].name) == size
            && memcmp(DTYPES[i].name, word, size) == 0) {
            field->dtype = (mdn_dtype)i;
            field->size_bytes = DTYPES[i].size_bytes;
            return MDN_OK;
        }
    }
    line->at = word;
    return mdn_fail(line->err, MDN_INVALID,
                    "schema line %u: field '%s': unknown dtype '%s'; known are "
                    "bool, int8 to int64, uint8 to uint64, float16, float32, "
                    "float64, complex64, complex128 and bytes",
                    line->number, field->name, rest_of(line, rest));
}

/* One extent, multiplied into the size of the field. */
static mdn_status
read_extent(line_reader *line, mdn_field *field)
{
    char rest[41];
    const char *from;
    uint64_t extent = 0;

    skip_blanks(line);
    from = line->at;
    while (line->at < line->end && *line->at >= '0' && *line->at <= '9'
           && extent <= RECORD_SIZE_MAX) {
        extent = extent * 10 + (uint64_t)(*line->at - '0');
        line->at++;
    }
    if (extent == 0) {
        line->at = from;
        return mdn_fail(line->err, MDN_INVALID,
                        "schema line %u: field '%s': expected an extent of at "
                        "least 1 at '%s'",
                        line->number, field->name, rest_of(line, rest));
    }
    if (mdn_mul_overflows(field->size_bytes, extent, &field->size_bytes)
        || field->size_bytes > RECORD_SIZE_MAX)
        return mdn_fail(line->err, MDN_INVALID,
                        "schema line %u: field '%s' is larger than %llu bytes",
                        line->number, field->name,
                        (unsigned long long)RECORD_SIZE_MAX);
    if (field->ndim == MDN_NDIM_MAX)
        return mdn_fail(
            line->err, MDN_INVALID,
            "schema line %u: field '%s' has more than %d dimensions",
            line->number, field->name, MDN_NDIM_MAX);
    field->shape[field->ndim++] = extent;
    return MDN_OK;
}

static mdn_status
read_shape(line_reader *line, mdn_field *field)
{
    mdn_status st;
    char rest[41];

    if (!skip_char(line, '['))
        return MDN_OK;
    if (field->dtype == MDN_BYTES)
        return mdn_fail(line->err, MDN_INVALID,
                        "schema line %u: field '%s': bytes has no shape",
                        line->number, field->name);
    do {
        if ((st = read_extent(line, field)) != MDN_OK)
            return st;
    } while (skip_char(line, ','));
    if (skip_char(line, ']'))
        return MDN_OK;
    return mdn_fail(line->err, MDN_INVALID,
                    "schema line %u: field '%s': expected ',' or ']' at '%s'",
                    line->number, field->name, rest_of(line, rest));
}

static mdn_status
read_field(line_reader *line, mdn_field *field)
{
    mdn_status st;
    char rest[41];

    if ((st = read_name(line, field)) != MDN_OK)
        return st;
    if ((st = read_dtype(line, field)) != MDN_OK)
        return st;
    if ((st = read_shape(line, field)) != MDN_OK)
        return st;
    skip_blanks(line);
    if (line->at == line->end)
        return MDN_OK;
    return mdn_fail(
        line->err, MDN_INVALID,
        "schema line %u: field '%s': unexpected '%s' after the type",
        line->number, field->name, rest_of(line, rest));
}

static mdn_status
count_fields(const char *text, uint64_t size, uint32_t *out, mdn_error *err)
{
    uint64_t lines = 0;

    for (uint64_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    if (lines == 0)
        return mdn_fail(err, MDN_INVALID,
                        "schema: no field; a dataset needs "
                        "at least one");
    if (text[size - 1] != '\n')
        return mdn_fail(err, MDN_INVALID,
                        "schema line %llu: not ended by a newline",
                        (unsigned long long)lines + 1);
    if (lines > MDN_FIELDS_MAX)
        return mdn_fail(err, MDN_INVALID,
                        "schema: %llu fields; at most %d are possible",
                        (unsigned long long)lines, MDN_FIELDS_MAX);
    *out = (uint32_t)lines;
    return MDN_OK;
}

static mdn_status
check_name_is_new(const mdn_schema *schema, uint32_t index, mdn_error *err)
{
    for (uint32_t i = 0; i < index; i++) {
        if (strcmp(schema->fields[i].name, schema->fields[index].name) == 0)
            return mdn_fail(err, MDN_INVALID,
                            "schema line %u: field '%s' is there already, in "
                            "line %u",
                            index + 1, schema->fields[i].name, i + 1);
    }
    return MDN_OK;
}

/* Fixed fields first, in order; then the lengths of the bytes fields. */
static mdn_status
place_fields(mdn_schema *schema, mdn_error *err)
{
    for (uint32_t i = 0; i < schema->field_count; i++) {
        mdn_field *field = &schema->fields[i];

        field->offset = schema->fixed_size;
        schema->fixed_size += field->size_bytes;
        if (schema->fixed_size > RECORD_SIZE_MAX - 4 * MDN_FIELDS_MAX)
            return mdn_fail(
                err, MDN_INVALID,
                "schema line %u: with field '%s' a record is larger "
                "than 2 GiB",
                i + 1, field->name);
    }
    for (uint32_t i = 0; i < schema->field_count; i++) {
        mdn_field *field = &schema->fields[i];

        if (field->dtype == MDN_BYTES)
            field->offset = schema->fixed_size + 4 * schema->bytes_count++;
    }
    schema->head_size = schema->fixed_size + 4 * (uint64_t)schema->bytes_count;
    return MDN_OK;
}

mdn_status
mdn_schema_parse(const char *text, uint64_t size, mdn_schema **out,
                 mdn_error *err)
{
    mdn_schema *schema;
    mdn_status st;
    uint32_t count = 0;
    uint64_t room;

    *out = NULL;
    if ((st = count_fields(text, size, &count, err)) != MDN_OK)
        return st;
    room = sizeof *schema + count * sizeof schema->fields[0];
    if ((schema = calloc(1, room)) == NULL)
        return mdn_fail_nomem(err, room);
    schema->field_count = count;

    for (uint32_t i = 0; i < count; i++) {
        const char *stop = memchr(text, '\n', size);
        line_reader line = {text, stop, i + 1, err};

        if ((st = read_field(&line, &schema->fields[i])) != MDN_OK)
            goto fail;
        if ((st = check_name_is_new(schema, i, err)) != MDN_OK)
            goto fail;
        size -= (uint64_t)(stop + 1 - text);
        text = stop + 1;
    }
    if ((st = place_fields(schema, err)) != MDN_OK)
        goto fail;

    *out = schema;
    return MDN_OK;

fail:
    mdn_schema_free(schema);
    return st;
}

void
mdn_schema_free(mdn_schema *schema)
{
    free(schema);
}

/* Each extent has at most 10 digits and a comma (RECORD_SIZE_MAX). */
#define LINE_SIZE_MAX (MDN_NAME_SIZE + 16 + MDN_NDIM_MAX * 12)

static char *
write_field(char *at, const mdn_field *field)
{
    at += sprintf(at, "%s: %s", field->name, mdn_dtype_name(field->dtype));
    for (uint32_t i = 0; i < field->ndim; i++)
        at += sprintf(at, "%c%llu", i == 0 ? '[' : ',',
                      (unsigned long long)field->shape[i]);
    return at + sprintf(at, field->ndim ? "]\n" : "\n");
}

char *
mdn_schema_text(const mdn_schema *schema)
{
    char *text = malloc(schema->field_count * LINE_SIZE_MAX + 1);
    char *at = text;

    if (text == NULL)
        return NULL;
    for (uint32_t i = 0; i < schema->field_count; i++)
        at = write_field(at, &schema->fields[i]);
    return text;
}
