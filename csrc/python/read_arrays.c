/* read_arrays.c - modyn._core.read_fixed and read_npy: records of one size. */
#include "ingest/fixed.h"
#include "ingest/npy.h"
#include "python/reader.h"

#include <stdlib.h>

/* read_fixed ------------------------------------------------------------ */

/* (offset, big_endian) of every field; there is room for them. */
static int
read_places(PyObject *tuple, uint64_t *offsets, bool *big_endian)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *place = PyTuple_GET_ITEM(tuple, i);
        unsigned long long offset;
        int big;

        if (!PyTuple_Check(place)
            || !PyArg_ParseTuple(place, "Kp", &offset, &big)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "places must be tuples");
            return -1;
        }
        offsets[i] = offset;
        big_endian[i] = big != 0;
    }
    return 0;
}

static int
check_count(const mdn_py_reader_file *file, PyObject *tuple)
{
    Py_ssize_t count = (Py_ssize_t)file->schema->field_count;

    if (PyTuple_GET_SIZE(tuple) == count)
        return 0;
    PyErr_Format(PyExc_ValueError, "the schema has %zd fields, got %zd", count,
                 PyTuple_GET_SIZE(tuple));
    return -1;
}

static PyObject *
open_fixed(mdn_py_state *state, mdn_py_reader_file *file, PyObject *places,
           mdn_fixed_options *options)
{
    mdn_error err = {.status = MDN_CALLBACK}; /* what is raised is raised */
    mdn_reader *reader = NULL;

    options->file = file->file;
    if (check_count(file, places) == 0) {
        Py_BEGIN_ALLOW_THREADS
        mdn_fixed_open(options, &reader, &err);
        Py_END_ALLOW_THREADS
    }
    return mdn_py_reader_end(state, file, reader, &err);
}

PyDoc_STRVAR(read_fixed_doc,
             "read_fixed($module, path, schema, first_record, record_size, "
             "fields, label, timestamp, threads, growing, /)\n--\n\n"
             "A Reader of records of one size.  fields: (offset, big_endian)\n"
             "of each; label and timestamp: (offset, size, signed,\n"
             "big_endian) or None.");

static PyObject *
read_fixed(PyObject *module, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_module(module);
    PyObject *path, *places, *label, *timestamp, *result = NULL;
    mdn_fixed_options options = {.record_size = 0};
    mdn_py_reader_file file;
    unsigned long long first_record, record_size;
    const char *schema;
    uint64_t *offsets;
    bool *big_endian;
    unsigned threads;
    int growing;
    size_t count;

    if (!PyArg_ParseTuple(args, "OsKKO!OOIp", &path, &schema, &first_record,
                          &record_size, &PyTuple_Type, &places, &label,
                          &timestamp, &threads, &growing))
        return NULL;
    count = (size_t)PyTuple_GET_SIZE(places) + 1;
    options.first_record = first_record;
    options.record_size = record_size;
    options.offsets = offsets = calloc(count, sizeof *offsets);
    options.big_endian = big_endian = calloc(count, sizeof *big_endian);
    if (offsets == NULL || big_endian == NULL)
        PyErr_NoMemory();
    else if (read_places(places, offsets, big_endian) == 0
             && mdn_py_number_at(label, &options.label) == 0
             && mdn_py_number_at(timestamp, &options.timestamp) == 0
             && mdn_py_reader_begin(state, path, schema, threads, growing,
                                    &file)
                    == 0)
        result = open_fixed(state, &file, places, &options);
    free(offsets);
    free(big_endian);
    return result;
}

/* read_npy -------------------------------------------------------------- */

/* One name per field, borrowed from the tuple. */
static const char **
read_names(PyObject *tuple)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    const char **names = calloc((size_t)count + 1, sizeof *names);

    if (names == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(tuple, i);

        names[i] = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
        if (names[i] == NULL) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "names must be strings");
            free(names);
            return NULL;
        }
    }
    return names;
}

PyDoc_STRVAR(read_npy_doc,
             "read_npy($module, path, schema, names, label, timestamp, "
             "threads, growing, /)\n--\n\n"
             "A Reader of an .npy or .npz file.  names: the array of each\n"
             "field; label and timestamp: those of theirs, or None.");

static PyObject *
read_npy(PyObject *module, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_module(module);
    PyObject *path, *names, *result = NULL;
    mdn_npy_options options = {.names = NULL};
    mdn_error err = {.status = MDN_CALLBACK};
    mdn_py_reader_file file;
    mdn_reader *reader = NULL;
    const char *schema;
    const char **own;
    unsigned threads;
    int growing;

    if (!PyArg_ParseTuple(args, "OsO!zzIp", &path, &schema, &PyTuple_Type,
                          &names, &options.label, &options.timestamp, &threads,
                          &growing))
        return NULL;
    if ((own = read_names(names)) == NULL)
        return NULL;
    options.names = own;
    if (mdn_py_reader_begin(state, path, schema, threads, growing, &file)
        == 0) {
        options.file = file.file;
        if (check_count(&file, names) == 0) {
            Py_BEGIN_ALLOW_THREADS
            mdn_npy_open(&options, &reader, &err);
            Py_END_ALLOW_THREADS
        }
        result = mdn_py_reader_end(state, &file, reader, &err);
    }
    free(own);
    return result;
}

static PyMethodDef functions[] = {
    {"read_fixed", read_fixed, METH_VARARGS, read_fixed_doc},
    {"read_npy", read_npy, METH_VARARGS, read_npy_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_read_arrays(PyObject *module, mdn_py_state *state)
{
    (void)state;
    return PyModule_AddFunctions(module, functions);
}
