/* sqlstate.h - what the codes of a server's errors mean to us. */
#ifndef MDN_METADATA_SQLSTATE_H
#define MDN_METADATA_SQLSTATE_H

#include <stdbool.h>

/* Whether the same statements may well succeed a moment later: the connection
 * was lost, the server is starting or stopping, others were in the way. */
bool mdn_sqlstate_may_pass(const char *sqlstate);

/* What to do about it, as a sentence; NULL where the server has said all. */
const char *mdn_sqlstate_advice(const char *sqlstate);

#endif
