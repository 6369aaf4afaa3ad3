/* jsonl_plan.c - from keys with dots to a tree of names. */
#include "ingest/jsonl_plan.h"

#include "ingest/show.h"

#include <stdlib.h>
#include <string.h>

static mdn_status
fail_key(const char *key, const char *why, mdn_error *err)
{
    char shown[MDN_SHOWN];

    return mdn_fail(err, MDN_INVALID, "key %s %s",
                    mdn_show(key, strlen(key), shown), why);
}

static mdn_status
add_node(mdn_jsonl_plan *plan, mdn_jsonl_node node, uint32_t *out,
         mdn_error *err)
{
    if (plan->node_count == plan->node_capacity) {
        uint32_t capacity = plan->node_capacity ? 2 * plan->node_capacity : 16;
        mdn_jsonl_node *grown = realloc(plan->nodes, capacity * sizeof *grown);

        if (grown == NULL)
            return mdn_fail_nomem(err, capacity * sizeof *grown);
        plan->nodes = grown;
        plan->node_capacity = capacity;
    }
    node.child = node.sibling = node.target = MDN_JSONL_NONE;
    plan->nodes[ *out = plan->node_count++] = node;
    return MDN_OK;
}

/* The child of this name, which is made if need be.  Children stand in the
 * order in which they were asked for: lines often have them so, too. */
static mdn_status
find_child(mdn_jsonl_plan *plan, uint32_t parent, mdn_jsonl_node node,
           uint32_t *out, mdn_error *err)
{
    uint32_t last = MDN_JSONL_NONE, i = plan->nodes[parent].child;
    mdn_status st;

    for (; i != MDN_JSONL_NONE; last = i, i = plan->nodes[i].sibling) {
        if (plan->nodes[i].name_size == node.name_size
            && memcmp(plan->nodes[i].name, node.name, node.name_size) == 0) {
            *out = i;
            return MDN_OK;
        }
    }
    if ((st = add_node(plan, node, out, err)) != MDN_OK)
        return st;
    if (last == MDN_JSONL_NONE)
        plan->nodes[parent].child = *out;
    else
        plan->nodes[last].sibling = *out;
    return MDN_OK;
}

/* Add the target at the end of this key. */
static mdn_status
add_target(mdn_jsonl_plan *plan, const char *key, mdn_jsonl_target target,
           mdn_error *err)
{
    uint32_t node = 0, names = 0, i = plan->target_count;
    char *copy = strdup(key);
    const char *name = copy;
    mdn_status st;

    if (copy == NULL)
        return mdn_fail_nomem(err, strlen(key) + 1);
    plan->keys[i] = copy;
    plan->targets[i] = target;
    plan->target_count++;
    for (;; name += plan->nodes[node].name_size + 1) {
        uint64_t size = strcspn(name, ".");
        mdn_jsonl_node next = {.path = copy,
                               .path_size = (uint64_t)(name + size - copy),
                               .name = name,
                               .name_size = size};

        if (size == 0)
            return fail_key(key, "has an empty name", err);
        if (++names > MDN_JSONL_NESTED_MAX)
            return fail_key(key, "has more than 16 names", err);
        if (plan->nodes[node].target != MDN_JSONL_NONE)
            return fail_key(key, "goes through a key that is a value itself",
                            err);
        if ((st = find_child(plan, node, next, &node, err)) != MDN_OK)
            return st;
        if (name[size] == '\0')
            break;
    }
    if (plan->nodes[node].child != MDN_JSONL_NONE)
        return fail_key(key, "is a value, but other keys go through it", err);
    plan->value_count += plan->nodes[node].target == MDN_JSONL_NONE;
    plan->targets[i].next = plan->nodes[node].target;
    plan->nodes[node].target = i;
    return MDN_OK;
}

static mdn_status
add_field(mdn_jsonl_plan *plan, uint32_t index, const mdn_field *field,
          const mdn_jsonl_source *source, mdn_error *err)
{
    const mdn_jsonl_target target = {.role = MDN_JSONL_TO_FIELD,
                                     .index = index,
                                     .field = *field,
                                     .base64 = source->base64};

    if (field->dtype == MDN_COMPLEX64 || field->dtype == MDN_COMPLEX128)
        return mdn_fail(err, MDN_INVALID,
                        "field %s: %s cannot be read from JSON", field->name,
                        mdn_dtype_name(field->dtype));
    if (source->base64 && field->dtype != MDN_BYTES)
        return mdn_fail(err, MDN_INVALID,
                        "field %s: base64 is for fields of type bytes, not %s",
                        field->name, mdn_dtype_name(field->dtype));
    return add_target(plan, source->key, target, err);
}

mdn_status
mdn_jsonl_plan_make(const mdn_jsonl_options *options, mdn_jsonl_plan *out,
                    mdn_error *err)
{
    const mdn_schema *schema = options->file.schema;
    const mdn_field integer = {.dtype = MDN_INT64, .size_bytes = 8};
    uint32_t count = schema->field_count + 2, root;
    mdn_status st;

    *out = (mdn_jsonl_plan){.nodes = NULL};
    out->targets = calloc(count, sizeof *out->targets);
    out->keys = calloc(count, sizeof *out->keys);
    if (out->targets == NULL || out->keys == NULL)
        return mdn_fail_nomem(err, count * sizeof *out->targets);
    st = add_node(out, (mdn_jsonl_node){.path = ""}, &root, err);
    for (uint32_t f = 0; st == MDN_OK && f < schema->field_count; f++)
        st = add_field(out, f, &schema->fields[f], &options->fields[f], err);
    if (st == MDN_OK && options->label != NULL)
        st = add_target(
            out, options->label,
            (mdn_jsonl_target){.role = MDN_JSONL_TO_LABEL, .field = integer},
            err);
    if (st == MDN_OK && options->timestamp != NULL)
        st = add_target(out, options->timestamp,
                        (mdn_jsonl_target){.role = MDN_JSONL_TO_TIMESTAMP,
                                           .field = integer},
                        err);
    return st;
}

void
mdn_jsonl_plan_clear(mdn_jsonl_plan *plan)
{
    for (uint32_t i = 0; plan->keys != NULL && i < plan->target_count; i++)
        free(plan->keys[i]);
    free(plan->keys);
    free(plan->targets);
    free(plan->nodes);
    *plan = (mdn_jsonl_plan){.nodes = NULL};
}
