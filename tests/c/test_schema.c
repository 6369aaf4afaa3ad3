/* test_schema.c - the text form of a schema, right and wrong. */
#include "check.h"
#include "storage/schema.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mdn_schema *
parse(const char *text, mdn_error *err)
{
    mdn_schema *schema;
    mdn_status st = mdn_schema_parse(text, strlen(text), &schema, err);

    CHECK((st == MDN_OK) == (schema != NULL));
    CHECK(st == MDN_OK || st == MDN_INVALID);
    return schema;
}

/* Parsing fails and the message says this. */
static bool
refused(const char *text, const char *reason)
{
    mdn_error err = {.status = MDN_OK};
    mdn_schema *schema = parse(text, &err);
    bool as_it_should = schema == NULL && strstr(err.message, reason) != NULL;

    if (!as_it_should)
        fprintf(stderr, "'%s' -> '%s'\n", text, err.message);
    mdn_schema_free(schema);
    return as_it_should;
}

static void
fields_lie_one_after_the_other(void)
{
    mdn_schema *s = parse("a: int8\nb: float32[13]\nc: uint8[28,28]\n", NULL);

    CHECK(s->field_count == 3 && s->bytes_count == 0);
    CHECK(s->fields[0].offset == 0 && s->fields[0].size_bytes == 1);
    CHECK(s->fields[1].offset == 1 && s->fields[1].size_bytes == 52);
    CHECK(s->fields[2].offset == 53 && s->fields[2].size_bytes == 784);
    CHECK(s->fields[2].ndim == 2 && s->fields[2].shape[1] == 28);
    CHECK(s->head_size == 837 && s->fixed_size == 837);
    mdn_schema_free(s);
}

static void
lengths_of_bytes_fields_come_after_the_fixed_ones(void)
{
    mdn_schema *s = parse("x: bytes\na: int64\ny: bytes\n", NULL);

    CHECK(s->bytes_count == 2 && s->fixed_size == 8 && s->head_size == 16);
    CHECK(s->fields[0].offset == 8 && s->fields[1].offset == 0);
    CHECK(s->fields[2].offset == 12 && s->fields[2].size_bytes == 0);
    mdn_schema_free(s);
}

static void
the_text_of_every_dtype_comes_back(void)
{
    for (int d = MDN_BOOL; d <= MDN_BYTES; d++) {
        char text[100], *again;
        mdn_schema *s;

        snprintf(text, sizeof text, "field_%d: %s%s\n", d,
                 mdn_dtype_name((mdn_dtype)d), d == MDN_BYTES ? "" : "[3,1]");
        s = parse(text, NULL);
        CHECK(s->fields[0].dtype == (mdn_dtype)d);
        CHECK(s->head_size
              == (d == MDN_BYTES ? 4 : 3 * mdn_dtype_size((mdn_dtype)d)));
        again = mdn_schema_text(s);
        CHECK(strcmp(again, text) == 0);
        free(again);
        mdn_schema_free(s);
    }
}

static void
blanks_are_skipped_and_not_kept(void)
{
    mdn_schema *s = parse(" a :\tuint8 [ 28 , 28 ] \n", NULL);
    char *text = mdn_schema_text(s);

    CHECK(strcmp(text, "a: uint8[28,28]\n") == 0);
    free(text);
    mdn_schema_free(s);
}

static void
a_wrong_text_is_refused_with_line_field_and_reason(void)
{
    CHECK(refused("", "no field"));
    CHECK(refused("a: int8", "no field"));
    CHECK(refused("a: int8\nb: int8", "line 2: not ended by a newline"));
    CHECK(refused("\n", "line 1: expected a field name"));
    CHECK(refused("a: int8\n: int8\n", "line 2: expected a field name"));
    CHECK(refused("a b: int8\n", "expected ':' after field name 'a'"));
    CHECK(refused("a-b: int8\n", "expected ':' after field name 'a'"));
    CHECK(refused("a: int7\n", "field 'a': unknown dtype 'int7'"));
    CHECK(refused("a: \n", "unknown dtype"));
    CHECK(refused("a: int8[]\n", "expected an extent of at least 1 at ']'"));
    CHECK(refused("a: int8[0]\n", "extent of at least 1 at '0]'"));
    CHECK(refused("a: int8[-1]\n", "extent of at least 1"));
    CHECK(refused("a: int8[3\n", "expected ',' or ']'"));
    CHECK(refused("a: int8[3] x\n", "unexpected 'x' after the type"));
    CHECK(refused("a: int8[1,1,1,1,1,1,1,1,1]\n", "more than 8 dimensions"));
    CHECK(refused("a: bytes[3]\n", "bytes has no shape"));
    CHECK(refused("a: int8\nb: int8\na: int8\n",
                  "'a' is there already, in line 1"));
    CHECK(refused("a\001: int8\n", "found '?: int8'"));
}

static void
sizes_that_do_not_fit_are_refused(void)
{
    CHECK(refused("a: int8[99999999999999999999]\n", "larger than"));
    CHECK(refused("a: int8[65536,65536]\n", "larger than"));
    CHECK(refused("a: float64[4294967296,4294967296]\n", "larger than"));
    CHECK(refused("a: int8[2147483647]\n", "larger than 2 GiB"));
    CHECK(refused("a: int8[1500000000]\nb: int8[1500000000]\n",
                  "with field 'b' a record is larger than 2 GiB"));
}

static void
there_is_room_for_256_fields_of_64_characters(void)
{
    char *text = malloc(257 * 128), *at = text, *again;
    mdn_schema *s;

    for (int i = 0; i < 256; i++)
        at += sprintf(at, "%064d: complex128[1,1,1,1,1,1,1,1000]\n", i);
    s = parse(text, NULL);
    CHECK(s->field_count == 256);
    again = mdn_schema_text(s);
    CHECK(strcmp(again, text) == 0);
    free(again);
    mdn_schema_free(s);
    sprintf(at, "x: int8\n");
    CHECK(refused(text, "257 fields; at most 256"));
    sprintf(text, "%065d: int8\n", 1);
    CHECK(refused(text, "1 to 64 characters"));
    free(text);
}

int
main(void)
{
    RUN(fields_lie_one_after_the_other);
    RUN(lengths_of_bytes_fields_come_after_the_fixed_ones);
    RUN(the_text_of_every_dtype_comes_back);
    RUN(blanks_are_skipped_and_not_kept);
    RUN(a_wrong_text_is_refused_with_line_field_and_reason);
    RUN(sizes_that_do_not_fit_are_refused);
    RUN(there_is_room_for_256_fields_of_64_characters);
    return check_report("test_schema");
}
