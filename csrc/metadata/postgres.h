/* postgres.h - a connection to a Postgres server, and what it is asked.
 *
 * postgres.c is the only file that includes libpq, and is built into the
 * optional extension modyn._postgres, not into modyn._core.
 *
 * One connection belongs to one thread at a time.  Nothing here waits without
 * an end: a wait takes a time and returns MDN_TIMEOUT, and is called again.
 * No message holds the connection string or a password, not even in part:
 * what libpq says is quoted only from where a server, or the system, speaks. */
#ifndef MDN_METADATA_POSTGRES_H
#define MDN_METADATA_POSTGRES_H

#include "base/error.h"

#include <stdint.h>

typedef struct mdn_postgres mdn_postgres;

/* Of the linked libpq; 150004 is 15.4. */
int mdn_postgres_libpq_version(void);

/* Begin to connect.  conninfo is what libpq takes: keyword=value pairs or a
 * URI, borrowed for the call.  MDN_INVALID when it cannot be understood.  A
 * host name is looked up in this call or in the first wait, and libpq cannot
 * bound how long that takes (hostaddr= avoids it). */
mdn_status mdn_postgres_start(const char *conninfo, mdn_postgres **out,
                              mdn_error *err);

/* Go on connecting for at most wait_ms.  MDN_OK: connected, now and from then
 * on; MDN_TIMEOUT: not yet, ask again; MDN_DATABASE: it failed. */
mdn_status mdn_postgres_wait(mdn_postgres *pg, int wait_ms, mdn_error *err);

/* Of the server, once connected. */
mdn_status mdn_postgres_server_version(const mdn_postgres *pg, int *out,
                                       mdn_error *err);

/* Connected or not; accepts NULL. */
void mdn_postgres_free(mdn_postgres *pg);

#endif
