/* kernelsum.c - sums over pairs of rows; their face is modyn/drift/kernels.py.
 */
#include "python/python.h"

#include "selector/kernelsum.h"

#include <stdlib.h>

/* ---- arguments ---- */

/* A matrix of float32 or float64 with at least one column; the buffer is held
 * by the caller. */
static int
read_rows(PyObject *object, const char *name, Py_buffer *held,
          mdn_pair_rows *out)
{
    Py_buffer any;
    int is_double;

    if (PyObject_GetBuffer(object, &any, PyBUF_STRIDES) < 0)
        return -1;
    is_double = any.itemsize == 8;
    PyBuffer_Release(&any);
    if (mdn_py_buffer(object, name, is_double ? "d" : "f", is_double ? 8 : 4, 0,
                      held)
        < 0)
        return -1;
    if (held->ndim != 2 || held->shape[1] < 1 || held->shape[1] > INT32_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "%s must have two dimensions, and at least one column",
                     name);
        PyBuffer_Release(held);
        return -1;
    }
    *out = (mdn_pair_rows){.cells = held->buf,
                           .count = (uint64_t)held->shape[0],
                           .width = (uint32_t)held->shape[1],
                           .is_double = is_double != 0};
    return 0;
}

/* What one call runs with; must not move after options_init. */
typedef struct {
    PyThreadState *thread;
    mdn_pulse pulse;
    mdn_beat beat;
    mdn_pair_options options;
} running;

static int
options_init(running *r, unsigned int threads)
{
    *r = (running){
        .pulse = {.ask = mdn_py_check_signals, .ctx = &r->thread},
        .beat = {.pulse = &r->pulse},
        .options = {.threads = threads, .beat = &r->beat},
    };
    if (threads > 0)
        return 0;
    PyErr_SetString(PyExc_ValueError, "threads must be at least 1, got 0");
    return -1;
}

/* ---- the methods ---- */

PyDoc_STRVAR(kernelsum_doc,
             "kernelsum($module, rows, others, kernel, gamma, threads, /)\n"
             "--\n\n"
             "Return the sum over all pairs; others: None for the rows.\n\n"
             "kernel: 0 Gaussian, 1 norm.");

static PyObject *
kernelsum(PyObject *module, PyObject *args)
{
    PyObject *one, *two, *answer = NULL;
    Py_buffer held_one, held_two = {.obj = NULL};
    mdn_pair_rows rows, others;
    mdn_error err;
    mdn_status st;
    double gamma, total;
    unsigned int threads;
    running r;
    int kernel;

    if (!PyArg_ParseTuple(args, "OOidI:kernelsum", &one, &two, &kernel, &gamma,
                          &threads)
        || options_init(&r, threads) < 0
        || read_rows(one, "rows", &held_one, &rows) < 0)
        return NULL;
    if (two != Py_None && read_rows(two, "others", &held_two, &others) < 0) {
        PyBuffer_Release(&held_one);
        return NULL;
    }
    if (two != Py_None && others.width != rows.width) {
        PyErr_Format(PyExc_ValueError, "expected others of width %u, got %u",
                     rows.width, others.width);
    } else {
        r.thread = PyEval_SaveThread();
        st = mdn_kernelsum(&rows, two != Py_None ? &others : NULL,
                           kernel == 0 ? MDN_PAIR_GAUSSIAN : MDN_PAIR_NORM,
                           gamma, &r.options, &total, &err);
        PyEval_RestoreThread(r.thread);
        answer = st == MDN_OK
                     ? PyFloat_FromDouble(total)
                     : mdn_py_raise(mdn_py_state_of_module(module), &err);
    }
    PyBuffer_Release(&held_one);
    if (held_two.obj != NULL)
        PyBuffer_Release(&held_two);
    return answer;
}

PyDoc_STRVAR(pair_squares_doc,
             "pair_squares($module, rows, out, threads, /)\n--\n\n"
             "Write the squared distances of all pairs of rows into out, "
             "float64 of n (n - 1) / 2 numbers.");

static PyObject *
pair_squares(PyObject *module, PyObject *args)
{
    PyObject *object, *into, *answer = NULL;
    Py_buffer held, out;
    mdn_pair_rows rows;
    mdn_error err;
    mdn_status st;
    unsigned int threads;
    running r;

    if (!PyArg_ParseTuple(args, "OOI:pair_squares", &object, &into, &threads)
        || options_init(&r, threads) < 0
        || read_rows(object, "rows", &held, &rows) < 0)
        return NULL;
    if (mdn_py_buffer(into, "out", "d", 8, 1, &out) == 0) {
        Py_ssize_t n = held.shape[0];

        if (n > INT32_MAX || out.len / 8 != n * (n - 1) / 2) {
            PyErr_Format(PyExc_ValueError,
                         "out holds %zd numbers, which are not the pairs of "
                         "%zd rows",
                         out.len / 8, n);
        } else {
            r.thread = PyEval_SaveThread();
            st = mdn_pair_squares(&rows, &r.options, out.buf, &err);
            PyEval_RestoreThread(r.thread);
            answer = st == MDN_OK
                         ? Py_NewRef(Py_None)
                         : mdn_py_raise(mdn_py_state_of_module(module), &err);
        }
        PyBuffer_Release(&out);
    }
    PyBuffer_Release(&held);
    return answer;
}

static PyMethodDef functions[] = {
    {"kernelsum", kernelsum, METH_VARARGS, kernelsum_doc},
    {"pair_squares", pair_squares, METH_VARARGS, pair_squares_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_kernelsum(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
