/* candidates.c - where the samples lie that a trigger may choose from. */
#include "python/candidates.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_COUNT 16384 /* samples of a block: 384 KiB of columns */

static void
free_capsule(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, NULL));
}

PyObject *
mdn_py_owned_array(void *data, mdn_dtype dtype, uint64_t count)
{
    PyObject *owner = PyCapsule_New(data, NULL, free_capsule);
    PyObject *array;

    if (owner == NULL) {
        free(data);
        return NULL;
    }
    array = mdn_py_array(owner, data, dtype, 1, &count, 1);
    Py_DECREF(owner);
    return array;
}

int
mdn_py_read_column(PyObject *object, const char *name, const char *formats,
                   Py_buffer *out)
{
    if (mdn_py_buffer(object, name, formats, 8, 0, out) < 0)
        return -1;
    if (out->ndim == 1)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s must have one dimension, got %d", name,
                 out->ndim);
    PyBuffer_Release(out);
    return -1;
}

static uint64_t
length(const Py_buffer *buffer)
{
    return (uint64_t)buffer->len / 8;
}

/* ---- streams ---- */

static bool
is_living(const mdn_py_candidates *self, uint64_t position)
{
    const uint64_t *keys = self->keys.buf;
    uint64_t key = self->keys.obj ? keys[position] : position;

    return key >= mdn_view_count(self->view)
           || !mdn_view_is_erased(self->view, key);
}

/* The position behind `count` more living samples from `position` on. */
static uint64_t
behind_living(const mdn_py_candidates *self, uint64_t position, uint64_t count)
{
    if (self->gaps == 0)
        return position + count;
    for (; count > 0; position++) {
        if (is_living(self, position))
            count--;
    }
    return position;
}

/* A stream of a part of the arrays; of a view's order, if keys are all that is
 * wanted: then no timestamp or label is looked up. */
static mdn_status
open_arrays(const mdn_py_candidates *self, uint64_t first, uint64_t count,
            uint64_t block_count, mdn_metadata_stream **out, mdn_error *err)
{
    const uint64_t *keys = self->keys.buf;
    const int64_t *timestamps = self->timestamps.buf;
    const int64_t *labels = self->labels.buf;

    first += self->first;
    return mdn_metadata_from_arrays(
        keys + first, self->timestamps.obj ? timestamps + first : NULL,
        self->labels.obj ? labels + first : NULL, count, block_count, out, err);
}

/* The living samples at these positions, before the filter. */
static mdn_status
open_living(const mdn_py_candidates *self, uint64_t first, uint64_t last,
            uint64_t block_count, mdn_wanted wanted, const mdn_pulse *pulse,
            mdn_metadata_stream **out, mdn_error *err)
{
    mdn_metadata_source *source = self->source;

    if (source != NULL)
        return source->open(source, first, last, block_count, wanted, pulse,
                            out, err);
    if (self->view == NULL
        || (wanted == MDN_WANT_KEYS && self->keys.obj && self->gaps == 0))
        return open_arrays(self, first - self->first, last - first, block_count,
                           out, err);
    return mdn_metadata_from_view(self->view, self->keys.buf, first, last,
                                  block_count, out, err);
}

/* What the filter looks at has to be there. */
static mdn_wanted
wanted_by(const mdn_filter *filter, mdn_wanted wanted)
{
    unsigned all = wanted;

    if (filter->has_start || filter->has_stop)
        all |= MDN_WANT_TIMESTAMPS;
    if (filter->by_label)
        all |= MDN_WANT_LABELS;
    return (mdn_wanted)all;
}

mdn_status
mdn_py_candidates_open_part(const mdn_py_candidates *self, uint64_t first,
                            uint64_t last, uint64_t block_count,
                            mdn_wanted wanted, const mdn_pulse *pulse,
                            mdn_metadata_stream **out, mdn_error *err)
{
    mdn_metadata_stream *inner;
    mdn_status st;

    if (!self->filtered)
        return open_living(self, first, last, block_count, wanted, pulse, out,
                           err);
    st = open_living(self, first, last, block_count,
                     wanted_by(&self->filter, wanted), pulse, &inner, err);
    if (st != MDN_OK) {
        *out = NULL;
        return st;
    }
    return mdn_filter_stream(inner, first, &self->filter, out, err);
}

mdn_status
mdn_py_candidates_open(const mdn_py_candidates *self, uint64_t block_count,
                       mdn_wanted wanted, const mdn_pulse *pulse,
                       mdn_metadata_stream **out, mdn_error *err)
{
    return mdn_py_candidates_open_part(self, self->first, self->last,
                                       block_count, wanted, pulse, out, err);
}

mdn_status
mdn_py_candidates_open_at(const mdn_py_candidates *self, uint64_t first,
                          uint64_t count, const mdn_pulse *pulse,
                          uint64_t *skip, mdn_metadata_stream **out,
                          mdn_error *err)
{
    uint64_t from, to;

    *skip = first;
    if (self->filtered || (self->source != NULL && self->gaps > 0))
        return mdn_py_candidates_open(self, BLOCK_COUNT, MDN_WANT_ALL, pulse,
                                      out, err);
    *skip = 0;
    if (self->source != NULL)
        return self->source->open(self->source, self->first + first,
                                  self->first + first + count, BLOCK_COUNT,
                                  MDN_WANT_ALL, pulse, out, err);
    if (self->view == NULL)
        return open_arrays(self, first, count, BLOCK_COUNT, out, err);
    from = behind_living(self, self->first, first);
    to = behind_living(self, from, count);
    return mdn_metadata_from_view(self->view, self->keys.buf, from, to,
                                  BLOCK_COUNT, out, err);
}

/* ---- making candidates ---- */

static mdn_py_candidates *
candidates_new(PyTypeObject *type)
{
    return (mdn_py_candidates *)type->tp_alloc(type, 0);
}

static void
candidates_dealloc(mdn_py_candidates *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_view_release(self->view);
    if (self->source != NULL)
        self->source->release(self->source);
    PyBuffer_Release(&self->keys); /* accepts buffers never filled */
    PyBuffer_Release(&self->timestamps);
    PyBuffer_Release(&self->labels);
    PyMem_Free((void *)self->filter.labels);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Check a range of positions against what there is, and keep it. */
static int
set_range(mdn_py_candidates *self, unsigned long long first,
          unsigned long long last, uint64_t count)
{
    if (first <= last && last <= count) {
        self->first = first;
        self->last = last;
        self->living = self->count = last - first;
        return 0;
    }
    PyErr_Format(PyExc_ValueError,
                 "positions must be 0 <= first <= last <= %llu, got first=%llu "
                 "and last=%llu",
                 (unsigned long long)count, first, last);
    return -1;
}

static void
set_living(mdn_py_candidates *self, uint64_t living)
{
    self->gaps = self->last - self->first - living;
    self->living = self->count = living;
}

PyDoc_STRVAR(
    from_view_doc,
    "from_view($type, view, order, first, last, /)\n--\n\n"
    "Return the samples at positions first .. last-1 of stream order.\n"
    "\n"
    "order: uint64 keys in stream order, or None for arrival order.");

static PyObject *
candidates_from_view(PyTypeObject *type, PyObject *args)
{
    PyObject *view_object, *order;
    unsigned long long first, last;
    mdn_py_candidates *self;
    mdn_view *view;

    if (!PyArg_ParseTuple(args, "OOKK:from_view", &view_object, &order, &first,
                          &last))
        return NULL;
    view = mdn_py_view(mdn_py_state_of_type(type), view_object);
    if (view == NULL || (self = candidates_new(type)) == NULL)
        return NULL;
    self->view = mdn_view_retain(view);
    if (order != Py_None
        && mdn_py_read_column(order, "order", "LQ", &self->keys) < 0)
        goto fail;
    if (set_range(self, first, last,
                  self->keys.obj ? length(&self->keys) : mdn_view_count(view))
        < 0)
        goto fail;
    if (mdn_view_erased_count(view) > 0) {
        uint64_t living = 0;

        for (uint64_t position = first; position < last; position++)
            living += is_living(self, position);
        set_living(self, living);
    }
    return (PyObject *)self;

fail:
    Py_DECREF(self);
    return NULL;
}

PyDoc_STRVAR(
    from_source_doc,
    "from_source($type, capsule, first, last, /)\n--\n\n"
    "Return the samples at positions first .. last-1 of a source.\n"
    "\n"
    "capsule: what modyn._postgres.Source.capsule returns. May ask the server\n"
    "how many samples there are.");

static PyObject *
candidates_from_source(PyTypeObject *type, PyObject *args)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    PyObject *capsule;
    unsigned long long first, last;
    mdn_metadata_source *source;
    mdn_py_candidates *self;
    uint64_t living;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OKK:from_source", &capsule, &first, &last))
        return NULL;
    source = PyCapsule_GetPointer(capsule, MDN_SOURCE_CAPSULE);
    if (source == NULL || (self = candidates_new(type)) == NULL)
        return NULL;
    self->source = source->retain(source);
    if (set_range(self, first, last, source->count) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    thread = PyEval_SaveThread();
    st = source->living(source, first, last, &pulse, &living, &err);
    PyEval_RestoreThread(thread);
    if (st != MDN_OK) {
        Py_DECREF(self);
        return mdn_py_raise(mdn_py_state_of_type(type), &err);
    }
    set_living(self, living);
    return (PyObject *)self;
}

PyDoc_STRVAR(
    from_arrays_doc,
    "from_arrays($type, keys, timestamps, labels, /)\n--\n\n"
    "Return samples whose columns lie in arrays.\n"
    "\n"
    "keys: uint64; timestamps, labels: int64 or None; all shape (n,).");

/* Fill one optional column and hold its length against that of the keys. */
static int
read_other(mdn_py_candidates *self, PyObject *object, const char *name,
           Py_buffer *out)
{
    if (object == Py_None)
        return 0;
    if (mdn_py_read_column(object, name, "lq", out) < 0)
        return -1;
    if (length(out) == self->count)
        return 0;
    PyErr_Format(PyExc_ValueError,
                 "%s must have shape (%llu,) as keys, got "
                 "(%llu,)",
                 name, (unsigned long long)self->count,
                 (unsigned long long)length(out));
    return -1;
}

static PyObject *
candidates_from_arrays(PyTypeObject *type, PyObject *args)
{
    PyObject *keys, *timestamps, *labels;
    mdn_py_candidates *self;

    if (!PyArg_ParseTuple(args, "OOO:from_arrays", &keys, &timestamps, &labels)
        || (self = candidates_new(type)) == NULL)
        return NULL;
    if (mdn_py_read_column(keys, "keys", "LQ", &self->keys) < 0)
        goto fail;
    self->last = self->living = self->count = length(&self->keys);
    if (read_other(self, timestamps, "timestamps", &self->timestamps) < 0
        || read_other(self, labels, "labels", &self->labels) < 0)
        goto fail;
    return (PyObject *)self;

fail:
    Py_DECREF(self);
    return NULL;
}

/* ---- choosing among them ---- */

/* A buffer of the same bytes: another reference to whoever owns them. */
static int
share(const Py_buffer *from, Py_buffer *to)
{
    return from->obj ? PyObject_GetBuffer(from->obj, to, PyBUF_RECORDS_RO) : 0;
}

/* The same candidates without a filter; NULL and an exception. */
static mdn_py_candidates *
twin(const mdn_py_candidates *self)
{
    mdn_py_candidates *out = candidates_new(Py_TYPE(self));

    if (out == NULL)
        return NULL;
    if (self->view != NULL)
        out->view = mdn_view_retain(self->view);
    if (self->source != NULL)
        out->source = self->source->retain(self->source);
    out->first = self->first;
    out->last = self->last;
    out->gaps = self->gaps;
    out->living = out->count = self->living;
    if (share(&self->keys, &out->keys) == 0
        && share(&self->timestamps, &out->timestamps) == 0
        && share(&self->labels, &out->labels) == 0)
        return out;
    Py_DECREF(out);
    return NULL;
}

/* One end of the time; None is unbounded.  0, or -1 and an exception. */
static int
read_bound(PyObject *object, bool *has, int64_t *out)
{
    *has = object != Py_None;
    if (!*has)
        return 0;
    *out = PyLong_AsLongLong(object);
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

static int
read_filter(PyObject *args, mdn_filter *filter)
{
    PyObject *start, *stop, *labels;
    Py_buffer buffer;
    int64_t *copy;
    size_t size;

    if (!PyArg_ParseTuple(args, "OOO:where", &start, &stop, &labels)
        || read_bound(start, &filter->has_start, &filter->start) < 0
        || read_bound(stop, &filter->has_stop, &filter->stop) < 0)
        return -1;
    filter->by_label = labels != Py_None;
    if (!filter->by_label)
        return 0;
    if (mdn_py_read_column(labels, "labels", "lq", &buffer) < 0)
        return -1;
    size = (size_t)buffer.len;
    filter->label_count = size / 8;
    copy = PyMem_Malloc(size > 0 ? size : 1);
    if (copy != NULL && size > 0)
        memcpy(copy, buffer.buf, size);
    PyBuffer_Release(&buffer);
    filter->labels = copy;
    if (copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint64_t i = 1; i < filter->label_count; i++) {
        if (copy[i] <= copy[i - 1]) {
            PyErr_SetString(PyExc_ValueError, "labels must ascend strictly");
            return -1;
        }
    }
    return 0;
}

static mdn_status
count_kept(mdn_py_candidates *self, const mdn_pulse *pulse, mdn_error *err)
{
    mdn_metadata_stream *stream;
    mdn_status st = mdn_py_candidates_open(self, BLOCK_COUNT, MDN_WANT_KEYS,
                                           pulse, &stream, err);

    if (st != MDN_OK)
        return st;
    st = mdn_filter_count(stream, &self->count, err);
    stream->free(stream);
    return st;
}

PyDoc_STRVAR(
    where_doc,
    "where($self, start, stop, labels, /)\n--\n\n"
    "Return the samples with start <= timestamp < stop and one of the labels.\n"
    "\n"
    "None is any; labels: int64, ascending, each once. A filter that self has\n"
    "is forgotten. Reads all of them once, to count.");

static PyObject *
candidates_where(mdn_py_candidates *self, PyObject *args)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    mdn_py_candidates *out = twin(self);
    mdn_error err;
    mdn_status st;

    if (out == NULL)
        return NULL;
    out->filtered = true;
    if (read_filter(args, &out->filter) < 0) {
        Py_DECREF(out);
        return NULL;
    }
    thread = PyEval_SaveThread();
    st = count_kept(out, &pulse, &err);
    PyEval_RestoreThread(thread);
    if (st == MDN_OK)
        return (PyObject *)out;
    Py_DECREF(out);
    return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
}

/* ---- looking at candidates ---- */

static Py_ssize_t
candidates_length(mdn_py_candidates *self)
{
    return (Py_ssize_t)self->count;
}

bool
mdn_py_candidates_labelled(const mdn_py_candidates *self)
{
    if (self->source != NULL)
        return self->source->has_labels;
    return self->view ? mdn_view_has_labels(self->view)
                      : self->labels.obj != NULL;
}

static PyObject *
candidates_has_labels(mdn_py_candidates *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(mdn_py_candidates_labelled(self));
}

/* ---- the type ---- */

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef candidates_methods[] = {
    {"from_view", METHOD(candidates_from_view), METH_VARARGS | METH_CLASS,
     from_view_doc},
    {"from_source", METHOD(candidates_from_source), METH_VARARGS | METH_CLASS,
     from_source_doc},
    {"from_arrays", METHOD(candidates_from_arrays), METH_VARARGS | METH_CLASS,
     from_arrays_doc},
    {"where", METHOD(candidates_where), METH_VARARGS, where_doc},
    {"columns", METHOD(mdn_py_candidates_columns), METH_VARARGS,
     mdn_py_columns_doc},
    {"blocks", METHOD(mdn_py_candidates_blocks), METH_VARARGS,
     mdn_py_blocks_doc},
    {"total", METHOD(mdn_py_candidates_total), METH_VARARGS, mdn_py_total_doc},
    {"systematic", METHOD(mdn_py_candidates_systematic), METH_VARARGS,
     mdn_py_systematic_doc},
    {"band", METHOD(mdn_py_candidates_band), METH_VARARGS, mdn_py_band_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef candidates_getset[] = {
    {"has_labels", (getter)(void (*)(void))candidates_has_labels, NULL,
     "Whether the samples have labels.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot candidates_slots[] = {
    {Py_tp_doc, (void *)"The samples that a trigger may choose from."},
    {Py_tp_dealloc, (void *)candidates_dealloc},
    {Py_tp_methods, candidates_methods},
    {Py_tp_getset, candidates_getset},
    {Py_sq_length, (void *)candidates_length},
    {0, NULL},
};

static PyType_Spec candidates_spec = {
    .name = "modyn._core.Candidates",
    .basicsize = sizeof(mdn_py_candidates),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = candidates_slots,
};

int
mdn_py_add_sampling(PyObject *module, mdn_py_state *state)
{
    state->candidates_type = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &candidates_spec, NULL);
    if (state->candidates_type == NULL
        || PyModule_AddType(module, state->candidates_type) < 0
        || mdn_py_add_candidate_blocks(module, state) < 0
        || mdn_py_add_fair_shares(module) < 0 || mdn_py_add_bits(module) < 0
        || mdn_py_add_sampler(module, state) < 0)
        return -1;
    return mdn_py_add_trainset(module, state);
}
