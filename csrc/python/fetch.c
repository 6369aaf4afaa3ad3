/* fetch.c - View.fetch and View.payloads: samples by key.
 *
 * fetch copies into arrays, slice by slice.  The core copies without the GIL;
 * between slices of SLICE_BYTES a signal is heard, so that Ctrl-C ends a large
 * fetch.  payloads copies nothing: its arrays lie over the mapped files. */
#include "python/view.h"

#define SLICE_BYTES (UINT64_C(64) << 20) /* of samples, between signals */

/* Every payload has its place in values, which has size bytes. */
static int
check_offsets(const Py_buffer *offsets, Py_ssize_t size)
{
    const int64_t *at = offsets->buf;
    Py_ssize_t count = offsets->len / 8;

    for (Py_ssize_t i = 0; i < count; i++) {
        if (at[i] < (i == 0 ? 0 : at[i - 1]) || at[i] > size) {
            PyErr_Format(PyExc_ValueError,
                         "offsets[%zd] is %lld, not ascending within %zd", i,
                         (long long)at[i], size);
            return -1;
        }
    }
    return 0;
}

/* (field, values, offsets or None) into *target. */
static int
read_target(const mdn_schema *schema, PyObject *item, Py_ssize_t count,
            mdn_py_buffers *buffers, mdn_target *target)
{
    PyObject *values_object, *offsets_object;
    Py_buffer *values, *offsets;
    const mdn_field *field;

    if (!PyArg_ParseTuple(item, "IOO", &target->field, &values_object,
                          &offsets_object))
        return -1;
    if (target->field >= schema->field_count) {
        PyErr_Format(PyExc_ValueError, "field number %u of %u", target->field,
                     schema->field_count);
        return -1;
    }
    field = &schema->fields[target->field];
    if ((values = mdn_py_buffers_any(buffers, values_object, 1)) == NULL)
        return -1;
    target->values = values->buf;
    target->offsets = NULL;
    if (field->dtype == MDN_BYTES) {
        offsets = mdn_py_buffers_int64(buffers, offsets_object, "offsets", 1,
                                       count + 1, 0);
        if (offsets == NULL || check_offsets(offsets, values->len) < 0)
            return -1;
        target->offsets = offsets->buf;
    } else if ((uint64_t)values->len != (uint64_t)count * field->size_bytes) {
        PyErr_Format(PyExc_ValueError,
                     "field '%s': %zd bytes for %zd samples of %llu bytes",
                     field->name, values->len, count,
                     (unsigned long long)field->size_bytes);
        return -1;
    }
    return 0;
}

const char mdn_py_view_fetch_doc[] =
    "fetch($self, keys, targets, labels, timestamps, threads, /)\n--\n\n"
    "Gather the samples of keys into the arrays of targets, a tuple of\n"
    "(field number, values, offsets or None); labels and timestamps are int64\n"
    "arrays to fill, or None.";

/* The arguments of fetch, with all buffers held. */
typedef struct {
    mdn_py_buffers buffers;
    Py_buffer *keys, *labels, *timestamps;
    mdn_target *targets;
    Py_ssize_t target_count, count;
    unsigned int threads;
} fetch_arguments;

static int
read_fetch(const mdn_py_view_object *self, PyObject *const *args,
           Py_ssize_t nargs, fetch_arguments *in)
{
    const mdn_schema *schema = mdn_view_schema(self->core);
    unsigned long threads;

    if (nargs != 5 || !PyTuple_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "fetch(keys, targets: tuple, labels, "
                                         "timestamps, threads)");
        return -1;
    }
    in->target_count = PyTuple_GET_SIZE(args[1]);
    threads = PyLong_AsUnsignedLong(args[4]);
    if (threads == (unsigned long)-1 && PyErr_Occurred())
        return -1;
    in->threads = threads > UINT32_MAX ? UINT32_MAX : (unsigned int)threads;
    if (threads == 0) {
        PyErr_SetString(PyExc_ValueError, "threads must be at least 1, got 0");
        return -1;
    }
    if (mdn_py_buffers_init(&in->buffers, 3 + 2 * in->target_count) < 0)
        return -1;
    in->targets =
        PyMem_Calloc((size_t)in->target_count + 1, sizeof *in->targets);
    if (in->targets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    in->keys = mdn_py_buffers_int64(&in->buffers, args[0], "keys", 0, -1, 0);
    if (in->keys == NULL)
        return -1;
    in->count = in->keys->len / 8;
    for (Py_ssize_t i = 0; i < in->target_count; i++) {
        if (read_target(schema, PyTuple_GET_ITEM(args[1], i), in->count,
                        &in->buffers, &in->targets[i])
            < 0)
            return -1;
    }
    if (args[2] != Py_None
        && (in->labels = mdn_py_buffers_int64(&in->buffers, args[2], "labels",
                                              1, in->count, 1))
               == NULL)
        return -1;
    if (args[3] != Py_None
        && (in->timestamps = mdn_py_buffers_int64(
                &in->buffers, args[3], "timestamps", 1, in->count, 1))
               == NULL)
        return -1;
    return 0;
}

/* Rows of a slice: about SLICE_BYTES of samples, and not all at once, so that
 * Ctrl-C is heard in between. */
static uint64_t
slice_rows(const fetch_arguments *in, const mdn_schema *schema)
{
    uint64_t count = (uint64_t)in->count;
    uint64_t bytes = count * (schema->head_size + 16);

    for (Py_ssize_t t = 0; t < in->target_count; t++) {
        if (in->targets[t].offsets != NULL)
            bytes += (uint64_t)in->targets[t].offsets[count];
    }
    if (bytes <= SLICE_BYTES)
        return count;
    return 1 + (uint64_t)((double)count / (double)bytes * SLICE_BYTES);
}

static mdn_status
fetch_slice(mdn_view *view, const fetch_arguments *in, uint64_t first,
            uint64_t count, mdn_target *targets, mdn_error *err)
{
    const mdn_schema *schema = mdn_view_schema(view);
    const uint64_t *keys = in->keys->buf;
    int64_t *labels = in->labels ? in->labels->buf : NULL;
    int64_t *timestamps = in->timestamps ? in->timestamps->buf : NULL;

    for (Py_ssize_t t = 0; t < in->target_count; t++) {
        const mdn_target *whole = &in->targets[t];
        uint64_t size = schema->fields[whole->field].size_bytes;

        targets[t] = *whole;
        if (whole->offsets != NULL)
            targets[t].offsets = whole->offsets + first;
        else
            targets[t].values = (uint8_t *)whole->values + first * size;
    }
    return mdn_view_fetch(
        view, keys + first, count, targets, (uint32_t)in->target_count,
        labels ? labels + first : NULL, timestamps ? timestamps + first : NULL,
        in->threads, err);
}

/* -1 and an exception on failure, or if a signal says stop. */
static int
fetch_all(mdn_py_view_object *self, PyTypeObject *type,
          const fetch_arguments *in)
{
    uint64_t count = (uint64_t)in->count, first = 0;
    uint64_t rows = slice_rows(in, mdn_view_schema(self->core));
    mdn_target *targets =
        PyMem_Malloc(((size_t)in->target_count + 1) * sizeof *targets);
    mdn_status st = MDN_OK;
    int interrupted = 0;
    mdn_error err;

    if (targets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    do {
        uint64_t n = count - first < rows ? count - first : rows;

        Py_BEGIN_ALLOW_THREADS
        st = fetch_slice(self->core, in, first, n, targets, &err);
        Py_END_ALLOW_THREADS
        first += n;
        interrupted = first < count && PyErr_CheckSignals() < 0;
    } while (st == MDN_OK && first < count && !interrupted);
    PyMem_Free(targets);
    if (st != MDN_OK && !interrupted)
        mdn_py_raise(mdn_py_state_of_type(type), &err);
    return st == MDN_OK && !interrupted ? 0 : -1;
}

PyObject *
mdn_py_view_fetch(mdn_py_view_object *self, PyTypeObject *type,
                  PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    fetch_arguments in = {.threads = 1};
    int done = -1;

    if (read_fetch(self, args, kwnames == NULL ? nargs : -1, &in) == 0)
        done = fetch_all(self, type, &in);
    mdn_py_buffers_release(&in.buffers);
    PyMem_Free(in.targets);
    return done == 0 ? Py_NewRef(Py_None) : NULL;
}

const char mdn_py_view_payloads_doc[] =
    "payloads($self, keys, field, /)\n--\n\n"
    "A list of read-only uint8 arrays over the payloads of bytes field number\n"
    "`field`, where they are; each keeps the mapped files alive.";

static PyObject *
as_list(mdn_py_view_object *self, uint64_t count,
        const uint8_t *const *payloads, const uint64_t *sizes)
{
    PyObject *list = PyList_New((Py_ssize_t)count);

    for (uint64_t i = 0; list != NULL && i < count; i++) {
        PyObject *item =
            mdn_py_array((PyObject *)self, (void *)(uintptr_t)payloads[i],
                         MDN_UINT8, 1, &sizes[i], 0);

        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

PyObject *
mdn_py_view_payloads(mdn_py_view_object *self, PyTypeObject *type,
                     PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    const uint8_t **payloads = NULL;
    uint64_t *sizes = NULL, count;
    PyObject *list = NULL;
    mdn_py_buffers buffers;
    unsigned long field;
    Py_buffer *keys;
    mdn_error err;
    mdn_status st;

    if (nargs != 2 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "payloads(keys, field)");
        return NULL;
    }
    field = PyLong_AsUnsignedLong(args[1]);
    if ((field == (unsigned long)-1 && PyErr_Occurred())
        || mdn_py_buffers_init(&buffers, 1) < 0)
        return NULL;
    keys = mdn_py_buffers_int64(&buffers, args[0], "keys", 0, -1, 0);
    if (keys == NULL)
        goto done;
    count = (uint64_t)keys->len / 8;
    payloads = PyMem_Calloc(count + 1, sizeof *payloads);
    sizes = PyMem_Calloc(count + 1, sizeof *sizes);
    if (payloads == NULL || sizes == NULL) {
        PyErr_NoMemory();
        goto done;
    }

    Py_BEGIN_ALLOW_THREADS
    st = mdn_view_payloads(self->core, keys->buf, count,
                           field > UINT32_MAX ? UINT32_MAX : (uint32_t)field,
                           payloads, sizes, &err);
    Py_END_ALLOW_THREADS

    if (st != MDN_OK)
        mdn_py_raise(mdn_py_state_of_type(type), &err);
    else
        list = as_list(self, count, payloads, sizes);
done:
    PyMem_Free((void *)payloads);
    PyMem_Free(sizes);
    mdn_py_buffers_release(&buffers);
    return list;
}
