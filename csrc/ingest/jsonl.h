/* jsonl.h - samples from files of JSON lines: one object on each.
 *
 * Each field, the label and the timestamp have a key: a name in the object or,
 * with dots, in objects within it ("user.age").  Keys that nobody asked for are
 * skipped (and checked, as JSON); one that is missing, or is there twice, is an
 * error.
 *
 *   bytes            a string: its UTF-8, or what it means as base64
 *   numbers, label,  a number that the type holds; null is NaN for a float
 *   timestamp
 *   bool             true, false
 *   float32[2,3]     an array of 2 arrays of 3 numbers
 *
 * Lines of blanks are skipped.  Errors are MDN_INVALID and name file, line, key
 * and value:
 *     a.jsonl: line 7, key 'user.age': '"x"' is not an int64 */
#ifndef MDN_INGEST_JSONL_H
#define MDN_INGEST_JSONL_H

#include "ingest/reader.h"

#define MDN_JSONL_NESTED_MAX 16 /* names in one key */

typedef struct {
    const char *key; /* borrowed until mdn_jsonl_open returns */
    bool base64;     /* a field of type bytes only */
} mdn_jsonl_source;

typedef struct {
    mdn_reader_file file;
    const mdn_jsonl_source *fields; /* one per field of the schema */
    const char *label;              /* a key; NULL: there is none */
    const char *timestamp;          /* a key; NULL: there is none */
    uint64_t piece_size;            /* to read at a time; 0: what is best */
} mdn_jsonl_options;

/* MDN_INVALID: the options contradict each other or the schema; the file is
 * empty and not growing, or plainly no text. */
mdn_status mdn_jsonl_open(const mdn_jsonl_options *options, mdn_reader **out,
                          mdn_error *err);

#endif
