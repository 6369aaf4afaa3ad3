/* keyruns.c - modyn._core.KeyRuns: sets of keys that never change. */
#include "python/python.h"

#include "selector/keyruns.h"

typedef struct {
    PyObject_HEAD
    mdn_keyruns *core; /* owned; never NULL */
} keyruns_object;

static void
keyruns_dealloc(keyruns_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_keyruns_free(self->core);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Takes over the core, also when it fails. */
static PyObject *
wrap(PyTypeObject *type, mdn_keyruns *core)
{
    keyruns_object *self = PyObject_New(keyruns_object, type);

    if (self == NULL)
        mdn_keyruns_free(core);
    else
        self->core = core;
    return (PyObject *)self;
}

PyDoc_STRVAR(of_keys_doc, "of_keys($type, keys, threads, /)\n--\n\n"
                          "The set of uint64 keys, which ascend.");

static PyObject *
keyruns_of_keys(PyTypeObject *type, PyObject *args)
{
    PyObject *object;
    Py_buffer keys;
    unsigned threads;
    mdn_keyruns *core;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OI:of_keys", &object, &threads)
        || mdn_py_buffer(object, "keys", "LQ", 8, 0, &keys) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_keyruns_of_keys(keys.buf, (uint64_t)keys.len / 8, threads, &core,
                             &err);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&keys);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(type), &err);
    return wrap(type, core);
}

PyDoc_STRVAR(of_ranges_doc,
             "of_ranges($type, firsts, lasts, /)\n--\n\n"
             "The set of ranges of keys, both ends included, which ascend.");

static PyObject *
keyruns_of_ranges(PyTypeObject *type, PyObject *args)
{
    PyObject *first_object, *last_object, *result = NULL;
    mdn_py_buffers buffers;
    Py_buffer *firsts, *lasts;
    mdn_keyruns *core;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OO:of_ranges", &first_object, &last_object)
        || mdn_py_buffers_init(&buffers, 2) < 0)
        return NULL;
    firsts = mdn_py_buffers_int64(&buffers, first_object, "firsts", 0, -1, 0);
    if (firsts == NULL)
        goto done;
    lasts = mdn_py_buffers_int64(&buffers, last_object, "lasts", 0,
                                 firsts->len / 8, 0);
    if (lasts == NULL)
        goto done;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_keyruns_of_ranges(firsts->buf, lasts->buf,
                               (uint64_t)firsts->len / 8, &core, &err);
    Py_END_ALLOW_THREADS
    result = st == MDN_OK ? wrap(type, core)
                          : mdn_py_raise(mdn_py_state_of_type(type), &err);
done:
    mdn_py_buffers_release(&buffers);
    return result;
}

/* The core of another set, borrowed; NULL and TypeError. */
static mdn_keyruns *
other_core(PyTypeObject *type, PyObject *object)
{
    if (Py_IS_TYPE(object, type))
        return ((keyruns_object *)object)->core;
    PyErr_Format(PyExc_TypeError, "expected KeyRuns, got %s",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

PyDoc_STRVAR(union_doc, "union($self, other, /)\n--\n\n"
                        "The set of keys that are in one or the other.");

static PyObject *
keyruns_union(keyruns_object *self, PyObject *object)
{
    PyTypeObject *type = Py_TYPE(self);
    mdn_keyruns *core, *other = other_core(type, object);
    mdn_error err;
    mdn_status st;

    if (other == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_keyruns_union(self->core, other, &core, &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(type), &err);
    return wrap(type, core);
}

PyDoc_STRVAR(common_doc, "common($self, other, threads, /)\n--\n\n"
                         "How many keys are in both.");

static PyObject *
keyruns_common(keyruns_object *self, PyObject *args)
{
    PyObject *object;
    mdn_keyruns *other;
    unsigned threads;
    uint64_t found;

    if (!PyArg_ParseTuple(args, "OI:common", &object, &threads)
        || (other = other_core(Py_TYPE(self), object)) == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    found = mdn_keyruns_common(self->core, other, threads);
    Py_END_ALLOW_THREADS
    return PyLong_FromUnsignedLongLong(found);
}

PyDoc_STRVAR(contains_doc, "contains($self, keys, out, /)\n--\n\n"
                           "Fill out, bools, with whether keys are there.");

static PyObject *
keyruns_contains(keyruns_object *self, PyObject *args)
{
    PyObject *object, *out_object;
    Py_buffer keys, out;

    if (!PyArg_ParseTuple(args, "OO:contains", &object, &out_object)
        || mdn_py_buffer(object, "keys", "LQ", 8, 0, &keys) < 0)
        return NULL;
    if (mdn_py_buffer(out_object, "out", "?", 1, 1, &out) < 0) {
        PyBuffer_Release(&keys);
        return NULL;
    }
    if (out.len == keys.len / 8) {
        const uint64_t *key = keys.buf;
        uint8_t *found = out.buf;

        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < out.len; i++)
            found[i] = mdn_keyruns_contains(self->core, key[i]);
        Py_END_ALLOW_THREADS
    } else {
        PyErr_Format(PyExc_ValueError, "out: expected %zd bools, got %zd",
                     keys.len / 8, out.len);
    }
    PyBuffer_Release(&out);
    PyBuffer_Release(&keys);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(list_doc,
             "list($self, other, which, first, out, /)\n--\n\n"
             "Fill out with keys from first on, and return how many.\n\n"
             "which: 0 all, 1 those that other has, too, 2 those that it has "
             "not;\nother may be None for 0.");

static PyObject *
keyruns_list(keyruns_object *self, PyObject *args)
{
    PyObject *object, *out_object;
    mdn_keyruns *other = NULL;
    unsigned long long first;
    unsigned which;
    uint64_t found;
    Py_buffer out;

    if (!PyArg_ParseTuple(args, "OIKO:list", &object, &which, &first,
                          &out_object))
        return NULL;
    if (which > MDN_KEYRUNS_WITHOUT) {
        PyErr_Format(PyExc_ValueError, "which must be 0, 1 or 2, got %u",
                     which);
        return NULL;
    }
    if (which != MDN_KEYRUNS_ALL
        && (other = other_core(Py_TYPE(self), object)) == NULL)
        return NULL;
    if (mdn_py_buffer(out_object, "out", "LQ", 8, 1, &out) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    found = mdn_keyruns_list(self->core, other, (mdn_keyruns_which)which, first,
                             out.buf, (uint64_t)out.len / 8);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&out);
    return PyLong_FromUnsignedLongLong(found);
}

static PyObject *
keyruns_nbytes(keyruns_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(mdn_keyruns_size_bytes(self->core));
}

static Py_ssize_t
keyruns_length(PyObject *self)
{
    return (Py_ssize_t)mdn_keyruns_count(((keyruns_object *)self)->core);
}

static PyMethodDef keyruns_methods[] = {
    {"of_keys", (PyCFunction)(void (*)(void))keyruns_of_keys,
     METH_VARARGS | METH_CLASS, of_keys_doc},
    {"of_ranges", (PyCFunction)(void (*)(void))keyruns_of_ranges,
     METH_VARARGS | METH_CLASS, of_ranges_doc},
    {"union", (PyCFunction)(void (*)(void))keyruns_union, METH_O, union_doc},
    {"common", (PyCFunction)(void (*)(void))keyruns_common, METH_VARARGS,
     common_doc},
    {"contains", (PyCFunction)(void (*)(void))keyruns_contains, METH_VARARGS,
     contains_doc},
    {"list", (PyCFunction)(void (*)(void))keyruns_list, METH_VARARGS, list_doc},
    {0},
};

static PyGetSetDef keyruns_getset[] = {
    {"nbytes", (getter)keyruns_nbytes, NULL,
     "Bytes of memory, less what it shared when it was made.", NULL},
    {0},
};

static PyType_Slot keyruns_slots[] = {
    {Py_tp_doc, (void *)"A set of keys that never changes."},
    {Py_tp_dealloc, (void *)keyruns_dealloc},
    {Py_tp_methods, keyruns_methods},
    {Py_tp_getset, keyruns_getset},
    {Py_sq_length, (void *)keyruns_length},
    {0, NULL},
};

static PyType_Spec keyruns_spec = {
    .name = "modyn._core.KeyRuns",
    .basicsize = sizeof(keyruns_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = keyruns_slots,
};

int
mdn_py_add_keyruns(PyObject *module, mdn_py_state *state)
{
    state->keyruns_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &keyruns_spec, NULL);
    if (state->keyruns_type == NULL)
        return -1;
    return PyModule_AddType(module, state->keyruns_type);
}
