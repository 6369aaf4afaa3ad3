/* test_csv.c - numbers, rows and typed blocks from CSV files.
 *
 * What whole files give is held against Python in tests/python/test_csv.py;
 * here are the places where memory and disks matter. */
#include "check.h"
#include "faulty_io.h"
#include "ingest/csv.h"
#include "ingest/csv_rows.h"
#include "ingest/number.h"

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

/* Rows ------------------------------------------------------------------ */

/* All cells of the file: rows end in |, cells in ;  NULL after an error. */
static char *
cells_of(const mdn_io *io, const char *content, uint64_t size, mdn_error *err)
{
    char *text = malloc(2 * size + 64), *to = text;
    mdn_csv_rows *rows = NULL;
    mdn_csv_row row = {.cell_count = 1};
    mdn_status st;

    if (text == NULL)
        abort();
    put(content, size);
    st = mdn_csv_rows_open(io, path, ',', '"', &rows, err);
    while (st == MDN_OK && row.cell_count > 0) {
        st = mdn_csv_rows_next(rows, &row, err);
        for (uint32_t c = 0; st == MDN_OK && c < row.cell_count; c++) {
            to += mdn_csv_cell_copy(&row.cells[c], to);
            *to++ = ';';
        }
        *to++ = '|';
    }
    mdn_csv_rows_free(rows);
    if (st == MDN_OK) {
        to[-1] = '\0'; /* instead of the | of the end */
        return text;
    }
    free(text);
    return NULL;
}

static void
check_cells(const char *content, const char *expected)
{
    char *got = cells_of(&mdn_io_system, content, strlen(content), NULL);

    CHECK(got != NULL && strcmp(got, expected) == 0);
    free(got);
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
    mdn_error err = {.status = MDN_OK};
    char *got = cells_of(&mdn_io_system, content, strlen(content), &err);

    CHECK(got == NULL && err.status == MDN_INVALID);
    CHECK(strncmp(err.message, path, strlen(path)) == 0);
    CHECK(strcmp(err.message + strlen(path), expected) == 0);
    free(got);
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

/* Rows of every length around the buffer's size come out whole, whichever
 * byte of them the buffer ends at. */
static void
rows_may_straddle_chunks(void)
{
    enum { CHUNK = 256 << 10 };
    const char tail[] = "\"q\"\"\r\n,\",xy\r\nlast";
    char *content = malloc(CHUNK + 100);

    if (content == NULL)
        abort();
    for (int cut = 1; cut <= 20; cut++) {
        uint64_t size = (uint64_t)(CHUNK - cut);
        char *got;
        memset(content, 'p', size);
        for (uint64_t i = 99; i < size; i += 100)
            content[i] = '\n';
        content[size - 1] = '\n';
        memcpy(content + size, tail, sizeof tail - 1);
        got = cells_of(&mdn_io_system, content, size + sizeof tail - 1, NULL);
        CHECK(got != NULL);
        if (got != NULL)
            CHECK(strcmp(got + strlen(got) - 17, "|q\"\r\n,;xy;|last;|") == 0);
        free(got);
    }
    free(content);
}

static void
a_row_may_be_much_longer_than_a_chunk(void)
{
    enum { SIZE = 3 << 20 };
    char *content = malloc(SIZE), *got;

    if (content == NULL)
        abort();
    memset(content, '\n', SIZE);
    content[0] = content[SIZE - 1] = '"';
    got = cells_of(&mdn_io_system, content, SIZE, NULL);
    CHECK(got != NULL && strlen(got) == SIZE);
    free(got);
    content[SIZE - 1] = 'x';
    CHECK(cells_of(&mdn_io_system, content, SIZE, NULL) == NULL);
    free(content);
}

static void
a_row_has_its_limits(void)
{
    uint64_t size = MDN_CSV_ROW_MAX + 10;
    char *content = malloc(size);
    mdn_error err;

    if (content == NULL)
        abort();
    memset(content, 'x', size);
    content[0] = '\n';
    CHECK(cells_of(&mdn_io_system, content, size, &err) == NULL);
    CHECK(err.status == MDN_INVALID);
    CHECK(strstr(err.message, "line 2: a row of more than 67108864 bytes"));
    memset(content, ',', size);
    CHECK(cells_of(&mdn_io_system, content, 70000, &err) == NULL);
    CHECK(strstr(err.message, "line 1: more than 65536 columns"));
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
    CHECK(mdn_reader_seek(csv, 0, &err) == MDN_OK);
    CHECK(check_rest(csv, &err) == MDN_CORRUPT);
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
    RUN(rows_are_cut_into_cells);
    RUN(wrong_files_are_named_with_line_and_column);
    RUN(rows_may_straddle_chunks);
    RUN(a_row_may_be_much_longer_than_a_chunk);
    RUN(a_row_has_its_limits);
    RUN(columns_go_where_their_names_say);
    RUN(blocks_end_at_their_budget_and_go_on);
    RUN(bad_cells_are_named_with_line_column_and_value);
    RUN(bad_headers_are_answered_with_what_is_near);
    RUN(a_failing_disk_is_reported);
    RUN(a_file_that_shrinks_is_damage);
    RUN(options_that_cannot_work_are_refused);
    mdn_schema_free(schema_of_file);
    unlink(path);
    return check_report("test_csv");
}
