/* postgres_reader.c - modyn._postgres.Reader: rows of a COPY as columns.
 *
 * It has its connection from the first moment until the last row, close(), or a
 * failure.  Columns are handed out as bytearrays, which modyn/postgres.py makes
 * arrays of; each block is a copy, so that it may be kept. */
#include "python/postgres.h"

#include "metadata/decode.h"

#include <string.h>

#define BLOCK_BYTES (UINT64_C(16) << 20) /* of bytea: a block ends early */

typedef struct {
    PyObject_HEAD
    mdn_pypg_connection *connection; /* taken; NULL once given back */
    bool running;                    /* next() is on the way */
    bool ended;
    mdn_decoder *decoder;
    mdn_decode_block *block;
    const char *rest; /* of a message, borrowed; not yet decoded */
    size_t rest_size;
} reader_object;

/* "q": an int8; "q0": one that may be NULL.  Returns the number of fields, or
 * -1 and ValueError. */
static int
read_types(const char *types, mdn_decode_field fields[MDN_DECODE_FIELDS_MAX])
{
    static const char codes[] = "qQidf?y";
    static const mdn_decode_type of[] = {
        MDN_DECODE_INT8,   MDN_DECODE_INT8, MDN_DECODE_INT4,  MDN_DECODE_FLOAT8,
        MDN_DECODE_FLOAT4, MDN_DECODE_BOOL, MDN_DECODE_BYTEA,
    };
    int count = 0;

    for (const char *at = types; *at != '\0'; at++) {
        const char *found = strchr(codes, *at);

        if (found == NULL || count == MDN_DECODE_FIELDS_MAX) {
            PyErr_Format(PyExc_ValueError,
                         "types: 1 to %d of \"%s\", each with a 0 behind it "
                         "where there may be NULL, got \"%s\"",
                         MDN_DECODE_FIELDS_MAX, codes, types);
            return -1;
        }
        fields[count] = (mdn_decode_field){.type = of[found - codes],
                                           .nullable = at[1] == '0',
                                           .bytes_max = INT32_MAX};
        at += fields[count++].nullable;
    }
    return count;
}

/* Take the connection, and begin. */
static mdn_status
start(reader_object *self, mdn_pypg_connection *connection, const char *sql,
      const mdn_decode_field *fields, int field_count, uint64_t block_rows,
      mdn_error *err)
{
    mdn_postgres_patience patience = {.deadline_ns = 0};
    mdn_pypg_call call;
    mdn_status st;

    patience.pulse = mdn_pypg_begin(&call, connection);
    st = mdn_decoder_new(fields, (uint32_t)field_count, &self->decoder, err);
    if (st == MDN_OK)
        st = mdn_decode_block_new(fields, (uint32_t)field_count, block_rows,
                                  &self->block, err);
    if (st == MDN_OK) {
        st = mdn_postgres_copy_out(connection->pg, sql, &patience, err);
        if (st != MDN_OK)
            mdn_postgres_leave(connection->pg);
    }
    mdn_pypg_end(&call);
    return st;
}

static PyObject *
reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    mdn_pypg_state *state = mdn_pypg_state_of_type(type);
    mdn_decode_field fields[MDN_DECODE_FIELDS_MAX];
    mdn_pypg_connection *connection;
    unsigned long long block_rows;
    const char *sql, *types;
    reader_object *self;
    int field_count;
    mdn_error err;
    mdn_status st;

    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Reader takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!ssK:Reader", state->connection_type,
                          &connection, &sql, &types, &block_rows)
        || (field_count = read_types(types, fields)) < 0)
        return NULL;
    self = (reader_object *)type->tp_alloc(type, 0);
    if (self == NULL || mdn_pypg_take(connection) < 0) {
        Py_XDECREF(self);
        return NULL;
    }
    st = start(self, connection, sql, fields, field_count, block_rows, &err);
    if (st != MDN_OK) {
        mdn_pypg_give(connection);
        Py_DECREF(self);
        return mdn_pypg_raise(state, &err);
    }
    self->connection = (mdn_pypg_connection *)Py_NewRef((PyObject *)connection);
    return (PyObject *)self;
}

/* Give the connection back, if that was not done. */
static void
let_go(reader_object *self)
{
    mdn_pypg_connection *connection = self->connection;

    if (connection == NULL)
        return;
    self->connection = NULL;
    if (!self->ended) {
        mdn_postgres *pg = connection->pg;

        Py_BEGIN_ALLOW_THREADS
        mdn_postgres_leave(pg);
        Py_END_ALLOW_THREADS
    }
    mdn_pypg_give(connection);
    Py_DECREF((PyObject *)connection);
}

static void
reader_dealloc(PyObject *object)
{
    reader_object *self = (reader_object *)object;
    PyTypeObject *type = Py_TYPE(object);

    let_go(self);
    mdn_decoder_free(self->decoder);
    mdn_decode_block_free(self->block);
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- rows ---- */

/* Until the block is full, large, or the last. */
static mdn_status
fill(reader_object *self, mdn_postgres *pg,
     const mdn_postgres_patience *patience, mdn_error *err)
{
    mdn_decode_block *block = self->block;
    mdn_status st;
    size_t used;

    block->count = 0;
    for (;;) {
        if (self->rest_size > 0) {
            st = mdn_decoder_feed(self->decoder, block, self->rest,
                                  self->rest_size, &used, err);
            if (st != MDN_OK)
                return st;
            self->rest += used;
            self->rest_size -= used;
        }
        if (block->count == block->capacity
            || mdn_decode_block_bytes(block) >= BLOCK_BYTES)
            return MDN_OK;
        st = mdn_postgres_get(pg, &self->rest, &self->rest_size, patience, err);
        if (st != MDN_OK)
            return st;
        if (self->rest_size == 0) {
            self->ended = true;
            return mdn_decoder_finish(self->decoder, err);
        }
    }
}

/* A list of bytes, None where NULL. */
static PyObject *
list_of(const mdn_decode_column *column, uint64_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);

    for (uint64_t i = 0; list != NULL && i < count; i++) {
        PyObject *item;

        if (column->nulls != NULL && column->nulls[i])
            item = Py_NewRef(Py_None);
        else
            item = PyBytes_FromStringAndSize(
                (const char *)column->bytes + column->starts[i],
                (Py_ssize_t)(column->starts[i + 1] - column->starts[i]));
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *
column_of(const mdn_decode_column *column, uint64_t size, uint64_t count)
{
    PyObject *nulls = NULL, *values;

    if (column->starts != NULL)
        return list_of(column, count);
    values = PyByteArray_FromStringAndSize(column->values,
                                           (Py_ssize_t)(size * count));
    if (values == NULL || column->nulls == NULL)
        return values;
    nulls = PyByteArray_FromStringAndSize((const char *)column->nulls,
                                          (Py_ssize_t)count);
    if (nulls == NULL) {
        Py_DECREF(values);
        return NULL;
    }
    return Py_BuildValue("(NN)", values, nulls);
}

/* The block as a tuple of columns. */
static PyObject *
columns_of(const reader_object *self)
{
    const mdn_decode_block *block = self->block;
    PyObject *columns = PyTuple_New((Py_ssize_t)block->column_count);

    for (uint32_t c = 0; columns != NULL && c < block->column_count; c++) {
        PyObject *column = column_of(
            &block->columns[c], block->columns[c].value_size, block->count);

        if (column == NULL)
            Py_CLEAR(columns);
        else
            PyTuple_SET_ITEM(columns, (Py_ssize_t)c, column);
    }
    return columns;
}

static PyObject *
reader_next(PyObject *object)
{
    reader_object *self = (reader_object *)object;
    mdn_postgres_patience patience = {.deadline_ns = 0};
    mdn_pypg_call call;
    mdn_error err;
    mdn_status st;

    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the reader is in use by another thread");
        return NULL;
    }
    if (self->connection == NULL || mdn_pypg_refuse_child(self->connection) < 0)
        return NULL;
    self->running = true;
    patience.pulse = mdn_pypg_begin(&call, self->connection);
    st = fill(self, self->connection->pg, &patience, &err);
    mdn_pypg_end(&call);
    self->running = false;
    if (st != MDN_OK || self->ended)
        let_go(self);
    if (st != MDN_OK)
        return mdn_pypg_raise(mdn_pypg_state_of_type(Py_TYPE(object)), &err);
    return self->block->count > 0 ? columns_of(self) : NULL;
}

/* ---- for tests: the parser without a server ---- */

/* A whole block into the list, and a new one begun. */
static int
append_block(PyObject *list, mdn_decode_block *block)
{
    reader_object rows = {.block = block};
    PyObject *columns = columns_of(&rows);
    int failed = columns == NULL ? -1 : PyList_Append(list, columns);

    Py_XDECREF(columns);
    block->count = 0;
    return failed;
}

/* 0; -1 and an exception, or err filled. */
static int
decode_piece(PyObject *list, mdn_decoder *decoder, mdn_decode_block *block,
             PyObject *piece, mdn_error *err)
{
    char *bytes;
    Py_ssize_t left;
    size_t used;

    if (PyBytes_AsStringAndSize(piece, &bytes, &left) < 0)
        return -1;
    while (left > 0) {
        if (mdn_decoder_feed(decoder, block, bytes, (size_t)left, &used, err)
            != MDN_OK)
            return -1;
        bytes += used;
        left -= (Py_ssize_t)used;
        if (block->count == block->capacity && append_block(list, block) < 0)
            return -1;
    }
    return 0;
}

const char mdn_pypg_decode_doc[] =
    "decode($module, pieces, types, block_rows, /)\n--\n\n"
    "The blocks in a stream that comes in pieces of bytes; for tests.";

PyObject *
mdn_pypg_decode(PyObject *module, PyObject *args)
{
    mdn_decode_field fields[MDN_DECODE_FIELDS_MAX];
    mdn_error err = {.status = MDN_OK};
    mdn_decoder *decoder = NULL;
    mdn_decode_block *block = NULL;
    unsigned long long block_rows;
    PyObject *pieces, *list;
    const char *types;
    int count, failed = 0;

    if (!PyArg_ParseTuple(args, "O!sK:decode", &PyTuple_Type, &pieces, &types,
                          &block_rows)
        || (count = read_types(types, fields)) < 0
        || (list = PyList_New(0)) == NULL)
        return NULL;
    if (mdn_decoder_new(fields, (uint32_t)count, &decoder, &err) != MDN_OK
        || mdn_decode_block_new(fields, (uint32_t)count, block_rows, &block,
                                &err)
               != MDN_OK)
        failed = -1;
    for (Py_ssize_t i = 0; failed == 0 && i < PyTuple_GET_SIZE(pieces); i++)
        failed = decode_piece(list, decoder, block, PyTuple_GET_ITEM(pieces, i),
                              &err);
    if (failed == 0 && mdn_decoder_finish(decoder, &err) != MDN_OK)
        failed = -1;
    if (failed == 0 && block->count > 0)
        failed = append_block(list, block);
    mdn_decoder_free(decoder);
    mdn_decode_block_free(block);
    if (failed == 0)
        return list;
    Py_DECREF(list);
    if (err.status != MDN_OK)
        mdn_pypg_raise(mdn_pypg_state_of_module(module), &err);
    return NULL;
}

/* ---- the type ---- */

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Leave the rest unread; the connection is free again.");

static PyObject *
reader_close(PyObject *object, PyObject *Py_UNUSED(args))
{
    reader_object *self = (reader_object *)object;

    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the reader is in use by another thread");
        return NULL;
    }
    let_go(self);
    Py_RETURN_NONE;
}

static PyMethodDef reader_methods[] = {
    {"close", reader_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(reader_doc,
             "Reader(connection, sql, types, block_rows, /)\n--\n\n"
             "Rows of a COPY ... TO STDOUT (FORMAT binary) as columns: an "
             "iterator.");

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)reader_doc},
    {Py_tp_new, (void *)reader_new},
    {Py_tp_dealloc, (void *)reader_dealloc},
    {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)reader_next},
    {Py_tp_methods, reader_methods},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "modyn._postgres.Reader",
    .basicsize = sizeof(reader_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = reader_slots,
};

int
mdn_pypg_add_reader(PyObject *module)
{
    return mdn_pypg_add_type(module, &reader_spec);
}
