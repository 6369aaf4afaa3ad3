/* test_encode.c - rows of a binary COPY, byte by byte and piece by piece. */
#include "check.h"

#include "metadata/encode.h"
#include "metadata/sqlstate.h"

#include <stdlib.h>
#include <string.h>

static uint8_t stream[2000000];

/* All pieces into stream, from *size on. */
static mdn_status
encode(const mdn_encode_column *columns, size_t count, uint64_t rows,
       size_t *size, mdn_error *err)
{
    mdn_encoder *encoder;
    const void *piece;
    size_t part;
    mdn_status st = mdn_encoder_new(columns, count, rows, &encoder, err);

    *size = 0;
    if (st != MDN_OK)
        return st;
    while ((st = mdn_encoder_next(encoder, &piece, &part, err)) == MDN_OK
           && part > 0) {
        memcpy(stream + *size, piece, part);
        *size += part;
    }
    if (st == MDN_OK)
        CHECK(mdn_encoder_rows(encoder) == rows);
    mdn_encoder_free(encoder);
    return st;
}

static void
a_row_is_what_the_manual_says(void)
{
    static const uint8_t expected[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
                                      "\0\4\0\0\0\10\0\0\0\0\0\0\1\2"
                                      "\0\0\0\4\377\377\377\376"
                                      "\0\0\0\1\1"
                                      "\0\0\0\3abc"
                                      "\377\377";
    const int64_t a[] = {0x102};
    const int32_t b[] = {-2};
    const uint8_t c[] = {7};
    const mdn_encode_bytes d[] = {{"abc", 3}};
    const mdn_encode_column columns[] = {
        {MDN_ENCODE_I64, a, NULL},
        {MDN_ENCODE_I32, b, NULL},
        {MDN_ENCODE_BOOL, c, NULL},
        {MDN_ENCODE_BYTES, d, NULL},
    };
    size_t size;

    CHECK(encode(columns, 4, 1, &size, NULL) == MDN_OK);
    CHECK(size == sizeof expected - 1);
    CHECK(memcmp(stream, expected, size) == 0);
}

static void
rows_are_the_same_from_either_loop(void)
{
    enum { ROWS = 30000 };
    static int64_t a[ROWS];
    static float b[ROWS];
    static uint8_t none[ROWS];
    static uint8_t first[sizeof stream];
    mdn_encode_column columns[] = {
        {MDN_ENCODE_I64, a, NULL},
        {MDN_ENCODE_F32, b, NULL},
        {MDN_ENCODE_I64, a, NULL},
    };
    size_t one, other;

    for (int i = 0; i < ROWS; i++) {
        a[i] = i * INT64_C(-77777777777);
        b[i] = (float)i / 3;
    }
    CHECK(encode(columns, 3, ROWS, &one, NULL) == MDN_OK);
    memcpy(first, stream, one);
    columns[1].nulls = none; /* of no effect, but any row may have one */
    CHECK(encode(columns, 3, ROWS, &other, NULL) == MDN_OK);
    CHECK(one == other && one == 19 + ROWS * (2 + 12 + 8 + 12) + 2);
    CHECK(memcmp(first, stream, one) == 0);
}

static void
large_bytes_are_handed_out_where_they_lie(void)
{
    enum { SIZE = 500000 };
    uint8_t *large = calloc(1, SIZE);
    const mdn_encode_bytes values[] = {{large, SIZE}, {"b", 1}, {NULL, 0}};
    const mdn_encode_column column = {MDN_ENCODE_BYTES, values, NULL};
    mdn_encoder *encoder;
    const void *piece;
    size_t size;
    bool seen = false;

    CHECK(mdn_encoder_new(&column, 1, 3, &encoder, NULL) == MDN_OK);
    while (mdn_encoder_next(encoder, &piece, &size, NULL) == MDN_OK
           && size > 0) {
        if (piece != large)
            continue;
        seen = true;
        CHECK(size == SIZE);
        CHECK(mdn_encoder_rows(encoder) == 1);
    }
    CHECK(seen);
    CHECK(mdn_encoder_rows(encoder) == 3);
    mdn_encoder_free(encoder);
    free(large);
}

static void
what_postgres_cannot_hold_is_named(void)
{
    enum { ROWS = 20000 };
    static uint64_t values[ROWS];
    static const uint8_t none[ROWS];
    const mdn_encode_bytes huge[] = {{"", UINT64_C(1) << 30}};
    mdn_encode_column columns[] = {
        {MDN_ENCODE_I64, values, NULL},
        {MDN_ENCODE_U64, values, NULL},
    };
    const mdn_encode_column bytes = {MDN_ENCODE_BYTES, huge, NULL};
    mdn_error err;
    size_t size;

    values[17777] = UINT64_MAX;
    for (int with_nulls = 0; with_nulls < 2; with_nulls++) {
        columns[0].nulls = with_nulls ? none : NULL;
        CHECK(encode(columns, 2, ROWS, &size, &err) == MDN_INVALID);
        CHECK(strstr(err.message, "column 1, row 17777: 18446744073709551615")
              != NULL);
    }
    CHECK(encode(&bytes, 1, 1, &size, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "row 0: 1073741824 bytes") != NULL);
    CHECK(encode(columns, 0, 1, &size, &err) == MDN_INVALID);
    CHECK(encode(columns, 1601, 1, &size, &err) == MDN_INVALID);
}

static void
no_rows_are_a_header_and_a_trailer(void)
{
    const mdn_encode_column column = {MDN_ENCODE_I64, NULL, NULL};
    size_t size;

    CHECK(encode(&column, 1, 0, &size, NULL) == MDN_OK);
    CHECK(size == 21);
}

static void
what_may_pass_is_done_again(void)
{
    CHECK(mdn_sqlstate_may_pass("08006"));
    CHECK(mdn_sqlstate_may_pass("40001"));
    CHECK(mdn_sqlstate_may_pass("57P01"));
    CHECK(mdn_sqlstate_may_pass("57P05"));
    CHECK(mdn_sqlstate_may_pass("57014"));
    CHECK(!mdn_sqlstate_may_pass("08P01"));
    CHECK(!mdn_sqlstate_may_pass("28P01"));
    CHECK(!mdn_sqlstate_may_pass("53100"));
    CHECK(!mdn_sqlstate_may_pass(""));
    CHECK(mdn_sqlstate_advice("53100") != NULL);
    CHECK(mdn_sqlstate_advice("") == NULL);
    CHECK(mdn_sqlstate_advice("23505") == NULL);
}

int
main(void)
{
    RUN(a_row_is_what_the_manual_says);
    RUN(rows_are_the_same_from_either_loop);
    RUN(large_bytes_are_handed_out_where_they_lie);
    RUN(what_postgres_cannot_hold_is_named);
    RUN(no_rows_are_a_header_and_a_trailer);
    RUN(what_may_pass_is_done_again);
    return check_report("test_encode");
}
