/* csv.c - modyn._core.Csv: typed samples from one CSV file.
 *
 * The arrays that read() gives lie in one block of the core; a capsule owns
 * it, and every array refers to the capsule.  A reader is for one thread at a
 * time: a second one is refused, since the GIL is not held while parsing. */
#include "python/python.h"

#include "ingest/csv.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_CAPSULE "modyn.csv_block"

typedef struct {
    PyObject_HEAD
    mdn_schema *schema; /* owned */
    mdn_csv *core;      /* owned */
    bool busy;          /* guarded by the GIL */
} csv_object;

static void
block_capsule_free(PyObject *capsule)
{
    mdn_csv_block_free(PyCapsule_GetPointer(capsule, BLOCK_CAPSULE));
}

/* Arguments ------------------------------------------------------------- */

/* A column by name or by index; the name is borrowed from the object. */
static int
read_source(PyObject *object, mdn_csv_source *out)
{
    *out = (mdn_csv_source){.name = NULL};
    if (PyUnicode_Check(object)) {
        out->name = PyUnicode_AsUTF8(object);
        return out->name ? 0 : -1;
    }
    out->index = PyLong_AsUnsignedLongLong(object);
    return PyErr_Occurred() ? -1 : 0;
}

static mdn_csv_source *
read_sources(PyObject *tuple)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    mdn_csv_source *sources = calloc((size_t)count + 1, sizeof *sources);

    if (sources == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (read_source(PyTuple_GET_ITEM(tuple, i), &sources[i]) < 0) {
            free(sources);
            return NULL;
        }
    }
    return sources;
}

static mdn_status
open_file(csv_object *self, const char *path, const char *schema,
          const mdn_csv_options *options, mdn_error *err)
{
    mdn_status st;

    Py_BEGIN_ALLOW_THREADS
    st = mdn_schema_parse(schema, strlen(schema), &self->schema, err);
    if (st == MDN_OK)
        st = mdn_csv_open(&mdn_io_system, path, self->schema, options,
                          &self->core, err);
    Py_END_ALLOW_THREADS
    return st;
}

static PyObject *
csv_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *path, *elements, *label, *timestamp;
    const char *schema;
    mdn_csv_source *sources = NULL, label_source, timestamp_source;
    mdn_csv_options options;
    int header, separator, quote;
    csv_object *self = NULL;
    mdn_error err;

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Csv takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O&spiiO!OO", PyUnicode_FSConverter, &path,
                          &schema, &header, &separator, &quote, &PyTuple_Type,
                          &elements, &label, &timestamp))
        return NULL;
    if ((sources = read_sources(elements)) == NULL
        || (label != Py_None && read_source(label, &label_source) < 0)
        || read_source(timestamp, &timestamp_source) < 0)
        goto done;
    options = (mdn_csv_options){
        .header = header,
        .separator = (char)separator,
        .quote = quote,
        .elements = sources,
        .element_count = (uint64_t)PyTuple_GET_SIZE(elements),
        .label = label == Py_None ? NULL : &label_source,
        .timestamp = &timestamp_source,
    };
    self = (csv_object *)type->tp_alloc(type, 0);
    if (self != NULL
        && open_file(self, PyBytes_AS_STRING(path), schema, &options, &err)
               != MDN_OK) {
        Py_CLEAR(self);
        mdn_py_raise(mdn_py_state_of_type(type), &err);
    }

done:
    free(sources);
    Py_DECREF(path);
    return (PyObject *)self;
}

static void
csv_dealloc(csv_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_csv_free(self->core);
    mdn_schema_free(self->schema);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Results --------------------------------------------------------------- */

static PyObject *
int64_array(PyObject *owner, const int64_t *data, uint64_t count)
{
    return mdn_py_array(owner, (void *)data, MDN_INT64, 1, &count, 0);
}

/* The array of a fixed field, or (payloads, offsets) of a bytes field. */
static PyObject *
column_of(PyObject *owner, const mdn_field *field, const mdn_csv_block *block,
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
columns_of(PyObject *owner, const mdn_schema *schema,
           const mdn_csv_block *block)
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

/* (columns, labels or None, timestamps, ended); the block is handed over. */
static PyObject *
block_as_python(const mdn_schema *schema, mdn_csv_block *block, bool ended)
{
    PyObject *owner = PyCapsule_New(block, BLOCK_CAPSULE, block_capsule_free);
    PyObject *columns, *labels, *timestamps, *result = NULL;

    if (owner == NULL) {
        mdn_csv_block_free(block);
        return NULL;
    }
    columns = columns_of(owner, schema, block);
    labels = block->labels ? int64_array(owner, block->labels, block->count)
                           : Py_NewRef(Py_None);
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
acquire(csv_object *self)
{
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a Csv reader is for one thread at a time");
        return -1;
    }
    self->busy = true;
    return 0;
}

/* Fill the block, or check without one: slice by slice, so that Ctrl-C is
 * heard.  -1 and an exception on failure. */
static int
run(csv_object *self, mdn_csv_block *block, uint64_t size_max,
    mdn_csv_progress *progress)
{
    mdn_status st;
    mdn_error err;

    do {
        Py_BEGIN_ALLOW_THREADS
        st = block ? mdn_csv_fill(self->core, block, size_max, progress, &err)
                   : mdn_csv_check(self->core, progress, &err);
        Py_END_ALLOW_THREADS
        if (st != MDN_OK) {
            mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
            return -1;
        }
        if (PyErr_CheckSignals() < 0)
            return -1;
    } while (*progress == MDN_CSV_MORE);
    return 0;
}

PyDoc_STRVAR(read_doc,
             "read($self, size_max, /)\n--\n\n"
             "(columns, labels or None, timestamps, ended): the next rows, up\n"
             "to size_max bytes of samples; read-only arrays.");

static PyObject *
csv_read(csv_object *self, PyObject *argument)
{
    unsigned long long size_max = PyLong_AsUnsignedLongLong(argument);
    mdn_csv_progress progress = MDN_CSV_MORE;
    mdn_csv_block *block;
    mdn_error err;
    int failed;

    if (PyErr_Occurred() || acquire(self) < 0)
        return NULL;
    if (mdn_csv_block_new(self->core, &block, &err) != MDN_OK) {
        self->busy = false;
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    }
    failed = run(self, block, size_max, &progress);
    self->busy = false;
    if (failed) {
        mdn_csv_block_free(block);
        return NULL;
    }
    return block_as_python(self->schema, block, progress == MDN_CSV_END);
}

PyDoc_STRVAR(check_doc, "check($self, /)\n--\n\n"
                        "Parse the remaining rows and keep nothing.");

static PyObject *
csv_check(csv_object *self, PyObject *Py_UNUSED(none))
{
    mdn_csv_progress progress = MDN_CSV_MORE;
    int failed;

    if (acquire(self) < 0)
        return NULL;
    failed = run(self, NULL, 0, &progress);
    self->busy = false;
    return failed ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(rewind_doc, "rewind($self, /)\n--\n\n"
                         "Begin again at the first row.");

static PyObject *
csv_rewind(csv_object *self, PyObject *Py_UNUSED(none))
{
    mdn_status st;
    mdn_error err;

    if (acquire(self) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_csv_rewind(self->core, &err);
    Py_END_ALLOW_THREADS
    self->busy = false;
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    Py_RETURN_NONE;
}

/* Type ------------------------------------------------------------------ */

static PyMethodDef csv_methods[] = {
    {"read", (PyCFunction)csv_read, METH_O, read_doc},
    {"check", (PyCFunction)csv_check, METH_NOARGS, check_doc},
    {"rewind", (PyCFunction)csv_rewind, METH_NOARGS, rewind_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(csv_doc,
             "Csv(path, schema, header, separator, quote, elements, label, "
             "timestamp, /)\n--\n\n"
             "A reader of one file.  separator and quote are bytes as ints,\n"
             "quote -1 for none; elements, label and timestamp are columns by\n"
             "name or index, elements one per element of every field.");

static PyType_Slot csv_slots[] = {
    {Py_tp_doc, (void *)csv_doc},
    {Py_tp_new, (void *)csv_new},
    {Py_tp_dealloc, (void *)csv_dealloc},
    {Py_tp_methods, csv_methods},
    {0, NULL},
};

static PyType_Spec csv_spec = {
    .name = "modyn._core.Csv",
    .basicsize = sizeof(csv_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = csv_slots,
};

int
mdn_py_add_csv(PyObject *module, mdn_py_state *state)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &csv_spec, NULL);
    int failed;

    (void)state;
    if (type == NULL)
        return -1;
    failed = PyModule_AddObjectRef(module, "Csv", type);
    Py_DECREF(type);
    return failed;
}
