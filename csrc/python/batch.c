/* batch.c - batches and their tensors as Python objects.
 *
 * A Batch holds one reference to its memory, a Tensor another, each export of
 * a tensor a third.  The memory is counted in C: the deleter that a consumer
 * of DLPack calls runs on whatever thread the consumer chooses, perhaps after
 * the interpreter is gone, and touches nothing of Python.
 *
 * A batch belongs to whoever took it from the loader: its tensors are
 * writable, and all of them show the same memory. */
#include "python/batch.h"

#include "python/dlpack.h"

#include <string.h>

#define NDIM_MAX (MDN_NDIM_MAX + 1)

typedef struct {
    PyObject_HEAD
    mdn_batch *core; /* one reference */
} batch_object;

typedef struct {
    PyObject_HEAD
    mdn_batch *core; /* one reference */
    uint32_t index;  /* of the part */
    const mdn_part *part;
    Py_ssize_t shape[NDIM_MAX];
    Py_ssize_t strides[NDIM_MAX]; /* bytes */
} tensor_object;

/* ----- dtypes in the words of others ----- */

static DLDataType
dlpack_dtype(mdn_dtype dtype)
{
    uint8_t bits = (uint8_t)(8 * mdn_dtype_size(dtype));

    switch (dtype) { /* no default: -Wswitch rejects a missing case */
    case MDN_BOOL: return (DLDataType){kDLBool, bits, 1};
    case MDN_INT8:
    case MDN_INT16:
    case MDN_INT32:
    case MDN_INT64: return (DLDataType){kDLInt, bits, 1};
    case MDN_UINT8:
    case MDN_UINT16:
    case MDN_UINT32:
    case MDN_UINT64: return (DLDataType){kDLUInt, bits, 1};
    case MDN_FLOAT16:
    case MDN_FLOAT32:
    case MDN_FLOAT64: return (DLDataType){kDLFloat, bits, 1};
    case MDN_COMPLEX64:
    case MDN_COMPLEX128: return (DLDataType){kDLComplex, bits, 1};
    case MDN_BYTES: break; /* a part never has it */
    }
    Py_UNREACHABLE();
}

static const char *
struct_format(mdn_dtype dtype)
{
    switch (dtype) { /* no default: -Wswitch rejects a missing case */
    case MDN_BOOL: return "?";
    case MDN_INT8: return "b";
    case MDN_INT16: return "h";
    case MDN_INT32: return "i";
    case MDN_INT64: return "q";
    case MDN_UINT8: return "B";
    case MDN_UINT16: return "H";
    case MDN_UINT32: return "I";
    case MDN_UINT64: return "Q";
    case MDN_FLOAT16: return "e";
    case MDN_FLOAT32: return "f";
    case MDN_FLOAT64: return "d";
    case MDN_COMPLEX64: return "Zf";
    case MDN_COMPLEX128: return "Zd";
    case MDN_BYTES: break; /* a part never has it */
    }
    Py_UNREACHABLE();
}

/* ----- exports: what a consumer of DLPack holds ----- */

/* The managed struct comes first, so that its address is the block's. */
typedef struct {
    union {
        DLManagedTensor legacy;
        DLManagedTensorVersioned current;
    } managed;
    int64_t shape[NDIM_MAX];
    int64_t strides[NDIM_MAX]; /* elements */
} export_block;

/* Any thread, no GIL. */
static void
delete_current(DLManagedTensorVersioned *managed)
{
    mdn_batch_release(managed->manager_ctx);
    free(managed); /* the first member of its export_block */
}

static void
delete_legacy(DLManagedTensor *managed)
{
    mdn_batch_release(managed->manager_ctx);
    free(managed);
}

/* A consumer that took the tensor has renamed the capsule to used_... */
static void
capsule_delete(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor_versioned"))
        delete_current(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
    else if (PyCapsule_IsValid(capsule, "dltensor"))
        delete_legacy(PyCapsule_GetPointer(capsule, "dltensor"));
}

static DLTensor
describe(export_block *block, const mdn_part *part)
{
    int64_t stride = 1;

    for (uint32_t i = part->ndim; i-- > 0;) {
        block->shape[i] = (int64_t)part->shape[i];
        block->strides[i] = stride;
        stride *= block->shape[i];
    }
    return (DLTensor){
        .data = part->data,
        .device = {kDLCPU, 0},
        .ndim = (int32_t)part->ndim,
        .dtype = dlpack_dtype(part->dtype),
        .shape = block->shape,
        .strides = block->strides,
    };
}

/* A capsule over a part of a batch, which is retained last, when nothing can
 * fail any more. */
static PyObject *
export_part(mdn_batch *batch, uint32_t index, int versioned, uint64_t flags)
{
    export_block *block = calloc(1, sizeof *block);
    PyObject *capsule;
    DLTensor tensor;

    if (block == NULL)
        return PyErr_NoMemory();
    tensor = describe(block, mdn_batch_part(batch, index));
    if (versioned) {
        block->managed.current = (DLManagedTensorVersioned){
            .version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION},
            .manager_ctx = batch,
            .deleter = delete_current,
            .flags = flags,
            .dl_tensor = tensor,
        };
        capsule = PyCapsule_New(block, "dltensor_versioned", capsule_delete);
    } else {
        block->managed.legacy = (DLManagedTensor){
            .dl_tensor = tensor,
            .manager_ctx = batch,
            .deleter = delete_legacy,
        };
        capsule = PyCapsule_New(block, "dltensor", capsule_delete);
    }
    if (capsule == NULL) {
        free(block);
        return NULL;
    }
    mdn_batch_retain(batch);
    return capsule;
}

/* ----- Tensor ----- */

static int
read_max_version(PyObject *object, int *versioned)
{
    long major, minor;

    *versioned = 0;
    if (object == Py_None)
        return 0;
    if (!PyTuple_Check(object)) {
        PyErr_SetString(PyExc_TypeError,
                        "max_version must be None or (major, minor)");
        return -1;
    }
    if (!PyArg_ParseTuple(object, "ll;max_version must be (major, minor)",
                          &major, &minor))
        return -1;
    *versioned = major >= 1;
    return 0;
}

static int
check_device(PyObject *object)
{
    int type, id;

    if (object == Py_None)
        return 0;
    if (!PyTuple_Check(object)) {
        PyErr_SetString(PyExc_TypeError,
                        "dl_device must be None or (device_type, device_id)");
        return -1;
    }
    if (!PyArg_ParseTuple(object, "ii;dl_device must be (type, id)", &type,
                          &id))
        return -1;
    if (type == kDLCPU && id == 0)
        return 0;
    PyErr_Format(PyExc_BufferError,
                 "a batch lies in main memory, device (1, 0), and cannot be "
                 "exported to device (%d, %d)",
                 type, id);
    return -1;
}

static PyObject *
export_copy(tensor_object *self, int versioned)
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    PyObject *capsule;
    mdn_batch *copy;
    mdn_status st;
    mdn_error err;

    Py_BEGIN_ALLOW_THREADS
    st = mdn_batch_copy_part(self->core, self->index, &copy, &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK)
        return mdn_py_raise(state, &err);
    capsule = export_part(copy, 0, versioned, DLPACK_FLAG_BITMASK_IS_COPIED);
    mdn_batch_release(copy);
    return capsule;
}

PyDoc_STRVAR(dlpack_doc,
             "__dlpack__($self, /, *, stream=None, max_version=None, "
             "dl_device=None,\n           copy=None)\n--\n\n"
             "A DLPack capsule over this memory, or over a copy of it.\n\n"
             "Consumers that ask for max_version >= (1, 0) get the versioned "
             "struct, others\nthe legacy one.");

static PyObject *
tensor_dlpack(tensor_object *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None, *max_version = Py_None, *device = Py_None;
    PyObject *copy = Py_None;
    int versioned, copies;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", names,
                                     &stream, &max_version, &device, &copy))
        return NULL;
    if (stream != Py_None) {
        PyErr_SetString(PyExc_BufferError,
                        "a batch lies in main memory: stream must be None");
        return NULL;
    }
    if (read_max_version(max_version, &versioned) < 0
        || check_device(device) < 0)
        return NULL;
    copies = copy == Py_None ? 0 : PyObject_IsTrue(copy);
    if (copies < 0)
        return NULL;
    if (copies)
        return export_copy(self, versioned);
    return export_part(self->core, self->index, versioned, 0);
}

PyDoc_STRVAR(dlpack_device_doc, "__dlpack_device__($self, /)\n--\n\n"
                                "(1, 0): main memory.");

static PyObject *
tensor_dlpack_device(tensor_object *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return Py_BuildValue("(ii)", kDLCPU, 0);
}

static int
tensor_getbuffer(tensor_object *self, Py_buffer *view, int flags)
{
    const mdn_part *part = self->part;

    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && part->ndim > 1) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError,
                        "a batch is contiguous in C order, not in Fortran's");
        return -1;
    }
    view->buf = part->data;
    view->len = (Py_ssize_t)mdn_part_size(part);
    view->itemsize = (Py_ssize_t)mdn_dtype_size(part->dtype);
    view->readonly = 0;
    view->format = NULL;
    if (flags & PyBUF_FORMAT)
        view->format = (char *)(uintptr_t)struct_format(part->dtype);
    view->ndim = (int)part->ndim;
    view->shape = flags & PyBUF_ND ? self->shape : NULL;
    view->strides = NULL;
    if ((flags & PyBUF_STRIDES) == PyBUF_STRIDES)
        view->strides = self->strides;
    view->suboffsets = NULL;
    view->internal = NULL;
    view->obj = Py_NewRef(self);
    return 0;
}

static PyObject *
tensor_shape(tensor_object *self, void *unused)
{
    PyObject *shape = PyTuple_New((Py_ssize_t)self->part->ndim);

    (void)unused;
    if (shape == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < (Py_ssize_t)self->part->ndim; i++) {
        PyObject *length = PyLong_FromSsize_t(self->shape[i]);

        if (length == NULL) {
            Py_DECREF(shape);
            return NULL;
        }
        PyTuple_SET_ITEM(shape, i, length);
    }
    return shape;
}

static PyObject *
tensor_dtype(tensor_object *self, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(mdn_dtype_name(self->part->dtype));
}

static void
tensor_dealloc(tensor_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_batch_release(self->core);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef tensor_methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))tensor_dlpack,
     METH_VARARGS | METH_KEYWORDS, dlpack_doc},
    {"__dlpack_device__", (PyCFunction)(void (*)(void))tensor_dlpack_device,
     METH_NOARGS, dlpack_device_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef tensor_getset[] = {
    {"shape", (getter)(void (*)(void))tensor_shape, NULL,
     "The lengths of the dimensions.", NULL},
    {"dtype", (getter)(void (*)(void))tensor_dtype, NULL,
     "NumPy's name of the type of the elements.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot tensor_slots[] = {
    {Py_tp_doc,
     "One array of a batch, for np.asarray and any consumer of DLPack."},
    {Py_tp_dealloc, (void *)tensor_dealloc},
    {Py_tp_methods, tensor_methods},
    {Py_tp_getset, tensor_getset},
    {Py_bf_getbuffer, (void *)tensor_getbuffer},
    {0, NULL},
};

static PyType_Spec tensor_spec = {
    .name = "modyn._core.Tensor",
    .basicsize = sizeof(tensor_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = tensor_slots,
};

static PyObject *
tensor_new(mdn_py_state *state, mdn_batch *batch, uint32_t index)
{
    PyTypeObject *type = state->tensor_type;
    tensor_object *self = (tensor_object *)type->tp_alloc(type, 0);
    Py_ssize_t stride;

    if (self == NULL)
        return NULL;
    self->core = mdn_batch_retain(batch);
    self->index = index;
    self->part = mdn_batch_part(batch, index);
    stride = (Py_ssize_t)mdn_dtype_size(self->part->dtype);
    for (uint32_t i = self->part->ndim; i-- > 0;) {
        self->shape[i] = (Py_ssize_t)self->part->shape[i];
        self->strides[i] = stride;
        stride *= self->shape[i];
    }
    return (PyObject *)self;
}

/* ----- Batch ----- */

PyDoc_STRVAR(part_doc, "part($self, index, /)\n--\n\n"
                       "The tensor of this part; see Loader.parts.");

static PyObject *
batch_part(batch_object *self, PyObject *arg)
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    Py_ssize_t index = PyNumber_AsSsize_t(arg, PyExc_IndexError);
    uint32_t count = mdn_batch_part_count(self->core);

    if (index == -1 && PyErr_Occurred())
        return NULL;
    if (index < 0 || index >= (Py_ssize_t)count)
        return PyErr_Format(PyExc_IndexError, "part %zd of %u", index, count);
    return tensor_new(state, self->core, (uint32_t)index);
}

static PyObject *
batch_blocks(batch_object *self, void *unused)
{
    PyObject *blocks = PyList_New(0);

    (void)unused;
    for (uint32_t i = 0; blocks && i < mdn_batch_block_count(self->core); i++) {
        mdn_block block = mdn_batch_block(self->core, i);
        PyObject *item;

        if (block.data == NULL)
            continue;
        item = Py_BuildValue("(IKO)", i, (unsigned long long)block.size_bytes,
                             block.is_lent ? Py_True : Py_False);
        if (item == NULL || PyList_Append(blocks, item) < 0)
            Py_CLEAR(blocks);
        Py_XDECREF(item);
    }
    return blocks;
}

/* The keys come first in every batch. */
static Py_ssize_t
batch_length(batch_object *self)
{
    return (Py_ssize_t)mdn_batch_part(self->core, 0)->shape[0];
}

static void
batch_dealloc(batch_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_batch_release(self->core);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef batch_methods[] = {
    {"part", (PyCFunction)(void (*)(void))batch_part, METH_O, part_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef batch_getset[] = {
    {"blocks", (getter)(void (*)(void))batch_blocks, NULL,
     "(number, bytes, whether it is lent) of the blocks of memory it lies in: 0 "
     "of all\nparts of known size, 1 + i of part i with the payloads of a field.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot batch_slots[] = {
    {Py_tp_doc, "The samples of one training step, in arrays."},
    {Py_tp_dealloc, (void *)batch_dealloc},
    {Py_tp_methods, batch_methods},
    {Py_tp_getset, batch_getset},
    {Py_sq_length, (void *)batch_length},
    {0, NULL},
};

static PyType_Spec batch_spec = {
    .name = "modyn._core.Batch",
    .basicsize = sizeof(batch_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = batch_slots,
};

PyObject *
mdn_py_batch(mdn_py_state *state, mdn_batch *batch)
{
    PyTypeObject *type = state->batch_type;
    batch_object *self = (batch_object *)type->tp_alloc(type, 0);

    if (self == NULL) {
        mdn_batch_release(batch);
        return NULL;
    }
    self->core = batch;
    return (PyObject *)self;
}

PyTypeObject *
mdn_py_add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);

    if (type != NULL && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

int
mdn_py_add_batch(PyObject *module, mdn_py_state *state)
{
    state->tensor_type = mdn_py_add_type(module, &tensor_spec);
    if (state->tensor_type == NULL)
        return -1;
    state->batch_type = mdn_py_add_type(module, &batch_spec);
    return state->batch_type == NULL ? -1 : 0;
}
