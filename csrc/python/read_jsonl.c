/* read_jsonl.c - modyn._core.read_jsonl. */
#include "ingest/jsonl.h"
#include "python/reader.h"

#include <stdlib.h>
#include <string.h>

/* Field i takes the value at keys[i]; a NUL in a key would end it. */
static int
read_source(PyObject *keys, PyObject *base64, Py_ssize_t i,
            mdn_jsonl_source *out)
{
    Py_ssize_t size;
    int flag;

    out->key = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(keys, i), &size);
    if (out->key == NULL)
        return -1;
    if (strlen(out->key) != (size_t)size) {
        PyErr_SetString(PyExc_ValueError, "a key must not contain NUL");
        return -1;
    }
    if ((flag = PyObject_IsTrue(PyTuple_GET_ITEM(base64, i))) < 0)
        return -1;
    out->base64 = flag != 0;
    return 0;
}

static mdn_jsonl_source *
read_sources(PyObject *keys, PyObject *base64)
{
    Py_ssize_t count = PyTuple_GET_SIZE(keys);
    mdn_jsonl_source *sources;

    if (PyTuple_GET_SIZE(base64) != count) {
        PyErr_Format(PyExc_ValueError, "%zd keys, but %zd flags of base64",
                     count, PyTuple_GET_SIZE(base64));
        return NULL;
    }
    sources = calloc((size_t)count + 1, sizeof *sources);
    if (sources == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (read_source(keys, base64, i, &sources[i]) < 0) {
            free(sources);
            return NULL;
        }
    }
    return sources;
}

/* The options borrow from `sources`, count of them. */
static PyObject *
open_jsonl(mdn_py_state *state, mdn_py_reader_file *file, Py_ssize_t count,
           mdn_jsonl_options *options)
{
    mdn_reader *reader = NULL;
    mdn_error err;

    options->file = file->file;
    if ((uint64_t)count != file->schema->field_count) {
        mdn_fail(&err, MDN_INVALID,
                 "the schema has %u fields, but %llu keys "
                 "are given for them",
                 file->schema->field_count, (unsigned long long)count);
        return mdn_py_reader_end(state, file, NULL, &err);
    }
    Py_BEGIN_ALLOW_THREADS
    mdn_jsonl_open(options, &reader, &err);
    Py_END_ALLOW_THREADS
    return mdn_py_reader_end(state, file, reader, &err);
}

PyDoc_STRVAR(read_jsonl_doc,
             "read_jsonl($module, path, schema, keys, base64, label, "
             "timestamp, threads, growing, piece_size=0, /)\n--\n\n"
             "A Reader of one file of JSON lines.  keys and base64 have one\n"
             "entry per field: where its value is (names with dots between\n"
             "them), and whether it is base64; label and timestamp are keys,\n"
             "or None where there is none.");

static PyObject *
read_jsonl(PyObject *module, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_module(module);
    PyObject *path, *keys, *base64, *result = NULL;
    mdn_jsonl_options options = {.label = NULL};
    unsigned long long piece_size = 0;
    mdn_jsonl_source *sources;
    mdn_py_reader_file file;
    const char *schema;
    unsigned threads;
    int growing;

    if (!PyArg_ParseTuple(args, "OsO!O!zzIp|K", &path, &schema, &PyTuple_Type,
                          &keys, &PyTuple_Type, &base64, &options.label,
                          &options.timestamp, &threads, &growing, &piece_size))
        return NULL;
    if ((sources = read_sources(keys, base64)) == NULL)
        return NULL;
    options.fields = sources;
    options.piece_size = piece_size;
    if (mdn_py_reader_begin(state, path, schema, threads, growing, &file) == 0)
        result = open_jsonl(state, &file, PyTuple_GET_SIZE(keys), &options);
    free(sources);
    return result;
}

static PyMethodDef functions[] = {
    {"read_jsonl", read_jsonl, METH_VARARGS, read_jsonl_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_read_jsonl(PyObject *module, mdn_py_state *state)
{
    (void)state;
    return PyModule_AddFunctions(module, functions);
}
