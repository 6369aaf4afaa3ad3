/* jsonl_parse.h - lines of JSON become samples. */
#ifndef MDN_INGEST_JSONL_PARSE_H
#define MDN_INGEST_JSONL_PARSE_H

#include "ingest/jsonl_plan.h"
#include "ingest/text.h"

/* A mdn_text_parse; self is a mdn_jsonl_plan. */
mdn_status mdn_jsonl_parse(const void *self, mdn_text_job *job, mdn_error *err);

#endif
