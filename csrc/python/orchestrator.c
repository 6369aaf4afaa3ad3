/* orchestrator.c - the loop of csrc/orchestrator with steps in Python.
 *
 * next() saves its PyThreadState in the object and runs the core loop without
 * the GIL.  A callback that needs Python takes the state from there and puts it
 * back (enter, leave); if Python raised, the exception stays set, the callback
 * returns MDN_CALLBACK, and next() passes the exception on as it is.
 *
 * The arrays of a block are views of what outlives them wherever it can be:
 * of the mapped columns, kept alive by the View, and of the array of the
 * order.  What a stream had to put together in a buffer of its own is copied,
 * since a policy may keep an array for longer than the block; so is all that
 * comes from a source, whose waits for a server ask for signals with the same
 * PyThreadState.  Arrivals are read ahead while a policy looks at a block. */
#include "python/python.h"

#include "metadata/ahead.h"
#include "metadata/source.h"
#include "orchestrator/clock.h"
#include "orchestrator/orchestrator.h"
#include "selector/trainset.h"

#include <stdbool.h>
#include <string.h>

typedef struct {
    PyObject_HEAD
    PyThreadState *thread; /* of the thread in next(), while it runs the core */
    bool running;          /* next() is on the way */

    PyObject *view_object; /* keeps view alive */
    PyObject *calls;       /* arrive, inform, select, commit, advance, known */
    PyObject *names;       /* tuple of str; the core borrows their UTF-8 */
    PyObject *directory;   /* bytes: of the training sets */
    Py_buffer order;       /* obj NULL: arrival order */

    mdn_view *view;              /* borrowed from view_object */
    mdn_metadata_source *source; /* one reference; NULL: arrivals of the view */
    mdn_clock clock;             /* of the source */
    mdn_pulse pulse;             /* signals, by way of thread */
    uint64_t block_count;
    mdn_metadata_stream *stream; /* read ahead */
    mdn_orchestrator *core;

    mdn_metadata_block block; /* that was read last */
    bool delivered;           /* and was given to Python */
    Py_buffer keys, weights;  /* the choice; obj NULL: none */
} orchestrator_object;

/* -- from the core into Python ------------------------------------------- */

static void
enter(orchestrator_object *self)
{
    PyEval_RestoreThread(self->thread);
}

/* result is what Python returned, and is dropped: NULL if it raised. */
static mdn_status
leave(orchestrator_object *self, PyObject *result, mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (result == NULL)
        st = mdn_fail(err, MDN_CALLBACK, "a step raised");
    Py_XDECREF(result);
    self->thread = PyEval_SaveThread();
    return st;
}

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
keys_array(orchestrator_object *self)
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
column_array(orchestrator_object *self, const int64_t *column,
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
deliver(orchestrator_object *self, const int64_t *mapped_timestamps,
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
read_block(orchestrator_object *self, mdn_error *err)
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
static mdn_status
arrive(void *ctx, mdn_metadata_block *out, mdn_error *err)
{
    orchestrator_object *self = ctx;
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
    enter(self);
    if (PyErr_CheckSignals() == 0)
        result = deliver(self, timestamps, labels);
    if ((st = leave(self, result, err)) != MDN_OK)
        return st;
    self->delivered = true;
    *out = self->block;
    return MDN_OK;
}

static mdn_status
inform(void *ctx, const mdn_metadata_block *rest, uint64_t offset,
       mdn_answer *out, mdn_error *err)
{
    orchestrator_object *self = ctx;
    PyObject *result;
    int overflow = 0;

    (void)rest; /* Python has the block already */
    enter(self);
    result = PyObject_CallMethod(self->calls, "inform", "K", offset);
    if (result != NULL && result != Py_None) {
        out->due = true;
        out->after = PyLong_AsLongLongAndOverflow(result, &overflow);
        if (out->after == -1 && PyErr_Occurred())
            Py_CLEAR(result);
        if (overflow != 0)
            out->after = overflow < 0 ? INT64_MIN : INT64_MAX;
    }
    return leave(self, result, err);
}

/* What Python sees of a transition: (trigger, first, position,
 * candidates_first, candidates_last, samples, digest). */
static PyObject *
facts(const mdn_transition *t)
{
    char digest[2 * MDN_DIGEST_SIZE + 1];

    mdn_digest_hex(t->digest, digest);
    return Py_BuildValue("(KKKKKKs)", t->trigger, t->first, t->position,
                         t->candidates_first, t->candidates_last,
                         t->sample_count, digest);
}

static PyObject *
call_with_facts(orchestrator_object *self, const char *name,
                const mdn_transition *t)
{
    PyObject *method, *arguments, *result = NULL;

    arguments = facts(t);
    if (arguments == NULL)
        return NULL;
    method = PyObject_GetAttrString(self->calls, name);
    if (method != NULL)
        result = PyObject_CallObject(method, arguments);
    Py_XDECREF(method);
    Py_DECREF(arguments);
    return result;
}

static void
drop_choice(orchestrator_object *self)
{
    PyBuffer_Release(&self->keys);
    PyBuffer_Release(&self->weights);
}

/* Hold the buffers of (keys, weights or None).  0, or -1 with an exception. */
static int
take_choice(orchestrator_object *self, PyObject *pair, mdn_choice *out)
{
    PyObject *keys, *weights;

    drop_choice(self);
    if (!PyArg_ParseTuple(pair, "OO", &keys, &weights))
        return -1;
    if (mdn_py_buffer(keys, "keys", "LQ", 8, 0, &self->keys) < 0)
        return -1;
    if (weights != Py_None
        && mdn_py_buffer(weights, "weights", "d", 8, 0, &self->weights) < 0)
        return -1;
    *out = (mdn_choice){.count = (uint64_t)self->keys.len / 8,
                        .keys = self->keys.buf};
    if (weights != Py_None)
        out->weights = self->weights.buf;
    return 0;
}

static mdn_status
choose(void *ctx, const mdn_transition *transition, mdn_choice *out,
       mdn_error *err)
{
    orchestrator_object *self = ctx;
    PyObject *result;

    enter(self);
    result = call_with_facts(self, "select", transition);
    if (result != NULL && take_choice(self, result, out) < 0)
        Py_CLEAR(result);
    return leave(self, result, err);
}

static mdn_status
write_set(void *ctx, const mdn_choice *choice, uint8_t digest[MDN_DIGEST_SIZE],
          mdn_error *err)
{
    orchestrator_object *self = ctx;
    mdn_trainset_rows rows = {.keys = choice->keys,
                              .weights = choice->weights,
                              .count = choice->count,
                              .dataset_uuid = mdn_view_uuid(self->view)};

    return mdn_trainset_write(
        &mdn_io_system, PyBytes_AS_STRING(self->directory), &rows, digest, err);
}

static mdn_status
commit(void *ctx, const mdn_transition *transition, mdn_error *err)
{
    orchestrator_object *self = ctx;
    PyObject *result;

    enter(self);
    result = call_with_facts(self, "commit", transition);
    if (result != NULL) {
        drop_choice(self); /* the caller trains: free what is large */
        mdn_clock_mark(&self->clock, transition->position);
    }
    return leave(self, result, err);
}

static mdn_status
advance(void *ctx, uint64_t position, mdn_error *err)
{
    orchestrator_object *self = ctx;

    enter(self);
    return leave(
        self, PyObject_CallMethod(self->calls, "advance", "K", position), err);
}

static mdn_status
known(void *ctx, uint64_t position, uint64_t *out, mdn_error *err)
{
    orchestrator_object *self = ctx;
    PyObject *result;

    enter(self);
    result = PyObject_CallMethod(self->calls, "known", "K", position);
    if (result != NULL) {
        *out = PyLong_AsUnsignedLongLong(result);
        if (PyErr_Occurred())
            Py_CLEAR(result);
    }
    return leave(self, result, err);
}

/* -- from Python into the core ------------------------------------------- */

static PyObject *
orchestrator_next(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    orchestrator_object *self = (orchestrator_object *)op;
    mdn_transition transition;
    mdn_error err = {.status = MDN_OK};
    mdn_status st;
    bool ended;

    if (self->calls == NULL) { /* the garbage collector was here */
        PyErr_SetString(mdn_py_state_of_type(Py_TYPE(op))->closed_error,
                        "the orchestrator is gone");
        return NULL;
    }
    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError,
                        "next() is running already: it must not be called "
                        "from a step, or from two threads at once");
        return NULL;
    }
    self->running = true;
    self->thread = PyEval_SaveThread();
    st = mdn_orchestrator_next(self->core, &transition, &ended, &err);
    PyEval_RestoreThread(self->thread);
    self->running = false;
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(op)), &err);
    if (ended)
        Py_RETURN_NONE;
    return facts(&transition);
}

/* The key at a position, or at the nearest one before it (behind it, if there
 * is none) whose sample was not erased since the run began. */
static uint64_t
nearest_living(const orchestrator_object *self, const uint64_t *order,
               uint64_t position)
{
    uint64_t count = self->order.obj ? (uint64_t)self->order.len / 8
                                     : mdn_view_count(self->view);
    uint64_t key = 0;

    for (uint64_t at = position + 1; at-- > 0;) {
        key = self->order.obj ? order[at] : at;
        if (key >= mdn_view_count(self->view)
            || !mdn_view_is_erased(self->view, key))
            return key;
    }
    for (uint64_t at = position + 1; at < count; at++) {
        key = self->order.obj ? order[at] : at;
        if (!mdn_view_is_erased(self->view, key))
            break;
    }
    return key;
}

/* The same where the samples are far away. */
static PyObject *
timestamp_from_source(orchestrator_object *self, uint64_t position)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    mdn_error err;
    mdn_status st;
    int64_t timestamp;

    thread = PyEval_SaveThread();
    st = mdn_clock_at(&self->clock, position, &pulse, &timestamp, &err);
    PyEval_RestoreThread(thread);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return PyLong_FromLongLong(timestamp);
}

static PyObject *
orchestrator_timestamp_at(PyObject *op, PyObject *argument)
{
    orchestrator_object *self = (orchestrator_object *)op;
    const uint64_t *order = self->order.buf;
    const int64_t *timestamps, *labels;
    uint64_t position = PyLong_AsUnsignedLongLong(argument);
    mdn_error err;

    if (position == UINT64_MAX && PyErr_Occurred())
        return NULL;
    if (self->source != NULL)
        return timestamp_from_source(self, position);
    if (self->order.obj != NULL) {
        if (position >= (uint64_t)self->order.len / 8)
            return PyErr_Format(PyExc_IndexError, "no position %llu", position);
    }
    position = nearest_living(self, order, position);
    if (mdn_view_columns(self->view, position, 1, &timestamps, &labels, &err)
        != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(op)), &err);
    return PyLong_FromLongLong(timestamps[0]);
}

static PyObject *
orchestrator_position(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(
        mdn_orchestrator_position(((orchestrator_object *)op)->core));
}

static PyObject *
orchestrator_trigger(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(
        mdn_orchestrator_trigger(((orchestrator_object *)op)->core));
}

/* -- life cycle ----------------------------------------------------------- */

typedef struct {
    PyObject *order;
    PyObject *starts;
    unsigned long long block_count, position, advance_every;
    long long tail_triggers; /* negative: all */
    int late_labels;         /* so that calls.known is asked */
} arguments;

static int
read_arguments(orchestrator_object *self, mdn_py_state *state, PyObject *args,
               arguments *a)
{
    PyObject *view, *calls, *directory, *names, *source;

    if (!PyArg_ParseTuple(args, "OOOO&KLKOKO!Op", &view, &a->order, &calls,
                          PyUnicode_FSConverter, &directory, &a->block_count,
                          &a->tail_triggers, &a->position, &a->starts,
                          &a->advance_every, &PyTuple_Type, &names, &source,
                          &a->late_labels))
        return -1;
    self->directory = directory; /* a new reference already */
    self->view_object = Py_NewRef(view);
    self->calls = Py_NewRef(calls);
    self->names = Py_NewRef(names);
    self->view = mdn_py_view(state, view);
    if (self->view == NULL)
        return -1;
    if (source != Py_None) {
        mdn_metadata_source *core =
            PyCapsule_GetPointer(source, MDN_SOURCE_CAPSULE);

        if (core == NULL)
            return -1;
        self->source = core->retain(core);
    }
    if (a->order != Py_None
        && mdn_py_buffer(a->order, "order", "LQ", 8, 0, &self->order) < 0)
        return -1;
    if (a->block_count >= 1 && a->advance_every >= 1)
        return 0;
    PyErr_SetString(PyExc_ValueError,
                    "block_count and advance_every must be at least 1");
    return -1;
}

static int
read_names(orchestrator_object *self, mdn_steps *steps)
{
    PyObject *trigger, *selection;

    if (!PyArg_ParseTuple(self->names, "UU", &trigger, &selection))
        return -1;
    steps->trigger_name = PyUnicode_AsUTF8(trigger);
    steps->selection_name = PyUnicode_AsUTF8(selection);
    return steps->trigger_name && steps->selection_name ? 0 : -1;
}

static uint64_t
count_of(const orchestrator_object *self)
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
    orchestrator_object *self = ctx;
    mdn_metadata_source *source = self->source;

    if (source != NULL)
        return source->open(source, first, count_of(self), self->block_count,
                            MDN_WANT_ALL, pulse, out, err);
    return mdn_metadata_from_view(self->view, self->order.buf, first,
                                  count_of(self), self->block_count, out, err);
}

static mdn_status
open_stream(orchestrator_object *self, const arguments *a, mdn_error *err)
{
    mdn_metadata_opening opening = {.open = open_at, .ctx = self};

    if (a->position > count_of(self))
        return mdn_fail(err, MDN_INVALID,
                        "position %llu is beyond the end of the stream at %llu",
                        a->position, (unsigned long long)count_of(self));
    self->block_count = a->block_count;
    return mdn_metadata_ahead(&opening, a->position, a->block_count,
                              &self->pulse, &self->stream, err);
}

static int
start(orchestrator_object *self, mdn_py_state *state, const arguments *a)
{
    mdn_steps steps = {.ctx = self,
                       .arrive = arrive,
                       .inform = inform,
                       .select = choose,
                       .write = write_set,
                       .commit = commit,
                       .advance = advance,
                       .known = a->late_labels ? known : NULL};
    mdn_plan plan = {.order = self->order.buf,
                     .advance_every = a->advance_every,
                     .position = a->position};
    Py_buffer starts;
    mdn_error err;
    mdn_status st;

    plan.tail_triggers =
        a->tail_triggers < 0 ? MDN_TAIL_ALL : (uint64_t)a->tail_triggers;
    if (read_names(self, &steps) < 0)
        return -1;
    if (mdn_py_buffer(a->starts, "trigger_starts", "LQ", 8, 0, &starts) < 0)
        return -1;
    st = starts.len > 0 ? open_stream(self, a, &err)
                        : mdn_fail(&err, MDN_INVALID, "no trigger_starts");
    if (st == MDN_OK) {
        plan.starts = starts.buf;
        plan.trigger = (uint64_t)starts.len / 8 - 1;
        self->clock =
            mdn_clock_new(self->source, a->position, plan.starts[plan.trigger]);
        st = mdn_orchestrator_new(&steps, &plan, &self->core, &err);
    }
    PyBuffer_Release(&starts);
    if (st != MDN_OK)
        mdn_py_raise(state, &err);
    return st == MDN_OK ? 0 : -1;
}

static PyObject *
orchestrator_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    mdn_py_state *state = mdn_py_state_of_type(type);
    orchestrator_object *self;
    arguments a = {.order = NULL};

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Orchestrator takes no keywords");
        return NULL;
    }
    self = (orchestrator_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->delivered = true;
    self->pulse =
        (mdn_pulse){.ask = mdn_py_check_signals, .ctx = &self->thread};
    if (read_arguments(self, state, args, &a) < 0
        || start(self, state, &a) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
orchestrator_traverse(PyObject *op, visitproc visit, void *arg)
{
    orchestrator_object *self = (orchestrator_object *)op;

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->view_object);
    Py_VISIT(self->calls);
    Py_VISIT(self->order.obj);
    Py_VISIT(self->keys.obj);
    Py_VISIT(self->weights.obj);
    return 0;
}

/* Only what can be part of a cycle; the rest goes in dealloc, since what a
 * cycle holds may still ask for the position. */
static int
orchestrator_clear(PyObject *op)
{
    Py_CLEAR(((orchestrator_object *)op)->calls);
    return 0;
}

static void
orchestrator_dealloc(PyObject *op)
{
    orchestrator_object *self = (orchestrator_object *)op;
    PyTypeObject *type = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    mdn_orchestrator_free(self->core);
    if (self->stream != NULL) {
        mdn_metadata_stream *stream = self->stream;

        Py_BEGIN_ALLOW_THREADS /* it may have to tell a server */
        stream->free(stream);
        Py_END_ALLOW_THREADS
    }
    if (self->source != NULL)
        self->source->release(self->source);
    drop_choice(self);
    PyBuffer_Release(&self->order);
    Py_XDECREF(self->calls);
    Py_XDECREF(self->names);
    Py_XDECREF(self->directory);
    Py_XDECREF(self->view_object);
    type->tp_free(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(orchestrator_doc,
             "Orchestrator(view, order, calls, directory, block_count, "
             "tail_triggers, position, starts, advance_every, names, source, "
             "late_labels, /)\n--\n\n"
             "The loop of a pipeline; see modyn.orchestrator.Orchestrator.");

PyDoc_STRVAR(next_doc,
             "next($self, /)\n--\n\n"
             "Go on to the next trigger: (trigger, first, position, "
             "candidates_first, candidates_last, samples, digest), or None at "
             "the end.");

PyDoc_STRVAR(timestamp_at_doc,
             "timestamp_at($self, position, /)\n--\n\n"
             "The timestamp of the sample at a position of the stream.");

static PyMethodDef orchestrator_methods[] = {
    {"next", orchestrator_next, METH_NOARGS, next_doc},
    {"timestamp_at", orchestrator_timestamp_at, METH_O, timestamp_at_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef orchestrator_getset[] = {
    {"position", orchestrator_position, NULL, "Samples consumed.", NULL},
    {"trigger", orchestrator_trigger, NULL, "Index of the trigger sought.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot orchestrator_slots[] = {
    {Py_tp_doc, (void *)orchestrator_doc},
    {Py_tp_new, orchestrator_new},
    {Py_tp_dealloc, orchestrator_dealloc},
    {Py_tp_traverse, orchestrator_traverse},
    {Py_tp_clear, orchestrator_clear},
    {Py_tp_methods, orchestrator_methods},
    {Py_tp_getset, orchestrator_getset},
    {0, NULL},
};

static PyType_Spec orchestrator_spec = {
    .name = "modyn._core.Orchestrator",
    .basicsize = sizeof(orchestrator_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = orchestrator_slots,
};

int
mdn_py_add_orchestrator(PyObject *module, mdn_py_state *state)
{
    state->orchestrator_type = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &orchestrator_spec, NULL);
    if (state->orchestrator_type == NULL)
        return -1;
    return PyModule_AddType(module, state->orchestrator_type);
}
