/* json.h - the values of one line of JSON (RFC 8259), read from left to right.
 *
 * A line is a text without line feeds, behind which a line feed stands: that
 * ends every scan.  The caller looks at what comes next and takes or skips it;
 * what is skipped is checked as strictly as what is taken: UTF-8, escapes
 * (surrogates come in pairs), the form of numbers, and at most MDN_JSON_DEPTH
 * values within each other.  Nothing recurses. */
#ifndef MDN_INGEST_JSON_H
#define MDN_INGEST_JSON_H

#include <stdbool.h>
#include <stdint.h>

#define MDN_JSON_DEPTH 256
#define MDN_JSON_SLACK 16 /* bytes behind a line that may be read */

typedef struct {
    const char *at;    /* what is read next */
    const char *end;   /* of the line */
    const char *wrong; /* NULL, or why what stands at `at` is no JSON */
    uint32_t depth;    /* objects and arrays that are open */
} mdn_json;

typedef struct {
    const char *text; /* as it stands in the line; strings without quotes */
    uint64_t size;
    bool escaped; /* a string with escapes: see mdn_json_unescape */
} mdn_json_text;

/* Step over blanks; the byte there, a line feed at the end of the line. */
char mdn_json_peek(mdn_json *json);

/* Each reads what it is named after, which has to come next, and steps behind
 * it; false, and json->wrong and json->at, if it is malformed. */
bool mdn_json_string(mdn_json *json, mdn_json_text *out);
bool mdn_json_number(mdn_json *json, mdn_json_text *out);
bool mdn_json_word(mdn_json *json, const char *word);
/* Any value, with all that is in it. */
bool mdn_json_skip(mdn_json *json, mdn_json_text *out);

/* "{" or "[": *empty if nothing is in it, and then it is closed, too. */
bool mdn_json_open(mdn_json *json, bool *empty);
/* Behind a value in an object or array that ends with `close`: "," or its end.
 * *more: a value (or a key) follows. */
bool mdn_json_next(mdn_json *json, char close, bool *more);
/* A key, and the colon behind it. */
bool mdn_json_key(mdn_json *json, mdn_json_text *out);

bool mdn_json_fail(mdn_json *json, const char *wrong); /* false */

/* A string as UTF-8, into room for text->size bytes; returns how many. */
uint64_t mdn_json_unescape(const mdn_json_text *text, char *out);

#endif
