/* jsonl.c - a reader of JSON lines. */
#include "ingest/jsonl.h"

#include "ingest/jsonl_parse.h"
#include "ingest/text.h"

#include <stdlib.h>

typedef struct {
    mdn_reader reader;   /* first */
    mdn_text *text;      /* owned */
    mdn_jsonl_plan plan; /* owned */
} mdn_jsonl;

static mdn_status
jsonl_fill(mdn_reader *reader, mdn_block *block, uint64_t size_max,
           mdn_progress *out, mdn_error *err)
{
    return mdn_text_fill(((mdn_jsonl *)reader)->text, block, size_max, out,
                         err);
}

static uint64_t
jsonl_position(const mdn_reader *reader)
{
    return mdn_text_position(((const mdn_jsonl *)reader)->text);
}

static mdn_status
jsonl_seek(mdn_reader *reader, uint64_t position, mdn_error *err)
{
    return mdn_text_seek(((mdn_jsonl *)reader)->text, position, err);
}

static void
jsonl_free(mdn_reader *reader)
{
    mdn_jsonl *jsonl = (mdn_jsonl *)reader;

    mdn_text_free(jsonl->text); /* first: its threads read the plan */
    mdn_jsonl_plan_clear(&jsonl->plan);
    free(jsonl);
}

mdn_status
mdn_jsonl_open(const mdn_jsonl_options *options, mdn_reader **out,
               mdn_error *err)
{
    mdn_jsonl *jsonl = calloc(1, sizeof *jsonl);
    mdn_status st;

    *out = NULL;
    if (jsonl == NULL)
        return mdn_fail_nomem(err, sizeof *jsonl);
    jsonl->reader = (mdn_reader){.fill = jsonl_fill,
                                 .position = jsonl_position,
                                 .seek = jsonl_seek,
                                 .free = jsonl_free,
                                 .labels = options->label != NULL,
                                 .timestamps = options->timestamp != NULL};
    st = mdn_jsonl_plan_make(options, &jsonl->plan, err);
    if (st == MDN_OK)
        st = mdn_text_open(&options->file, options->piece_size, '\n', -1,
                           &jsonl->text, err);
    if (st == MDN_OK)
        st =
            mdn_text_begin(jsonl->text, 0, 1, mdn_jsonl_parse, &jsonl->plan,
                           jsonl->reader.labels, jsonl->reader.timestamps, err);
    if (st != MDN_OK) {
        jsonl_free(&jsonl->reader);
        return st;
    }
    *out = &jsonl->reader;
    return MDN_OK;
}
