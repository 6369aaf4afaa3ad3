/* orchestrator_steps.c - what the loop asks of Python. */
#include "python/orchestrator.h"

#include "selector/trainset.h"

void
mdn_py_orchestrator_enter(mdn_py_orchestrator *self)
{
    PyEval_RestoreThread(self->thread);
}

mdn_status
mdn_py_orchestrator_leave(mdn_py_orchestrator *self, PyObject *result,
                          mdn_error *err)
{
    mdn_status st = MDN_OK;

    if (result == NULL)
        st = mdn_fail(err, MDN_CALLBACK, "a step raised");
    Py_XDECREF(result);
    self->thread = PyEval_SaveThread();
    return st;
}

static mdn_status
inform(void *ctx, const mdn_metadata_block *rest, uint64_t offset,
       mdn_answer *out, mdn_error *err)
{
    mdn_py_orchestrator *self = ctx;
    PyObject *result;
    int overflow = 0;

    (void)rest; /* Python has the block already */
    mdn_py_orchestrator_enter(self);
    result = PyObject_CallMethod(self->calls, "inform", "K", offset);
    if (result != NULL && result != Py_None) {
        out->due = true;
        out->after = PyLong_AsLongLongAndOverflow(result, &overflow);
        if (out->after == -1 && PyErr_Occurred())
            Py_CLEAR(result);
        if (overflow != 0)
            out->after = overflow < 0 ? INT64_MIN : INT64_MAX;
    }
    return mdn_py_orchestrator_leave(self, result, err);
}

PyObject *
mdn_py_orchestrator_facts(const mdn_transition *t)
{
    char digest[2 * MDN_DIGEST_SIZE + 1];

    mdn_digest_hex(t->digest, digest);
    return Py_BuildValue("(KKKKKKs)", t->trigger, t->first, t->position,
                         t->candidates_first, t->candidates_last,
                         t->sample_count, digest);
}

static PyObject *
call_with_facts(mdn_py_orchestrator *self, const char *name,
                const mdn_transition *t)
{
    PyObject *method, *arguments, *result = NULL;

    arguments = mdn_py_orchestrator_facts(t);
    if (arguments == NULL)
        return NULL;
    method = PyObject_GetAttrString(self->calls, name);
    if (method != NULL)
        result = PyObject_CallObject(method, arguments);
    Py_XDECREF(method);
    Py_DECREF(arguments);
    return result;
}

void
mdn_py_orchestrator_drop(mdn_py_orchestrator *self)
{
    PyBuffer_Release(&self->keys);
    PyBuffer_Release(&self->weights);
}

/* Hold the buffers of (keys, weights or None).  0, or -1 with an exception. */
static int
take_choice(mdn_py_orchestrator *self, PyObject *pair, mdn_choice *out)
{
    PyObject *keys, *weights;

    mdn_py_orchestrator_drop(self);
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
    mdn_py_orchestrator *self = ctx;
    PyObject *result;

    mdn_py_orchestrator_enter(self);
    result = call_with_facts(self, "select", transition);
    if (result != NULL && take_choice(self, result, out) < 0)
        Py_CLEAR(result);
    return mdn_py_orchestrator_leave(self, result, err);
}

static mdn_status
write_set(void *ctx, const mdn_choice *choice, uint8_t digest[MDN_DIGEST_SIZE],
          mdn_error *err)
{
    mdn_py_orchestrator *self = ctx;
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
    mdn_py_orchestrator *self = ctx;
    PyObject *result;

    mdn_py_orchestrator_enter(self);
    result = call_with_facts(self, "commit", transition);
    if (result != NULL) {
        mdn_py_orchestrator_drop(
            self); /* the caller trains: free what is large */
        mdn_clock_mark(&self->clock, transition->position);
    }
    return mdn_py_orchestrator_leave(self, result, err);
}

static mdn_status
advance(void *ctx, uint64_t position, mdn_error *err)
{
    mdn_py_orchestrator *self = ctx;

    mdn_py_orchestrator_enter(self);
    return mdn_py_orchestrator_leave(
        self, PyObject_CallMethod(self->calls, "advance", "K", position), err);
}

static mdn_status
known(void *ctx, uint64_t position, uint64_t *out, mdn_error *err)
{
    mdn_py_orchestrator *self = ctx;
    PyObject *result;

    mdn_py_orchestrator_enter(self);
    result = PyObject_CallMethod(self->calls, "known", "K", position);
    if (result != NULL) {
        *out = PyLong_AsUnsignedLongLong(result);
        if (PyErr_Occurred())
            Py_CLEAR(result);
    }
    return mdn_py_orchestrator_leave(self, result, err);
}

mdn_steps
mdn_py_orchestrator_steps(mdn_py_orchestrator *self)
{
    return (mdn_steps){.ctx = self,
                       .arrive = mdn_py_orchestrator_arrive,
                       .inform = inform,
                       .select = choose,
                       .write = write_set,
                       .commit = commit,
                       .advance = advance,
                       .known = known};
}
