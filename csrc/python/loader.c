/* loader.c - loaders and their epochs as Python objects.
 *
 * A Loader holds the buffers of keys and weights, which workers read: they are
 * released when the last epoch, which holds its loader, is gone and its workers
 * have been joined. */
#include "prefetch/loader.h"

#include "python/batch.h"
#include "python/python.h"

#include <unistd.h>

#define WAIT_SLICE_MS 100 /* so that Ctrl-C is answered within 0.2 s */

typedef struct {
    PyObject_HEAD
    mdn_loader *core; /* owned */
    pid_t pid;        /* of the process that made it */
    Py_buffer keys;   /* held; obj is NULL when it is not */
    Py_buffer weights;
} loader_object;

typedef struct {
    PyObject_HEAD
    mdn_epoch *core;       /* owned */
    loader_object *loader; /* one reference */
} epoch_object;

/* ----- arguments ----- */

static int
as_uint64(PyObject *object, void *out)
{
    unsigned long long value = PyLong_AsUnsignedLongLong(object);

    if (value == (unsigned long long)-1 && PyErr_Occurred())
        return 0;
    *(uint64_t *)out = value;
    return 1;
}

static int
as_uint32(PyObject *object, void *out)
{
    uint64_t value;

    if (!as_uint64(object, &value))
        return 0;
    if (value > UINT32_MAX) {
        PyErr_Format(PyExc_OverflowError, "%llu does not fit in 32 bits",
                     (unsigned long long)value);
        return 0;
    }
    *(uint32_t *)out = (uint32_t)value;
    return 1;
}

/* "" is as given. */
static int
as_shuffle(PyObject *object, void *out)
{
    static const struct {
        const char *name;
        mdn_shuffle shuffle;
    } known[] = {{"", MDN_AS_GIVEN},
                 {"global", MDN_GLOBAL},
                 {"partition", MDN_PARTITION}};

    for (size_t i = 0; PyUnicode_Check(object) && i < Py_ARRAY_LENGTH(known);
         i++)
        if (PyUnicode_CompareWithASCIIString(object, known[i].name) == 0) {
            *(mdn_shuffle *)out = known[i].shuffle;
            return 1;
        }
    PyErr_Format(PyExc_ValueError,
                 "shuffle must be \"\", \"global\" or \"partition\", got %R",
                 object);
    return 0;
}

/* The items of a tuple of numbers, to be freed with PyMem_Free. */
static uint32_t *
read_fields(PyObject *fields, uint32_t *count)
{
    Py_ssize_t size = PyTuple_GET_SIZE(fields);
    uint32_t *out;

    if (size > MDN_FIELDS_MAX) {
        PyErr_Format(PyExc_ValueError, "at most %d fields, got %zd",
                     MDN_FIELDS_MAX, size);
        return NULL;
    }
    out = PyMem_New(uint32_t, (size_t)size + 1);
    if (out == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < size; i++)
        if (!as_uint32(PyTuple_GET_ITEM(fields, i), &out[i])) {
            PyMem_Free(out);
            return NULL;
        }
    *count = (uint32_t)size;
    return out;
}

static int
hold_samples(loader_object *self, PyObject *keys, PyObject *weights)
{
    if (mdn_py_buffer(keys, "keys", "LQ", sizeof(uint64_t), 0, &self->keys) < 0)
        return -1;
    if (weights == Py_None)
        return 0;
    if (mdn_py_buffer(weights, "weights", "d", sizeof(double), 0,
                      &self->weights)
        < 0)
        return -1;
    if (self->weights.len == self->keys.len)
        return 0;
    PyErr_Format(PyExc_ValueError, "%zd weights for %zd keys",
                 self->weights.len / 8, self->keys.len / 8);
    return -1;
}

/* ----- Loader ----- */

static PyObject *
make_core(loader_object *self, mdn_view *view, PyObject *fields,
          mdn_loader_options *options)
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    uint32_t *indices = read_fields(fields, &options->field_count);
    mdn_status st;
    mdn_error err;

    if (indices == NULL)
        return NULL;
    options->view = view;
    options->fields = indices;
    options->keys = self->keys.buf;
    options->count = (uint64_t)self->keys.len / sizeof(uint64_t);
    options->weights = self->weights.obj != NULL ? self->weights.buf : NULL;
    st = mdn_loader_new(options, &self->core, &err);
    PyMem_Free(indices);
    if (st != MDN_OK)
        return mdn_py_raise(state, &err);
    return (PyObject *)self;
}

static PyObject *
loader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "view",       "keys",           "weights",        "fields",
        "batch_size", "drop_last",      "shuffle",        "seed",
        "pass_rows",  "partition_size", "bucket_batches", "bucket_field",
        "rank",       "world_size",     "ascending",      NULL};
    PyObject *view_object, *keys, *weights, *fields;
    mdn_loader_options options = {0};
    loader_object *self;
    mdn_view *view;
    int drop_last, ascending = 0;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OOO$O!O&pO&O&O&O&O&O&O&O&p:Loader", names,
            &view_object, &keys, &weights, &PyTuple_Type, &fields, as_uint64,
            &options.batch_size, &drop_last, as_shuffle, &options.shuffle,
            as_uint64, &options.seed, as_uint64, &options.pass_rows, as_uint64,
            &options.partition_size, as_uint64, &options.bucket_batches,
            as_uint32, &options.bucket_field, as_uint32, &options.rank,
            as_uint32, &options.world_size, &ascending))
        return NULL;
    options.drop_last = drop_last != 0;
    options.ascending = ascending != 0;
    view = mdn_py_view(mdn_py_state_of_type(type), view_object);
    if (view == NULL)
        return NULL;
    self = (loader_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->pid = getpid();
    if (hold_samples(self, keys, weights) < 0
        || make_core(self, view, fields, &options) == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
loader_dealloc(loader_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_loader_free(self->core);
    if (self->keys.obj != NULL)
        PyBuffer_Release(&self->keys);
    if (self->weights.obj != NULL)
        PyBuffer_Release(&self->weights);
    type->tp_free(self);
    Py_DECREF(type);
}

static Py_ssize_t
loader_length(loader_object *self)
{
    uint64_t count = mdn_loader_batch_count(self->core);

    if (mdn_loader_is_endless(self->core)) {
        PyErr_SetString(PyExc_TypeError, "a pass that never ends has no "
                                         "number of batches");
        return -1;
    }
    if (count > PY_SSIZE_T_MAX) {
        PyErr_Format(PyExc_OverflowError, "%llu batches are too many to count",
                     (unsigned long long)count);
        return -1;
    }
    return (Py_ssize_t)count;
}

static PyObject *
loader_partition_size(loader_object *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(mdn_loader_partition_size(self->core));
}

static const char *
state_name(mdn_ahead_state state)
{
    switch (state) { /* no default: -Wswitch rejects a missing case */
    case MDN_AHEAD_NOT_YET: return "";
    case MDN_AHEAD_OFF: return "off";
    case MDN_AHEAD_RESIDENT: return "resident";
    case MDN_AHEAD_PROBING: return "probing";
    case MDN_AHEAD_PROBED: return "probed";
    case MDN_AHEAD_GIVEN: return "given";
    }
    Py_UNREACHABLE();
}

static PyObject *
loader_ahead(loader_object *self, void *unused)
{
    mdn_ahead_choice choice = mdn_loader_ahead(self->core);
    PyObject *tried = PyTuple_New((Py_ssize_t)choice.tried_count);

    (void)unused;
    for (uint32_t i = 0; tried != NULL && i < choice.tried_count; i++) {
        PyObject *pair =
            Py_BuildValue("(Id)", choice.tried[i], choice.rates[i]);

        if (pair == NULL)
            Py_CLEAR(tried);
        else
            PyTuple_SET_ITEM(tried, (Py_ssize_t)i, pair);
    }
    if (tried == NULL)
        return NULL;
    return Py_BuildValue("(sIINdK)", state_name(choice.state),
                         choice.partitions, choice.requests, tried,
                         choice.probe_seconds,
                         (unsigned long long)choice.partition_bytes);
}

static const char *
kind_name(mdn_part_kind kind)
{
    switch (kind) { /* no default: -Wswitch rejects a missing case */
    case MDN_PART_KEYS: return "keys";
    case MDN_PART_LABELS: return "labels";
    case MDN_PART_WEIGHTS: return "weights";
    case MDN_PART_FIELD: return "field";
    case MDN_PART_PAYLOADS: return "payloads";
    case MDN_PART_OFFSETS: return "offsets";
    }
    Py_UNREACHABLE();
}

static PyObject *
loader_parts(loader_object *self, void *unused)
{
    uint32_t count = mdn_loader_part_count(self->core);
    PyObject *parts = PyTuple_New((Py_ssize_t)count);

    (void)unused;
    for (uint32_t i = 0; parts != NULL && i < count; i++) {
        mdn_part_role role = mdn_loader_part_role(self->core, i);
        PyObject *part =
            Py_BuildValue("(sI)", kind_name(role.kind), role.field);

        if (part == NULL)
            Py_CLEAR(parts);
        else
            PyTuple_SET_ITEM(parts, (Py_ssize_t)i, part);
    }
    return parts;
}

static PyObject *
loader_memory(loader_object *self, void *unused)
{
    (void)unused;
    return mdn_py_memory(mdn_py_state_of_type(Py_TYPE(self)),
                         mdn_loader_pool(self->core));
}

PyDoc_STRVAR(
    begin_doc,
    "begin($self, /, *, epoch=0, first=0, threads, depth, stride=1, memory=0, "
    "partitions=0, requests=0, budget=0)\n"
    "--\n\n"
    "Start to fill batches first, first + stride, ... of the pass that "
    "begins with an epoch, and to read ahead; None: to be chosen.");

/* None is to be chosen. */
static int
as_open_uint32(PyObject *object, void *out)
{
    if (object != Py_None)
        return as_uint32(object, out);
    *(uint32_t *)out = MDN_AHEAD_OPEN;
    return 1;
}

static PyObject *
loader_begin(loader_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"epoch",  "first",  "threads",    "depth",
                            "stride", "memory", "partitions", "requests",
                            "budget", NULL};
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    PyTypeObject *type = state->epoch_type;
    mdn_epoch_options options = {0};
    epoch_object *epoch;
    mdn_status st;
    mdn_error err;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "|$O&O&O&O&O&O&O&O&O&:begin", names, as_uint64,
            &options.epoch, as_uint64, &options.first_batch, as_uint32,
            &options.thread_count, as_uint32, &options.depth, as_uint64,
            &options.stride, as_uint64, &options.memory_bytes, as_open_uint32,
            &options.partitions, as_open_uint32, &options.requests, as_uint64,
            &options.budget_bytes))
        return NULL;
    if (self->pid != getpid()) {
        mdn_fail(&err, MDN_CLOSED,
                 "this loader was made in process %ld: open the dataset and "
                 "make a loader in the forked process",
                 (long)self->pid);
        return mdn_py_raise(state, &err);
    }
    epoch = (epoch_object *)type->tp_alloc(type, 0);
    if (epoch == NULL)
        return NULL;
    epoch->loader = (loader_object *)Py_NewRef(self);
    Py_BEGIN_ALLOW_THREADS /* it may look at what is in memory */
    st = mdn_loader_begin(self->core, &options, &epoch->core, &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK) {
        Py_DECREF(epoch);
        return mdn_py_raise(state, &err);
    }
    return (PyObject *)epoch;
}

static PyObject *
loader_batch_bytes(loader_object *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(mdn_loader_batch_bytes(self->core));
}

static PyMethodDef loader_methods[] = {
    {"begin", (PyCFunction)(void (*)(void))loader_begin,
     METH_VARARGS | METH_KEYWORDS, begin_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef loader_getset[] = {
    {"batch_bytes", (getter)(void (*)(void))loader_batch_bytes, NULL,
     "What a whole batch takes, less its payloads.", NULL},
    {"parts", (getter)(void (*)(void))loader_parts, NULL,
     "(kind, field index) of each part of a batch.", NULL},
    {"ahead", (getter)(void (*)(void))loader_ahead, NULL,
     "What the epoch that began last reads ahead: state, partitions, requests,\n"
     "(requests, bytes per second) of what was tried, seconds of that, bytes\n"
     "of a partition.",
     NULL},
    {"partition_size", (getter)(void (*)(void))loader_partition_size, NULL,
     "Samples of a partition.", NULL},
    {"memory", (getter)(void (*)(void))loader_memory, NULL,
     "A new Memory: lends memory of others for batches to lie in.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(loader_doc,
             "Loader(view, keys, weights, *, fields, batch_size, drop_last, "
             "shuffle, seed, pass_rows, partition_size, bucket_batches, "
             "bucket_field, rank, world_size, ascending)\n--\n\n"
             "Samples of a view, in an order, cut into batches.");

static PyType_Slot loader_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)loader_doc},
    {Py_tp_new, (void *)loader_new},
    {Py_tp_dealloc, (void *)loader_dealloc},
    {Py_tp_methods, loader_methods},
    {Py_tp_getset, loader_getset},
    {Py_sq_length, (void *)loader_length},
    {0, NULL},
};

static PyType_Spec loader_spec = {
    .name = "modyn._core.Loader",
    .basicsize = sizeof(loader_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = loader_slots,
};

/* ----- Epoch ----- */

/* Signals are looked at only between waits: a batch that was taken is always
 * delivered, so that Ctrl-C loses none. */
static PyObject *
epoch_next(epoch_object *self)
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    mdn_batch *batch;
    mdn_status st;
    mdn_error err;

    for (;;) {
        Py_BEGIN_ALLOW_THREADS
        st = mdn_epoch_take(self->core, WAIT_SLICE_MS, &batch, &err);
        Py_END_ALLOW_THREADS
        if (st != MDN_TIMEOUT)
            break;
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
    if (st != MDN_OK)
        return mdn_py_raise(state, &err);
    if (batch == NULL)
        return NULL; /* the end: StopIteration */
    return mdn_py_batch(state, batch);
}

PyDoc_STRVAR(close_doc,
             "close($self, /)\n--\n\n"
             "Stop and join the workers; from any thread, any number of "
             "times.");

static PyObject *
epoch_close(epoch_object *self, PyObject *unused)
{
    (void)unused;
    Py_BEGIN_ALLOW_THREADS
    mdn_epoch_close(self->core);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
epoch_waits(epoch_object *self, void *unused)
{
    mdn_waits waits = mdn_epoch_waits(self->core);

    (void)unused;
    return Py_BuildValue("(KKKKKKK)", (unsigned long long)waits.batch_count,
                         (unsigned long long)waits.row_count,
                         (unsigned long long)waits.byte_count,
                         (unsigned long long)waits.waited_ns,
                         (unsigned long long)waits.held_ns,
                         (unsigned long long)waits.filling_ns,
                         (unsigned long long)waits.idle_ns);
}

static void
epoch_dealloc(epoch_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mdn_epoch *core = self->core;

    Py_BEGIN_ALLOW_THREADS
    mdn_epoch_free(core); /* joins; does not in a forked child */
    Py_END_ALLOW_THREADS
    Py_XDECREF(self->loader);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef epoch_methods[] = {
    {"close", (PyCFunction)(void (*)(void))epoch_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef epoch_getset[] = {
    {"waits", (getter)(void (*)(void))epoch_waits, NULL,
     "Batches, rows and bytes that were taken; nanoseconds that the consumer "
     "waited and held, and that workers filled and waited for room.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot epoch_slots[] = {
    {Py_tp_doc, "The batches of one epoch, in order; made by Loader.begin."},
    {Py_tp_dealloc, (void *)epoch_dealloc},
    {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)epoch_next},
    {Py_tp_methods, epoch_methods},
    {Py_tp_getset, epoch_getset},
    {0, NULL},
};

static PyType_Spec epoch_spec = {
    .name = "modyn._core.Epoch",
    .basicsize = sizeof(epoch_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = epoch_slots,
};

int
mdn_py_add_loader(PyObject *module, mdn_py_state *state)
{
    state->loader_type = mdn_py_add_type(module, &loader_spec);
    if (state->loader_type == NULL)
        return -1;
    state->epoch_type = mdn_py_add_type(module, &epoch_spec);
    return state->epoch_type == NULL ? -1 : 0;
}
