/* read_files.c - modyn._core.read_tar, read_files, file_facts and file_check:
 * whole files, in an archive or alone. */
#include "ingest/files.h"
#include "ingest/input.h"
#include "ingest/tar.h"
#include "python/reader.h"

#include <stdlib.h>

#define CHECK_SLICE                                                            \
    (UINT64_C(64) << 20) /* bytes between two looks at signals */

/* read_tar -------------------------------------------------------------- */

static PyObject *
open_tar(mdn_py_state *state, mdn_py_reader_file *file, PyObject *extensions,
         mdn_tar_options *options)
{
    Py_ssize_t count = PyTuple_GET_SIZE(extensions);
    const char **own = calloc((size_t)count + 1, sizeof *own);
    mdn_error err = {.status = MDN_CALLBACK}; /* what is raised is raised */
    mdn_reader *reader = NULL;

    options->file = file->file;
    options->extensions = own;
    if (own == NULL)
        PyErr_NoMemory();
    else if (count != (Py_ssize_t)file->schema->field_count)
        PyErr_SetString(PyExc_ValueError, "extensions must be one per field");
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++)
        own[i] = PyUnicode_AsUTF8(PyTuple_GET_ITEM(extensions, i));
    if (!PyErr_Occurred()) {
        Py_BEGIN_ALLOW_THREADS
        mdn_tar_open(options, &reader, &err);
        Py_END_ALLOW_THREADS
    }
    free(own);
    return mdn_py_reader_end(state, file, reader, &err);
}

PyDoc_STRVAR(read_tar_doc,
             "read_tar($module, path, schema, extensions, label, timestamp, "
             "time_unit_ns, threads, growing, /)\n--\n\n"
             "A Reader of a tar archive.  extensions: of each field, with\n"
             "semicolons between; label and timestamp likewise, or None;\n"
             "time_unit_ns: if not 0, timestamps are those of the members.");

static PyObject *
read_tar(PyObject *module, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_module(module);
    PyObject *path, *extensions;
    mdn_tar_options options = {.label = NULL};
    mdn_py_reader_file file;
    unsigned long long time_unit_ns;
    const char *schema;
    unsigned threads;
    int growing;

    if (!PyArg_ParseTuple(args, "OsO!zzKIp", &path, &schema, &PyTuple_Type,
                          &extensions, &options.label, &options.timestamp,
                          &time_unit_ns, &threads, &growing))
        return NULL;
    options.time_unit_ns = time_unit_ns;
    if (mdn_py_reader_begin(state, path, schema, threads, growing, &file) < 0)
        return NULL;
    return open_tar(state, &file, extensions, &options);
}

/* read_files ------------------------------------------------------------ */

PyDoc_STRVAR(read_files_doc,
             "read_files($module, schema, paths, count, labels, time_unit_ns, "
             "threads, /)\n--\n\n"
             "A Reader of single files.  paths: of count samples the file of\n"
             "each field and, with labels, the one that holds the label; each\n"
             "path ended by a zero byte.  time_unit_ns: if not 0, timestamps\n"
             "are when the first file of each sample was changed.");

static PyObject *
read_files(PyObject *module, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_module(module);
    unsigned long long count, time_unit_ns;
    mdn_files_options options;
    mdn_py_reader_file file;
    mdn_reader *reader = NULL;
    const char *schema, *paths;
    Py_ssize_t paths_size;
    PyObject *no_path;
    unsigned threads;
    mdn_error err;
    int labels, failed;

    if (!PyArg_ParseTuple(args, "sy#KpKI", &schema, &paths, &paths_size, &count,
                          &labels, &time_unit_ns, &threads))
        return NULL;
    if ((no_path = PyUnicode_FromString("")) == NULL)
        return NULL;
    failed = mdn_py_reader_begin(state, no_path, schema, threads, 0, &file);
    Py_DECREF(no_path);
    if (failed)
        return NULL;
    options = (mdn_files_options){.file = file.file,
                                  .paths = paths,
                                  .paths_size = (uint64_t)paths_size,
                                  .count = count,
                                  .labels = labels != 0,
                                  .time_unit_ns = time_unit_ns};
    Py_BEGIN_ALLOW_THREADS
    mdn_files_open(&options, &reader, &err);
    Py_END_ALLOW_THREADS
    return mdn_py_reader_end(state, &file, reader, &err);
}

/* Facts ----------------------------------------------------------------- */

PyDoc_STRVAR(file_facts_doc,
             "file_facts($module, path, /)\n--\n\n"
             "(size, mtime_ns, device, inode) of a regular file.");

static PyObject *
file_facts(PyObject *module, PyObject *argument)
{
    PyObject *path;
    mdn_input input;
    mdn_error err;
    mdn_status st;

    if (!PyUnicode_FSConverter(argument, &path))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_input_open(&mdn_io_system, PyBytes_AS_STRING(path), true, &input,
                        &err);
    mdn_input_close(&input);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_module(module), &err);
    return Py_BuildValue("(KLKK)", (unsigned long long)input.facts.size,
                         (long long)input.facts.mtime_ns,
                         (unsigned long long)input.facts.device,
                         (unsigned long long)input.facts.inode);
}

/* Slice by slice, so that Ctrl-C is heard.  -1 and an exception. */
static int
check_range(mdn_py_state *state, const mdn_input *input, uint64_t first,
            uint64_t size, uint32_t *crc)
{
    while (size > 0) {
        uint64_t part = size < CHECK_SLICE ? size : CHECK_SLICE;
        mdn_status st;
        mdn_error err;

        Py_BEGIN_ALLOW_THREADS
        st = mdn_input_check(input, first, part, crc, &err);
        Py_END_ALLOW_THREADS
        if (st != MDN_OK) {
            mdn_py_raise(state, &err);
            return -1;
        }
        if (PyErr_CheckSignals() < 0)
            return -1;
        first += part;
        size -= part;
    }
    return 0;
}

PyDoc_STRVAR(file_check_doc,
             "file_check($module, path, first, size, /)\n--\n\n"
             "CRC-32C of bytes first .. first + size of a regular file.");

static PyObject *
file_check(PyObject *module, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_module(module);
    unsigned long long first, size;
    PyObject *path;
    uint32_t crc = 0;
    mdn_input input;
    mdn_error err;
    mdn_status st;
    int failed = -1;

    if (!PyArg_ParseTuple(args, "O&KK", PyUnicode_FSConverter, &path, &first,
                          &size))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_input_open(&mdn_io_system, PyBytes_AS_STRING(path), true, &input,
                        &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK)
        mdn_py_raise(state, &err);
    else if (size > input.facts.size || first > input.facts.size - size)
        PyErr_Format(PyExc_ValueError,
                     "%s: has %llu bytes, so there are no %llu bytes at %llu",
                     input.name, (unsigned long long)input.facts.size, size,
                     first);
    else
        failed = check_range(state, &input, first, size, &crc);
    Py_DECREF(path);
    mdn_input_close(&input);
    return failed ? NULL : PyLong_FromUnsignedLong(crc);
}

static PyMethodDef functions[] = {
    {"read_tar", read_tar, METH_VARARGS, read_tar_doc},
    {"read_files", read_files, METH_VARARGS, read_files_doc},
    {"file_facts", file_facts, METH_O, file_facts_doc},
    {"file_check", file_check, METH_VARARGS, file_check_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_read_files(PyObject *module, mdn_py_state *state)
{
    (void)state;
    return PyModule_AddFunctions(module, functions);
}
