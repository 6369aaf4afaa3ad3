/* keyindex.c - modyn._core.KeyIndex: ids of the user's own, to keys. */
#include "python/python.h"

#include "base/keyindex.h"

typedef struct {
    PyObject_HEAD
    mdn_keyindex *core; /* owned; never NULL */
} keyindex_object;

static void
keyindex_dealloc(keyindex_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_keyindex_free(self->core);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(new_doc, "new($type, /)\n--\n\nAn index without ids.");

static PyObject *
keyindex_new(PyTypeObject *type, PyObject *Py_UNUSED(args))
{
    keyindex_object *self;
    mdn_keyindex *core;
    mdn_error err;

    if (mdn_keyindex_new(&core, &err) != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(type), &err);
    self = PyObject_New(keyindex_object, type);
    if (self == NULL) {
        mdn_keyindex_free(core);
        return NULL;
    }
    self->core = core;
    return (PyObject *)self;
}

/* At least 1; 0 and an exception. */
static uint32_t
read_threads(PyObject *object)
{
    unsigned long threads = PyLong_AsUnsignedLong(object);

    if (threads == (unsigned long)-1 && PyErr_Occurred())
        return 0;
    if (threads == 0)
        PyErr_SetString(PyExc_ValueError, "threads must be at least 1, got 0");
    return threads > UINT32_MAX ? UINT32_MAX : (uint32_t)threads;
}

PyDoc_STRVAR(add_doc,
             "add($self, ids, keys, threads, /)\n--\n\n"
             "Give ids their keys; None: those behind the largest so far.");

static PyObject *
keyindex_add(keyindex_object *self, PyTypeObject *type, PyObject *const *args,
             Py_ssize_t nargs, PyObject *kwnames)
{
    mdn_py_buffers buffers;
    Py_buffer *ids, *keys = NULL;
    mdn_status st = MDN_CALLBACK;
    uint32_t threads;
    mdn_error err;

    if (nargs != 3 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "add(ids, keys, threads)");
        return NULL;
    }
    if ((threads = read_threads(args[2])) == 0
        || mdn_py_buffers_init(&buffers, 2) < 0)
        return NULL;
    ids = mdn_py_buffers_int64(&buffers, args[0], "ids", 0, -1, 0);
    if (ids == NULL)
        goto done;
    if (args[1] != Py_None
        && (keys = mdn_py_buffers_int64(&buffers, args[1], "keys", 0,
                                        ids->len / 8, 0))
               == NULL)
        goto done;

    Py_BEGIN_ALLOW_THREADS
    st = mdn_keyindex_add(self->core, ids->buf, keys ? keys->buf : NULL,
                          (uint64_t)ids->len / 8, threads, &err);
    Py_END_ALLOW_THREADS

    if (st != MDN_OK)
        mdn_py_raise(mdn_py_state_of_type(type), &err);
done:
    mdn_py_buffers_release(&buffers);
    return st == MDN_OK ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(find_doc,
             "find($self, ids, out, missing, threads, /)\n--\n\n"
             "Fill out with the keys of ids; with missing, unless it is None,\n"
             "where there is none.");

static PyObject *
keyindex_find(keyindex_object *self, PyTypeObject *type, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames)
{
    mdn_py_buffers buffers;
    Py_buffer *ids, *out;
    uint64_t missing = 0;
    mdn_status st = MDN_CALLBACK;
    uint32_t threads;
    mdn_error err;

    if (nargs != 4 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "find(ids, out, missing, threads)");
        return NULL;
    }
    if (args[2] != Py_None) {
        missing = PyLong_AsUnsignedLongLong(args[2]);
        if (missing == UINT64_MAX && PyErr_Occurred())
            return NULL;
    }
    if ((threads = read_threads(args[3])) == 0
        || mdn_py_buffers_init(&buffers, 2) < 0)
        return NULL;
    ids = mdn_py_buffers_int64(&buffers, args[0], "ids", 0, -1, 0);
    if (ids == NULL)
        goto done;
    out = mdn_py_buffers_int64(&buffers, args[1], "out", 0, ids->len / 8, 1);
    if (out == NULL)
        goto done;

    Py_BEGIN_ALLOW_THREADS
    st = mdn_keyindex_find(self->core, ids->buf, (uint64_t)ids->len / 8,
                           out->buf, args[2] != Py_None ? &missing : NULL,
                           threads, &err);
    Py_END_ALLOW_THREADS

    if (st != MDN_OK)
        mdn_py_raise(mdn_py_state_of_type(type), &err);
done:
    mdn_py_buffers_release(&buffers);
    return st == MDN_OK ? Py_NewRef(Py_None) : NULL;
}

static PyObject *
keyindex_nbytes(keyindex_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(mdn_keyindex_size_bytes(self->core));
}

static Py_ssize_t
keyindex_length(PyObject *self)
{
    return (Py_ssize_t)mdn_keyindex_count(((keyindex_object *)self)->core);
}

#define WITH_TYPE METH_METHOD | METH_FASTCALL | METH_KEYWORDS

static PyMethodDef keyindex_methods[] = {
    {"new", (PyCFunction)(void (*)(void))keyindex_new, METH_NOARGS | METH_CLASS,
     new_doc},
    {"add", (PyCFunction)(void (*)(void))keyindex_add, WITH_TYPE, add_doc},
    {"find", (PyCFunction)(void (*)(void))keyindex_find, WITH_TYPE, find_doc},
    {0},
};

static PyGetSetDef keyindex_getset[] = {
    {"nbytes", (getter)keyindex_nbytes, NULL, "Bytes of memory it takes.",
     NULL},
    {0},
};

static PyType_Slot keyindex_slots[] = {
    {Py_tp_doc, (void *)"Ids of the user's own, to keys."},
    {Py_tp_dealloc, (void *)keyindex_dealloc},
    {Py_tp_methods, keyindex_methods},
    {Py_tp_getset, keyindex_getset},
    {Py_sq_length, (void *)keyindex_length},
    {0, NULL},
};

static PyType_Spec keyindex_spec = {
    .name = "modyn._core.KeyIndex",
    .basicsize = sizeof(keyindex_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = keyindex_slots,
};

int
mdn_py_add_keyindex(PyObject *module, mdn_py_state *state)
{
    state->keyindex_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &keyindex_spec, NULL);
    if (state->keyindex_type == NULL)
        return -1;
    return PyModule_AddType(module, state->keyindex_type);
}
