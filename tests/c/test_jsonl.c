/* test_jsonl.c - JSON lines, where memory and disks matter.
 *
 * What lines mean is held against Python's json module in
 * tests/python/test_jsonl.py. */
#include "base/random.h"
#include "check.h"
#include "faulty_io.h"
#include "ingest/base64.h"
#include "ingest/json.h"
#include "ingest/jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/mdn-test-jsonl-XXXXXX";
static mdn_schema *schema;

static const char SCHEMA[] = "x: float32[2,2]\nflag: bool\nname: bytes\n";
static const mdn_jsonl_source SOURCES[] = {
    {.key = "x"}, {.key = "o.flag"}, {.key = "o.name", .base64 = true}};
#define LINE(i, name)                                                          \
    "{\"y\":" #i ",\"x\":[[1,-0.5],[null,1e2]],\"o\":{\"flag\":true,\"name\":" \
    "\"" name "\"},\"t\":" #i "}\n"

static void
put(const char *content, uint64_t size)
{
    mdn_file file;

    CHECK(mdn_file_open(&mdn_io_system, path, O_WRONLY | O_CREAT | O_TRUNC,
                        &file, NULL)
          == MDN_OK);
    CHECK(mdn_file_write(&file, content, size, 0, NULL) == MDN_OK);
    mdn_file_close(&file);
}

static mdn_status
open_text(const mdn_io *io, const char *content, uint64_t piece_size,
          uint32_t threads, mdn_reader **out, mdn_error *err)
{
    const mdn_jsonl_options options = {
        .file = {.io = io, .path = path, .schema = schema, .threads = threads},
        .fields = SOURCES,
        .label = "y",
        .timestamp = "t",
        .piece_size = piece_size};

    put(content, strlen(content));
    return mdn_jsonl_open(&options, out, err);
}

static mdn_status
fill_all(mdn_reader *reader, mdn_block *block, mdn_error *err)
{
    mdn_progress progress;
    mdn_status st;

    do
        st = mdn_reader_fill(reader, block, UINT64_MAX, &progress, err);
    while (st == MDN_OK && progress != MDN_READER_END);
    return st;
}

static void
values_go_where_their_keys_say(void)
{
    mdn_reader *reader = NULL;
    mdn_block *block = NULL;
    const float *x;

    CHECK(open_text(&mdn_io_system, LINE(5, "QUJD") " \r\n" LINE(-6, ""), 0, 1,
                    &reader, NULL)
          == MDN_OK);
    CHECK(mdn_block_new(schema, true, true, &block, NULL) == MDN_OK);
    CHECK(fill_all(reader, block, NULL) == MDN_OK && block->count == 2);
    mdn_reader_free(reader);
    x = block->columns[0].values;
    CHECK(x[0] == 1.0f && x[1] == -0.5f && isnan(x[2]) && x[7] == 100.0f);
    CHECK(memcmp(block->columns[1].values, "\1\1", 2) == 0);
    CHECK(memcmp(block->columns[2].values, "ABC", 3) == 0);
    CHECK(block->columns[2].offsets[1] == 3);
    CHECK(block->columns[2].offsets[2] == 3);
    CHECK(block->labels[0] == 5 && block->timestamps[1] == -6);
    mdn_block_free(block);
}

/* Whatever the pieces and threads, the same samples before the same error. */
static void
neither_threads_nor_pieces_show(void)
{
    static const char content[] =
        LINE(1, "QUJD") LINE(2, "QQ==") "\n" LINE(3, "") LINE(4, "QUI=")
            LINE(5, "Q") LINE(6, "") LINE(7, "?");

    for (uint64_t piece_size = 0; piece_size < 90; piece_size += 3) {
        for (uint32_t threads = 1; threads < 4; threads++) {
            mdn_reader *reader = NULL;
            mdn_block *block = NULL;
            mdn_error err;

            CHECK(open_text(&mdn_io_system, content, piece_size, threads,
                            &reader, NULL)
                  == MDN_OK);
            CHECK(mdn_block_new(schema, true, true, &block, NULL) == MDN_OK);
            CHECK(fill_all(reader, block, &err) == MDN_INVALID);
            CHECK(block->count == 4 && block->labels[3] == 4);
            CHECK(memcmp(block->columns[2].values, "ABCAAB", 6) == 0);
            CHECK(strcmp(err.message + strlen(path),
                         ": line 6, key 'o.name': '\"Q\"' is not base64")
                  == 0);
            mdn_block_free(block);
            mdn_reader_free(reader);
        }
    }
}

/* Whichever call fails, nothing is left open, and the error is the disk's. */
static void
a_failing_disk_is_reported(void)
{
    bool fired = true;

    for (int n = 0; fired; n++) {
        faulty disk = {.fault = FAULT_EIO, .fail_at = n};
        mdn_reader *reader = NULL;
        mdn_block *block = NULL;
        mdn_error err = {.status = MDN_OK};
        mdn_status st =
            open_text(faulty_io(&disk), LINE(1, ""), 0, 2, &reader, &err);

        CHECK(mdn_block_new(schema, true, true, &block, NULL) == MDN_OK);
        if (st == MDN_OK)
            st = fill_all(reader, block, &err);
        mdn_block_free(block);
        mdn_reader_free(reader);
        CHECK(disk.open_files == 0);
        CHECK((st == MDN_OK) == !disk.fired);
        CHECK(st == MDN_OK || (st == MDN_IO && err.sys_errno == EIO));
        fired = disk.fired;
    }
}

/* JSON ------------------------------------------------------------------ */

static bool
skips(const char *text)
{
    char line[200 + MDN_JSON_SLACK] = "";
    mdn_json json = {.at = line, .end = line + strlen(text)};
    mdn_json_text value;

    strcpy(line, text);
    line[strlen(text)] = '\n';
    return mdn_json_skip(&json, &value) && mdn_json_peek(&json) == '\n'
           && json.at == json.end && json.depth == 0;
}

static void
only_json_is_skipped(void)
{
    static const char *const right[] = {
        "0",  "-0.5e+7", "\"\"", "[]",
        "{}", "[[],{}]", "null", " { \"a\" : [ 1 , true ] , \"\" : false } "};
    static const char *const wrong[] = {"",
                                        "-",
                                        "+1",
                                        ".5",
                                        "1.",
                                        "1e",
                                        "00",
                                        "[1,]",
                                        "[,1]",
                                        "{,}",
                                        "{1:2}",
                                        "{\"a\"}",
                                        "{\"a\":}",
                                        "tru",
                                        "nulls",
                                        "\"",
                                        "\"\\",
                                        "\"\\u12\"",
                                        "\"\t\"",
                                        "[1 2]",
                                        "{\"a\":1,}",
                                        "[}",
                                        "]",
                                        "\"\\ud800\\u0020\"",
                                        "\"\\udc00\"",
                                        "\"\xc0\x80\"",
                                        "\"\xed\xa0\x80\"",
                                        "\"\xf5\""};

    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        CHECK(skips(right[i]));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK(!skips(wrong[i]));
}

static void
escapes_are_what_they_stand_for(void)
{
    char line[] = "\"a\\n\\u00e9\\ud83d\\ude00\\u0000\\/\"\n               ";
    mdn_json json = {.at = line, .end = strchr(line, '\n')};
    mdn_json_text text;
    char out[64];

    CHECK(mdn_json_string(&json, &text) && text.escaped);
    CHECK(json.at == json.end);
    CHECK(mdn_json_unescape(&text, out) == 10);
    CHECK(memcmp(out, "a\n\xc3\xa9\xf0\x9f\x98\x80\0/", 10) == 0);
}

static void
base64_is_decoded_in_place_and_strictly(void)
{
    static const char *const wrong[] = {"A",    "AA",   "AAA",  "A===",
                                        "====", "AA=A", "AA A", "AAA=AAAA",
                                        "A-_A", "=AAA"};
    char text[] = "AAECA/7/";
    uint8_t out[16];
    uint64_t size = 0;

    CHECK(mdn_base64_decode(text, 8, (uint8_t *)text, &size) && size == 6);
    CHECK(memcmp(text, "\0\1\2\3\xfe\xff", 6) == 0);
    CHECK(mdn_base64_decode("", 0, out, &size) && size == 0);
    CHECK(mdn_base64_decode("/w==", 4, out, &size) && size == 1
          && out[0] == 255);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK(!mdn_base64_decode(wrong[i], strlen(wrong[i]), out, &size));
}

int
main(void)
{
    int fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    if (mdn_schema_parse(SCHEMA, strlen(SCHEMA), &schema, NULL) != MDN_OK)
        return 1;
    RUN(values_go_where_their_keys_say);
    RUN(neither_threads_nor_pieces_show);
    RUN(a_failing_disk_is_reported);
    RUN(only_json_is_skipped);
    RUN(escapes_are_what_they_stand_for);
    RUN(base64_is_decoded_in_place_and_strictly);
    mdn_schema_free(schema);
    unlink(path);
    return check_report("test_jsonl");
}
