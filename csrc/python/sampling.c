/* sampling.c - how much each group gives. */
#include "python/sampling.h"
#include "python/candidates.h"

#include "selector/shares.h"

#include <stdlib.h>

int
mdn_py_read_mode(int number, mdn_shares_mode *out)
{
    switch (number) {
    case MDN_SHARES_LEVEL:
    case MDN_SHARES_EXACT:
    case MDN_SHARES_EQUAL: *out = (mdn_shares_mode)number; return 0;
    default:
        PyErr_Format(PyExc_ValueError, "mode must be 0, 1 or 2, got %d",
                     number);
        return -1;
    }
}

PyDoc_STRVAR(fair_shares_doc,
             "fair_shares($module, sizes, capacity, mode, seed, /)\n--\n\n"
             "Return how much each group gives; uint64, the shape of sizes.");

static PyObject *
fair_shares(PyObject *module, PyObject *args)
{
    PyObject *object;
    unsigned long long capacity, seed;
    int number;
    mdn_shares_mode mode;
    Py_buffer sizes;
    uint64_t *shares;
    uint64_t count;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OKiK:fair_shares", &object, &capacity, &number,
                          &seed)
        || mdn_py_read_mode(number, &mode) < 0
        || mdn_py_read_column(object, "sizes", "LQ", &sizes) < 0)
        return NULL;
    count = (uint64_t)sizes.len / 8;
    shares = malloc(count > 0 ? count * sizeof *shares : 1);
    if (shares == NULL) {
        PyBuffer_Release(&sizes);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    st = mdn_shares_fill(sizes.buf, count, capacity, mode, seed, shares, &err);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&sizes);
    if (st == MDN_OK)
        return mdn_py_owned_array(shares, MDN_UINT64, count);
    free(shares);
    return mdn_py_raise(mdn_py_state_of_module(module), &err);
}

static PyMethodDef functions[] = {
    {"fair_shares", fair_shares, METH_VARARGS, fair_shares_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_fair_shares(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
