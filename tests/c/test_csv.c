/* test_csv.c - numbers, rows and typed blocks from CSV files.
 *
 * What whole files give is held against Python in tests/python/test_csv.py;
 * here are the places where memory and disks matter. */
#include "base/random.h"
#include "check.h"
#include "faulty_io.h"
#include "ingest/csv.h"
#include "ingest/csv_row.h"
#include "ingest/decimal.h"
#include "ingest/number.h"
#include "ingest/pieces.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/mdn-test-csv-XXXXXX";

static void
put(const char *bytes, uint64_t size)
{
    mdn_file file;

    CHECK(mdn_file_open(&mdn_io_system, path, O_WRONLY | O_CREAT | O_TRUNC,
                        &file, NULL)
          == MDN_OK);
    CHECK(mdn_file_write(&file, bytes, size, 0, NULL) == MDN_OK);
    mdn_file_close(&file);
}

/* Numbers --------------------------------------------------------------- */

static mdn_number_result
parse(mdn_dtype dtype, const char *text, void *out)
{
    return mdn_number_parse(dtype, text, strlen(text), out);
}

static void
integers_fill_their_type_and_no_more(void)
{
    static const struct {
        mdn_dtype dtype;
        const char *low, *high, *below, *above;
    } rows[] = {
        {MDN_INT8, "-128", "127", "-129", "128"},
        {MDN_INT16, "-32768", "32767", "-32769", "32768"},
        {MDN_INT32, "-2147483648", "2147483647", "-2147483649", "2147483648"},
        {MDN_INT64, "-9223372036854775808", "9223372036854775807",
         "-9223372036854775809", "9223372036854775808"},
        {MDN_UINT8, "0", "255", "-1", "256"},
        {MDN_UINT16, "0", "65535", "-1", "65536"},
        {MDN_UINT32, "0", "4294967295", "-1", "4294967296"},
        {MDN_UINT64, "0", "18446744073709551615", "-1", "18446744073709551616"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t size = mdn_dtype_size(rows[i].dtype);
        uint64_t low = 0, high = 0, untouched = 7;
        CHECK(parse(rows[i].dtype, rows[i].low, &low) == MDN_NUMBER_OK);
        CHECK(parse(rows[i].dtype, rows[i].high, &high) == MDN_NUMBER_OK);
        /* One more than the highest is the lowest, in as many bytes. */
        high++;
        CHECK(memcmp(&low, &high, size) == 0);
        CHECK(parse(rows[i].dtype, rows[i].below, &untouched)
              == MDN_NUMBER_RANGE);
        CHECK(parse(rows[i].dtype, rows[i].above, &untouched)
              == MDN_NUMBER_RANGE);
        CHECK(untouched == 7);
    }
}

static void
what_is_no_number_is_refused(void)
{
    static const char *const wrong[] = {
        "",     " 1",    "1 ",  "+",        "-",    "--1", "1-",
        "0x10", "1_000", "1,5", "one",      "1e",   "e1",  ".",
        "+.",   ".e1",   "1e+", "1.2.3",    "nano", "na",  "infinit",
        "inf ", "1e1.5", "+-1", "1f",       "NULL", "0b1", "nan(1)",
        "1e ",  "\t1",   "- 1", "infinity1"};
    double out;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK(parse(MDN_FLOAT16, wrong[i], &out) == MDN_NUMBER_MALFORMED);
        CHECK(parse(MDN_FLOAT32, wrong[i], &out) == MDN_NUMBER_MALFORMED);
        CHECK(parse(MDN_FLOAT64, wrong[i], &out) == MDN_NUMBER_MALFORMED);
        CHECK(parse(MDN_INT64, wrong[i], &out) == MDN_NUMBER_MALFORMED);
        CHECK(parse(MDN_UINT8, wrong[i], &out) == MDN_NUMBER_MALFORMED);
        CHECK(parse(MDN_BOOL, wrong[i], &out) == MDN_NUMBER_MALFORMED);
    }
    CHECK(parse(MDN_INT64, "1.0", &out) == MDN_NUMBER_MALFORMED);
    CHECK(parse(MDN_INT64, "nan", &out) == MDN_NUMBER_MALFORMED);
    CHECK(parse(MDN_BOOL, "2", &out) == MDN_NUMBER_MALFORMED);
    CHECK(parse(MDN_COMPLEX64, "1", &out) == MDN_NUMBER_MALFORMED);
    CHECK(parse(MDN_BYTES, "1", &out) == MDN_NUMBER_MALFORMED);
}

static void
floats_are_rounded_once(void)
{
    double wide;
    float narrow;
    uint16_t half;

    CHECK(parse(MDN_FLOAT64, "0.1", &wide) == MDN_NUMBER_OK && wide == 0.1);
    CHECK(parse(MDN_FLOAT64, "-1.7976931348623157e308", &wide) == MDN_NUMBER_OK
          && wide == -1.7976931348623157e308);
    CHECK(parse(MDN_FLOAT64, "1.7976931348623159e308", &wide)
          == MDN_NUMBER_RANGE);
    CHECK(parse(MDN_FLOAT64, "4.9e-324", &wide) == MDN_NUMBER_OK
          && wide == 4.9e-324);
    CHECK(parse(MDN_FLOAT64, "1e-99999999999999999999", &wide) == MDN_NUMBER_OK
          && wide == 0.0);
    CHECK(parse(MDN_FLOAT64, "1e99999999999999999999", &wide)
          == MDN_NUMBER_RANGE);
    CHECK(parse(MDN_FLOAT64, "-0", &wide) == MDN_NUMBER_OK && wide == 0.0
          && signbit(wide));
    CHECK(parse(MDN_FLOAT64, "-Infinity", &wide) == MDN_NUMBER_OK && isinf(wide)
          && wide < 0);
    CHECK(parse(MDN_FLOAT64, "NaN", &wide) == MDN_NUMBER_OK && isnan(wide));

    /* 1 + 2^-24 lies between two floats; so does its double.  The decimal lies
     * a trifle above or below. */
    CHECK(parse(MDN_FLOAT32, "1.000000059604644775390625", &narrow)
              == MDN_NUMBER_OK
          && narrow == 1.0f);
    CHECK(parse(MDN_FLOAT32, "1.00000005960464477539062500001", &narrow)
              == MDN_NUMBER_OK
          && narrow == 1.00000012f);
    CHECK(parse(MDN_FLOAT32, "3.4028235677973367e38", &narrow)
          == MDN_NUMBER_RANGE);
    CHECK(parse(MDN_FLOAT32, "3.4028235677973366e38", &narrow) == MDN_NUMBER_OK
          && narrow == 3.40282347e+38f);

    /* The same around 1 + 2^-11 and the ends of float16. */
    CHECK(parse(MDN_FLOAT16, "1.00048828125", &half) == MDN_NUMBER_OK
          && half == 0x3c00);
    CHECK(parse(MDN_FLOAT16, "1.00048828125000000000000001", &half)
              == MDN_NUMBER_OK
          && half == 0x3c01);
    CHECK(parse(MDN_FLOAT16, "-1.00146484374999999999999999", &half)
              == MDN_NUMBER_OK
          && half == 0xbc01);
    CHECK(parse(MDN_FLOAT16, "-1.00146484375", &half) == MDN_NUMBER_OK
          && half == 0xbc02);
    CHECK(parse(MDN_FLOAT16, "65519.999999999999999999", &half) == MDN_NUMBER_OK
          && half == 0x7bff);
    CHECK(parse(MDN_FLOAT16, "-65520", &half) == MDN_NUMBER_RANGE);
    CHECK(parse(MDN_FLOAT16, "5.9604644775390625e-8", &half) == MDN_NUMBER_OK
          && half == 0x0001);
    CHECK(parse(MDN_FLOAT16, "2.98023223876953125e-8", &half) == MDN_NUMBER_OK
          && half == 0x0000);
    CHECK(parse(MDN_FLOAT16, "-2.98023223876953126e-8", &half) == MDN_NUMBER_OK
          && half == 0x8001);
    CHECK(parse(MDN_FLOAT16, "6.1035e-5", &half) == MDN_NUMBER_OK
          && half == 0x0400);
}

/* Both fast ways, and what they leave to others. */
static void
long_decimals_are_rounded_as_strtod_does(void)
{
    uint64_t rounded = 0;

    for (uint64_t i = 0; i < 200000; i++) {
        uint64_t draw = mdn_draw(mdn_stream(7, 0), i);
        uint64_t digits = mdn_draw(mdn_stream(7, 1), i) >> (draw >> 8) % 60;
        int exponent = (int)(draw % 60) - 30;
        char text[80] = "";
        double got = 0, fast = 0, expected;
        size_t length;

        sprintf(text, "%llue%d", (unsigned long long)digits, exponent);
        expected = strtod(text, NULL);
        CHECK(parse(MDN_FLOAT64, text, &got) == MDN_NUMBER_OK
              && got == expected);
        if (mdn_decimal_round(digits, exponent, &fast)) {
            rounded++;
            CHECK(fast == expected);
        }
        length = (size_t)sprintf(text, "%s%llu.%0*llu", draw & 64 ? "-" : "",
                                 (unsigned long long)(digits >> 40),
                                 1 + (int)(draw % 14),
                                 (unsigned long long)(digits & 0xfffff));
        expected = strtod(text, NULL);
        if (mdn_decimal_fast(text, length, &fast))
            CHECK(fast == expected);
    }
    CHECK(rounded > 100000);
}

/* Rows ------------------------------------------------------------------ */

/* All cells of one piece, behind `to`: rows end in |, cells in ;  NULL after an
 * error. */
static char *
add_cells(const mdn_piece *piece, uint64_t *line, char *to, mdn_error *err)
{
    const char *at = piece->text, *end = at + piece->size, *next;
    mdn_csv_row row = {.text = NULL};

    while ((at = mdn_csv_skip_empty(at, end, line)) < end) {
        mdn_csv_row_result result =
            mdn_csv_row_scan(&row, at, end, ',', '"', &next);
        char place[200];

        if (result != MDN_CSV_ROW_OK) {
            if (result != MDN_CSV_ROW_CELLS)
                *line +=
                    mdn_csv_cell_line(&row, &row.cells[row.cell_count - 1]);
            snprintf(place, sizeof place, "%s: line %llu", path,
                     (unsigned long long)*line);
            mdn_csv_row_fail(&row, result, place, err);
            mdn_csv_row_clear(&row);
            return NULL;
        }
        for (uint32_t c = 0; c < row.cell_count; c++) {
            to += mdn_csv_cell_copy(&row.cells[c], to);
            *to++ = ';';
        }
        *to++ = '|';
        *line += 1 + mdn_csv_count_lines(at, next - 1);
        at = next;
    }
    mdn_csv_row_clear(&row);
    return to;
}

/* All cells of the file, read in pieces of this size; NULL after an error. */
static char *
cells_of(const char *content, uint64_t size, uint64_t piece_size,
         mdn_error *err)
{
    char *text = malloc(2 * size + 64), *to = text;
    mdn_reader_file file = {.io = &mdn_io_system, .path = path, .threads = 1};
    mdn_piece piece = {.text = NULL};
    mdn_pieces pieces;
    uint64_t line = 1;
    mdn_status st;

    if (text == NULL)
        abort();
    put(content, size);
    st = mdn_pieces_open(&file, piece_size, ',', '"', &pieces, err);
    while (st == MDN_OK && to != NULL && !pieces.ended) {
        st = mdn_pieces_next(&pieces, &piece, err);
        if (st == MDN_OK)
            to = add_cells(&piece, &line, to, err);
        CHECK(st != MDN_OK || piece.text[piece.size] == '\n');
    }
    mdn_piece_clear(&piece);
    mdn_pieces_close(&pieces);
    if (st != MDN_OK || to == NULL) {
        free(text);
        return NULL;
    }
    *to = '\0';
    return text;
}

static const uint64_t PIECES[] = {0, 1, 2, 3, 5, 8, 64};
#define PIECE_SIZES (sizeof PIECES / sizeof PIECES[0])

static void
check_cells(const char *content, const char *expected)
{
    for (size_t i = 0; i < PIECE_SIZES; i++) {
        char *got = cells_of(content, strlen(content), PIECES[i], NULL);

        CHECK(got != NULL && strcmp(got, expected) == 0);
        free(got);
    }
}

static void
rows_are_cut_into_cells(void)
{
    check_cells("a,b\nc,d\n", "a;b;|c;d;|");
    check_cells("a,b\r\nc,d", "a;b;|c;d;|");
    check_cells("a,b\r\nc,d\r", "a;b;|c;d;|");
    check_cells("\xef\xbb\xbf"
                "a\n",
                "a;|");
    check_cells(",\n,,\n", ";;|;;;|");
    check_cells("\n\r\na\n\n\r\nb\r\n\n", "a;|b;|");
    check_cells("\"a\",\"b,c\"\n", "a;b,c;|");
    check_cells("\"a\nb\"\r\n\"\r\n\",x\n", "a\nb;|\r\n;x;|");
    check_cells("\"a\"\"b\"\"\",\"\"\n", "a\"b\";;|");
    check_cells("\"\"\"\"\n\"\"", "\";|;|");
    check_cells("a\"b,c\"\n", "a\"b;c\";|");
    check_cells("a\rb,c\r\n", "a\rb;c;|");
    check_cells("\"a\"\r\n\"b\"\r", "a;|b;|");
    check_cells("a,", "a;;|");
    check_cells("\n", "");
}

static void
check_error(const char *content, const char *expected)
{
    for (size_t i = 0; i < PIECE_SIZES; i++) {
        mdn_error err = {.status = MDN_OK};
        char *got = cells_of(content, strlen(content), PIECES[i], &err);

        CHECK(got == NULL && err.status == MDN_INVALID);
        CHECK(strncmp(err.message, path, strlen(path)) == 0);
        CHECK(strcmp(err.message + strlen(path), expected) == 0);
        free(got);
    }
}

static void
wrong_files_are_named_with_line_and_column(void)
{
    check_error("", ": the file is empty");
    check_error("a\n\"b\nc\",\"d\ne",
                ": line 3, column 2: the quote that opens here is never "
                "closed");
    check_error("a\n\n\"b\"c\n", ": line 3, column 1: text after the closing "
                                 "quote");
    check_error("a\n\"b\"\rc\n", ": line 2, column 1: text after the closing "
                                 "quote");
    check_error("\x1f\x8b\x08", ": the file is compressed by gzip; decompress "
                                "it first");
    check_error("\xff\xfe"
                "a",
                ": the file is UTF-16; convert it to UTF-8 "
                "first");
}

/* Rows of every length around the size of a piece come out whole, whichever
 * byte of them the piece ends at. */
static void
rows_may_straddle_pieces(void)
{
    enum { PIECE = 4096 };
    const char tail[] = "\"q\"\"\r\n,\",xy\r\nlast";
    char *content = malloc(PIECE + 100);

    if (content == NULL)
        abort();
    for (int cut = 1; cut <= 20; cut++) {
        uint64_t size = (uint64_t)(PIECE - cut);
        char *got;
        memset(content, 'p', size);
        for (uint64_t i = 99; i < size; i += 100)
            content[i] = '\n';
        content[size - 1] = '\n';
        memcpy(content + size, tail, sizeof tail - 1);
        got = cells_of(content, size + sizeof tail - 1, PIECE, NULL);
        CHECK(got != NULL);
        if (got != NULL)
            CHECK(strcmp(got + strlen(got) - 17, "|q\"\r\n,;xy;|last;|") == 0);
        free(got);
    }
    free(content);
}

static void
a_row_may_be_much_longer_than_a_piece(void)
{
    enum { SIZE = 3 << 20 };
    char *content = malloc(SIZE), *got;

    if (content == NULL)
        abort();
    memset(content, '\n', SIZE);
    content[0] = content[SIZE - 1] = '"';
    got = cells_of(content, SIZE, 0, NULL);
    CHECK(got != NULL && strlen(got) == SIZE);
    free(got);
    content[SIZE - 1] = 'x';
    CHECK(cells_of(content, SIZE, 0, NULL) == NULL);
    free(content);
}

/* Blocks ---------------------------------------------------------------- */

static const char SCHEMA[] = "x: float32[2]\nflag: bool\nname: bytes\n";
static const mdn_csv_source SOURCES[] = {
    {.name = "x0"}, {.name = "x1"}, {.name = "flag"}, {.index = 3}};
static const mdn_csv_source LABEL = {.name = "y"}, TIMESTAMP = {.name = "t"};
static const mdn_csv_options OPTIONS = {.file = {.threads = 1},
                                        .header = true,
                                        .separator = ',',
                                        .quote = '"',
                                        .elements = SOURCES,
                                        .element_count = 4,
                                        .label = &LABEL,
                                        .timestamp = &TIMESTAMP};
#define HEADER "t,x1,x0,name,flag,y\n"

static mdn_schema *schema_of_file;

static mdn_reader *
open_text(const mdn_io *io, const char *content, mdn_error *err)
{
    mdn_csv_options options = OPTIONS;
    mdn_reader *csv = NULL;

    put(content, strlen(content));
    options.file.io = io;
    options.file.path = path;
    options.file.schema = schema_of_file;
    mdn_csv_open(&options, &csv, err);
    return csv;
}

static mdn_status
fill_all(mdn_reader *csv, mdn_block *block, uint64_t size_max,
         mdn_progress *progress, mdn_error *err)
{
    mdn_status st;

    do
        st = mdn_reader_fill(csv, block, size_max, progress, err);
    while (st == MDN_OK && *progress == MDN_READER_MORE);
    return st;
}

static mdn_status
new_block(mdn_block **out)
{
    return mdn_block_new(schema_of_file, true, true, out, NULL);
}

/* Read the rest and keep nothing. */
static mdn_status
check_rest(mdn_reader *csv, mdn_error *err)
{
    mdn_progress progress = MDN_READER_MORE;
    mdn_block *block;
    mdn_status st = new_block(&block);

    while (st == MDN_OK && progress != MDN_READER_END) {
        mdn_block_clear(block);
        st = mdn_reader_fill(csv, block, 1000, &progress, err);
    }
    mdn_block_free(block);
    return st;
}

static void
columns_go_where_their_names_say(void)
{
    mdn_reader *csv = open_text(&mdn_io_system,
                                HEADER "5,1.5,,\"a\"\"b\",1,-7\n"
                                       "6,inf,-2,,false,8\n",
                                NULL);
    mdn_progress progress;
    mdn_block *block;
    const float *x;

    CHECK(csv != NULL && new_block(&block) == MDN_OK);
    CHECK(fill_all(csv, block, UINT64_MAX, &progress, NULL) == MDN_OK);
    CHECK(progress == MDN_READER_END && block->count == 2);
    mdn_reader_free(csv);
    x = block->columns[0].values;
    CHECK(isnan(x[0]) && x[1] == 1.5f && x[2] == -2.0f && isinf(x[3]));
    CHECK(memcmp(block->columns[1].values, "\1\0", 2) == 0);
    CHECK(memcmp(block->columns[2].values, "a\"b", 3) == 0);
    CHECK(block->columns[2].offsets[1] == 3);
    CHECK(block->columns[2].offsets[2] == 3);
    CHECK(block->labels[0] == -7 && block->labels[1] == 8);
    CHECK(block->timestamps[0] == 5 && block->timestamps[1] == 6);
    mdn_block_free(block);
}

static void
blocks_end_at_their_budget_and_go_on(void)
{
    enum { ROWS = 1000 };
    char *content = malloc(ROWS * 40), *to = content;
    uint64_t seen = 0, blocks = 0;
    mdn_progress progress = MDN_READER_FULL;
    mdn_reader *csv;

    if (content == NULL)
        abort();
    to += sprintf(to, HEADER);
    for (int i = 0; i < ROWS; i++)
        to += sprintf(to, "%d,0.5,%d,n%d,1,0\n", i, i, i);
    csv = open_text(&mdn_io_system, content, NULL);
    for (int round = 0; round < 2; round++) {
        CHECK(check_rest(csv, NULL) == MDN_OK);
        CHECK(mdn_reader_seek(csv, 0, NULL) == MDN_OK);
    }
    while (progress != MDN_READER_END || blocks == 0) {
        mdn_block *block;
        CHECK(new_block(&block) == MDN_OK);
        CHECK(fill_all(csv, block, 4000, &progress, NULL) == MDN_OK);
        for (uint64_t i = 0; i < block->count; i++, seen++)
            CHECK(block->timestamps[i] == (int64_t)seen
                  && ((const float *)block->columns[0].values)[2 * i]
                         == (float)seen);
        blocks++;
        mdn_block_free(block);
    }
    CHECK(seen == ROWS && blocks > 5);
    mdn_reader_free(csv);
    free(content);
}

static void
check_bad(const char *content, const char *expected)
{
    mdn_error err = {.status = MDN_OK};
    mdn_reader *csv = open_text(&mdn_io_system, content, &err);
    mdn_progress progress;
    mdn_block *block;

    if (csv != NULL) {
        mdn_error again = {.status = MDN_OK};
        CHECK(new_block(&block) == MDN_OK);
        CHECK(fill_all(csv, block, UINT64_MAX, &progress, &err) != MDN_OK);
        mdn_block_free(block);
        CHECK(mdn_reader_seek(csv, 0, NULL) == MDN_OK);
        CHECK(check_rest(csv, &again) != MDN_OK);
        CHECK(strcmp(again.message, err.message) == 0);
        mdn_reader_free(csv);
    }
    CHECK(err.status == MDN_INVALID);
    CHECK(strncmp(err.message, path, strlen(path)) == 0);
    if (strcmp(err.message + strlen(path), expected) != 0)
        fprintf(stderr, "got:      %s\nexpected: %s\n",
                err.message + strlen(path), expected);
    CHECK(strcmp(err.message + strlen(path), expected) == 0);
}

static void
bad_cells_are_named_with_line_column_and_value(void)
{
    check_bad(HEADER "1,1,1,n,1,0\n2,warm,1,n,1,0\n",
              ": line 3, column 'x1': 'warm' is not a float32");
    check_bad(HEADER "1,1,1,\"n\n\nm\",1,99999999999999999999\n",
              ": line 4, column 'y': '99999999999999999999' does not fit an "
              "int64 label");
    check_bad(HEADER "nan,1,1,n,1,0\n",
              ": line 2, column 't': 'nan' is not an int64 timestamp");
    check_bad(HEADER "1,1,1,n,,0\n", ": line 2, column 'flag': '' is not a "
                                     "bool");
    check_bad(HEADER "1,1e39,1,n,1,0\n",
              ": line 2, column 'x1': '1e39' does not fit a float32");
    check_bad(HEADER "1,\"a\tb\x01\",1,n,1,0\n",
              ": line 2, column 'x1': 'a\\tb\\x01' is not a float32");
    check_bad(HEADER "1,"
                     "0123456789012345678901234567890123456789012345678901234"
                     "56789abc\xc3\xa9,1,n,1,0\n",
              ": line 2, column 'x1': "
              "'012345678901234567890123456789012345678901234567890123456789"
              "abc'... is not a float32");
    check_bad(HEADER "1,1,1,n,1,0\n\n1,2,3\n",
              ": line 4: 3 columns, but the header has 6");
    check_bad(HEADER "1,1,1,n,1,0,9\n",
              ": line 2: 7 columns, but the header has 6");
}

static void
bad_headers_are_answered_with_what_is_near(void)
{
    check_bad("ts,x1,x0,name,flag,y\n",
              ": the header has no column 't'; the nearest are 'ts', 'y', "
              "'x1'");
    check_bad("t,x1,x0,name,flag,y,t\n",
              ": the header has 2 columns named 't'; give the index of one");
    check_bad("t,x1,x0\n", ": the header has no column 'flag'; the nearest are "
                           "'t', 'x1', 'x0'");
    check_bad("\n\n", ": the file holds empty lines only");
}

static void
a_row_has_its_limits(void)
{
    const mdn_csv_source first = {.index = 0};
    mdn_csv_options options = {
        .separator = ',', .quote = '"', .elements = &first, .element_count = 1};
    uint64_t size = MDN_ROW_MAX + 10;
    char *content = malloc(size);
    mdn_schema *schema = NULL;
    mdn_reader *csv = NULL;
    mdn_block *block = NULL;
    mdn_progress progress;
    mdn_error err;

    if (content == NULL
        || mdn_schema_parse("x: bytes\n", 9, &schema, NULL) != MDN_OK)
        abort();
    options.file = (mdn_reader_file){
        .io = &mdn_io_system, .path = path, .schema = schema, .threads = 2};
    memset(content, 'x', size);
    memcpy(content, "a\n\n", 3);
    put(content, size);
    CHECK(mdn_csv_open(&options, &csv, &err) == MDN_OK);
    CHECK(mdn_block_new(schema, false, false, &block, NULL) == MDN_OK);
    CHECK(fill_all(csv, block, UINT64_MAX, &progress, &err) == MDN_INVALID);
    CHECK(block->count == 1);
    CHECK(strstr(err.message, "line 3: a row of more than 67108864 bytes"));
    mdn_block_free(block);
    mdn_reader_free(csv);
    memset(content, ',', size);
    put(content, 70000);
    CHECK(mdn_csv_open(&options, &csv, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "line 1: more than 65536 columns"));
    free(content);
    mdn_schema_free(schema);
}

/* A file of random rows: clean ones, quoted ones, empty lines and, here and
 * there, one that is wrong.  malloc'd. */
static char *
random_file(uint64_t seed)
{
    static const char *const rows[] = {
        "%d,0.5,1,n%d,1,0\n",
        "%d,-12.25,,\"n,%d\",0,7\r\n",
        "%d,3e2,1.234567890123456789,\"a\"\"b\n%d\",true,-7\n",
        "\n%d,nan,\"7\",x\"%d\",\"1\",+5\n",
        "%d,.5,5.,\"\n\n%d\r\n\",1,0\r\n\r\n",
        "%d,1,1,\"%d\"x,1,0\n",
        "%d,warm,1,n%d,1,0\n",
        "%d,1,1,n%d,1\n",
    };
    char *content = malloc(1 << 16), *to = content;
    int bad = (int)(mdn_draw(mdn_stream(seed, 1), 0) % 3);

    if (content == NULL)
        abort();
    to += sprintf(to, HEADER);
    for (int i = 0; i < 400; i++) {
        uint64_t draw = mdn_draw(mdn_stream(seed, 2), (uint64_t)i);
        int kind = (int)(draw % 5);

        if (bad == 0 && draw >> 32 << 54 == 0)
            kind = 5 + (int)(draw % 3);
        to += sprintf(to, rows[kind], i, i);
    }
    if (bad == 1)
        to -= 3;
    *to = '\0';
    return content;
}

/* Everything that a reader says on its way through a file. */
typedef struct {
    mdn_block *block;
    uint64_t positions[500], counts[500];
    uint32_t steps;
    mdn_error err;
} story;

static void
read_story(const char *content, mdn_csv_options options, uint64_t size_max,
           story *out)
{
    mdn_progress progress = MDN_READER_MORE;
    mdn_block *part = NULL;
    mdn_reader *csv = NULL;
    mdn_status st;

    *out = (story){.err.status = MDN_OK};
    CHECK(new_block(&out->block) == MDN_OK);
    CHECK(new_block(&part) == MDN_OK);
    (void)content;
    st = mdn_csv_open(&options, &csv, &out->err);
    while (st == MDN_OK && progress != MDN_READER_END && out->steps < 500) {
        mdn_block_clear(part);
        st = fill_all(csv, part, size_max, &progress, &out->err);
        CHECK(mdn_block_append(out->block, part, NULL) == MDN_OK);
        out->counts[out->steps] = part->count;
        out->positions[out->steps++] = mdn_reader_position(csv);
    }
    mdn_block_free(part);
    mdn_reader_free(csv);
}

static void
check_same_story(const story *a, const story *b)
{
    uint64_t count = a->block->count;

    CHECK(a->steps == b->steps && count == b->block->count);
    CHECK(memcmp(a->positions, b->positions, sizeof a->positions) == 0);
    CHECK(memcmp(a->counts, b->counts, sizeof a->counts) == 0);
    CHECK(a->err.status == b->err.status);
    if (a->err.status != MDN_OK)
        CHECK(strcmp(a->err.message, b->err.message) == 0);
    if (a->steps != b->steps || count != b->block->count)
        return;
    CHECK(memcmp(a->block->timestamps, b->block->timestamps, count * 8) == 0);
    CHECK(memcmp(a->block->labels, b->block->labels, count * 8) == 0);
    CHECK(memcmp(a->block->columns[0].values, b->block->columns[0].values,
                 count * 8)
          == 0);
    CHECK(
        memcmp(a->block->columns[1].values, b->block->columns[1].values, count)
        == 0);
    CHECK(memcmp(a->block->columns[2].offsets, b->block->columns[2].offsets,
                 (count + 1) * 8)
          == 0);
    CHECK(memcmp(a->block->columns[2].values, b->block->columns[2].values,
                 (uint64_t)a->block->columns[2].offsets[count])
          == 0);
}

static void
neither_threads_nor_pieces_show(void)
{
    static const uint64_t pieces[] = {1, 100, 4096};

    for (uint64_t seed = 0; seed < 12; seed++) {
        uint64_t size_max = seed % 2 ? 997 : UINT64_MAX;
        char *content = random_file(seed);
        mdn_csv_options options = OPTIONS;
        story plain, other;

        put(content, strlen(content));
        options.file = (mdn_reader_file){.io = &mdn_io_system,
                                         .path = path,
                                         .schema = schema_of_file,
                                         .threads = 1,
                                         .growing = seed % 4 > 1};
        read_story(content, options, size_max, &plain);
        for (uint32_t i = 0; i < 9; i++) {
            options.piece_size = pieces[i % 3];
            options.file.threads = 1 + i / 3;
            read_story(content, options, size_max, &other);
            check_same_story(&plain, &other);
            mdn_block_free(other.block);
        }
        mdn_block_free(plain.block);
        free(content);
    }
}

/* At every length of a growing file a reader goes on where the one before it
 * stopped; in the end all is read, and once. */
static void
a_growing_file_is_read_row_by_whole_row(void)
{
    const char *content = "\xef\xbb\xbf" HEADER "1,1,1,\"n\n\",1,0\r\n"
                          "2,2,2,\"m\"\"\",1,0\n\n3,3,3,o,1,0\n";
    mdn_csv_options options = OPTIONS;
    uint64_t position = 0, before = 0, size = strlen(content);
    mdn_block *all = NULL;

    CHECK(new_block(&all) == MDN_OK);
    for (uint64_t length = 0; length <= size; length++) {
        mdn_reader *csv = NULL;
        mdn_progress progress;

        put(content, length);
        options.file = (mdn_reader_file){.io = &mdn_io_system,
                                         .path = path,
                                         .schema = schema_of_file,
                                         .threads = 1,
                                         .growing = true};
        CHECK(mdn_csv_open(&options, &csv, NULL) == MDN_OK);
        CHECK(mdn_reader_seek(csv, position, NULL) == MDN_OK);
        CHECK(fill_all(csv, all, UINT64_MAX, &progress, NULL) == MDN_OK);
        CHECK(progress == MDN_READER_END);
        position = mdn_reader_position(csv);
        CHECK(position >= before && position <= length);
        CHECK(position == 0 || content[position - 1] == '\n');
        before = position;
        mdn_reader_free(csv);
    }
    CHECK(position == size && all->count == 3);
    for (int64_t i = 0; i < 3; i++)
        CHECK(all->timestamps[i] == i + 1);
    CHECK(memcmp(all->columns[2].values, "n\nm\"o", 5) == 0);
    mdn_block_free(all);
}

static void
a_reader_goes_on_at_a_row_and_nowhere_else(void)
{
    const char *content = HEADER "1,1,1,n,1,0\n2,1,1,n,1,0\n3,1,x,n,1,0\n";
    mdn_reader *csv = open_text(&mdn_io_system, content, NULL);
    mdn_progress progress;
    mdn_block *block = NULL;
    mdn_error err;

    CHECK(new_block(&block) == MDN_OK);
    CHECK(mdn_reader_position(csv) == 20);
    CHECK(fill_all(csv, block, 1, &progress, NULL) == MDN_OK);
    CHECK(block->count == 1 && mdn_reader_position(csv) == 32);
    CHECK(mdn_reader_seek(csv, 32, NULL) == MDN_OK);
    CHECK(fill_all(csv, block, UINT64_MAX, &progress, &err) == MDN_INVALID);
    CHECK(block->count == 2 && block->timestamps[1] == 2);
    CHECK(mdn_reader_position(csv) == 44);
    CHECK(strcmp(err.message + strlen(path),
                 ": line 2 after byte 32, column 'x0': 'x' is not a float32")
          == 0);
    CHECK(mdn_reader_seek(csv, 33, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "no row begins at byte 33") != NULL);
    CHECK(mdn_reader_seek(csv, 1000, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "1000 is beyond the end") != NULL);
    CHECK(mdn_reader_seek(csv, strlen(content), NULL) == MDN_OK);
    CHECK(fill_all(csv, block, UINT64_MAX, &progress, NULL) == MDN_OK);
    CHECK(block->count == 2 && progress == MDN_READER_END);
    mdn_block_free(block);
    mdn_reader_free(csv);
}

/* Whichever call fails, nothing is left open, and the error is the disk's. */
static void
a_failing_disk_is_reported(void)
{
    bool fired = true;

    for (int n = 0; fired; n++) {
        faulty disk = {.fault = FAULT_EIO, .fail_at = n};
        mdn_error err = {.status = MDN_OK};
        mdn_reader *csv =
            open_text(faulty_io(&disk), HEADER "1,1,1,n,1,0\n", &err);
        mdn_status st = err.status;
        if (csv != NULL)
            st = check_rest(csv, &err);
        if (csv != NULL && st == MDN_OK)
            st = mdn_reader_seek(csv, 0, &err);
        mdn_reader_free(csv);
        CHECK(disk.open_files == 0);
        CHECK((st == MDN_OK) == !disk.fired);
        CHECK(st == MDN_OK || (st == MDN_IO && err.sys_errno == EIO));
        fired = disk.fired;
    }
}

static void
a_file_that_shrinks_is_damage(void)
{
    mdn_reader *csv;
    mdn_error err;

    csv = open_text(&mdn_io_system, HEADER "1,1,1,n,1,0\n", NULL);
    CHECK(check_rest(csv, NULL) == MDN_OK);
    put("t", 1);
    CHECK(mdn_reader_seek(csv, 0, &err) == MDN_CORRUPT);
    CHECK(strstr(err.message, "ends at 1") != NULL);
    mdn_reader_free(csv);
}

static void
options_that_cannot_work_are_refused(void)
{
    mdn_csv_options options = OPTIONS;
    mdn_schema *complex = NULL;
    mdn_reader *csv;
    mdn_error err;

    put(HEADER, strlen(HEADER));
    mdn_schema_parse("z: complex64\n", 13, &complex, NULL);
    options.file = (mdn_reader_file){.io = &mdn_io_system,
                                     .path = path,
                                     .schema = schema_of_file,
                                     .threads = 1};
    options.separator = '"';
    CHECK(mdn_csv_open(&options, &csv, &err) == MDN_INVALID);
    options.separator = '\n';
    CHECK(mdn_csv_open(&options, &csv, &err) == MDN_INVALID);
    options.separator = ',';
    options.element_count = 3;
    CHECK(mdn_csv_open(&options, &csv, &err) == MDN_INVALID);
    CHECK(strcmp(err.message, "the fields have 4 elements, but 3 columns are "
                              "given for them")
          == 0);
    options.element_count = 1;
    options.file.schema = complex;
    CHECK(mdn_csv_open(&options, &csv, &err) == MDN_INVALID);
    options.element_count = 4;
    options.file.schema = schema_of_file;
    options.header = false;
    CHECK(mdn_csv_open(&options, &csv, &err) == MDN_INVALID);
    CHECK(strstr(err.message, "is said to have no header") != NULL);
    CHECK(csv == NULL);
    mdn_schema_free(complex);
}

int
main(void)
{
    int fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    if (mdn_schema_parse(SCHEMA, strlen(SCHEMA), &schema_of_file, NULL)
        != MDN_OK)
        return 1;
    RUN(integers_fill_their_type_and_no_more);
    RUN(what_is_no_number_is_refused);
    RUN(floats_are_rounded_once);
    RUN(long_decimals_are_rounded_as_strtod_does);
    RUN(rows_are_cut_into_cells);
    RUN(wrong_files_are_named_with_line_and_column);
    RUN(rows_may_straddle_pieces);
    RUN(a_row_may_be_much_longer_than_a_piece);
    RUN(a_row_has_its_limits);
    RUN(columns_go_where_their_names_say);
    RUN(blocks_end_at_their_budget_and_go_on);
    RUN(bad_cells_are_named_with_line_column_and_value);
    RUN(bad_headers_are_answered_with_what_is_near);
    RUN(neither_threads_nor_pieces_show);
    RUN(a_growing_file_is_read_row_by_whole_row);
    RUN(a_reader_goes_on_at_a_row_and_nowhere_else);
    RUN(a_failing_disk_is_reported);
    RUN(a_file_that_shrinks_is_damage);
    RUN(options_that_cannot_work_are_refused);
    mdn_schema_free(schema_of_file);
    unlink(path);
    return check_report("test_csv");
}
