/* sqlstate.c - see sqlstate.h.  The codes are those of the appendix "Error
 * Codes" of Postgres's manual; the first two characters are their class. */
#include "metadata/sqlstate.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *begin; /* of the codes that it is for */
    const char *advice;
} advices[] = {
    {"28", "check the user, and where PGPASSWORD, PGPASSFILE or a service "
           "file has the password"},
    {"3D000", "check the name of the database"},
    {"25006", "this server is read-only (a standby?): name the primary, or "
              "target_session_attrs=read-write"},
    {"42501", "the user needs CREATE on the database, and USAGE and CREATE "
              "on schema modyn"},
    {"42P01", "has the schema been set up, and by this version of modyn?"},
    {"53100", "make room on the server's disk, and run this again"},
    {"53300", "the server has no connection left: use fewer, or raise "
              "max_connections"},
    {"55P03", "another session held a lock for longer than lock_timeout"},
    {"57014", "a longer statement_timeout may help"},
};

bool
mdn_sqlstate_may_pass(const char *sqlstate)
{
    static const char *const passing[] = {
        "08",    /* connection exception */
        "25P03", /* the session was ended: idle in a transaction */
        "40001", /* serialization failure */
        "40P01", /* deadlock detected */
        "53300", /* too many connections */
        "55P03", /* lock not available */
        "57014", /* query cancelled, by statement_timeout */
        "57P01", /* admin shutdown */
        "57P02", /* crash shutdown */
        "57P03", /* cannot connect now */
        "57P05", /* the session was ended: idle */
    };

    if (strcmp(sqlstate, "08P01") == 0) /* what was sent makes no sense */
        return false;
    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
        if (strncmp(sqlstate, passing[i], strlen(passing[i])) == 0)
            return true;
    }
    return false;
}

const char *
mdn_sqlstate_advice(const char *sqlstate)
{
    for (size_t i = 0; i < sizeof advices / sizeof advices[0]; i++) {
        if (strncmp(sqlstate, advices[i].begin, strlen(advices[i].begin)) == 0)
            return advices[i].advice;
    }
    return NULL;
}
