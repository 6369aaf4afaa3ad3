/* postgres_work.c - statements and columns of a batch, from Python.
 *
 * All of it comes as tuples, which nobody can change while the batch runs
 * without the GIL:
 *
 *   statement  (sql, params, rows)       params: str or None; rows: -1 for any
 *   copy       (sql, columns, rows)
 *   column     (code, values, nulls)     code: one of q Q i d f ? y
 *
 * values is a buffer of `rows` numbers, or for "y" a tuple of buffers and
 * Nones; nulls is None or a buffer of `rows` bytes. */
#include "python/postgres.h"

#include <stdlib.h>
#include <string.h>

/* Memory until release; NULL and MemoryError.  Never of size 0. */
static void *
get_block(mdn_pypg_work *self, Py_ssize_t count, size_t size)
{
    void **blocks = PyMem_Realloc(self->blocks, (self->block_count + 1)
                                                    * sizeof *self->blocks);
    void *block = NULL;

    if (blocks != NULL) {
        self->blocks = blocks;
        block = PyMem_Calloc((size_t)count + 1, size);
        if (block != NULL)
            blocks[self->block_count++] = block;
    }
    if (block == NULL)
        PyErr_NoMemory();
    return block;
}

/* A Py_buffer may point into itself, so none is ever moved. */
struct mdn_pypg_held {
    struct mdn_pypg_held *before; /* owned */
    size_t count;
    Py_buffer buffers[30];
};

/* The bytes of object, held until release; NULL and an exception. */
static const Py_buffer *
hold_buffer(mdn_pypg_work *self, PyObject *object)
{
    struct mdn_pypg_held *held = self->held;

    if (held == NULL
        || held->count == sizeof held->buffers / sizeof held->buffers[0]) {
        held = PyMem_Malloc(sizeof *held);
        if (held == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        held->before = self->held;
        held->count = 0;
        self->held = held;
    }
    if (PyObject_GetBuffer(object, &held->buffers[held->count],
                           PyBUF_C_CONTIGUOUS)
        < 0)
        return NULL;
    return &held->buffers[held->count++];
}

/* A text without NUL; NULL and an exception. */
static const char *
text_of(PyObject *object, const char *name)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(object, &size);

    if (text != NULL && strlen(text) != (size_t)size) {
        PyErr_Format(PyExc_ValueError,
                     "%s: Postgres takes no text with a NUL character", name);
        return NULL;
    }
    return text;
}

/* Statements. ------------------------------------------------------------- */

static int
read_statement(mdn_pypg_work *self, PyObject *tuple,
               mdn_postgres_statement *out)
{
    const char **params;
    PyObject *given;
    long long rows;

    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "a statement must be a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "sO!L:Statement", &out->sql, &PyTuple_Type,
                          &given, &rows))
        return -1;
    params = get_block(self, PyTuple_GET_SIZE(given), sizeof *params);
    if (params == NULL)
        return -1;
    out->params = params;
    out->rows = rows;
    out->param_count = (int)PyTuple_GET_SIZE(given);
    if (PyTuple_GET_SIZE(given) > 65535) {
        PyErr_SetString(PyExc_ValueError, "more than 65535 parameters");
        return -1;
    }
    for (int i = 0; i < out->param_count; i++) {
        PyObject *item = PyTuple_GET_ITEM(given, i);

        if (item != Py_None
            && (params[i] = text_of(item, "a parameter")) == NULL)
            return -1;
    }
    return 0;
}

static int
read_statements(mdn_pypg_work *self, PyObject *tuple,
                const mdn_postgres_statement **out, size_t *count)
{
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    mdn_postgres_statement *statements =
        get_block(self, size, sizeof *statements);

    if (statements == NULL)
        return -1;
    *out = statements;
    *count = (size_t)size;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (read_statement(self, PyTuple_GET_ITEM(tuple, i), &statements[i])
            < 0)
            return -1;
    }
    return 0;
}

/* Columns. ---------------------------------------------------------------- */

/* The type of a code and its bytes per value; -1: there is no such code. */
static int
type_of_code(int code, mdn_encode_type *type, uint64_t *width)
{
    static const struct {
        char code;
        mdn_encode_type type;
        uint64_t width;
    } types[] = {
        {'q', MDN_ENCODE_I64, 8},   {'Q', MDN_ENCODE_U64, 8},
        {'i', MDN_ENCODE_I32, 4},   {'d', MDN_ENCODE_F64, 8},
        {'f', MDN_ENCODE_F32, 4},   {'?', MDN_ENCODE_BOOL, 1},
        {'y', MDN_ENCODE_BYTES, 0},
    };

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].code == code) {
            *type = types[i].type;
            *width = types[i].width;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "no column has the type %c", code);
    return -1;
}

static int
expect_bytes(const char *name, uint64_t rows, uint64_t width, Py_ssize_t got)
{
    if ((uint64_t)got / width == rows && (uint64_t)got % width == 0)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: expected %llu values, got %zd bytes",
                 name, (unsigned long long)rows, got);
    return -1;
}

static const mdn_encode_bytes *
read_pieces(mdn_pypg_work *self, PyObject *tuple, uint64_t rows)
{
    mdn_encode_bytes *pieces;

    if (!PyTuple_Check(tuple) || (uint64_t)PyTuple_GET_SIZE(tuple) != rows) {
        PyErr_Format(PyExc_ValueError,
                     "bytes: expected a tuple of %llu buffers",
                     (unsigned long long)rows);
        return NULL;
    }
    pieces = get_block(self, PyTuple_GET_SIZE(tuple), sizeof *pieces);
    for (uint64_t i = 0; i < rows && pieces != NULL; i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, (Py_ssize_t)i);
        const Py_buffer *buffer;

        if (item == Py_None)
            continue;
        if ((buffer = hold_buffer(self, item)) == NULL)
            return NULL;
        /* NULL is SQL's: an empty buffer needs an address. */
        pieces[i].at = buffer->buf != NULL ? buffer->buf : "";
        pieces[i].size = (uint64_t)buffer->len;
    }
    return pieces;
}

static int
read_column(mdn_pypg_work *self, PyObject *tuple, uint64_t rows,
            mdn_encode_column *out)
{
    PyObject *values, *nulls;
    const Py_buffer *buffer;
    uint64_t width;
    int code;

    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "a column must be a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "COO:column", &code, &values, &nulls)
        || type_of_code(code, &out->type, &width) < 0)
        return -1;
    if (out->type == MDN_ENCODE_BYTES) {
        out->values = read_pieces(self, values, rows);
        if (out->values == NULL)
            return -1;
    } else {
        if ((buffer = hold_buffer(self, values)) == NULL
            || expect_bytes("a column", rows, width, buffer->len) < 0)
            return -1;
        out->values = buffer->buf;
    }
    if (nulls == Py_None)
        return 0;
    if ((buffer = hold_buffer(self, nulls)) == NULL
        || expect_bytes("nulls", rows, 1, buffer->len) < 0)
        return -1;
    out->nulls = buffer->buf;
    return 0;
}

static int
read_columns(mdn_pypg_work *self, PyObject *tuple, uint64_t rows,
             const mdn_encode_column **out, size_t *count)
{
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    mdn_encode_column *columns = get_block(self, size, sizeof *columns);

    if (columns == NULL)
        return -1;
    *out = columns;
    *count = (size_t)size;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (read_column(self, PyTuple_GET_ITEM(tuple, i), rows, &columns[i])
            < 0)
            return -1;
    }
    return 0;
}

static int
read_copies(mdn_pypg_work *self, PyObject *tuple)
{
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    mdn_postgres_copy *copies = get_block(self, size, sizeof *copies);

    if (copies == NULL)
        return -1;
    self->work.copies = copies;
    self->work.copy_count = (size_t)size;
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i), *columns;
        unsigned long long rows;

        if (!PyTuple_Check(item)) {
            PyErr_SetString(PyExc_TypeError, "a copy must be a tuple");
            return -1;
        }
        if (!PyArg_ParseTuple(item, "sO!K:Copy", &copies[i].sql, &PyTuple_Type,
                              &columns, &rows))
            return -1;
        copies[i].rows = rows;
        if (read_columns(self, columns, rows, &copies[i].columns,
                         &copies[i].column_count)
            < 0)
            return -1;
    }
    return 0;
}

/* The whole. -------------------------------------------------------------- */

int
mdn_pypg_work_read(mdn_pypg_work *self, PyObject *args)
{
    PyObject *before, *copies, *after;
    double retry_seconds;

    *self = (mdn_pypg_work){.blocks = NULL};
    if (!PyArg_ParseTuple(args, "zO!O!O!d:batch", &self->work.id, &PyTuple_Type,
                          &before, &PyTuple_Type, &copies, &PyTuple_Type,
                          &after, &retry_seconds)
        || read_statements(self, before, &self->work.before,
                           &self->work.before_count)
               < 0
        || read_copies(self, copies) < 0
        || read_statements(self, after, &self->work.after,
                           &self->work.after_count)
               < 0)
        return -1;
    self->work.retry_ms = mdn_pypg_milliseconds(retry_seconds);
    return 0;
}

void
mdn_pypg_work_release(mdn_pypg_work *self)
{
    for (struct mdn_pypg_held *held = self->held; held != NULL;) {
        struct mdn_pypg_held *before = held->before;

        while (held->count > 0)
            PyBuffer_Release(&held->buffers[--held->count]);
        PyMem_Free(held);
        held = before;
    }
    while (self->block_count > 0)
        PyMem_Free(self->blocks[--self->block_count]);
    PyMem_Free(self->blocks);
    *self = (mdn_pypg_work){.blocks = NULL};
}

/* All pieces of an encoder, one after the other. */
static PyObject *
join_pieces(mdn_encoder *encoder, mdn_error *err)
{
    PyObject *whole = PyByteArray_FromStringAndSize(NULL, 0);
    Py_ssize_t used = 0;
    const void *piece;
    size_t size;

    while (whole != NULL) {
        if (mdn_encoder_next(encoder, &piece, &size, err) != MDN_OK) {
            Py_DECREF(whole);
            return NULL;
        }
        if (size == 0)
            break;
        if (PyByteArray_Resize(whole, used + (Py_ssize_t)size) < 0) {
            Py_CLEAR(whole);
            break;
        }
        memcpy(PyByteArray_AS_STRING(whole) + used, piece, size);
        used += (Py_ssize_t)size;
    }
    if (whole == NULL)
        mdn_fail(err, MDN_CALLBACK, "no memory");
    return whole;
}

PyObject *
mdn_pypg_encode(PyObject *module, PyObject *args)
{
    PyObject *tuple, *whole = NULL;
    mdn_pypg_work held = {.blocks = NULL};
    const mdn_encode_column *columns;
    mdn_encoder *encoder = NULL;
    unsigned long long rows;
    size_t count;
    mdn_error err = {.status = MDN_CALLBACK}; /* Python's exception is set */

    if (PyArg_ParseTuple(args, "O!K:encode", &PyTuple_Type, &tuple, &rows)
        && read_columns(&held, tuple, rows, &columns, &count) == 0
        && mdn_encoder_new(columns, count, rows, &encoder, &err) == MDN_OK)
        whole = join_pieces(encoder, &err);
    mdn_encoder_free(encoder);
    mdn_pypg_work_release(&held);
    if (whole == NULL)
        return mdn_pypg_raise(mdn_pypg_state_of_module(module), &err);
    return whole;
}
