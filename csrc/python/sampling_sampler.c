/* sampling_sampler.c - modyn._core.Sampler. */
#include "python/sampling.h"

#include "selector/sampler.h"
#include "selector/sampler_state.h"

#include <stdlib.h>

typedef struct {
    PyObject_HEAD
    mdn_sampler *core; /* owned; NULL when it has been finished */
    bool busy;         /* a thread works on it without the GIL */
} sampler_object;

static void
sampler_dealloc(sampler_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_sampler_free(self->core);
    type->tp_free(self);
    Py_DECREF(type);
}

/* From here to leave() nobody else touches the core.  0, or -1 and an
 * exception. */
static int
enter(sampler_object *self)
{
    if (self->core == NULL || self->busy) {
        PyErr_SetString(PyExc_ValueError,
                        self->busy ? "another thread uses this sampler"
                                   : "the sampler has been finished, or has "
                                     "failed");
        return -1;
    }
    self->busy = true;
    return 0;
}

static void
leave(sampler_object *self, bool whole)
{
    self->busy = false;
    if (!whole) {
        mdn_sampler_free(self->core);
        self->core = NULL;
    }
}

PyDoc_STRVAR(new_doc,
             "new($type, kind, count, seed, mode, merging, /)\n--\n\n"
             "A sampler that has seen nothing yet.\n\n"
             "kind: 0 uniform, 1 balanced, 2 smallest, 3 largest,\n"
             "4 newest, 5 sequential, 6 priority, 7 with replacement;\n"
             "mode: of balanced, as fair_shares; merging: of uniform,\n"
             "a key that comes twice counts once.");

static PyObject *
sampler_new(PyTypeObject *type, PyObject *args)
{
    unsigned long long count, seed;
    int kind, mode, merging;
    mdn_sampler_options options;
    sampler_object *self;
    mdn_error err;

    if (!PyArg_ParseTuple(args, "iKKip:new", &kind, &count, &seed, &mode,
                          &merging)
        || mdn_py_read_mode(mode, &options.mode) < 0)
        return NULL;
    if (kind < MDN_SAMPLER_UNIFORM || kind > MDN_SAMPLER_ARRIVALS) {
        PyErr_Format(PyExc_ValueError, "kind must be 0 to 7, got %d", kind);
        return NULL;
    }
    options.kind = (mdn_sampler_kind)kind;
    options.limit = count;
    options.seed = seed;
    options.merging = merging != 0;
    self = (sampler_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    if (mdn_sampler_new(&options, &self->core, &err) != MDN_OK) {
        Py_DECREF(self);
        return mdn_py_raise(mdn_py_state_of_type(type), &err);
    }
    return (PyObject *)self;
}

/* ---- offering ---- */

static mdn_status
offer(mdn_sampler *sampler, const mdn_py_candidates *candidates,
      const mdn_py_values *values, uint32_t threads, const mdn_pulse *pulse,
      mdn_error *err)
{
    mdn_wanted wanted = sampler->options.kind == MDN_SAMPLER_BALANCED
                            ? MDN_WANT_LABELS
                            : MDN_WANT_KEYS;
    mdn_py_shards shards;
    mdn_status st =
        mdn_py_shards_open(candidates, values->given ? values : NULL, wanted,
                           threads, pulse, &shards, err);

    if (st != MDN_OK)
        return st;
    st = mdn_sampler_offer(sampler, shards.shards, shards.count, &values->core,
                           err);
    mdn_py_shards_close(&shards);
    return st;
}

/* The candidates in object, borrowed; NULL and TypeError. */
static mdn_py_candidates *
candidates_in(PyTypeObject *type, PyObject *object)
{
    mdn_py_state *state = mdn_py_state_of_type(type);

    if (PyObject_TypeCheck(object, state->candidates_type))
        return (mdn_py_candidates *)object;
    PyErr_Format(PyExc_TypeError, "expected _core.Candidates, got %s",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

int
mdn_py_values_check(const mdn_py_values *values,
                    const mdn_py_candidates *candidates)
{
    if (values->rows.obj == NULL || values->core.count == candidates->count)
        return 0;
    PyErr_Format(PyExc_ValueError,
                 "values must have shape (%llu,) as the candidates, got "
                 "(%llu,)",
                 (unsigned long long)candidates->count,
                 (unsigned long long)values->core.count);
    return -1;
}

PyDoc_STRVAR(
    offer_doc,
    "offer($self, candidates, values, offset, threads, /)\n--\n\n"
    "Look at candidates.\n\n"
    "values: \"timestamp\", \"label\", an array of float64 or int64 of "
    "shape (n,),\na callable of the columns of a block, or None; "
    "offset: added to weights.");

static PyObject *
sampler_offer(sampler_object *self, PyObject *args)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    PyObject *object, *values_object;
    mdn_py_candidates *candidates;
    unsigned long threads;
    mdn_py_values values;
    double offset;
    mdn_error err;
    mdn_status st = MDN_CALLBACK;

    if (!PyArg_ParseTuple(args, "OOdk:offer", &object, &values_object, &offset,
                          &threads)
        || mdn_py_read_threads(threads) == 0
        || (candidates = candidates_in(Py_TYPE(self), object)) == NULL)
        return NULL;
    if (mdn_py_values_read(values_object, offset, &thread, &values) < 0
        || mdn_py_values_check(&values, candidates) < 0 || enter(self) < 0)
        goto done;
    if (!values.given && self->core->options.kind > MDN_SAMPLER_BALANCED) {
        leave(self, true);
        PyErr_SetString(PyExc_ValueError, "this sampler needs values");
        goto done;
    }
    thread = PyEval_SaveThread();
    st = offer(self->core, candidates, &values, mdn_py_read_threads(threads),
               &pulse, &err);
    PyEval_RestoreThread(thread);
    leave(self, st == MDN_OK);
    if (st != MDN_OK)
        mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
done:
    mdn_py_values_release(&values);
    return st == MDN_OK ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(merge_doc, "merge($self, other, /)\n--\n\n"
                        "Look at what another sampler of the kind has seen.");

static PyObject *
sampler_merge(sampler_object *self, PyObject *object)
{
    sampler_object *other = (sampler_object *)object;
    mdn_error err;
    mdn_status st;

    if (!Py_IS_TYPE(object, Py_TYPE(self))) {
        PyErr_Format(PyExc_TypeError, "expected a Sampler, got %s",
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    if (enter(other) < 0)
        return NULL;
    if (enter(self) < 0) {
        leave(other, true);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    st = mdn_sampler_merge(self->core, other->core, &err);
    Py_END_ALLOW_THREADS
    leave(self, st == MDN_OK || st == MDN_INVALID);
    leave(other, true);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(save_doc, "save($self, /)\n--\n\n"
                       "Return words that say all that it has seen; uint64.");

static PyObject *
sampler_save(sampler_object *self, PyObject *Py_UNUSED(args))
{
    uint64_t *words, count;
    mdn_error err;
    mdn_status st;

    if (enter(self) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_sampler_save(self->core, &words, &count, &err);
    Py_END_ALLOW_THREADS
    leave(self, true);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return mdn_py_owned_array(words, MDN_UINT64, count);
}

PyDoc_STRVAR(load_doc, "load($type, words, /)\n--\n\n"
                       "The sampler that save() was asked of.");

static PyObject *
sampler_load(PyTypeObject *type, PyObject *object)
{
    sampler_object *self = (sampler_object *)type->tp_alloc(type, 0);
    Py_buffer words;
    mdn_error err;
    mdn_status st;

    if (self == NULL)
        return NULL;
    if (mdn_py_read_column(object, "words", "LQ", &words) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    st =
        mdn_sampler_load(words.buf, (uint64_t)words.len / 8, &self->core, &err);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&words);
    if (st == MDN_OK)
        return (PyObject *)self;
    Py_DECREF(self);
    return mdn_py_raise(mdn_py_state_of_type(type), &err);
}

/* ---- the choice ---- */

PyObject *
mdn_py_drawn(mdn_drawn *drawn, bool repeated)
{
    PyObject *weights = Py_NewRef(Py_None), *keys;

    keys = mdn_py_owned_array(drawn->keys, MDN_UINT64, drawn->count);
    if (drawn->weights != NULL) {
        Py_DECREF(weights);
        weights = mdn_py_owned_array(drawn->weights, MDN_FLOAT64, drawn->count);
    }
    if (keys == NULL || weights == NULL) {
        Py_XDECREF(keys);
        Py_XDECREF(weights);
        return NULL;
    }
    return Py_BuildValue("NNN", keys, weights, PyBool_FromLong(repeated));
}

PyDoc_STRVAR(finish_doc,
             "finish($self, /)\n--\n\n"
             "Return keys, ascending, their weights or None, and whether a key "
             "came twice.\n\nThe sampler can do nothing more.");

static PyObject *
sampler_finish(sampler_object *self, PyObject *Py_UNUSED(args))
{
    mdn_drawn drawn;
    bool repeated;
    mdn_error err;
    mdn_status st;

    if (enter(self) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_sampler_finish(self->core, &drawn, &repeated, &err);
    Py_END_ALLOW_THREADS
    leave(self, false);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return mdn_py_drawn(&drawn, repeated);
}

/* ---- the type ---- */

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef sampler_methods[] = {
    {"new", METHOD(sampler_new), METH_VARARGS | METH_CLASS, new_doc},
    {"offer", METHOD(sampler_offer), METH_VARARGS, offer_doc},
    {"merge", METHOD(sampler_merge), METH_O, merge_doc},
    {"save", METHOD(sampler_save), METH_NOARGS, save_doc},
    {"load", METHOD(sampler_load), METH_O | METH_CLASS, load_doc},
    {"finish", METHOD(sampler_finish), METH_NOARGS, finish_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sampler_slots[] = {
    {Py_tp_doc, (void *)"A choice from candidates that come in parts."},
    {Py_tp_dealloc, (void *)sampler_dealloc},
    {Py_tp_methods, sampler_methods},
    {0, NULL},
};

static PyType_Spec sampler_spec = {
    .name = "modyn._core.Sampler",
    .basicsize = sizeof(sampler_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = sampler_slots,
};

int
mdn_py_add_sampler(PyObject *module, mdn_py_state *state)
{
    state->sampler_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &sampler_spec, NULL);
    if (state->sampler_type == NULL)
        return -1;
    return PyModule_AddType(module, state->sampler_type);
}
