/* postgres_floor.c - what libpq itself can do, for benchmarks/postgres/.
 *
 * One blocking connection, one buffer, one loop: no columns of other types, no
 * retry, no batch id, no looking at signals.  Rows and blocks are encoded here,
 * since they have to be by whoever sends them, and what comes back is freed
 * unread.  Each function returns 0, or -1; floor_message says what libpq said.
 * Compiled by benchmarks/machine.py and called through ctypes. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <endian.h>
#include <libpq-fe.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PIECE ((size_t)1 << 20) /* of each PQputCopyData */
#define ROW_SIZE ((size_t)(2 + 3 * 12))

/* A connection, connected or not; NULL without memory. */
void *
floor_connect(const char *conninfo)
{
    return PQconnectdb(conninfo);
}

int
floor_connected(const void *connection)
{
    return PQstatus(connection) == CONNECTION_OK ? 0 : -1;
}

const char *
floor_message(const void *connection)
{
    return PQerrorMessage(connection);
}

void
floor_close(void *connection)
{
    PQfinish(connection);
}

static int
wants(PGconn *connection, const char *sql, ExecStatusType expected)
{
    PGresult *result = PQexec(connection, sql);
    ExecStatusType status = PQresultStatus(result);

    PQclear(result);
    return status == expected ? 0 : -1;
}

/* Statements that return no rows, in one string. */
int
floor_execute(void *connection, const char *sql)
{
    return wants(connection, sql, PGRES_COMMAND_OK);
}

static char *
put16(char *to, uint16_t value)
{
    value = htons(value);
    memcpy(to, &value, sizeof value);
    return to + sizeof value;
}

static char *
put32(char *to, uint32_t value)
{
    value = htonl(value);
    memcpy(to, &value, sizeof value);
    return to + sizeof value;
}

static char *
put64(char *to, uint64_t value)
{
    to = put32(to, sizeof value);
    value = htobe64(value);
    memcpy(to, &value, sizeof value);
    return to + sizeof value;
}

static char *
put_bytes(char *to, const void *bytes, size_t size)
{
    to = put32(to, (uint32_t)size);
    memcpy(to, bytes, size);
    return to + size;
}

static char *
put_head(char *to)
{
    static const char head[19] = "PGCOPY\n\377\r\n";

    memcpy(to, head, sizeof head);
    return to + sizeof head;
}

/* The last piece, the end, and what the server says to it. */
static int
finish(PGconn *connection, const char *buffer, char *to)
{
    PGresult *result;
    int failed;

    to = put16(to, 0xffff);
    failed = PQputCopyData(connection, buffer, (int)(to - buffer)) != 1
             || PQputCopyEnd(connection, NULL) != 1;
    while ((result = PQgetResult(connection)) != NULL) {
        failed |= PQresultStatus(result) != PGRES_COMMAND_OK;
        PQclear(result);
    }
    return failed ? -1 : 0;
}

/* COPY of count rows of three int8 columns. */
int
floor_copy_rows(void *connection, const char *copy, const uint64_t *keys,
                const int64_t *timestamps, const int64_t *labels,
                uint64_t count)
{
    char *buffer, *to;
    int failed;

    if (wants(connection, copy, PGRES_COPY_IN) < 0
        || (buffer = malloc(PIECE + ROW_SIZE + 64)) == NULL)
        return -1;
    to = put_head(buffer);
    for (uint64_t i = 0; i < count; i++) {
        to = put16(to, 3);
        to = put64(to, keys[i]);
        to = put64(to, (uint64_t)timestamps[i]);
        to = put64(to, (uint64_t)labels[i]);
        if ((size_t)(to - buffer) >= PIECE) {
            if (PQputCopyData(connection, buffer, (int)(to - buffer)) != 1)
                break;
            to = buffer;
        }
    }
    failed = finish(connection, buffer, to);
    free(buffer);
    return failed;
}

/* COPY of the same samples in rows of block samples each: first, count, least
 * and greatest timestamp, timestamps and labels as bytes. */
int
floor_copy_blocks(void *connection, const char *copy, uint64_t first,
                  const int64_t *timestamps, const int64_t *labels,
                  uint64_t count, uint64_t block)
{
    char *buffer, *to;
    int failed;

    if (wants(connection, copy, PGRES_COPY_IN) < 0
        || (buffer = malloc(PIECE + 16 * block + 128)) == NULL)
        return -1;
    to = put_head(buffer);
    for (uint64_t at = 0; at < count; at += block) {
        uint64_t n = count - at < block ? count - at : block;

        to = put16(to, 6);
        to = put64(to, first + at);
        to = put_bytes(to, &(uint32_t){htonl((uint32_t)n)}, 4);
        to = put64(to, (uint64_t)timestamps[at]);
        to = put64(to, (uint64_t)timestamps[at + n - 1]);
        to = put_bytes(to, timestamps + at, 8 * n);
        to = put_bytes(to, labels + at, 8 * n);
        if ((size_t)(to - buffer) >= PIECE) {
            if (PQputCopyData(connection, buffer, (int)(to - buffer)) != 1)
                break;
            to = buffer;
        }
    }
    failed = finish(connection, buffer, to);
    free(buffer);
    return failed;
}

/* COPY ... TO STDOUT to its end: how many messages and bytes came. */
int
floor_drain(void *connection, const char *copy, uint64_t *messages,
            uint64_t *bytes)
{
    PGresult *result;
    char *data;
    int got, failed;

    *messages = *bytes = 0;
    if (wants(connection, copy, PGRES_COPY_OUT) < 0)
        return -1;
    while ((got = PQgetCopyData(connection, &data, 0)) > 0) {
        *messages += 1;
        *bytes += (uint64_t)got;
        PQfreemem(data);
    }
    failed = got != -1;
    while ((result = PQgetResult(connection)) != NULL) {
        failed |= PQresultStatus(result) != PGRES_COMMAND_OK;
        PQclear(result);
    }
    return failed ? -1 : 0;
}
