/* postgres_stream.h - what a source in Postgres and its streams share.
 *
 *     postgres_tables.c   the tables, the idle connections, trying again
 *     postgres_source.c   making a source, and how many samples it holds
 *     postgres_stream.c   one pass over a range of positions
 *     postgres_take.c     are its rows those that are due? */
#ifndef MDN_METADATA_POSTGRES_STREAM_H
#define MDN_METADATA_POSTGRES_STREAM_H

#include "metadata/postgres_source.h"
#include "metadata/query.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#define MDN_POSTGRES_IDLE_MAX 8

/* What is known of a part: bits. */
#define MDN_POSTGRES_COUNTED 1u  /* all rows that are due were there */
#define MDN_POSTGRES_UNSORTED 2u /* they do not lie in order */
#define MDN_POSTGRES_UNEVEN 4u   /* nor equally many in each page */

/* What all sources with the same tables share, counted. */
typedef struct {
    atomic_int references;
    mdn_postgres_source_options options; /* what it points to is owned */
    uint64_t count;                      /* positions */
    pthread_mutex_t lock;
    /* Guarded by it: */
    pid_t pid; /* of the process whose connections are idle */
    int idle_count;
    mdn_postgres *idle[MDN_POSTGRES_IDLE_MAX]; /* owned */
    uint8_t *known;                            /* owned, one per part */
    uint64_t *pages;                           /* likewise; 0: not asked yet */
} mdn_postgres_tables;

mdn_postgres_tables *mdn_postgres_tables_retain(mdn_postgres_tables *tables);
void mdn_postgres_tables_release(mdn_postgres_tables *tables);

/* A connection, of which nobody knows whether it is still there; or one that
 * was never connected. */
mdn_status mdn_postgres_tables_take(mdn_postgres_tables *tables,
                                    mdn_postgres **out, mdn_error *err);
/* Take it back; whatever it does is cancelled.  Accepts NULL. */
void mdn_postgres_tables_give(mdn_postgres_tables *tables, mdn_postgres *pg);

/* The index of the part that holds a position below count. */
uint64_t mdn_postgres_tables_find(const mdn_postgres_tables *tables,
                                  uint64_t position);
mdn_query_table mdn_postgres_tables_table(const mdn_postgres_tables *tables,
                                          uint64_t part);
uint8_t mdn_postgres_tables_known(mdn_postgres_tables *tables, uint64_t part);
void mdn_postgres_tables_note(mdn_postgres_tables *tables, uint64_t part,
                              uint8_t bits);

/* Trying again, with longer and longer waits. */
typedef struct {
    uint64_t until_ns; /* 0: nothing has failed since it last went well */
    uint32_t wait_ms;
} mdn_postgres_retry;

/* After a failure: MDN_OK when it is time to try again; status as it is when
 * that would not help, or has not for too long; what the pulse returned.  pg is
 * dropped, unless NULL. */
mdn_status mdn_postgres_retry_wait(mdn_postgres_retry *retry, uint32_t retry_ms,
                                   mdn_postgres *pg, const mdn_pulse *pulse,
                                   mdn_status status, mdn_error *err);

/* Whether a table surely holds nothing behind its part.  The last one may: who
 * reads does not want all that is there, or more has come since. */
bool mdn_postgres_tables_full(const mdn_postgres_tables *tables, uint64_t part);

/* Count a part as a whole, if that was not done yet: whether all rows that are
 * due are there, and in order. */
mdn_status mdn_postgres_tables_check(mdn_postgres_tables *tables,
                                     mdn_postgres *pg, uint64_t part,
                                     const mdn_postgres_patience *patience,
                                     mdn_error *err);

/* The pages of a part, asked for once. */
mdn_status mdn_postgres_tables_pages(mdn_postgres_tables *tables,
                                     mdn_postgres *pg, uint64_t part,
                                     const mdn_postgres_patience *patience,
                                     uint64_t *out, mdn_error *err);

/* filter may be NULL, is borrowed; tables are retained. */
mdn_status mdn_postgres_stream_new(mdn_postgres_tables *tables,
                                   const mdn_filter *filter, uint64_t first,
                                   uint64_t last, uint64_t block_count,
                                   mdn_wanted wanted, const mdn_pulse *pulse,
                                   mdn_metadata_stream **out, mdn_error *err);

#endif
