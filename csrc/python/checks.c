/* checks.c - modyn._core.content_checks: by which bytes files are known again
 * that were read as a whole and lie in memory, one after the other. */
#include "python/python.h"

#include "base/crc32c.h"

#include <stdbool.h>
#include <stdlib.h>

/* Whether offsets ascend from 0 or more and end within size. */
static bool
offsets_are_sound(const int64_t *offsets, uint64_t count, uint64_t size)
{
    for (uint64_t i = 0; i < count; i++) {
        if (offsets[i + 1] < offsets[i])
            return false;
    }
    return offsets[0] >= 0 && (uint64_t)offsets[count] <= size;
}

static void
compute(const uint8_t *values, const int64_t *offsets, uint64_t count,
        uint64_t limit, uint32_t *out)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *begin = values + offsets[i];
        uint64_t size = (uint64_t)(offsets[i + 1] - offsets[i]);
        uint64_t part = size < limit ? size : limit;

        out[i] = mdn_crc32c(0, begin, part);
        out[count + i] =
            size <= limit ? out[i] : mdn_crc32c(0, begin + size - part, part);
    }
}

static PyObject *
as_lists(const uint32_t *checks, uint64_t count)
{
    PyObject *lists[2] = {PyList_New((Py_ssize_t)count),
                          PyList_New((Py_ssize_t)count)};

    for (uint64_t i = 0; lists[0] && lists[1] && i < 2 * count; i++) {
        PyObject *number = PyLong_FromUnsignedLong(checks[i]);

        if (number == NULL)
            Py_CLEAR(lists[0]);
        else
            PyList_SET_ITEM(lists[i / count], (Py_ssize_t)(i % count), number);
    }
    if (lists[0] != NULL && lists[1] != NULL)
        return Py_BuildValue("(NN)", lists[0], lists[1]);
    Py_XDECREF(lists[0]);
    Py_XDECREF(lists[1]);
    return NULL;
}

PyDoc_STRVAR(content_checks_doc,
             "content_checks($module, values, offsets, limit, /)\n--\n\n"
             "CRC-32C of the first and of the last `limit` bytes of each\n"
             "content values[offsets[i]:offsets[i + 1]], as two lists.");

static PyObject *
content_checks(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer values, offsets;
    unsigned long long limit;
    PyObject *result = NULL;
    uint32_t *checks;
    uint64_t count;

    if (!PyArg_ParseTuple(args, "y*y*K", &values, &offsets, &limit))
        return NULL;
    count = (uint64_t)offsets.len / sizeof(int64_t);
    count -= count > 0;
    checks = malloc((2 * count + 1) * sizeof *checks);
    if (checks == NULL) {
        PyErr_NoMemory();
    } else if (offsets.len < (Py_ssize_t)sizeof(int64_t)
               || !offsets_are_sound(offsets.buf, count,
                                     (uint64_t)values.len)) {
        PyErr_SetString(PyExc_ValueError,
                        "offsets do not ascend within the values");
    } else {
        Py_BEGIN_ALLOW_THREADS
        compute(values.buf, offsets.buf, count, limit, checks);
        Py_END_ALLOW_THREADS
        result = as_lists(checks, count);
    }
    free(checks);
    PyBuffer_Release(&values);
    PyBuffer_Release(&offsets);
    return result;
}

static PyMethodDef functions[] = {
    {"content_checks", content_checks, METH_VARARGS, content_checks_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_checks(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
