/* sampling.c - candidates and the samplers over them.
 *
 * A Candidates object holds where samples lie, not a stream: every call makes
 * a stream of its own, so that any number of threads may sample from one
 * object at the same time. */
#include "python/python.h"

#include "metadata/stream.h"
#include "selector/sample.h"
#include "selector/shares.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_COUNT 16384 /* samples of a block: 384 KiB of columns */

/* Either a view, with or without an order, or arrays. */
typedef struct {
    PyObject_HEAD
    mdn_view *view; /* one reference, or NULL */
    Py_buffer keys; /* of arrays; of a view its order; obj is NULL without */
    Py_buffer timestamps;
    Py_buffer labels;
    uint64_t first; /* in stream order, of a view */
    uint64_t count;
    uint64_t gaps; /* positions from first on whose samples are erased */
} candidates_object;

/* ---- helpers ---- */

static void
free_capsule(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, NULL));
}

/* A writable array that owns data, which was malloc'd and is not NULL. */
static PyObject *
owned_array(void *data, mdn_dtype dtype, uint64_t count)
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

/* A read-only column of items of 8 bytes; None, where allowed, is none. */
static int
read_column(PyObject *object, const char *name, const char *formats,
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

static bool
is_living(const candidates_object *self, uint64_t position)
{
    const uint64_t *keys = self->keys.buf;
    uint64_t key = self->keys.obj ? keys[position] : position;

    return key >= mdn_view_count(self->view)
           || !mdn_view_is_erased(self->view, key);
}

/* The position behind `count` more living samples from `position` on. */
static uint64_t
behind_living(const candidates_object *self, uint64_t position, uint64_t count)
{
    if (self->gaps == 0)
        return position + count;
    for (; count > 0; position++) {
        if (is_living(self, position))
            count--;
    }
    return position;
}

static mdn_status
open_stream(const candidates_object *self, uint64_t first, uint64_t count,
            mdn_metadata_stream **out, mdn_error *err)
{
    const uint64_t *keys = self->keys.buf;
    const int64_t *timestamps = self->timestamps.buf;
    const int64_t *labels = self->labels.buf;

    if (self->view != NULL) {
        uint64_t from = behind_living(self, self->first, first);
        uint64_t to = behind_living(self, from, count);

        return mdn_metadata_from_view(self->view, self->keys.obj ? keys : NULL,
                                      from, to, BLOCK_COUNT, out, err);
    }
    return mdn_metadata_from_arrays(
        keys + first, self->timestamps.obj ? timestamps + first : NULL,
        self->labels.obj ? labels + first : NULL, count, BLOCK_COUNT, out, err);
}

/* ---- making candidates ---- */

static candidates_object *
candidates_new(PyTypeObject *type)
{
    return (candidates_object *)type->tp_alloc(type, 0);
}

static void
candidates_dealloc(candidates_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_view_release(self->view);
    PyBuffer_Release(&self->keys); /* accepts buffers never filled */
    PyBuffer_Release(&self->timestamps);
    PyBuffer_Release(&self->labels);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Check a range of positions against what there is. */
static int
check_range(unsigned long long first, unsigned long long last, uint64_t count)
{
    if (first <= last && last <= count)
        return 0;
    PyErr_Format(PyExc_ValueError,
                 "positions must be 0 <= first <= last <= %llu, got first=%llu "
                 "and last=%llu",
                 (unsigned long long)count, first, last);
    return -1;
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
    candidates_object *self;
    mdn_view *view;

    if (!PyArg_ParseTuple(args, "OOKK:from_view", &view_object, &order, &first,
                          &last))
        return NULL;
    view = mdn_py_view(mdn_py_state_of_type(type), view_object);
    if (view == NULL || (self = candidates_new(type)) == NULL)
        return NULL;
    self->view = mdn_view_retain(view);
    if (order != Py_None && read_column(order, "order", "LQ", &self->keys) < 0)
        goto fail;
    if (check_range(first, last,
                    self->keys.obj ? length(&self->keys) : mdn_view_count(view))
        < 0)
        goto fail;
    self->first = first;
    self->count = last - first;
    if (mdn_view_erased_count(view) > 0) {
        for (uint64_t position = first; position < last; position++)
            self->gaps += !is_living(self, position);
        self->count -= self->gaps;
    }
    return (PyObject *)self;

fail:
    Py_DECREF(self);
    return NULL;
}

PyDoc_STRVAR(
    from_arrays_doc,
    "from_arrays($type, keys, timestamps, labels, /)\n--\n\n"
    "Return samples whose columns lie in arrays.\n"
    "\n"
    "keys: uint64; timestamps, labels: int64 or None; all shape (n,).");

/* Fill one optional column and hold its length against that of the keys. */
static int
read_other(candidates_object *self, PyObject *object, const char *name,
           Py_buffer *out)
{
    if (object == Py_None)
        return 0;
    if (read_column(object, name, "lq", out) < 0)
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
    candidates_object *self;

    if (!PyArg_ParseTuple(args, "OOO:from_arrays", &keys, &timestamps, &labels)
        || (self = candidates_new(type)) == NULL)
        return NULL;
    if (read_column(keys, "keys", "LQ", &self->keys) < 0)
        goto fail;
    self->count = length(&self->keys);
    if (read_other(self, timestamps, "timestamps", &self->timestamps) < 0
        || read_other(self, labels, "labels", &self->labels) < 0)
        goto fail;
    return (PyObject *)self;

fail:
    Py_DECREF(self);
    return NULL;
}

/* ---- looking at candidates ---- */

static Py_ssize_t
candidates_length(candidates_object *self)
{
    return (Py_ssize_t)self->count;
}

static bool
has_labels(const candidates_object *self)
{
    return self->view ? mdn_view_has_labels(self->view)
                      : self->labels.obj != NULL;
}

static PyObject *
candidates_has_labels(candidates_object *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(has_labels(self));
}

/* What columns() returns, before it is Python's. */
typedef struct {
    uint64_t *keys;
    int64_t *timestamps;
    int64_t *labels; /* NULL without labels */
} columns;

static void
columns_free(columns *c)
{
    free(c->keys);
    free(c->timestamps);
    free(c->labels);
}

static mdn_status
columns_alloc(const candidates_object *self, uint64_t count, columns *out,
              mdn_error *err)
{
    size_t size = (count > 0 ? count : 1) * sizeof(uint64_t);

    *out = (columns){
        .keys = malloc(size),
        .timestamps = malloc(size),
        .labels = has_labels(self) ? malloc(size) : NULL,
    };
    if (out->keys != NULL && out->timestamps != NULL
        && (out->labels != NULL || !has_labels(self)))
        return MDN_OK;
    columns_free(out);
    return mdn_fail_nomem(err, 3 * size);
}

static mdn_status
copy_stream(mdn_metadata_stream *stream, columns *out, mdn_error *err)
{
    mdn_metadata_block block;
    uint64_t done = 0;
    mdn_status st;

    while ((st = stream->next(stream, &block, err)) == MDN_OK
           && block.count > 0) {
        size_t size = block.count * sizeof(uint64_t);

        memcpy(out->keys + done, block.keys, size);
        if (block.timestamps != NULL)
            memcpy(out->timestamps + done, block.timestamps, size);
        else
            memset(out->timestamps + done, 0, size);
        if (out->labels != NULL)
            memcpy(out->labels + done, block.labels, size);
        done += block.count;
    }
    return st;
}

static mdn_status
copy_columns(const candidates_object *self, uint64_t first, uint64_t count,
             columns *out, mdn_error *err)
{
    mdn_metadata_stream *stream;
    mdn_status st = columns_alloc(self, count, out, err);

    if (st != MDN_OK)
        return st;
    if ((st = open_stream(self, first, count, &stream, err)) == MDN_OK) {
        st = copy_stream(stream, out, err);
        stream->free(stream);
    }
    if (st != MDN_OK)
        columns_free(out);
    return st;
}

PyDoc_STRVAR(columns_doc,
             "columns($self, first, count, /)\n--\n\n"
             "Return (keys, timestamps, labels) of candidates first .. "
             "first+count-1.\n\n"
             "New arrays; labels is None without labels.");

static PyObject *
candidates_columns(candidates_object *self, PyObject *args)
{
    unsigned long long first, count;
    PyObject *keys, *timestamps, *labels;
    mdn_error err;
    mdn_status st;
    columns c;

    if (!PyArg_ParseTuple(args, "KK:columns", &first, &count))
        return NULL;
    if (first > self->count || count > self->count - first) {
        PyErr_Format(PyExc_ValueError,
                     "candidates %llu and %llu more are beyond the end of %llu",
                     first, count, (unsigned long long)self->count);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    st = copy_columns(self, first, count, &c, &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    keys = owned_array(c.keys, MDN_UINT64, count);
    timestamps = owned_array(c.timestamps, MDN_INT64, count);
    labels =
        c.labels ? owned_array(c.labels, MDN_INT64, count) : Py_NewRef(Py_None);
    if (keys != NULL && timestamps != NULL && labels != NULL)
        return Py_BuildValue("(NNN)", keys, timestamps, labels);
    Py_XDECREF(keys);
    Py_XDECREF(timestamps);
    Py_XDECREF(labels);
    return NULL;
}

/* ---- sampling ---- */

/* Keys are all that matters here.  Where they lie in an array, its part of it
 * is the stream, and no timestamp or label is looked up. */
static mdn_status
open_keys(const candidates_object *self, mdn_metadata_stream **out,
          mdn_error *err)
{
    const uint64_t *keys = self->keys.buf;

    if (self->keys.obj == NULL || self->gaps > 0)
        return open_stream(self, 0, self->count, out, err);
    return mdn_metadata_from_arrays(keys + self->first, NULL, NULL, self->count,
                                    BLOCK_COUNT, out, err);
}

static mdn_status
sample_uniform(const candidates_object *self, uint64_t count, uint64_t seed,
               uint64_t **keys, uint64_t *key_count, mdn_error *err)
{
    mdn_metadata_stream *stream;
    mdn_status st = open_keys(self, &stream, err);

    if (st != MDN_OK)
        return st;
    st = mdn_sample_uniform(stream, count, seed, keys, key_count, err);
    stream->free(stream);
    return st;
}

static mdn_status
sample_balanced(const candidates_object *self, uint64_t count,
                mdn_shares_mode mode, uint64_t seed, uint64_t **keys,
                uint64_t *key_count, mdn_error *err)
{
    mdn_metadata_stream *stream;
    mdn_status st = open_stream(self, 0, self->count, &stream, err);

    if (st != MDN_OK)
        return st;
    st = mdn_sample_balanced(stream, count, mode, seed, keys, key_count, err);
    stream->free(stream);
    return st;
}

PyDoc_STRVAR(
    uniform_doc,
    "uniform($self, count, seed, /)\n--\n\n"
    "Return `count` keys, each set equally likely; uint64, ascending.");

static PyObject *
candidates_uniform(candidates_object *self, PyObject *args)
{
    unsigned long long count, seed;
    uint64_t *keys, key_count;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "KK:uniform", &count, &seed))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = sample_uniform(self, count, seed, &keys, &key_count, &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return owned_array(keys, MDN_UINT64, key_count);
}

/* 0, or -1 and ValueError. */
static int
read_mode(int number, mdn_shares_mode *out)
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

PyDoc_STRVAR(balanced_doc,
             "balanced($self, count, mode, seed, /)\n--\n\n"
             "Return at most `count` keys, a fair share of each label; uint64, "
             "ascending.\n\n"
             "mode: 0 level, 1 exact total, 2 equal counts.");

static PyObject *
candidates_balanced(candidates_object *self, PyObject *args)
{
    unsigned long long count, seed;
    uint64_t *keys, key_count;
    int number;
    mdn_shares_mode mode;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "KiK:balanced", &count, &number, &seed)
        || read_mode(number, &mode) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = sample_balanced(self, count, mode, seed, &keys, &key_count, &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return owned_array(keys, MDN_UINT64, key_count);
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
        || read_mode(number, &mode) < 0
        || read_column(object, "sizes", "LQ", &sizes) < 0)
        return NULL;
    count = length(&sizes);
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
        return owned_array(shares, MDN_UINT64, count);
    free(shares);
    return mdn_py_raise(mdn_py_state_of_module(module), &err);
}

/* ---- the type ---- */

static PyMethodDef candidates_methods[] = {
    {"from_view", (PyCFunction)(void (*)(void))candidates_from_view,
     METH_VARARGS | METH_CLASS, from_view_doc},
    {"from_arrays", (PyCFunction)(void (*)(void))candidates_from_arrays,
     METH_VARARGS | METH_CLASS, from_arrays_doc},
    {"columns", (PyCFunction)(void (*)(void))candidates_columns, METH_VARARGS,
     columns_doc},
    {"uniform", (PyCFunction)(void (*)(void))candidates_uniform, METH_VARARGS,
     uniform_doc},
    {"balanced", (PyCFunction)(void (*)(void))candidates_balanced, METH_VARARGS,
     balanced_doc},
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
    .basicsize = sizeof(candidates_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = candidates_slots,
};

static PyMethodDef functions[] = {
    {"fair_shares", fair_shares, METH_VARARGS, fair_shares_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_sampling(PyObject *module, mdn_py_state *state)
{
    state->candidates_type = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &candidates_spec, NULL);
    if (state->candidates_type == NULL
        || PyModule_AddType(module, state->candidates_type) < 0
        || PyModule_AddFunctions(module, functions) < 0)
        return -1;
    return mdn_py_add_trainset(module, state);
}
