/* postgres_source.c - modyn._postgres.Source.
 *
 * It makes a source and hands it out in a capsule; modyn._core reads from it,
 * without this module. */
#include "python/postgres.h"

#include "metadata/postgres_source.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    mdn_metadata_source *source; /* one reference */
} source_object;

/* What Source() was given, as the core takes it; all borrowed but the array. */
typedef struct {
    mdn_postgres_source_options options;
    mdn_postgres_part *parts; /* owned, from PyMem */
    const char **settings;    /* likewise */
} arguments;

static int
read_parts(PyObject *parts, arguments *out)
{
    Py_ssize_t count = PyTuple_GET_SIZE(parts);

    out->parts = PyMem_Calloc((size_t)count + 1, sizeof *out->parts);
    if (out->parts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        mdn_postgres_part *part = &out->parts[i];
        unsigned long long first, positions, erased;

        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(parts, i), "sKKK", &part->table,
                              &first, &positions, &erased))
            return -1;
        part->first = first;
        part->count = positions;
        part->erased = erased;
    }
    out->options.parts = out->parts;
    out->options.part_count = (uint64_t)count;
    return 0;
}

/* The session's settings: ours, then those of the caller. */
static int
read_settings(PyObject *dict, arguments *out)
{
    /* Workers would mix up the order of rows; compiling takes longer than the
     * little there is to compute. */
    static const char *const ours[] = {"max_parallel_workers_per_gather", "0",
                                       "jit", "off"};
    size_t count = sizeof ours / sizeof ours[0];
    PyObject *key, *value;
    Py_ssize_t at = 0;

    out->settings = PyMem_Calloc(count + 2 * (size_t)PyDict_Size(dict) + 1,
                                 sizeof *out->settings);
    if (out->settings == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(out->settings, ours, sizeof ours);
    while (PyDict_Next(dict, &at, &key, &value)) {
        out->settings[count] = PyUnicode_AsUTF8(key);
        if (out->settings[count] == NULL)
            return -1;
        out->settings[count + 1] = PyUnicode_AsUTF8(value);
        if (out->settings[count + 1] == NULL)
            return -1;
        count += 2;
    }
    out->options.connection.settings = out->settings;
    return 0;
}

static int
read_arguments(PyObject *args, arguments *out)
{
    double connect_seconds, retry_seconds;
    int blocks, has_keys, has_labels;
    PyObject *parts, *settings;

    if (!PyArg_ParseTuple(args, "sddO!pppO!:Source",
                          &out->options.connection.conninfo, &connect_seconds,
                          &retry_seconds, &PyDict_Type, &settings, &blocks,
                          &has_keys, &has_labels, &PyTuple_Type, &parts)
        || read_settings(settings, out) < 0 || read_parts(parts, out) < 0)
        return -1;
    out->options.connection.connect_ms = mdn_pypg_milliseconds(connect_seconds);
    out->options.retry_ms = mdn_pypg_milliseconds(retry_seconds);
    out->options.blocks = blocks;
    out->options.has_keys = has_keys;
    out->options.has_labels = has_labels;
    return 0;
}

/* Takes the source over, also when it fails. */
static PyObject *
wrap(PyTypeObject *type, mdn_metadata_source *source)
{
    source_object *self = (source_object *)type->tp_alloc(type, 0);

    if (self == NULL)
        source->release(source);
    else
        self->source = source;
    return (PyObject *)self;
}

static PyObject *
source_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    arguments a = {.parts = NULL};
    mdn_metadata_source *source;
    mdn_error err;
    mdn_status st;
    bool read;

    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Source takes no keywords");
        return NULL;
    }
    read = read_arguments(args, &a) == 0;
    st = read ? mdn_postgres_source_new(&a.options, &source, &err) : MDN_OK;
    PyMem_Free(a.parts);
    PyMem_Free(a.settings);
    if (!read)
        return NULL;
    if (st != MDN_OK)
        return mdn_pypg_raise(mdn_pypg_state_of_type(type), &err);
    return wrap(type, source);
}

static void
source_dealloc(PyObject *object)
{
    mdn_metadata_source *source = ((source_object *)object)->source;
    PyTypeObject *type = Py_TYPE(object);

    if (source != NULL)
        source->release(source); /* says goodbye, and does not wait */
    type->tp_free(object);
    Py_DECREF(type);
}

/* ---- filters ---- */

static int
read_bound(PyObject *object, bool *has, int64_t *out)
{
    *has = object != Py_None;
    if (!*has)
        return 0;
    *out = PyLong_AsLongLong(object);
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

/* A tuple of int, ascending; into memory of PyMem. */
static int
read_labels(PyObject *tuple, mdn_filter *filter)
{
    Py_ssize_t count;
    int64_t *labels;

    filter->by_label = tuple != Py_None;
    if (!filter->by_label)
        return 0;
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "labels must be a tuple, or None");
        return -1;
    }
    count = PyTuple_GET_SIZE(tuple);
    labels = PyMem_Calloc((size_t)count + 1, sizeof *labels);
    if (labels == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    filter->labels = labels;
    filter->label_count = (uint64_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        labels[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
        if (labels[i] == -1 && PyErr_Occurred())
            return -1;
        if (i > 0 && labels[i] <= labels[i - 1]) {
            PyErr_SetString(PyExc_ValueError, "labels must ascend strictly");
            return -1;
        }
    }
    return 0;
}

PyDoc_STRVAR(where_doc,
             "where($self, start, stop, labels, /)\n--\n\n"
             "Return a source of those samples with start <= timestamp < stop "
             "and one of the labels.\n\n"
             "None is any; labels: a tuple, ascending. A filter that self has "
             "is forgotten.");

static PyObject *
source_where(PyObject *object, PyObject *args)
{
    source_object *self = (source_object *)object;
    mdn_filter filter = {.labels = NULL};
    PyObject *start, *stop, *labels, *result = NULL;
    mdn_metadata_source *source;
    mdn_error err;
    mdn_status st;

    if (PyArg_ParseTuple(args, "OOO:where", &start, &stop, &labels)
        && read_bound(start, &filter.has_start, &filter.start) == 0
        && read_bound(stop, &filter.has_stop, &filter.stop) == 0
        && read_labels(labels, &filter) == 0) {
        st = mdn_postgres_source_where(self->source, &filter, &source, &err);
        if (st == MDN_OK)
            result = wrap(Py_TYPE(object), source);
        else
            mdn_pypg_raise(mdn_pypg_state_of_type(Py_TYPE(object)), &err);
    }
    PyMem_Free((void *)filter.labels);
    return result;
}

/* ---- the capsule ---- */

static void
capsule_free(PyObject *capsule)
{
    mdn_metadata_source *source =
        PyCapsule_GetPointer(capsule, MDN_SOURCE_CAPSULE);

    if (source != NULL)
        source->release(source);
}

static PyObject *
source_capsule(PyObject *object, void *Py_UNUSED(closure))
{
    mdn_metadata_source *source = ((source_object *)object)->source;
    PyObject *capsule =
        PyCapsule_New(source->retain(source), MDN_SOURCE_CAPSULE, capsule_free);

    if (capsule == NULL)
        source->release(source);
    return capsule;
}

static PyObject *
source_count(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(
        ((source_object *)object)->source->count);
}

static PyObject *
source_has_labels(PyObject *object, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((source_object *)object)->source->has_labels);
}

/* ---- the type ---- */

static PyMethodDef source_methods[] = {
    {"where", source_where, METH_VARARGS, where_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef source_getset[] = {
    {"capsule", source_capsule, NULL, "For modyn._core.", NULL},
    {"count", source_count, NULL, "Positions of the stream.", NULL},
    {"has_labels", source_has_labels, NULL, "Whether the samples have labels.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(source_doc,
             "Source(conninfo, connect_seconds, retry_seconds, settings, "
             "blocks, has_keys, has_labels, parts, /)\n--\n\n"
             "Samples in tables of a server; see modyn.metadata.source.");

static PyType_Slot source_slots[] = {
    {Py_tp_doc, (void *)source_doc},         {Py_tp_new, (void *)source_new},
    {Py_tp_dealloc, (void *)source_dealloc}, {Py_tp_methods, source_methods},
    {Py_tp_getset, source_getset},           {0, NULL},
};

static PyType_Spec source_spec = {
    .name = "modyn._postgres.Source",
    .basicsize = sizeof(source_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = source_slots,
};

int
mdn_pypg_add_source(PyObject *module)
{
    return mdn_pypg_add_type(module, &source_spec);
}
