/* postgres_errors.c - what a failure says: where, what, which code, what to do.
 *
 * Of a server's message the first line is kept, and of its detail a piece. */
#include "metadata/libpq.h"

#include "metadata/sqlstate.h"

#include <stdio.h>
#include <string.h>

/* Copy the first line of text to out, every occurrence of secret as "***". */
void
mdn_libpq_copy_line(const char *text, const char *secret, char *out,
                    size_t size)
{
    size_t length = secret ? strlen(secret) : 0;
    size_t used = 0;

    while (*text != '\0' && *text != '\n' && used + 4 < size) {
        if (length > 0 && strncmp(text, secret, length) == 0) {
            memcpy(out + used, "***", 3);
            used += 3;
            text += length;
        } else
            out[used++] = *text++;
    }
    out[used] = '\0';
}

/* How a statement begins, its white space squeezed. */
static void
begin_of(const char *sql, char *out, size_t size)
{
    size_t used = 0;

    for (; *sql != '\0' && used + 5 < size; sql++) {
        bool space = strchr(" \t\r\n", *sql) != NULL;

        if (!space)
            out[used++] = *sql;
        else if (used > 0 && out[used - 1] != ' ')
            out[used++] = ' ';
    }
    snprintf(out + used, size - used, "%s", *sql != '\0' ? " ..." : "");
}

void
mdn_libpq_set_sqlstate(mdn_postgres *pg, const char *sqlstate)
{
    snprintf(pg->sqlstate, sizeof pg->sqlstate, "%s", sqlstate);
}

/* "sql: reason (detail) [23505]; advice", each where there is one. */
mdn_status
mdn_libpq_fail_saying(const mdn_postgres *pg, const char *sql,
                      const char *reason, const char *detail, mdn_error *err)
{
    const char *advice = mdn_sqlstate_advice(pg->sqlstate);
    char begin[72] = "", first[200], more[128] = "";

    if (sql != NULL)
        begin_of(sql, begin, sizeof begin);
    mdn_libpq_copy_line(reason, pg->password, first, sizeof first);
    if (detail != NULL)
        mdn_libpq_copy_line(detail, pg->password, more, sizeof more);
    return mdn_fail(err, MDN_DATABASE, "%s%s%s%s%s%s%s%s%s%s%s", begin,
                    sql ? ": " : "", first, detail ? " (" : "", more,
                    detail ? ")" : "", pg->sqlstate[0] ? " [SQLSTATE " : "",
                    pg->sqlstate, pg->sqlstate[0] ? "]" : "",
                    advice ? "; " : "", advice ? advice : "");
}

/* libpq's own words, of a connection that it has given up. */
mdn_status
mdn_libpq_fail_lost(mdn_postgres *pg, const char *sql, mdn_error *err)
{
    const char *said = pg->conn ? PQerrorMessage(pg->conn) : "";
    char detail[120];

    mdn_libpq_copy_line(said, pg->password, detail, sizeof detail);
    mdn_libpq_set_sqlstate(pg, "08006");
    return mdn_libpq_fail_saying(pg, sql,
                                 "the connection to the server is lost",
                                 detail[0] != '\0' ? detail : NULL, err);
}

mdn_status
mdn_libpq_fail_result(mdn_postgres *pg, const char *sql, const PGresult *result,
                      mdn_error *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *reason = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (state == NULL && PQstatus(pg->conn) == CONNECTION_BAD)
        return mdn_libpq_fail_lost(pg, sql, err);
    mdn_libpq_set_sqlstate(pg, state != NULL ? state : "");
    return mdn_libpq_fail_saying(
        pg, sql, reason ? reason : PQresultErrorMessage(result),
        PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL), err);
}
