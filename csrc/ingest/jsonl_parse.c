/* jsonl_parse.c - one walk over each line.
 *
 * The walk goes down into objects that the plan knows, takes the values that
 * it has targets for, and skips all else.  A node is marked with the number of
 * the sample in which it was last seen: seen twice in one, a key is there
 * twice; when fewer were seen than there are, one is missing. */
#include "ingest/jsonl_parse.h"

#include "ingest/base64.h"
#include "ingest/json.h"
#include "ingest/number.h"
#include "ingest/number_fast.h"
#include "ingest/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(MDN_PIECE_SLACK >= MDN_DECIMAL_SLACK + MDN_JSON_SLACK,
               "scans read ahead");

typedef struct {
    const mdn_jsonl_plan *plan;
    mdn_text_job *job;
    mdn_json json;
    const char *line;    /* the first byte of it */
    uint64_t *seen;      /* owned; one per node: sample number + 1 */
    uint32_t seen_count; /* values, in this sample */
    char *key;           /* owned: an unescaped key */
    uint64_t key_capacity;
} walk;

/* Errors ---------------------------------------------------------------- */

static mdn_status
fail_syntax(const walk *w, mdn_error *err)
{
    char place[MDN_TEXT_PLACE];

    return mdn_fail(err, MDN_INVALID, "%s, byte %llu: %s",
                    mdn_text_place(w->job, w->job->line, place),
                    (unsigned long long)(w->json.at - w->line) + 1,
                    w->json.wrong);
}

static mdn_status
fail_node(const walk *w, const mdn_jsonl_node *node, const char *what,
          mdn_error *err)
{
    char place[MDN_TEXT_PLACE], path[MDN_SHOWN];

    return mdn_fail(err, MDN_INVALID, "%s: key %s %s",
                    mdn_text_place(w->job, w->job->line, place),
                    mdn_show(node->path, node->path_size, path), what);
}

/* The value that begins at `at` is not what it has to be. */
static mdn_status
fail_value(walk *w, const mdn_jsonl_node *node, const char *at,
           const char *what, const char *type, mdn_error *err)
{
    char place[MDN_TEXT_PLACE], path[MDN_SHOWN], value[MDN_SHOWN];
    mdn_json_text text;

    w->json.at = at;
    w->json.depth = 0; /* whatever was open when it went wrong */
    if (!mdn_json_skip(&w->json, &text))
        return fail_syntax(w, err);
    return mdn_fail(err, MDN_INVALID, "%s, key %s: %s %s %s",
                    mdn_text_place(w->job, w->job->line, place),
                    mdn_show(node->path, node->path_size, path),
                    mdn_show(text.text, text.size, value), what, type);
}

static mdn_status
fail_number(walk *w, const mdn_jsonl_node *node, const mdn_jsonl_target *t,
            const char *at, mdn_number_result result, mdn_error *err)
{
    char type[64];
    const char *name = mdn_dtype_name(t->field.dtype);
    const char *role = t->role == MDN_JSONL_TO_LABEL       ? " label"
                       : t->role == MDN_JSONL_TO_TIMESTAMP ? " timestamp"
                                                           : "";

    snprintf(type, sizeof type, "%s %s%s", name[0] == 'i' ? "an" : "a", name,
             role);
    return fail_value(w, node, at,
                      result == MDN_NUMBER_RANGE ? "does not fit" : "is not",
                      type, err);
}

/* Values ---------------------------------------------------------------- */

static mdn_number_result
take_number(walk *w, mdn_dtype dtype, char *out)
{
    mdn_json_text text;
    bool is_float =
        dtype == MDN_FLOAT16 || dtype == MDN_FLOAT32 || dtype == MDN_FLOAT64;
    char c = mdn_json_peek(&w->json);

    if (c == 'n' && is_float)
        return mdn_json_word(&w->json, "null")
                   ? mdn_number_parse(dtype, "nan", 3, out)
                   : MDN_NUMBER_MALFORMED;
    if (dtype == MDN_BOOL && (c == 't' || c == 'f')) {
        *out = c == 't';
        return mdn_json_word(&w->json, c == 't' ? "true" : "false")
                   ? MDN_NUMBER_OK
                   : MDN_NUMBER_MALFORMED;
    }
    if (dtype == MDN_BOOL || (c != '-' && (c < '0' || c > '9'))
        || !mdn_json_number(&w->json, &text))
        return MDN_NUMBER_MALFORMED;
    if (mdn_number_fast(dtype, text.text, text.size, out))
        return MDN_NUMBER_OK;
    return mdn_number_parse(dtype, text.text, text.size, out);
}

static mdn_status
put_scalar(walk *w, const mdn_jsonl_node *node, const mdn_jsonl_target *t,
           char *out, mdn_error *err)
{
    const char *at = w->json.at;
    mdn_number_result result = take_number(w, t->field.dtype, out);

    if (result == MDN_NUMBER_OK)
        return MDN_OK;
    return fail_number(w, node, t, at, result, err);
}

/* An array with another shape than the field; `at` is its outermost one. */
static mdn_status
fail_shape(walk *w, const mdn_jsonl_node *node, const mdn_jsonl_target *t,
           const char *at, mdn_error *err)
{
    const mdn_field *field = &t->field;
    char type[128];
    int used = snprintf(type, sizeof type, "%s[", mdn_dtype_name(field->dtype));

    for (uint32_t d = 0; d < field->ndim && used < 100; d++)
        used += snprintf(type + used, sizeof type - (size_t)used, "%s%llu",
                         d ? "," : "", (unsigned long long)field->shape[d]);
    snprintf(type + used, sizeof type - (size_t)used, "]");
    return fail_value(w, node, at, "has not the shape of", type, err);
}

/* Arrays within arrays, down to dimension ndim; values go to *out one after
 * the other.  Recurses as deep as the field has dimensions. */
static mdn_status
put_array(walk *w, const mdn_jsonl_node *node, const mdn_jsonl_target *t,
          uint32_t d, const char *outermost, char **out, mdn_error *err)
{
    const mdn_field *field = &t->field;
    uint64_t count = 0;
    bool empty = false, more = true;
    mdn_status st;

    if (d == field->ndim) {
        st = put_scalar(w, node, t, *out, err);
        *out += mdn_dtype_size(field->dtype);
        return st;
    }
    if (mdn_json_peek(&w->json) != '[')
        return fail_shape(w, node, t, outermost, err);
    if (!mdn_json_open(&w->json, &empty))
        return fail_syntax(w, err);
    for (more = !empty; more; count++) {
        if (count == field->shape[d])
            return fail_shape(w, node, t, outermost, err);
        st = put_array(w, node, t, d + 1, outermost, out, err);
        if (st != MDN_OK)
            return st;
        if (!mdn_json_next(&w->json, ']', &more))
            return fail_syntax(w, err);
    }
    return count == field->shape[d] ? MDN_OK
                                    : fail_shape(w, node, t, outermost, err);
}

static mdn_status
put_string(walk *w, const mdn_jsonl_node *node, const mdn_jsonl_target *t,
           mdn_error *err)
{
    mdn_block *block = w->job->block;
    const char *at = w->json.at;
    mdn_json_text text;
    uint8_t *room = NULL;
    uint64_t size;
    mdn_status st;

    if (*at != '"')
        return fail_value(w, node, at, "is not", "a string", err);
    if (!mdn_json_string(&w->json, &text))
        return fail_syntax(w, err);
    if ((st = mdn_block_payload_room(block, t->index, text.size, &room, err))
        != MDN_OK)
        return st;
    size = text.size;
    if (text.escaped)
        size = mdn_json_unescape(&text, (char *)room);
    else if (!t->base64 && size > 0)
        memcpy(room, text.text, size);
    /* In place: what is decoded never overtakes what is read. */
    if (t->base64
        && !mdn_base64_decode(text.escaped ? (const char *)room : text.text,
                              size, room, &size))
        return fail_value(w, node, at, "is not", "base64", err);
    mdn_block_payload_end(block, t->index, size);
    return MDN_OK;
}

static mdn_status
put_value(walk *w, const mdn_jsonl_node *node, const mdn_jsonl_target *t,
          mdn_error *err)
{
    mdn_block *block = w->job->block;
    char *out = NULL;

    mdn_json_peek(&w->json);
    if (t->field.dtype == MDN_BYTES)
        return put_string(w, node, t, err);
    switch (t->role) { /* no default: -Wswitch rejects a missing case */
    case MDN_JSONL_TO_LABEL: out = (char *)block->labels; break;
    case MDN_JSONL_TO_TIMESTAMP: out = (char *)block->timestamps; break;
    case MDN_JSONL_TO_FIELD: out = (char *)block->columns[t->index].values;
    }
    out += block->count * t->field.size_bytes;
    return put_array(w, node, t, 0, w->json.at, &out, err);
}

/* Objects --------------------------------------------------------------- */

/* The key as UTF-8, if need be in memory of the walk. */
static mdn_status
plain_key(walk *w, mdn_json_text *key, mdn_error *err)
{
    if (!key->escaped)
        return MDN_OK;
    if (key->size > w->key_capacity) {
        free(w->key);
        w->key_capacity = 0;
        if ((w->key = malloc(key->size)) == NULL)
            return mdn_fail_nomem(err, key->size);
        w->key_capacity = key->size;
    }
    key->size = mdn_json_unescape(key, w->key);
    key->text = w->key;
    return MDN_OK;
}

/* The child of this name, or MDN_JSONL_NONE.  The search begins at `hint`. */
static uint32_t
find_child(const mdn_jsonl_plan *plan, uint32_t parent, uint32_t hint,
           const mdn_json_text *key)
{
    uint32_t first = plan->nodes[parent].child;

    for (uint32_t from = hint; from != MDN_JSONL_NONE;
         from = from == hint && hint != first ? first : MDN_JSONL_NONE) {
        for (uint32_t i = from; i != MDN_JSONL_NONE;
             i = plan->nodes[i].sibling) {
            const mdn_jsonl_node *node = &plan->nodes[i];

            if (node->name_size == key->size
                && memcmp(node->name, key->text, key->size) == 0)
                return i;
        }
    }
    return MDN_JSONL_NONE;
}

static mdn_status walk_object(walk *w, uint32_t parent, mdn_error *err);

/* What stands behind the key of this node. */
static mdn_status
take_node(walk *w, uint32_t i, mdn_error *err)
{
    const mdn_jsonl_node *node = &w->plan->nodes[i];
    const char *at = w->json.at;
    uint64_t sample = w->job->block->count + 1;
    mdn_status st = MDN_OK;

    if (w->seen[i] == sample)
        return fail_node(w, node, "is there twice", err);
    w->seen[i] = sample;
    if (node->child != MDN_JSONL_NONE) {
        if (mdn_json_peek(&w->json) != '{')
            return fail_value(w, node, at, "is not", "an object", err);
        return walk_object(w, i, err);
    }
    w->seen_count++;
    for (uint32_t t = node->target; st == MDN_OK && t != MDN_JSONL_NONE;
         t = w->plan->targets[t].next) {
        w->json.at = at;
        st = put_value(w, node, &w->plan->targets[t], err);
    }
    return st;
}

/* Recurses as deep as the plan goes. */
static mdn_status
walk_object(walk *w, uint32_t parent, mdn_error *err)
{
    uint32_t hint = w->plan->nodes[parent].child;
    bool empty, more;
    mdn_status st;

    if (!mdn_json_open(&w->json, &empty))
        return fail_syntax(w, err);
    for (more = !empty; more;) {
        mdn_json_text key, value;
        uint32_t i;

        if (!mdn_json_key(&w->json, &key))
            return fail_syntax(w, err);
        if ((st = plain_key(w, &key, err)) != MDN_OK)
            return st;
        i = find_child(w->plan, parent, hint, &key);
        if (i == MDN_JSONL_NONE) {
            if (!mdn_json_skip(&w->json, &value))
                return fail_syntax(w, err);
        } else {
            if ((st = take_node(w, i, err)) != MDN_OK)
                return st;
            hint = w->plan->nodes[i].sibling;
            if (hint == MDN_JSONL_NONE)
                hint = w->plan->nodes[parent].child;
        }
        if (!mdn_json_next(&w->json, '}', &more))
            return fail_syntax(w, err);
    }
    return MDN_OK;
}

static mdn_status
fail_missing(const walk *w, mdn_error *err)
{
    uint64_t sample = w->job->block->count + 1;
    uint32_t i = 0;

    while (w->plan->nodes[i].target == MDN_JSONL_NONE || w->seen[i] == sample)
        i++;
    return fail_node(w, &w->plan->nodes[i], "is missing", err);
}

/* The line from w->json.at, which is no blank, to w->json.end. */
static mdn_status
parse_line(walk *w, mdn_error *err)
{
    char place[MDN_TEXT_PLACE], shown[MDN_SHOWN];
    mdn_status st;

    w->json.depth = 0;
    w->seen_count = 0;
    if (*w->json.at != '{')
        return mdn_fail(
            err, MDN_INVALID, "%s: not a JSON object: %s",
            mdn_text_place(w->job, w->job->line, place),
            mdn_show(w->json.at, (uint64_t)(w->json.end - w->json.at), shown));
    if ((st = walk_object(w, 0, err)) != MDN_OK)
        return st;
    mdn_json_peek(&w->json);
    if (w->json.at != w->json.end) {
        w->json.wrong = "something stands behind the object";
        return fail_syntax(w, err);
    }
    return w->seen_count == w->plan->value_count ? MDN_OK
                                                 : fail_missing(w, err);
}

mdn_status
mdn_jsonl_parse(const void *self, mdn_text_job *job, mdn_error *err)
{
    walk w = {.plan = self, .job = job};
    const char *next;
    mdn_status st = MDN_OK;

    w.seen = calloc(w.plan->node_count, sizeof *w.seen);
    if (w.seen == NULL)
        return mdn_fail_nomem(err, w.plan->node_count * sizeof *w.seen);
    for (w.line = job->text; w.line < job->end; w.line = next) {
        uint64_t size_before = job->block->size_bytes;

        w.json.at = w.line;
        w.json.end = memchr(w.line, '\n', (size_t)(job->end - w.line) + 1);
        next = w.json.end < job->end ? w.json.end + 1 : job->end;
        mdn_json_peek(&w.json);
        if (w.json.at < w.json.end) {
            if ((st = mdn_text_reserve(job, err)) == MDN_OK)
                st = parse_line(&w, err);
            if (st != MDN_OK) {
                job->block->size_bytes = size_before;
                break;
            }
            mdn_text_end_sample(job, next);
        }
        job->line++;
    }
    free(w.seen);
    free(w.key);
    return st;
}
