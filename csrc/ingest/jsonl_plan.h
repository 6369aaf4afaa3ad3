/* jsonl_plan.h - which key of an object feeds what.
 *
 * The names that keys consist of are the nodes of a tree, whose root is the
 * object of a line.  A node either is a value, and then has targets, or an
 * object, and then has children. */
#ifndef MDN_INGEST_JSONL_PLAN_H
#define MDN_INGEST_JSONL_PLAN_H

#include "ingest/jsonl.h"

#define MDN_JSONL_NONE UINT32_MAX

typedef enum {
    MDN_JSONL_TO_FIELD,
    MDN_JSONL_TO_LABEL,
    MDN_JSONL_TO_TIMESTAMP,
} mdn_jsonl_role;

typedef struct {
    mdn_jsonl_role role;
    uint32_t index;  /* of the field */
    mdn_field field; /* what the value has to be */
    bool base64;
    uint32_t next; /* target of the same node, or MDN_JSONL_NONE */
} mdn_jsonl_target;

typedef struct {
    const char *path; /* borrowed from the plan: up to this name */
    uint64_t path_size;
    const char *name; /* the end of the path */
    uint64_t name_size;
    uint32_t child, sibling, target; /* the first; or MDN_JSONL_NONE */
} mdn_jsonl_node;

typedef struct {
    mdn_jsonl_node *nodes; /* owned; 0 is the root */
    uint32_t node_count, node_capacity;
    mdn_jsonl_target *targets; /* owned */
    uint32_t target_count;
    uint32_t value_count; /* nodes with targets */
    char **keys;          /* owned copies, target_count of them */
} mdn_jsonl_plan;

/* *out is fit for mdn_jsonl_plan_clear also after a failure. */
mdn_status mdn_jsonl_plan_make(const mdn_jsonl_options *options,
                               mdn_jsonl_plan *out, mdn_error *err);
void mdn_jsonl_plan_clear(mdn_jsonl_plan *plan);

#endif
