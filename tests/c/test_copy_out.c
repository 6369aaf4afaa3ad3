/* test_copy_out.c - the parser of binary COPY, and what stands on streams. */
#include "base/bytes.h"
#include "check.h"
#include "metadata/decode.h"
#include "metadata/filter.h"
#include "metadata/query.h"
#include "orchestrator/clock.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 5, SIZE_MAX_BYTES = 2048 };

static const mdn_decode_field mixed[] = {
    {.type = MDN_DECODE_INT8},
    {.type = MDN_DECODE_INT4, .nullable = true},
    {.type = MDN_DECODE_FLOAT8},
    {.type = MDN_DECODE_FLOAT4},
    {.type = MDN_DECODE_BOOL, .nullable = true},
    {.type = MDN_DECODE_BYTEA, .nullable = true, .bytes_max = 40},
};
static const mdn_decode_field words[] = {
    {.type = MDN_DECODE_INT8},
    {.type = MDN_DECODE_INT8},
    {.type = MDN_DECODE_INT8},
};

/* ---- a stream, written byte by byte ---- */

typedef struct {
    uint8_t bytes[SIZE_MAX_BYTES];
    size_t size;
} wire;

static void
put(wire *w, uint64_t value, int size)
{
    for (int i = size - 1; i >= 0; i--)
        w->bytes[w->size++] = (uint8_t)(value >> (8 * i));
}

static void
put_header(wire *w, uint32_t extension)
{
    memcpy(w->bytes, "PGCOPY\n\377\r\n", 11);
    w->size = 11;
    put(w, 0, 4);
    put(w, extension, 4);
    for (uint32_t i = 0; i < extension; i++)
        put(w, 0xee, 1);
}

static void
put_field(wire *w, uint64_t value, int size)
{
    put(w, (uint64_t)size, 4);
    put(w, value, size);
}

static void
put_null(wire *w)
{
    put(w, UINT32_MAX, 4);
}

static void
put_mixed(wire *w, uint64_t row)
{
    put(w, 6, 2);
    put_field(w, row * 1000 - 1, 8);
    if (row % 2)
        put_null(w);
    else
        put_field(w, row, 4);
    put_field(w, UINT64_C(0x3ff0000000000000) + row, 8);
    put_field(w, 0x3f800000 + row, 4);
    if (row == 2)
        put_null(w);
    else
        put_field(w, row & 1, 1);
    if (row == 3)
        put_null(w);
    else {
        put(w, 7 * row, 4);
        for (uint64_t i = 0; i < 7 * row; i++)
            put(w, row + i, 1);
    }
}

static void
put_words(wire *w, uint64_t row)
{
    put(w, 3, 2);
    put_field(w, row, 8);
    put_field(w, UINT64_MAX - row, 8);
    put_field(w, row << 40, 8);
}

static wire
stream_of(void (*put_row)(wire *, uint64_t), uint32_t extension)
{
    wire w = {.size = 0};

    put_header(&w, extension);
    for (uint64_t row = 0; row < ROWS; row++)
        put_row(&w, row);
    put(&w, UINT16_MAX, 2);
    return w;
}

/* ---- what a parser makes of it ---- */

typedef struct {
    mdn_status status;
    uint64_t rows;
    uint64_t sum; /* of all values, NULLs and lengths */
    char message[512];
} outcome;

static void
mix(outcome *o, const void *bytes, uint64_t size)
{
    const uint8_t *from = bytes;

    for (uint64_t i = 0; i < size; i++)
        o->sum = (o->sum ^ from[i]) * UINT64_C(0x100000001b3);
}

static void
add_rows(outcome *o, const mdn_decode_block *block)
{
    for (uint64_t row = 0; row < block->count; row++) {
        for (uint32_t c = 0; c < block->column_count; c++) {
            const mdn_decode_column *column = &block->columns[c];
            uint64_t size = column->value_size;

            if (column->nulls != NULL)
                mix(o, &column->nulls[row], 1);
            if (column->starts == NULL)
                mix(o, (const uint8_t *)column->values + row * size, size);
            else {
                size = column->starts[row + 1] - column->starts[row];
                mix(o, &size, 8);
                if (size > 0)
                    mix(o, column->bytes + column->starts[row], size);
            }
        }
    }
    o->rows += block->count;
}

typedef struct {
    mdn_decoder *decoder;
    mdn_decode_block *block;
    outcome result;
} parser;

static parser
parser_new(const mdn_decode_field *fields, uint32_t count, uint64_t capacity)
{
    parser p = {.result = {.status = MDN_OK}};

    CHECK(mdn_decoder_new(fields, count, &p.decoder, NULL) == MDN_OK);
    CHECK(mdn_decode_block_new(fields, count, capacity, &p.block, NULL)
          == MDN_OK);
    return p;
}

/* One piece, in a buffer of its own size, so that asan sees its end. */
static void
feed(parser *p, const uint8_t *bytes, size_t size)
{
    uint8_t *piece = malloc(size > 0 ? size : 1);
    size_t at = 0, used;
    mdn_error err;

    memcpy(piece, bytes, size);
    while (p->result.status == MDN_OK && at < size) {
        p->result.status = mdn_decoder_feed(p->decoder, p->block, piece + at,
                                            size - at, &used, &err);
        at += used;
        CHECK(at <= size && p->block->count <= p->block->capacity);
        if (p->result.status != MDN_OK)
            strcpy(p->result.message, err.message);
        if (p->block->count == p->block->capacity
            || p->result.status != MDN_OK) {
            add_rows(&p->result, p->block);
            p->block->count = 0;
        }
    }
    free(piece);
}

static outcome
parser_end(parser *p)
{
    mdn_error err;

    add_rows(&p->result, p->block);
    if (p->result.status == MDN_OK) {
        p->result.status = mdn_decoder_finish(p->decoder, &err);
        if (p->result.status != MDN_OK)
            strcpy(p->result.message, err.message);
    }
    mdn_decoder_free(p->decoder);
    mdn_decode_block_free(p->block);
    return p->result;
}

/* In pieces of step bytes, after a first one of `cut`. */
static outcome
parse(const mdn_decode_field *fields, uint32_t count, const wire *w,
      uint64_t capacity, size_t cut, size_t step)
{
    parser p = parser_new(fields, count, capacity);
    size_t at = cut < w->size ? cut : w->size;

    feed(&p, w->bytes, at);
    for (; at < w->size; at += step)
        feed(&p, w->bytes + at, step < w->size - at ? step : w->size - at);
    return parser_end(&p);
}

static bool
same(const outcome *a, const outcome *b)
{
    return a->status == b->status && a->rows == b->rows && a->sum == b->sum;
}

static void
values_come_out_as_they_went_in(void)
{
    wire w = stream_of(put_mixed, 0);
    parser p = parser_new(mixed, 6, 100);
    mdn_decode_column *columns = p.block->columns;
    double d;
    float f;

    feed(&p, w.bytes, w.size);
    CHECK(p.block->count == ROWS);
    CHECK(((int64_t *)columns[0].values)[0] == -1);
    CHECK(((int64_t *)columns[0].values)[4] == 3999);
    CHECK(((int32_t *)columns[1].values)[2] == 2);
    CHECK(columns[1].nulls[1] == 1 && columns[1].nulls[2] == 0);
    memcpy(&d, columns[2].values, 8);
    memcpy(&f, columns[3].values, 4);
    CHECK(d == 1.0 && f == 1.0f);
    CHECK(((uint8_t *)columns[4].values)[1] == 1 && columns[4].nulls[2] == 1);
    CHECK(columns[5].starts[1] == 0 && columns[5].starts[2] == 7);
    CHECK(columns[5].starts[4] - columns[5].starts[3] == 0);
    CHECK(columns[5].nulls[3] == 1 && columns[5].nulls[0] == 0);
    CHECK(columns[5].bytes[0] == 1 && columns[5].bytes[6] == 7);
    CHECK(parser_end(&p).status == MDN_OK);
}

static void
cuts_change_nothing_of(const mdn_decode_field *fields, uint32_t count,
                       const wire *w)
{
    outcome whole = parse(fields, count, w, 100, w->size, 1);

    CHECK(whole.status == MDN_OK && whole.rows == ROWS);
    for (uint64_t capacity = 1; capacity <= ROWS + 1; capacity++) {
        for (size_t cut = 0; cut <= w->size; cut++) {
            outcome two = parse(fields, count, w, capacity, cut, w->size);

            CHECK(same(&whole, &two));
        }
        for (size_t step = 1; step < 50; step++) {
            outcome many = parse(fields, count, w, capacity, 0, step);

            CHECK(same(&whole, &many));
        }
    }
}

static void
cuts_change_nothing(void)
{
    for (uint32_t extension = 0; extension < 3; extension++) {
        wire a = stream_of(put_mixed, extension);
        wire b = stream_of(put_words, extension);

        cuts_change_nothing_of(mixed, 6, &a);
        cuts_change_nothing_of(words, 3, &b);
    }
}

static void
every_truncation_is_noticed(void)
{
    wire streams[] = {stream_of(put_mixed, 1), stream_of(put_words, 0)};

    for (int i = 0; i < 2; i++) {
        size_t size = streams[i].size;

        for (streams[i].size = 0; streams[i].size < size; streams[i].size++) {
            outcome o =
                parse(i ? words : mixed, i ? 3 : 6, &streams[i], 2, 0, 13);

            CHECK(o.status == MDN_CORRUPT && o.rows <= ROWS);
        }
    }
}

/* Whatever it is taken for, however it is cut it is taken for the same. */
static void
every_flipped_bit_is_harmless(void)
{
    for (int i = 0; i < 2; i++) {
        wire w = i ? stream_of(put_words, 0) : stream_of(put_mixed, 2);
        const mdn_decode_field *fields = i ? words : mixed;
        uint32_t count = i ? 3 : 6;

        for (size_t bit = 0; bit < 8 * w.size; bit++) {
            outcome whole, cut;

            w.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            whole = parse(fields, count, &w, 100, w.size, 1);
            cut = parse(fields, count, &w, 2, 5, 3);
            CHECK(whole.status == MDN_OK || whole.status == MDN_CORRUPT);
            CHECK(same(&whole, &cut));
            w.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void
a_claimed_length_takes_no_memory(void)
{
    mdn_decode_field field = {.type = MDN_DECODE_BYTEA,
                              .bytes_max = UINT64_MAX};
    wire w = {.size = 0};
    parser p = parser_new(&field, 1, 10);

    put_header(&w, 0);
    put(&w, 1, 2);
    put(&w, INT32_MAX, 4);
    put(&w, 1234, 8);
    feed(&p, w.bytes, w.size);
    CHECK(p.block->columns[0].bytes_room <= 4096);
    CHECK(parser_end(&p).status == MDN_CORRUPT);
}

static bool
refuses(const wire *w, const char *reason)
{
    outcome o = parse(mixed, 6, w, 10, 0, w->size);
    bool right = o.status == MDN_CORRUPT && strstr(o.message, reason) != NULL;

    if (!right)
        fprintf(stderr, "'%s'\n", o.message);
    return right;
}

static void
what_is_wrong_is_said(void)
{
    wire w = stream_of(put_mixed, 0);

    put(&w, 0, 1);
    CHECK(refuses(&w, "goes on behind its end"));
    w = stream_of(put_mixed, 0);
    w.bytes[0] = 'Q';
    CHECK(refuses(&w, "no binary COPY stream"));
    w = stream_of(put_mixed, 0);
    w.bytes[12] = 1;
    CHECK(refuses(&w, "unknown flags 0x00010000"));
    w = stream_of(put_mixed, 0);
    w.bytes[15] = 0x80;
    CHECK(refuses(&w, "negative size"));
    w = stream_of(put_mixed, 0);
    w.bytes[20] = 7;
    CHECK(refuses(&w, "a row of 7 columns where 6 were asked for"));
    w = stream_of(put_mixed, 0);
    w.bytes[24] = 9;
    CHECK(refuses(&w, "9 bytes in column 0"));
    put_header(&w, 0);
    put(&w, 6, 2);
    put_null(&w);
    CHECK(refuses(&w, "a NULL in column 0 of row 0"));
}

static void
a_decoder_starts_over(void)
{
    wire w = stream_of(put_words, 0);
    parser p = parser_new(words, 3, 100);

    feed(&p, w.bytes, 40);
    mdn_decoder_restart(p.decoder);
    p.block->count = 0;
    feed(&p, w.bytes, w.size);
    CHECK(parser_end(&p).rows == ROWS);
}

static void
wrong_shapes_are_refused(void)
{
    mdn_decode_block *block;
    mdn_decoder *decoder;

    CHECK(mdn_decode_block_new(words, 3, 0, &block, NULL) == MDN_INVALID);
    CHECK(mdn_decode_block_new(words, 3, UINT64_MAX, &block, NULL)
          == MDN_INVALID);
    CHECK(mdn_decode_block_new(words, 0, 1, &block, NULL) == MDN_INVALID);
    CHECK(block == NULL);
    CHECK(mdn_decoder_new(words, 65, &decoder, NULL) == MDN_INVALID);
    CHECK(decoder == NULL);
}

/* ---- filters ---- */

enum { SAMPLES = 100 };
static uint64_t keys[SAMPLES];
static int64_t timestamps[SAMPLES], labels[SAMPLES];

static void
make_samples(void)
{
    for (int i = 0; i < SAMPLES; i++) {
        keys[i] = (uint64_t)i * 3;
        timestamps[i] = i - 50;
        labels[i] = i % 7 == 0 ? -4 : i % 7 == 1 ? INT64_MAX : i % 7;
    }
}

static mdn_metadata_stream *
samples_in_blocks(uint64_t block_count)
{
    mdn_metadata_stream *stream;

    CHECK(mdn_metadata_from_arrays(keys, timestamps, labels, SAMPLES,
                                   block_count, &stream, NULL)
          == MDN_OK);
    return stream;
}

static void
a_filter_keeps_what_it_says(void)
{
    static const int64_t among[] = {-4, 2, 1023, 5000, INT64_MAX};
    mdn_filter filters[] = {
        {.has_start = true, .start = -7},
        {.has_stop = true, .stop = 13},
        {.by_label = true, .label_count = 5, .labels = among},
        {.by_label = true},
        {.has_start = true,
         .start = -7,
         .has_stop = true,
         .stop = 13,
         .by_label = true,
         .label_count = 2,
         .labels = among},
        {.has_start = false},
    };

    make_samples();
    for (size_t f = 0; f < sizeof filters / sizeof filters[0]; f++) {
        for (uint64_t size = 1; size < SAMPLES + 2; size += 9) {
            mdn_metadata_stream *stream;
            mdn_metadata_block block;
            uint64_t at = 0, count;

            CHECK(mdn_filter_stream(samples_in_blocks(size), 0, &filters[f],
                                    &stream, NULL)
                  == MDN_OK);
            CHECK(mdn_filter_count(stream, &count, NULL) == MDN_OK);
            stream->rewind(stream);
            while (stream->next(stream, &block, NULL) == MDN_OK
                   && block.count > 0) {
                for (uint64_t i = 0; i < block.count; i++, at++, count--) {
                    while (at < SAMPLES
                           && !mdn_filter_keeps(&filters[f], timestamps[at],
                                                labels[at]))
                        at++;
                    CHECK(at < SAMPLES && block.keys[i] == keys[at]);
                    CHECK(block.timestamps[i] == timestamps[at]);
                    CHECK(block.labels[i] == labels[at]);
                    CHECK(block.positions[i] == at + 1);
                }
            }
            CHECK(count == 0);
            for (; at < SAMPLES; at++)
                CHECK(
                    !mdn_filter_keeps(&filters[f], timestamps[at], labels[at]));
            stream->free(stream);
        }
    }
}

/* ---- the clock, over a source in memory ---- */

typedef struct {
    mdn_metadata_source base;
    uint64_t erased; /* positions below it hold no sample */
    int opened;
} fake;

typedef struct {
    mdn_metadata_stream base;
    uint64_t next, last;
    uint64_t positions[8];
} fake_stream;

static mdn_status
fake_next(mdn_metadata_stream *stream, mdn_metadata_block *out, mdn_error *err)
{
    fake_stream *s = (fake_stream *)stream;
    uint64_t first = s->next, count = s->last - first;

    (void)err;
    count = count < 8 ? count : 8;
    for (uint64_t i = 0; i < count; i++)
        s->positions[i] = first + i + 1;
    s->next += count;
    *out = (mdn_metadata_block){.count = count,
                                .keys = keys + first,
                                .timestamps = timestamps + first,
                                .positions = s->positions};
    return MDN_OK;
}

static void
fake_free(mdn_metadata_stream *stream)
{
    free(stream);
}

static mdn_status
fake_open(mdn_metadata_source *source, uint64_t first, uint64_t last,
          uint64_t block_count, mdn_wanted wanted, const mdn_pulse *pulse,
          mdn_metadata_stream **out, mdn_error *err)
{
    fake *f = (fake *)source;
    fake_stream *s = calloc(1, sizeof *s);

    (void)block_count, (void)wanted, (void)pulse, (void)err;
    f->opened++;
    s->base = (mdn_metadata_stream){.next = fake_next, .free = fake_free};
    s->next = first > f->erased ? first : f->erased;
    s->last = last > s->next ? last : s->next;
    *out = &s->base;
    return MDN_OK;
}

static int64_t
time_at(mdn_clock *clock, uint64_t position)
{
    int64_t out = INT64_MIN;

    CHECK(mdn_clock_at(clock, position, NULL, &out, NULL) == MDN_OK);
    return out;
}

static void
a_clock_asks_only_for_what_did_not_pass_by(void)
{
    fake source = {.base = {.count = SAMPLES, .open = fake_open}};
    mdn_clock clock = mdn_clock_new(&source.base, 20, 5);
    mdn_metadata_block block = {.count = 10, .timestamps = timestamps + 20};
    int64_t out;

    make_samples();
    CHECK(time_at(&clock, 5) == timestamps[5] && source.opened == 1);
    CHECK(time_at(&clock, 5) == timestamps[5] && source.opened == 1);
    mdn_clock_forget(&clock);
    mdn_clock_pass(&clock, &block);
    CHECK(time_at(&clock, 20) == timestamps[20] && source.opened == 1);
    CHECK(time_at(&clock, 29) == timestamps[29] && source.opened == 1);
    mdn_clock_mark(&clock, 30); /* is in the next block */
    mdn_clock_forget(&clock);
    block.timestamps = timestamps + 30;
    CHECK(time_at(&clock, 29) == timestamps[29] && source.opened == 1);
    mdn_clock_pass(&clock, &block);
    mdn_clock_forget(&clock);
    block.timestamps = timestamps + 40;
    mdn_clock_pass(&clock, &block);
    CHECK(time_at(&clock, 30) == timestamps[30] && source.opened == 1);
    CHECK(time_at(&clock, 39) == timestamps[39] && source.opened == 1);
    CHECK(time_at(&clock, 35) == timestamps[35] && source.opened == 2);
    CHECK(mdn_clock_at(&clock, SAMPLES, NULL, &out, NULL) == MDN_INVALID);
}

static void
a_clock_takes_the_nearest_sample_before_or_behind(void)
{
    fake source = {.base = {.count = SAMPLES, .open = fake_open}, .erased = 70};
    mdn_clock clock = mdn_clock_new(&source.base, 0, 0);
    uint64_t positions[] = {75, 80};
    mdn_metadata_block block = {
        .count = 2, .timestamps = timestamps, .positions = positions};
    int64_t out;

    make_samples();
    CHECK(time_at(&clock, 10) == timestamps[70]);
    CHECK(time_at(&clock, 71) == timestamps[71]);
    mdn_clock_pass(&clock, &block);
    CHECK(time_at(&clock, 74) == timestamps[0]);
    CHECK(time_at(&clock, 78) == timestamps[0]);
    CHECK(time_at(&clock, 79) == timestamps[1]);
    source.erased = SAMPLES;
    CHECK(mdn_clock_at(&clock, 90, NULL, &out, NULL) == MDN_INVALID);
}

/* ---- statements ---- */

static bool
is_copy(const mdn_query *query, const char *want)
{
    char *sql;
    bool right;

    CHECK(mdn_query_copy(query, &sql, NULL) == MDN_OK);
    right = strcmp(sql, want) == 0;
    if (!right)
        fprintf(stderr, "%s\n", sql);
    free(sql);
    return right;
}

static void
statements_ask_for_what_is_wanted(void)
{
    static const int64_t among[] = {-1, 3};
    mdn_filter filter = {.has_start = true,
                         .start = INT64_MIN,
                         .has_stop = true,
                         .stop = 9,
                         .by_label = true,
                         .label_count = 2,
                         .labels = among};
    mdn_query q = {
        .table = {.name = "m.t", .position = "key", .has_labels = true},
        .last = 10,
        .whole = true,
        .wanted = MDN_WANT_ALL};

    CHECK(is_copy(&q, "COPY m.t (\"key\", \"timestamp\", label) TO STDOUT "
                      "(FORMAT binary)"));
    q.wanted = MDN_WANT_KEYS;
    q.ordered = true;
    CHECK(is_copy(&q, "COPY (SELECT \"key\" FROM m.t WHERE true ORDER BY "
                      "\"key\") TO STDOUT (FORMAT binary)"));
    q.whole = q.ordered = false;
    q.filter = &filter;
    q.wanted = MDN_WANT_LABELS;
    CHECK(is_copy(
        &q, "COPY (SELECT \"key\", label FROM m.t WHERE \"key\" >= 0 AND "
            "\"key\" < 10 AND \"timestamp\" >= '-9223372036854775808'::int8 "
            "AND \"timestamp\" < '9'::int8 AND label = ANY "
            "('{-1,3}'::int8[])) TO STDOUT (FORMAT binary)"));
    q.filter = NULL;
    q.first_page = 3;
    q.last_page = 12;
    CHECK(is_copy(&q,
                  "COPY (SELECT \"key\", label FROM m.t WHERE \"key\" >= 0 AND "
                  "\"key\" < 10 AND ctid >= '(3,0)'::tid AND ctid < "
                  "'(12,0)'::tid) TO STDOUT (FORMAT binary)"));
    q.first_page = q.last_page = 0;
    q.filter = &filter;
    q.table.blocks = q.table.has_keys = true;
    CHECK(is_copy(
        &q, "COPY (SELECT \"first\", count, erased, keys, labels FROM m.t "
            "WHERE \"first\" < 10 AND \"first\" + count > 0 AND max_timestamp "
            ">= '-9223372036854775808'::int8 AND min_timestamp < '9'::int8) "
            "TO STDOUT (FORMAT binary)"));
}

static void
only_plain_names_are_names(void)
{
    static const char *const good[] = {"t", "modyn.samples_d1_l0", "a_.b0"};
    static const char *const bad[] = {"",    ".",   "a.",    ".a", "a.b.c",
                                      "a b", "a;b", "\"a\"", "A",  "a'"};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CHECK(mdn_query_is_name(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!mdn_query_is_name(bad[i]));
}

int
main(void)
{
    RUN(values_come_out_as_they_went_in);
    RUN(cuts_change_nothing);
    RUN(every_truncation_is_noticed);
    RUN(every_flipped_bit_is_harmless);
    RUN(a_claimed_length_takes_no_memory);
    RUN(what_is_wrong_is_said);
    RUN(a_decoder_starts_over);
    RUN(wrong_shapes_are_refused);
    RUN(a_filter_keeps_what_it_says);
    RUN(a_clock_asks_only_for_what_did_not_pass_by);
    RUN(a_clock_takes_the_nearest_sample_before_or_behind);
    RUN(statements_ask_for_what_is_wanted);
    RUN(only_plain_names_are_names);
    return check_report("test_copy_out");
}
