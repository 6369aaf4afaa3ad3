/* resident.c - samples in memory: brought there, or copied, for
 * modyn._core.View. */
#include "python/view.h"

#include "storage/hugecopy.h"
#include "storage/verify.h"
#include "storage/wants.h"

#define SLICE_SPANS 4096 /* between looks at signals: some 50 ms of a disk */
#define SLICE_BYTES (UINT64_C(64) << 20)

const char mdn_py_view_bring_doc[] =
    "bring($self, keys, requests, /)\n--\n\n"
    "Read in what a fetch of these keys needs, with so many requests at a\n"
    "time.  It is advice: what cannot be read is left to the fetch.  Returns\n"
    "how many bytes these are, and how many of them were in memory before.";

/* Spans first .. of a slice, which ends before the one returned. */
static uint64_t
slice_end(const mdn_spans *spans, uint64_t first)
{
    uint64_t bytes = 0, end = first;

    while (end < spans->count && end - first < SLICE_SPANS
           && bytes < SLICE_BYTES)
        bytes += spans->items[end++].size;
    return end;
}

static PyObject *
bring_spans(const mdn_view *view, const mdn_spans *spans, uint32_t requests)
{
    const mdn_io *io = view->store->io;
    uint64_t resident;

    Py_BEGIN_ALLOW_THREADS
    resident = mdn_spans_resident(spans, io);
    Py_END_ALLOW_THREADS
    for (uint64_t at = 0, end; at < spans->count; at = end) {
        end = slice_end(spans, at);
        Py_BEGIN_ALLOW_THREADS
        mdn_spans_bring(spans, at, end, io, requests, NULL);
        Py_END_ALLOW_THREADS
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
    return Py_BuildValue("(KK)", (unsigned long long)spans->bytes,
                         (unsigned long long)resident);
}

PyObject *
mdn_py_view_bring(mdn_py_view_object *self, PyTypeObject *type,
                  PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    mdn_py_state *state = mdn_py_state_of_type(type);
    mdn_spans spans = {0};
    PyObject *result = NULL;
    unsigned long requests;
    Py_buffer keys;
    mdn_status st;
    mdn_error err;

    if (nargs != 2 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "bring(keys, requests)");
        return NULL;
    }
    requests = PyLong_AsUnsignedLong(args[1]);
    if (requests == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (requests > MDN_REQUESTS_MAX)
        requests = MDN_REQUESTS_MAX;
    if (mdn_py_buffer(args[0], "keys", "LQ", sizeof(uint64_t), 0, &keys) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_wants_of(self->core, keys.buf, (uint64_t)keys.len / 8,
                      MDN_WANT_RECORDS | MDN_WANT_LABELS, NULL, &spans, &err);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&keys);
    if (st != MDN_OK)
        return mdn_py_raise(state, &err);
    result = bring_spans(self->core, &spans, (uint32_t)requests);
    mdn_spans_free(&spans);
    return result;
}

/* Keys first .. end-1 from two arguments; -1 and an exception. */
static int
read_range(mdn_view *view, PyObject *const *args, uint64_t *first,
           uint64_t *end)
{
    unsigned long long a = PyLong_AsUnsignedLongLong(args[0]), b;

    if (PyErr_Occurred())
        return -1;
    b = PyLong_AsUnsignedLongLong(args[1]);
    if (PyErr_Occurred())
        return -1;
    if (a >= b || b > mdn_view_count(view)) {
        PyErr_Format(PyExc_ValueError,
                     "keys %llu to %llu (exclusive) are none of %llu", a, b,
                     (unsigned long long)mdn_view_count(view));
        return -1;
    }
    *first = a;
    *end = b;
    return 0;
}

const char mdn_py_view_copy_size_doc[] =
    "copy_size($self, first, end, /)\n--\n\n"
    "Bytes that hugepages(first, end, ...) takes.";

PyObject *
mdn_py_view_copy_size(mdn_py_view_object *self, PyTypeObject *type,
                      PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    uint64_t first, end, bytes;
    mdn_status st;
    mdn_error err;

    if (nargs != 2 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "copy_size(first, end)");
        return NULL;
    }
    if (read_range(self->core, args, &first, &end) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_hugecopy_size(self->core, first, end, &bytes, &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(type), &err);
    return PyLong_FromUnsignedLongLong(bytes);
}

const char mdn_py_view_hugepages_doc[] =
    "hugepages($self, first, end, threads, /)\n--\n\n"
    "A view whose records of keys first .. end-1 are in huge pages of its own,\n"
    "verified; it shows what this one shows.";

PyObject *
mdn_py_view_hugepages(mdn_py_view_object *self, PyTypeObject *type,
                      PyObject *const *args, Py_ssize_t nargs,
                      PyObject *kwnames)
{
    mdn_py_state *state = mdn_py_state_of_type(type);
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    unsigned long threads;
    uint64_t first, end;
    mdn_view *copy;
    mdn_status st;
    mdn_error err;

    if (nargs != 3 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "hugepages(first, end, threads)");
        return NULL;
    }
    threads = PyLong_AsUnsignedLong(args[2]);
    if (PyErr_Occurred() || read_range(self->core, args, &first, &end) < 0)
        return NULL;
    thread = PyEval_SaveThread();
    st = mdn_hugecopy_new(self->core, first, end,
                          threads > UINT32_MAX ? UINT32_MAX : (uint32_t)threads,
                          &pulse, &copy, &err);
    PyEval_RestoreThread(thread);
    if (st == MDN_CALLBACK)
        return NULL; /* its exception is set */
    if (st != MDN_OK)
        return mdn_py_raise(state, &err);
    return mdn_py_view_new(state, copy);
}
