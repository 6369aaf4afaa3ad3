/* read_csv.c - modyn._core.read_csv. */
#include "ingest/csv.h"
#include "python/reader.h"

#include <stdlib.h>

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

/* The same where there may be none: *place is NULL then, or out. */
static int
read_optional(PyObject *object, mdn_csv_source *out,
              const mdn_csv_source **place)
{
    *place = object == Py_None ? NULL : out;
    return object == Py_None ? 0 : read_source(object, out);
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

static PyObject *
open_csv(mdn_py_state *state, mdn_py_reader_file *file,
         mdn_csv_options *options)
{
    mdn_reader *reader;
    mdn_error err;

    options->file = file->file;
    Py_BEGIN_ALLOW_THREADS
    mdn_csv_open(options, &reader, &err);
    Py_END_ALLOW_THREADS
    return mdn_py_reader_end(state, file, reader, &err);
}

PyDoc_STRVAR(
    read_csv_doc,
    "read_csv($module, path, schema, header, separator, quote, "
    "elements, label, timestamp, threads, growing, piece_size=0, /)\n--\n\n"
    "A Reader of one CSV file.  separator and quote are bytes as\n"
    "ints, quote -1 for none; elements, label and timestamp are\n"
    "columns by name or index, elements one per element of every\n"
    "field, label and timestamp None where there is none.");

static PyObject *
read_csv(PyObject *module, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_module(module);
    PyObject *path, *elements, *label, *timestamp, *result = NULL;
    mdn_csv_source *sources, label_source, timestamp_source;
    mdn_csv_options options = {.header = false};
    mdn_py_reader_file file;
    const char *schema;
    int header, separator, quote, growing;
    unsigned threads;
    unsigned long long piece_size = 0;

    if (!PyArg_ParseTuple(args, "OspiiO!OOIp|K", &path, &schema, &header,
                          &separator, &quote, &PyTuple_Type, &elements, &label,
                          &timestamp, &threads, &growing, &piece_size))
        return NULL;
    if ((sources = read_sources(elements)) == NULL)
        return NULL;
    options.header = header != 0;
    options.separator = (char)separator;
    options.quote = quote;
    options.piece_size = piece_size;
    options.elements = sources;
    options.element_count = (uint64_t)PyTuple_GET_SIZE(elements);
    if (read_optional(label, &label_source, &options.label) == 0
        && read_optional(timestamp, &timestamp_source, &options.timestamp) == 0
        && mdn_py_reader_begin(state, path, schema, threads, growing, &file)
               == 0)
        result = open_csv(state, &file, &options);
    free(sources);
    return result;
}

static PyMethodDef functions[] = {
    {"read_csv", read_csv, METH_VARARGS, read_csv_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_read_csv(PyObject *module, mdn_py_state *state)
{
    (void)state;
    return PyModule_AddFunctions(module, functions);
}
