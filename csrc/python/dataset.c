/* dataset.c - modyn._core.Dataset: a handle on a dataset directory.
 *
 * The handle of the core is for one thread at a time, so that every method
 * takes the lock of its object, without holding the GIL while it waits. */
#include "python/dataset.h"

#include <unistd.h>

#define WAIT_SLICE_US 100000

int
mdn_py_dataset_acquire(mdn_py_dataset *self)
{
    PyLockStatus got = PyThread_acquire_lock_timed(self->lock, 0, 0);

    if (got != PY_LOCK_ACQUIRED && self->pid != getpid()) {
        /* Held by a thread that did not survive the fork. */
        PyThread_type_lock fresh = PyThread_allocate_lock();

        if (fresh == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->lock = fresh;
        self->pid = getpid();
        got = PyThread_acquire_lock_timed(self->lock, 0, 0);
    }
    while (got != PY_LOCK_ACQUIRED) {
        Py_BEGIN_ALLOW_THREADS
        got = PyThread_acquire_lock_timed(self->lock, WAIT_SLICE_US, 0);
        Py_END_ALLOW_THREADS
        if (got != PY_LOCK_ACQUIRED && PyErr_CheckSignals() < 0)
            return -1;
    }
    return 0;
}

void
mdn_py_dataset_release(mdn_py_dataset *self)
{
    PyThread_release_lock(self->lock);
}

static mdn_py_dataset *
new_object(PyTypeObject *type)
{
    mdn_py_dataset *self = (mdn_py_dataset *)type->tp_alloc(type, 0);

    if (self == NULL)
        return NULL;
    self->pid = getpid();
    self->lock = PyThread_allocate_lock();
    if (self->lock == NULL) {
        Py_DECREF(self);
        PyErr_NoMemory();
        return NULL;
    }
    return self;
}

/* What create and open have in common: the outcome of the core. */
static PyObject *
opened(mdn_py_dataset *self, mdn_status st, const mdn_error *err)
{
    if (st == MDN_OK)
        return (PyObject *)self;
    mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), err);
    Py_DECREF(self);
    return NULL;
}

PyDoc_STRVAR(create_doc,
             "create(path, schema, time_unit, has_labels, segment_shift,\n"
             "       compressed=False, /)\n"
             "--\n\nMake a dataset and open it for writing.  time_unit counts "
             "s, ms, us, ns\nfrom 0; segment_shift 0 chooses one.");

static PyObject *
dataset_create(PyTypeObject *type, PyObject *args)
{
    mdn_dataset_options options = {0};
    unsigned int unit;
    int has_labels, compressed = 0;
    mdn_py_dataset *self;
    PyObject *path;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "O&sIpI|p", PyUnicode_FSConverter, &path,
                          &options.schema, &unit, &has_labels,
                          &options.segment_shift, &compressed))
        return NULL;
    options.time_unit = (mdn_time_unit)unit;
    options.has_labels = has_labels != 0;
    options.compressed = compressed != 0;
    if (unit > MDN_NS) {
        PyErr_Format(PyExc_ValueError, "time unit number %u", unit);
        self = NULL;
    } else {
        self = new_object(type);
    }
    if (self == NULL) {
        Py_DECREF(path);
        return NULL;
    }

    Py_BEGIN_ALLOW_THREADS
    st = mdn_dataset_create(&mdn_io_system, PyBytes_AS_STRING(path), &options,
                            &self->core, &err);
    Py_END_ALLOW_THREADS

    Py_DECREF(path);
    return opened(self, st, &err);
}

PyDoc_STRVAR(open_doc, "open(path, writable, /)\n--\n\n"
                       "Open a dataset.");

static PyObject *
dataset_open(PyTypeObject *type, PyObject *args)
{
    int writable;
    mdn_py_dataset *self;
    PyObject *path;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "O&p", PyUnicode_FSConverter, &path, &writable))
        return NULL;
    if ((self = new_object(type)) == NULL) {
        Py_DECREF(path);
        return NULL;
    }

    Py_BEGIN_ALLOW_THREADS
    st = mdn_dataset_open(&mdn_io_system, PyBytes_AS_STRING(path),
                          writable != 0, &self->core, &err);
    Py_END_ALLOW_THREADS

    Py_DECREF(path);
    return opened(self, st, &err);
}

/* Append. */

typedef struct {
    mdn_py_buffers buffers;
    mdn_column *columns;
    Py_ssize_t count;
    const int64_t *labels, *timestamps;
    const void *source; /* NULL: none */
    Py_ssize_t source_size;
} append_arguments;

/* (values, offsets or None) into *column. */
static int
read_column(const mdn_field *field, PyObject *item, append_arguments *in,
            mdn_column *column)
{
    PyObject *values_object, *offsets_object;
    Py_buffer *values, *offsets;
    uint64_t right;

    if (!PyArg_ParseTuple(item, "OO", &values_object, &offsets_object))
        return -1;
    if ((values = mdn_py_buffers_any(&in->buffers, values_object, 0)) == NULL)
        return -1;
    column->values = values->buf;
    right = (uint64_t)in->count * field->size_bytes;
    if (field->dtype == MDN_BYTES) {
        offsets = mdn_py_buffers_int64(&in->buffers, offsets_object, "offsets",
                                       1, in->count + 1, 0);
        if (offsets == NULL)
            return -1;
        column->offsets = offsets->buf;
        /* The core checks that they ascend; so the last is the greatest. */
        right = (uint64_t)values->len;
        if (column->offsets[in->count] > values->len)
            right = (uint64_t)column->offsets[in->count];
    }
    if ((uint64_t)values->len == right)
        return 0;
    PyErr_Format(PyExc_ValueError, "field '%s': %zd bytes where %llu are due",
                 field->name, values->len, (unsigned long long)right);
    return -1;
}

static int
read_append(const mdn_schema *schema, PyObject *args, append_arguments *in)
{
    PyObject *columns, *labels, *timestamps, *source = Py_None;
    Py_buffer *numbers;

    if (!PyArg_ParseTuple(args, "nO!OO|O", &in->count, &PyTuple_Type, &columns,
                          &labels, &timestamps, &source))
        return -1;
    if (in->count < 0
        || PyTuple_GET_SIZE(columns) != (Py_ssize_t)schema->field_count) {
        PyErr_Format(PyExc_ValueError, "%zd columns of %zd rows for %u fields",
                     PyTuple_GET_SIZE(columns), in->count, schema->field_count);
        return -1;
    }
    if (mdn_py_buffers_init(&in->buffers, 3 + 2 * PyTuple_GET_SIZE(columns))
        < 0)
        return -1;
    if (source != Py_None) {
        numbers = mdn_py_buffers_any(&in->buffers, source, 0);
        if (numbers == NULL)
            return -1;
        in->source = numbers->buf;
        in->source_size = numbers->len;
    }
    in->columns = PyMem_Calloc(schema->field_count, sizeof *in->columns);
    if (in->columns == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t f = 0; f < schema->field_count; f++) {
        if (read_column(&schema->fields[f], PyTuple_GET_ITEM(columns, f), in,
                        &in->columns[f])
            < 0)
            return -1;
    }
    numbers = mdn_py_buffers_int64(&in->buffers, timestamps, "timestamps", 1,
                                   in->count, 0);
    if (numbers == NULL)
        return -1;
    in->timestamps = numbers->buf;
    if (labels == Py_None)
        return 0;
    numbers =
        mdn_py_buffers_int64(&in->buffers, labels, "labels", 1, in->count, 0);
    if (numbers == NULL)
        return -1;
    in->labels = numbers->buf;
    return 0;
}

PyDoc_STRVAR(
    append_doc,
    "append($self, count, columns, labels, timestamps, source=None, /)\n"
    "--\n\n"
    "Append count samples and return the first key.  columns: a tuple\n"
    "of (values, offsets or None) in schema order.  source: bytes for the\n"
    "journal of sources, committed together with the samples.");

static PyObject *
dataset_append(mdn_py_dataset *self, PyObject *args)
{
    append_arguments in = {.count = 0};
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    mdn_view *view = NULL;
    uint64_t first_key = 0;
    int ready = 0;
    mdn_error err;
    mdn_status st;

    if (mdn_py_dataset_acquire(self) < 0)
        return NULL;
    st = mdn_dataset_view(self->core, &view, &err); /* for the schema */
    if (st == MDN_OK)
        ready = read_append(mdn_view_schema(view), args, &in) == 0;
    if (ready) {
        PyThreadState *thread = PyEval_SaveThread();
        mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};

        mdn_dataset_set_pulse(self->core, &pulse);
        st =
            mdn_dataset_append_from(self->core, (uint64_t)in.count, in.columns,
                                    in.labels, in.timestamps, in.source,
                                    (uint64_t)in.source_size, &first_key, &err);
        mdn_dataset_set_pulse(self->core, NULL);
        PyEval_RestoreThread(thread);
    }
    mdn_py_dataset_release(self);
    mdn_view_release(view);
    mdn_py_buffers_release(&in.buffers);
    PyMem_Free(in.columns);
    if (st != MDN_OK)
        return mdn_py_raise(state, &err); /* MDN_CALLBACK: it is set */
    return ready ? PyLong_FromUnsignedLongLong(first_key) : NULL;
}

PyDoc_STRVAR(refresh_doc, "refresh($self, /)\n--\n\n"
                          "See what was committed since; whether there was "
                          "anything.");

static PyObject *
dataset_refresh(mdn_py_dataset *self, PyObject *Py_UNUSED(args))
{
    bool grown = false;
    mdn_error err;
    mdn_status st;

    if (mdn_py_dataset_acquire(self) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_dataset_refresh(self->core, &grown, &err);
    Py_END_ALLOW_THREADS
    mdn_py_dataset_release(self);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return PyBool_FromLong(grown);
}

PyDoc_STRVAR(view_doc, "view($self, /)\n--\n\n"
                       "The samples as of now: a View.");

static PyObject *
dataset_view(mdn_py_dataset *self, PyObject *Py_UNUSED(args))
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    mdn_view *view;
    mdn_error err;
    mdn_status st;

    if (mdn_py_dataset_acquire(self) < 0)
        return NULL;
    st = mdn_dataset_view(self->core, &view, &err);
    mdn_py_dataset_release(self);
    if (st != MDN_OK)
        return mdn_py_raise(state, &err);
    return mdn_py_view_new(state, view);
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "End the handle, not its views; any number of times.");

static PyObject *
dataset_close(mdn_py_dataset *self, PyObject *Py_UNUSED(args))
{
    if (mdn_py_dataset_acquire(self) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    mdn_dataset_close(self->core);
    Py_END_ALLOW_THREADS
    mdn_py_dataset_release(self);
    Py_RETURN_NONE;
}

static void
dataset_dealloc(mdn_py_dataset *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_dataset_free(self->core);
    if (self->lock != NULL)
        PyThread_free_lock(self->lock);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef dataset_methods[] = {
    {"create", (PyCFunction)dataset_create, METH_VARARGS | METH_CLASS,
     create_doc},
    {"open", (PyCFunction)dataset_open, METH_VARARGS | METH_CLASS, open_doc},
    {"append", (PyCFunction)dataset_append, METH_VARARGS, append_doc},
    {"link", (PyCFunction)mdn_py_dataset_link, METH_VARARGS, mdn_py_link_doc},
    {"erase", (PyCFunction)mdn_py_dataset_erase, METH_VARARGS,
     mdn_py_erase_doc},
    {"compact", (PyCFunction)mdn_py_dataset_compact, METH_NOARGS,
     mdn_py_compact_doc},
    {"events", (PyCFunction)mdn_py_dataset_events, METH_NOARGS,
     mdn_py_events_doc},
    {"sources", (PyCFunction)mdn_py_dataset_sources, METH_NOARGS,
     mdn_py_sources_doc},
    {"refresh", (PyCFunction)dataset_refresh, METH_NOARGS, refresh_doc},
    {"view", (PyCFunction)dataset_view, METH_NOARGS, view_doc},
    {"close", (PyCFunction)dataset_close, METH_NOARGS, close_doc},
    {0},
};

PyDoc_STRVAR(dataset_doc, "A handle on a dataset directory; see "
                          "modyn.Dataset.");

static PyType_Slot dataset_slots[] = {
    {Py_tp_dealloc, (void *)dataset_dealloc},
    {Py_tp_methods, dataset_methods},
    {Py_tp_doc, (void *)dataset_doc},
    {0, NULL},
};

static PyType_Spec dataset_spec = {
    .name = "modyn._core.Dataset",
    .basicsize = sizeof(mdn_py_dataset),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = dataset_slots,
};

int
mdn_py_add_dataset(PyObject *module, mdn_py_state *state)
{
    if (mdn_py_add_view(module, state) < 0)
        return -1;
    state->dataset_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &dataset_spec, NULL);
    if (state->dataset_type == NULL)
        return -1;
    return PyModule_AddType(module, state->dataset_type);
}
