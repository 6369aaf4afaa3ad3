/* orchestrator.c - the loop of csrc/orchestrator with steps in Python. */
#include "python/orchestrator.h"

/* -- from Python into the core ------------------------------------------- */

static PyObject *
orchestrator_next(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    mdn_py_orchestrator *self = (mdn_py_orchestrator *)op;
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
    return mdn_py_orchestrator_facts(&transition);
}

/* The key at a position, or at the nearest one before it (behind it, if there
 * is none) whose sample was not erased since the run began. */
static uint64_t
nearest_living(const mdn_py_orchestrator *self, const uint64_t *order,
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
timestamp_from_source(mdn_py_orchestrator *self, uint64_t position)
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
    mdn_py_orchestrator *self = (mdn_py_orchestrator *)op;
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
        mdn_orchestrator_position(((mdn_py_orchestrator *)op)->core));
}

static PyObject *
orchestrator_trigger(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(
        mdn_orchestrator_trigger(((mdn_py_orchestrator *)op)->core));
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
read_arguments(mdn_py_orchestrator *self, mdn_py_state *state, PyObject *args,
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
    self->block_count = a->block_count;
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
read_names(mdn_py_orchestrator *self, mdn_steps *steps)
{
    PyObject *trigger, *selection;

    if (!PyArg_ParseTuple(self->names, "UU", &trigger, &selection))
        return -1;
    steps->trigger_name = PyUnicode_AsUTF8(trigger);
    steps->selection_name = PyUnicode_AsUTF8(selection);
    return steps->trigger_name && steps->selection_name ? 0 : -1;
}

static int
start(mdn_py_orchestrator *self, mdn_py_state *state, const arguments *a)
{
    mdn_steps steps = mdn_py_orchestrator_steps(self);
    mdn_plan plan = {.order = self->order.buf,
                     .advance_every = a->advance_every,
                     .position = a->position};
    Py_buffer starts;
    mdn_error err;
    mdn_status st;

    plan.tail_triggers =
        a->tail_triggers < 0 ? MDN_TAIL_ALL : (uint64_t)a->tail_triggers;
    if (!a->late_labels)
        steps.known = NULL;
    if (read_names(self, &steps) < 0)
        return -1;
    if (mdn_py_buffer(a->starts, "trigger_starts", "LQ", 8, 0, &starts) < 0)
        return -1;
    st = starts.len > 0 ? mdn_py_orchestrator_open(self, a->position, &err)
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
    mdn_py_orchestrator *self;
    arguments a = {.order = NULL};

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Orchestrator takes no keywords");
        return NULL;
    }
    self = (mdn_py_orchestrator *)type->tp_alloc(type, 0);
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
    mdn_py_orchestrator *self = (mdn_py_orchestrator *)op;

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
    Py_CLEAR(((mdn_py_orchestrator *)op)->calls);
    return 0;
}

static void
orchestrator_dealloc(PyObject *op)
{
    mdn_py_orchestrator *self = (mdn_py_orchestrator *)op;
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
    mdn_py_orchestrator_drop(self);
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
    .basicsize = sizeof(mdn_py_orchestrator),
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
