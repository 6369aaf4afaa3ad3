/* reader.c - modyn._core.Reader: typed samples from incoming files.
 *
 * The arrays that read() gives lie in one block of the core; a capsule owns
 * it, and every array refers to the capsule.  A reader is for one thread at a
 * time: a second one is refused, since the GIL is not held while parsing. */
#include "python/reader.h"

#include <stdbool.h>
#include <string.h>

#define BLOCK_CAPSULE "modyn.block"
#define CHECK_BYTES (UINT64_C(16) << 20) /* parsed at a time by check() */

typedef struct {
    PyObject_HEAD
    mdn_schema *schema; /* owned */
    mdn_reader *core;   /* owned */
    bool busy;          /* guarded by the GIL */
} reader_object;

/* Making ---------------------------------------------------------------- */

int
mdn_py_reader_begin(mdn_py_state *state, PyObject *path, const char *schema,
                    unsigned threads, int growing, mdn_py_reader_file *out)
{
    mdn_error err;

    *out = (mdn_py_reader_file){.path = NULL};
    if (threads < 1) {
        PyErr_SetString(PyExc_ValueError, "threads must be at least 1, got 0");
        return -1;
    }
    if (!PyUnicode_FSConverter(path, &out->path))
        return -1;
    if (mdn_schema_parse(schema, strlen(schema), &out->schema, &err)
        != MDN_OK) {
        Py_CLEAR(out->path);
        mdn_py_raise(state, &err);
        return -1;
    }
    out->file = (mdn_reader_file){.io = &mdn_io_system,
                                  .path = PyBytes_AS_STRING(out->path),
                                  .schema = out->schema,
                                  .threads = threads,
                                  .growing = growing != 0};
    return 0;
}

PyObject *
mdn_py_reader_end(mdn_py_state *state, mdn_py_reader_file *file,
                  mdn_reader *reader, const mdn_error *err)
{
    mdn_schema *schema = file->schema;

    Py_CLEAR(file->path);
    file->schema = NULL;
    if (reader != NULL)
        return mdn_py_reader_new(state, schema, reader);
    mdn_schema_free(schema);
    return mdn_py_raise(state, err);
}

PyObject *
mdn_py_reader_new(mdn_py_state *state, mdn_schema *schema, mdn_reader *reader)
{
    PyTypeObject *type = state->reader_type;
    reader_object *self = (reader_object *)type->tp_alloc(type, 0);

    if (self == NULL) {
        mdn_reader_free(reader);
        mdn_schema_free(schema);
        return NULL;
    }
    self->schema = schema;
    self->core = reader;
    return (PyObject *)self;
}

static void
reader_dealloc(reader_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_reader_free(self->core);
    mdn_schema_free(self->schema);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Results --------------------------------------------------------------- */

static void
block_capsule_free(PyObject *capsule)
{
    mdn_block_free(PyCapsule_GetPointer(capsule, BLOCK_CAPSULE));
}

/* An array of the block, or None for a column that it does not have. */
static PyObject *
int64_array(PyObject *owner, const int64_t *data, uint64_t count)
{
    if (data == NULL)
        return Py_NewRef(Py_None);
    return mdn_py_array(owner, (void *)data, MDN_INT64, 1, &count, 0);
}

/* The array of a fixed field, or (payloads, offsets) of a bytes field. */
static PyObject *
column_of(PyObject *owner, const mdn_field *field, const mdn_block *block,
          const mdn_column *column)
{
    uint64_t shape[MDN_NDIM_MAX + 1] = {block->count};
    PyObject *values, *offsets;

    if (field->dtype != MDN_BYTES) {
        for (uint32_t d = 0; d < field->ndim; d++)
            shape[d + 1] = field->shape[d];
        return mdn_py_array(owner, (void *)column->values, field->dtype,
                            (int)field->ndim + 1, shape, 0);
    }
    shape[0] = (uint64_t)column->offsets[block->count];
    values =
        mdn_py_array(owner, (void *)column->values, MDN_UINT8, 1, shape, 0);
    offsets = int64_array(owner, column->offsets, block->count + 1);
    if (values != NULL && offsets != NULL)
        return Py_BuildValue("(NN)", values, offsets);
    Py_XDECREF(values);
    Py_XDECREF(offsets);
    return NULL;
}

static PyObject *
columns_of(PyObject *owner, const mdn_schema *schema, const mdn_block *block)
{
    PyObject *columns = PyTuple_New((Py_ssize_t)schema->field_count);

    for (uint32_t f = 0; columns != NULL && f < schema->field_count; f++) {
        PyObject *column =
            column_of(owner, &schema->fields[f], block, &block->columns[f]);
        if (column == NULL)
            Py_CLEAR(columns);
        else
            PyTuple_SET_ITEM(columns, (Py_ssize_t)f, column);
    }
    return columns;
}

/* (columns, labels or None, timestamps or None, ended); the block is handed
 * over. */
static PyObject *
block_as_python(const mdn_schema *schema, mdn_block *block, bool ended)
{
    PyObject *owner = PyCapsule_New(block, BLOCK_CAPSULE, block_capsule_free);
    PyObject *columns, *labels, *timestamps, *result = NULL;

    if (owner == NULL) {
        mdn_block_free(block);
        return NULL;
    }
    columns = columns_of(owner, schema, block);
    labels = int64_array(owner, block->labels, block->count);
    timestamps = int64_array(owner, block->timestamps, block->count);
    if (columns != NULL && labels != NULL && timestamps != NULL)
        result = Py_BuildValue("(OOOO)", columns, labels, timestamps,
                               ended ? Py_True : Py_False);
    Py_XDECREF(columns);
    Py_XDECREF(labels);
    Py_XDECREF(timestamps);
    Py_DECREF(owner);
    return result;
}

/* Methods --------------------------------------------------------------- */

/* 0, or -1 and an exception if another thread is at work on this reader. */
static int
acquire(reader_object *self)
{
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a Reader is for one thread at a time");
        return -1;
    }
    self->busy = true;
    return 0;
}

static mdn_block *
new_block(reader_object *self)
{
    mdn_block *block;
    mdn_error err;

    if (mdn_block_new(self->schema, self->core->labels, self->core->timestamps,
                      &block, &err)
        != MDN_OK)
        mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return block;
}

/* Fill the block up to its budget, slice by slice, so that Ctrl-C is heard.
 * -1 and an exception on failure. */
static int
fill(reader_object *self, mdn_block *block, uint64_t size_max,
     mdn_progress *progress)
{
    mdn_status st;
    mdn_error err;

    do {
        Py_BEGIN_ALLOW_THREADS
        st = mdn_reader_fill(self->core, block, size_max, progress, &err);
        Py_END_ALLOW_THREADS
        if (st != MDN_OK) {
            mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
            return -1;
        }
        if (PyErr_CheckSignals() < 0)
            return -1;
    } while (*progress == MDN_READER_MORE);
    return 0;
}

PyDoc_STRVAR(read_doc,
             "read($self, size_max, /)\n--\n\n"
             "(columns, labels or None, timestamps or None, ended): the next\n"
             "samples, up to size_max bytes and one at least; read-only "
             "arrays.");

static PyObject *
reader_read(reader_object *self, PyObject *argument)
{
    unsigned long long size_max = PyLong_AsUnsignedLongLong(argument);
    mdn_progress progress = MDN_READER_MORE;
    mdn_block *block;
    int failed = -1;

    if (PyErr_Occurred() || acquire(self) < 0)
        return NULL;
    block = new_block(self);
    if (block != NULL)
        failed = fill(self, block, size_max, &progress);
    self->busy = false;
    if (failed) {
        mdn_block_free(block);
        return NULL;
    }
    return block_as_python(self->schema, block, progress == MDN_READER_END);
}

PyDoc_STRVAR(check_doc, "check($self, /)\n--\n\n"
                        "Read the remaining samples and keep nothing.");

static PyObject *
reader_check(reader_object *self, PyObject *Py_UNUSED(none))
{
    mdn_progress progress = MDN_READER_MORE;
    mdn_block *block;
    int failed = -1;

    if (acquire(self) < 0)
        return NULL;
    block = new_block(self);
    if (block != NULL) {
        do {
            mdn_block_clear(block);
            failed = fill(self, block, CHECK_BYTES, &progress);
        } while (!failed && progress != MDN_READER_END);
    }
    self->busy = false;
    mdn_block_free(block);
    return failed ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(seek_doc,
             "seek($self, position, /)\n--\n\n"
             "Go on at a position that a reader of this file has had; 0 is\n"
             "the beginning.");

static PyObject *
reader_seek(reader_object *self, PyObject *argument)
{
    unsigned long long position = PyLong_AsUnsignedLongLong(argument);
    mdn_status st;
    mdn_error err;

    if (PyErr_Occurred() || acquire(self) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_reader_seek(self->core, position, &err);
    Py_END_ALLOW_THREADS
    self->busy = false;
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    Py_RETURN_NONE;
}

static PyObject *
reader_position(reader_object *self, void *Py_UNUSED(closure))
{
    uint64_t position;

    if (acquire(self) < 0)
        return NULL;
    position = mdn_reader_position(self->core);
    self->busy = false;
    return PyLong_FromUnsignedLongLong(position);
}

/* Type ------------------------------------------------------------------ */

static PyMethodDef reader_methods[] = {
    {"read", (PyCFunction)reader_read, METH_O, read_doc},
    {"check", (PyCFunction)reader_check, METH_NOARGS, check_doc},
    {"seek", (PyCFunction)reader_seek, METH_O, seek_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef reader_getset[] = {
    {"position", (getter)reader_position, NULL,
     "Bytes of the file behind which the next sample begins.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(reader_doc, "A reader of one incoming file; see read_csv and its "
                         "like.");

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)reader_doc},
    {Py_tp_dealloc, (void *)reader_dealloc},
    {Py_tp_methods, reader_methods},
    {Py_tp_getset, reader_getset},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "modyn._core.Reader",
    .basicsize = sizeof(reader_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = reader_slots,
};

int
mdn_py_add_reader(PyObject *module, mdn_py_state *state)
{
    state->reader_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    if (state->reader_type == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "Reader",
                                 (PyObject *)state->reader_type);
}
