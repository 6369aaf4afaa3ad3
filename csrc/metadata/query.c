/* query.c - statements, put together piece by piece. */
#include "metadata/query.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *at; /* owned; NULL once there was no memory */
    size_t size, room;
} text;

bool
mdn_query_is_name(const char *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
    size_t size = strspn(name, plain), more;

    if (name[size] == '\0')
        return size > 0;
    if (name[size] != '.')
        return false;
    more = strspn(name + size + 1, plain);
    return size > 0 && more > 0 && name[size + 1 + more] == '\0';
}

static text
text_new(void)
{
    text t = {.room = 512};

    if ((t.at = malloc(t.room)) != NULL)
        t.at[0] = '\0';
    return t;
}

__attribute__((format(printf, 2, 3))) static void
add(text *t, const char *format, ...)
{
    va_list arguments;
    int size;

    if (t->at == NULL)
        return;
    va_start(arguments, format);
    size = vsnprintf(t->at + t->size, t->room - t->size, format, arguments);
    va_end(arguments);
    if (t->size + (size_t)size >= t->room) {
        size_t room = 2 * t->room + (size_t)size;
        char *at = realloc(t->at, room);

        if (at == NULL) {
            free(t->at);
            t->at = NULL;
            return;
        }
        t->at = at;
        t->room = room;
        va_start(arguments, format);
        size = vsnprintf(t->at + t->size, t->room - t->size, format, arguments);
        va_end(arguments);
    }
    t->size += (size_t)size;
}

static mdn_status
finish(const text *t, char **out, mdn_error *err)
{
    *out = t->at;
    return t->at != NULL ? MDN_OK : mdn_fail_nomem(err, t->room);
}

static void
add_columns(text *t, const mdn_query *query)
{
    const mdn_query_table *table = &query->table;
    bool timestamps = query->wanted & MDN_WANT_TIMESTAMPS;
    bool labels = table->has_labels && query->wanted & MDN_WANT_LABELS;
    const char *s = table->blocks ? "s" : "";

    if (table->blocks)
        add(t, "\"first\", count, erased");
    else
        add(t, "\"%s\"", table->position);
    add(t, "%s%s", table->has_keys ? ", key" : "", table->has_keys ? s : "");
    if (timestamps)
        add(t, ", \"timestamp%s\"", s);
    if (labels)
        add(t, ", label%s", s);
}

static void
add_filter(text *t, const mdn_query *query)
{
    const mdn_filter *filter = query->filter;
    bool blocks = query->table.blocks;

    if (filter == NULL)
        return;
    if (filter->has_start)
        add(t, " AND %s >= '%" PRId64 "'::int8",
            blocks ? "max_timestamp" : "\"timestamp\"", filter->start);
    if (filter->has_stop)
        add(t, " AND %s < '%" PRId64 "'::int8",
            blocks ? "min_timestamp" : "\"timestamp\"", filter->stop);
    if (!filter->by_label || blocks)
        return;
    add(t, " AND label = ANY ('{");
    for (uint64_t i = 0; i < filter->label_count; i++)
        add(t, "%s%" PRId64, i > 0 ? "," : "", filter->labels[i]);
    add(t, "}'::int8[])");
}

/* From ... where ... */
static void
add_rows(text *t, const mdn_query *query)
{
    const mdn_query_table *table = &query->table;

    add(t, " FROM %s WHERE ", table->name);
    if (query->whole)
        add(t, "true");
    else if (table->blocks)
        add(t, "\"first\" < %" PRIu64 " AND \"first\" + count > %" PRIu64,
            query->last, query->first);
    else
        add(t, "\"%s\" >= %" PRIu64 " AND \"%s\" < %" PRIu64, table->position,
            query->first, table->position, query->last);
    if (query->last_page > 0)
        add(t,
            " AND ctid >= '(%" PRIu64 ",0)'::tid AND ctid < '(%" PRIu64
            ",0)'::tid",
            query->first_page, query->last_page);
    add_filter(t, query);
}

mdn_status
mdn_query_copy(const mdn_query *query, char **out, mdn_error *err)
{
    const mdn_query_table *table = &query->table;
    text t = text_new();

    if (query->whole && !query->ordered && query->filter == NULL) {
        add(&t, "COPY %s (", table->name);
        add_columns(&t, query);
    } else {
        add(&t, "COPY (SELECT ");
        add_columns(&t, query);
        add_rows(&t, query);
        if (query->ordered)
            add(&t, " ORDER BY \"%s\"",
                table->blocks ? "first" : table->position);
    }
    add(&t, ") TO STDOUT (FORMAT binary)");
    return finish(&t, out, err);
}

mdn_status
mdn_query_count(const mdn_query *query, char **out, mdn_error *err)
{
    text t = text_new();

    assert(!query->table.blocks);
    add(&t, "SELECT count(*)");
    add_rows(&t, query);
    return finish(&t, out, err);
}

mdn_status
mdn_query_pages(const mdn_query_table *table, char **out, mdn_error *err)
{
    text t = text_new();

    add(&t,
        "SELECT pg_relation_size('%s') / current_setting('block_size')::int8",
        table->name);
    return finish(&t, out, err);
}

mdn_status
mdn_query_check(const mdn_query_table *table, uint64_t last, char **out,
                mdn_error *err)
{
    text t = text_new();

    if (table->blocks)
        add(&t,
            "SELECT coalesce(sum(least(n, %" PRIu64
            " - p)), 0) || ' ' || count(*) FILTER (WHERE p <> "
            "q) FROM (SELECT count AS n, \"first\" AS p, lag(\"first\" + count)"
            " OVER () AS q FROM %s WHERE \"first\" < %" PRIu64 ") AS s",
            last, table->name, last);
    else
        add(&t,
            "SELECT count(*) || ' ' || count(*) FILTER (WHERE p <= q) FROM "
            "(SELECT \"%s\" AS p, lag(\"%s\") OVER () AS q FROM %s WHERE "
            "\"%s\" < %" PRIu64 ") AS s",
            table->position, table->position, table->name, table->position,
            last);
    return finish(&t, out, err);
}
