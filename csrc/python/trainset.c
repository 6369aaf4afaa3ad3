/* trainset.c - modyn._core.TrainingSet: a mapped training set file. */
#include "python/python.h"

#include "selector/trainset.h"

typedef struct {
    PyObject_HEAD
    mdn_trainset *core; /* one reference; never NULL */
} trainset_object;

static void
trainset_dealloc(trainset_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_trainset_release(self->core);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
digest_text(const uint8_t digest[MDN_DIGEST_SIZE])
{
    char hex[2 * MDN_DIGEST_SIZE + 1];

    mdn_digest_hex(digest, hex);
    return PyUnicode_FromString(hex);
}

PyDoc_STRVAR(open_doc, "open($type, path, /)\n--\n\n"
                       "Map and verify a training set file.");

static PyObject *
trainset_open(PyTypeObject *type, PyObject *args)
{
    PyObject *path;
    trainset_object *self;
    mdn_trainset *core;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "O&:open", PyUnicode_FSConverter, &path))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st =
        mdn_trainset_open(&mdn_io_system, PyBytes_AS_STRING(path), &core, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(type), &err);
    self = (trainset_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        mdn_trainset_release(core);
        return NULL;
    }
    self->core = core;
    return (PyObject *)self;
}

/* The arguments of write; what was filled is released by release_input. */
typedef struct {
    PyObject *directory;
    Py_buffer keys, weights, uuid;
    mdn_trainset_rows rows;
} input;

static void
release_input(input *in)
{
    Py_XDECREF(in->directory);
    PyBuffer_Release(&in->keys); /* accepts buffers never filled */
    PyBuffer_Release(&in->weights);
    PyBuffer_Release(&in->uuid);
}

static int
check_input(const input *in)
{
    if (in->keys.ndim != 1) {
        PyErr_Format(PyExc_ValueError, "keys must have one dimension, got %d",
                     in->keys.ndim);
        return -1;
    }
    if (in->weights.obj != NULL
        && (in->weights.ndim != 1 || in->weights.len != in->keys.len)) {
        PyErr_Format(PyExc_ValueError, "weights must have shape (%zd,) as keys",
                     in->keys.len / 8);
        return -1;
    }
    if (in->uuid.obj != NULL && in->uuid.len != MDN_UUID_SIZE) {
        PyErr_Format(PyExc_ValueError, "a dataset's uuid has %d bytes, got %zd",
                     MDN_UUID_SIZE, in->uuid.len);
        return -1;
    }
    return 0;
}

static int
read_input(PyObject *args, input *in)
{
    PyObject *keys, *weights, *uuid;

    *in = (input){0};
    if (!PyArg_ParseTuple(args, "O&OOO:write", PyUnicode_FSConverter,
                          &in->directory, &keys, &weights, &uuid)
        || mdn_py_buffer(keys, "keys", "LQ", 8, 0, &in->keys) < 0)
        return -1;
    if (weights != Py_None
        && mdn_py_buffer(weights, "weights", "d", 8, 0, &in->weights) < 0)
        return -1;
    if (uuid != Py_None
        && PyObject_GetBuffer(uuid, &in->uuid, PyBUF_SIMPLE) < 0)
        return -1;
    in->rows = (mdn_trainset_rows){
        .keys = in->keys.buf,
        .weights = in->weights.buf,
        .count = (uint64_t)in->keys.len / 8,
        .dataset_uuid = in->uuid.buf,
    };
    return check_input(in);
}

PyDoc_STRVAR(write_doc,
             "write($type, directory, keys, weights, uuid, /)\n--\n\n"
             "Write a training set file and return its digest.\n"
             "\n"
             "keys: uint64, shape (n,), ascending; weights: float64, shape "
             "(n,), or\nNone; uuid: 16 bytes, or None.");

static PyObject *
trainset_write(PyTypeObject *type, PyObject *args)
{
    uint8_t digest[MDN_DIGEST_SIZE];
    PyObject *result = NULL;
    input in;
    mdn_error err;
    mdn_status st;

    if (read_input(args, &in) == 0) {
        Py_BEGIN_ALLOW_THREADS
        st = mdn_trainset_write(&mdn_io_system, PyBytes_AS_STRING(in.directory),
                                &in.rows, digest, &err);
        Py_END_ALLOW_THREADS
        result = st == MDN_OK ? digest_text(digest)
                              : mdn_py_raise(mdn_py_state_of_type(type), &err);
    }
    release_input(&in);
    return result;
}

static Py_ssize_t
trainset_length(trainset_object *self)
{
    return (Py_ssize_t)mdn_trainset_count(self->core);
}

/* Arrays over the mapping keep this object alive, and it the mapping. */
static PyObject *
trainset_keys(trainset_object *self, void *closure)
{
    uint64_t count = mdn_trainset_count(self->core);
    const uint64_t *keys = mdn_trainset_keys(self->core);

    (void)closure;
    return mdn_py_array((PyObject *)self, (void *)(uintptr_t)keys, MDN_UINT64,
                        1, &count, 0);
}

static PyObject *
trainset_weights(trainset_object *self, void *closure)
{
    uint64_t count = mdn_trainset_count(self->core);
    const double *weights = mdn_trainset_weights(self->core);

    (void)closure;
    if (weights == NULL)
        Py_RETURN_NONE;
    return mdn_py_array((PyObject *)self, (void *)(uintptr_t)weights,
                        MDN_FLOAT64, 1, &count, 0);
}

static PyObject *
trainset_digest(trainset_object *self, void *closure)
{
    (void)closure;
    return digest_text(mdn_trainset_digest(self->core));
}

static PyObject *
trainset_uuid(trainset_object *self, void *closure)
{
    const uint8_t *uuid = mdn_trainset_uuid(self->core);

    (void)closure;
    return PyBytes_FromStringAndSize((const char *)uuid, MDN_UUID_SIZE);
}

static PyObject *
trainset_path(trainset_object *self, void *closure)
{
    (void)closure;
    return PyUnicode_DecodeFSDefault(mdn_trainset_path(self->core));
}

static PyMethodDef trainset_methods[] = {
    {"open", (PyCFunction)(void (*)(void))trainset_open,
     METH_VARARGS | METH_CLASS, open_doc},
    {"write", (PyCFunction)(void (*)(void))trainset_write,
     METH_VARARGS | METH_CLASS, write_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef trainset_getset[] = {
    {"keys", (getter)(void (*)(void))trainset_keys, NULL,
     "uint64, shape (n,), ascending: mapped and read-only.", NULL},
    {"weights", (getter)(void (*)(void))trainset_weights, NULL,
     "float64, shape (n,): mapped and read-only; or None.", NULL},
    {"digest", (getter)(void (*)(void))trainset_digest, NULL,
     "64 hexadecimal digits.", NULL},
    {"uuid", (getter)(void (*)(void))trainset_uuid, NULL,
     "Uuid of the dataset, 16 bytes; zeros when it is not known.", NULL},
    {"path", (getter)(void (*)(void))trainset_path, NULL,
     "Where the file was opened.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot trainset_slots[] = {
    {Py_tp_doc, (void *)"A mapped training set file."},
    {Py_tp_dealloc, (void *)trainset_dealloc},
    {Py_tp_methods, trainset_methods},
    {Py_tp_getset, trainset_getset},
    {Py_sq_length, (void *)trainset_length},
    {0, NULL},
};

static PyType_Spec trainset_spec = {
    .name = "modyn._core.TrainingSet",
    .basicsize = sizeof(trainset_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = trainset_slots,
};

int
mdn_py_add_trainset(PyObject *module, mdn_py_state *state)
{
    state->trainset_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &trainset_spec, NULL);
    if (state->trainset_type == NULL)
        return -1;
    return PyModule_AddType(module, state->trainset_type);
}
