/* orchestrator_arrivals.c - blocks of arrivals, as arrays.
 *
 * The arrays of a block are views of what outlives them wherever it can be:
 * of the mapped columns, kept alive by the View, and of the array of the
 * order.  What a stream had to put together in a buffer of its own is copied,
 * since a policy may keep an array for longer than the block; so is all that
 * comes from a source, whose waits for a server ask for signals with the
 * PyThreadState of next().  Arrivals are read ahead while a policy looks at a
 * block. */
#include "python/orchestrator.h"

#include "metadata/ahead.h"

static PyObject *
array_over(PyObject *owner, const void *data, mdn_dtype dtype, uint64_t count)
{
    return mdn_py_array(owner, (void *)data, dtype, 1, &count, 0);
}

static PyObject *
array_copied(const void *data, mdn_dtype dtype, uint64_t count)
{
    PyObject *array, *bytes;

    bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)(count * 8));
    if (bytes == NULL)
        return NULL;
    array = array_over(bytes, PyBytes_AS_STRING(bytes), dtype, count);
    Py_DECREF(bytes);
    return array;
}

static PyObject *
keys_array(mdn_py_orchestrator *self)
{
    const mdn_metadata_block *block = &self->block;
    const uint64_t *order = self->order.buf;

    if (self->order.obj != NULL && block->keys >= order
        && block->keys < order + self->order.len / 8)
        return array_over(self->order.obj, block->keys, MDN_UINT64,
                          block->count);
    return array_copied(block->keys, MDN_UINT64, block->count);
}

/* A column of the block: a view of it if it is the mapped one. */
static PyObject *
column_array(mdn_py_orchestrator *self, const int64_t *column,
             const int64_t *mapped)
{
    if (column == NULL)
        Py_RETURN_NONE;
    if (column == mapped)
        return array_over(self->view_object, column, MDN_INT64,
                          self->block.count);
    return array_copied(column, MDN_INT64, self->block.count);
}

static PyObject *
deliver(mdn_py_orchestrator *self, const int64_t *mapped_timestamps,
        const int64_t *mapped_labels)
{
    PyObject *keys, *timestamps = NULL, *labels = NULL, *result = NULL;

    keys = keys_array(self);
    if (keys != NULL)
        timestamps =
            column_array(self, self->block.timestamps, mapped_timestamps);
    if (timestamps != NULL)
        labels = column_array(self, self->block.labels, mapped_labels);
    if (labels != NULL)
        result = PyObject_CallMethod(self->calls, "arrive", "OOO", keys,
                                     timestamps, labels);
    Py_XDECREF(keys);
    Py_XDECREF(timestamps);
    Py_XDECREF(labels);
    return result;
}

static mdn_status
read_block(mdn_py_orchestrator *self, mdn_error *err)
{
    mdn_status st;

    mdn_clock_forget(&self->clock);
    st = self->stream->next(self->stream, &self->block, err);
    if (st == MDN_OK)
        mdn_clock_pass(&self->clock, &self->block);
    return st;
}

/* A block that could not be delivered, since a signal came or memory went, is
 * delivered by the next call. */
mdn_status
mdn_py_orchestrator_arrive(void *ctx, mdn_metadata_block *out, mdn_error *err)
{
    mdn_py_orchestrator *self = ctx;
    const int64_t *timestamps = NULL, *labels = NULL;
    PyObject *result = NULL;
    mdn_status st;

    if (self->delivered) {
        if ((st = read_block(self, err)) != MDN_OK)
            return st;
        self->delivered = self->block.count == 0;
    }
    if (self->delivered) {
        *out = self->block; /* the end */
        return MDN_OK;
    }
    if (self->source == NULL && self->order.obj == NULL
        && self->block.positions == NULL) {
        st = mdn_view_columns(self->view, self->block.keys[0],
                              self->block.count, &timestamps, &labels, err);
        if (st != MDN_OK)
            return st;
    }
    mdn_py_orchestrator_enter(self);
    if (PyErr_CheckSignals() == 0)
        result = deliver(self, timestamps, labels);
    if ((st = mdn_py_orchestrator_leave(self, result, err)) != MDN_OK)
        return st;
    self->delivered = true;
    *out = self->block;
    return MDN_OK;
}

static uint64_t
count_of(const mdn_py_orchestrator *self)
{
    return self->source != NULL ? self->source->count
           : self->order.obj    ? (uint64_t)self->order.len / 8
                                : mdn_view_count(self->view);
}

/* The stream of arrivals from a position on; on any thread. */
static mdn_status
open_at(void *ctx, uint64_t first, const mdn_pulse *pulse,
        mdn_metadata_stream **out, mdn_error *err)
{
    mdn_py_orchestrator *self = ctx;
    mdn_metadata_source *source = self->source;

    if (source != NULL)
        return source->open(source, first, count_of(self), self->block_count,
                            MDN_WANT_ALL, pulse, out, err);
    return mdn_metadata_from_view(self->view, self->order.buf, first,
                                  count_of(self), self->block_count, out, err);
}

mdn_status
mdn_py_orchestrator_open(mdn_py_orchestrator *self, uint64_t position,
                         mdn_error *err)
{
    mdn_metadata_opening opening = {.open = open_at, .ctx = self};

    if (position > count_of(self))
        return mdn_fail(err, MDN_INVALID,
                        "position %llu is beyond the end of the stream at %llu",
                        (unsigned long long)position,
                        (unsigned long long)count_of(self));
    return mdn_metadata_ahead(&opening, position, self->block_count,
                              &self->pulse, &self->stream, err);
}
