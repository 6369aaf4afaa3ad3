/* query.h - the statements that read samples from tables in a database.
 *
 * Tables are in rows or in blocks (sql/002_samples.sql).  All that goes into a
 * statement are numbers, column names of ours, and a table name that
 * mdn_query_is_name allows; so there is nothing to quote. */
#ifndef MDN_METADATA_QUERY_H
#define MDN_METADATA_QUERY_H

#include "metadata/filter.h"
#include "metadata/source.h"

#include <stdbool.h>

typedef struct {
    const char *name;     /* "modyn.samples_d1_l0" */
    bool blocks;          /* else rows */
    const char *position; /* rows: the column of positions */
    bool has_keys;        /* else the position is the key */
    bool has_labels;
} mdn_query_table;

/* Small letters, digits and underscores, with one dot among them at most. */
bool mdn_query_is_name(const char *name);

/* Samples at positions first .. last-1 as a binary COPY.
 *
 *   rows    position, [key], [timestamp], [label]
 *   blocks  first, count, erased, [keys], [timestamps], [labels]
 *
 * Columns that are not wanted are left out; keys are wanted where there are
 * some.  Of blocks those come that hold any such position, whole.  `whole`:
 * that is all of the table, so that no row needs a look.  filter may be NULL;
 * it passes rows exactly, and blocks that may hold what it keeps.  `ordered`:
 * by position, else as they lie. */
typedef struct {
    mdn_query_table table;
    uint64_t first, last;
    bool whole, ordered;
    /* Of rows: pages first_page .. last_page-1 only; 0, 0: all of them.  (Since
     * version 14 the server then reads no others.) */
    uint64_t first_page, last_page;
    mdn_wanted wanted;
    const mdn_filter *filter;
} mdn_query;

/* All of them: *out is malloc'd, or NULL with MDN_NOMEM. */
mdn_status mdn_query_copy(const mdn_query *query, char **out, mdn_error *err);

/* How many samples the query yields; of tables in rows only, since how many of
 * a block are wanted is known when it is read.  One row, one column. */
mdn_status mdn_query_count(const mdn_query *query, char **out, mdn_error *err);

/* How many pages a table has.  One row, one column. */
mdn_status mdn_query_pages(const mdn_query_table *table, char **out,
                           mdn_error *err);

/* One row, one column, "count disorder" of a table up to a position: its rows
 * (in blocks: the samples in them), and how many of them do not lie behind the
 * one before.  In blocks that includes gaps between them. */
mdn_status mdn_query_check(const mdn_query_table *table, uint64_t last,
                           char **out, mdn_error *err);

#endif
