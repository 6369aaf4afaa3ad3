/* python.h - what the files of the binding share.
 *
 * A binding method has three visible steps: read arguments, run the core
 * without the GIL, turn the outcome into Python.  Each part of the binding
 * (dataset.c, sampling.c, loader.c, ...) adds its types and functions to the
 * module in one mdn_py_add_... function, called by module.c. */
#ifndef MDN_PYTHON_PYTHON_H
#define MDN_PYTHON_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/error.h"
#include "storage/number_at.h"
#include "storage/view.h"

/* Module state: the types and exceptions that methods need. */
typedef struct {
    PyObject *corrupt_error;
    PyObject *busy_error;
    PyObject *closed_error;
    PyObject *database_error;
    PyObject *fenced_error;
    PyTypeObject *dataset_type;
    PyTypeObject *view_type;
    PyTypeObject *candidates_type;
    PyTypeObject *candidate_blocks_type;
    PyTypeObject *trainset_type;
    PyTypeObject *loader_type;
    PyTypeObject *epoch_type;
    PyTypeObject *batch_type;
    PyTypeObject *tensor_type;
    PyTypeObject *memory_type;
    PyTypeObject *orchestrator_type;
    PyTypeObject *reader_type;
    PyTypeObject *keyindex_type;
    PyTypeObject *sampler_type;
    PyTypeObject *keyruns_type;
} mdn_py_state;

/* The state of the module that defined this heap type, or of the module. */
mdn_py_state *mdn_py_state_of_type(PyTypeObject *type);
mdn_py_state *mdn_py_state_of_module(PyObject *module);

/* errors.c: raise what err says and return NULL.  MDN_CALLBACK keeps the
 * exception that is already set. */
PyObject *mdn_py_raise(mdn_py_state *state, const mdn_error *err);

/* erase.c: the pulse of long work in the core, so that Ctrl-C is heard.  ctx is
 * a PyThreadState **, of the calling thread; the GIL is taken for a moment. */
mdn_status mdn_py_check_signals(void *ctx, mdn_error *err);

/* arrays.c, the one file that includes NumPy.  A read-only (or writable)
 * array over memory that `owner` keeps alive (a new reference is taken). */
PyObject *mdn_py_array(PyObject *owner, void *data, mdn_dtype dtype, int ndim,
                       const uint64_t *shape, int writable);
int mdn_py_arrays_init(void); /* import_array */

/* Fill *out with a C-contiguous buffer of items of this size; the format must
 * be one of the characters in formats (e.g. "lq" for int64, "LQ" for uint64).
 * name is for the message.  Release with PyBuffer_Release. */
int mdn_py_buffer(PyObject *object, const char *name, const char *formats,
                  Py_ssize_t itemsize, int writable, Py_buffer *out);

/* view.c: the view inside a _core.View, borrowed; NULL and TypeError. */
mdn_view *mdn_py_view(mdn_py_state *state, PyObject *object);
/* A _core.View; takes over the reference, also when it fails. */
PyObject *mdn_py_view_new(mdn_py_state *state, mdn_view *view);
int mdn_py_add_view(PyObject *module, mdn_py_state *state);

/* view.c: buffers that one call holds; they are all released at its end. */
typedef struct {
    Py_buffer *held;
    Py_ssize_t count, room;
} mdn_py_buffers;

/* Room for that many; -1 and MemoryError. */
int mdn_py_buffers_init(mdn_py_buffers *buffers, Py_ssize_t room);
/* The bytes of object, C-contiguous, of any format; NULL and an exception. */
Py_buffer *mdn_py_buffers_any(mdn_py_buffers *buffers, PyObject *object,
                              int writable);
/* As mdn_py_buffer, of 8-byte integers, count of them (-1: any number). */
Py_buffer *mdn_py_buffers_int64(mdn_py_buffers *buffers, PyObject *object,
                                const char *name, int is_signed,
                                Py_ssize_t count, int writable);
void mdn_py_buffers_release(mdn_py_buffers *buffers);

/* number_at.c: None, or (offset, size, signed, big_endian), into *out; -1 and
 * an exception. */
int mdn_py_number_at(PyObject *object, mdn_number_at *out);

int mdn_py_add_dataset(PyObject *module, mdn_py_state *state);
int mdn_py_add_reader(PyObject *module, mdn_py_state *state);
int mdn_py_add_read_csv(PyObject *module, mdn_py_state *state);
int mdn_py_add_maintain(PyObject *module, mdn_py_state *state);
int mdn_py_add_read_jsonl(PyObject *module, mdn_py_state *state);
int mdn_py_add_read_arrays(PyObject *module, mdn_py_state *state);
int mdn_py_add_read_files(PyObject *module, mdn_py_state *state);
int mdn_py_add_checks(PyObject *module);
int mdn_py_add_sampling(PyObject *module, mdn_py_state *state);
int mdn_py_add_coresets(PyObject *module);
int mdn_py_add_kernelsum(PyObject *module);
int mdn_py_add_trainset(PyObject *module,
                        mdn_py_state *state); /* by sampling */
int mdn_py_add_keyindex(PyObject *module, mdn_py_state *state);
int mdn_py_add_keyruns(PyObject *module, mdn_py_state *state);
int mdn_py_add_loader(PyObject *module, mdn_py_state *state);
int mdn_py_add_batch(PyObject *module, mdn_py_state *state);
int mdn_py_add_memory(PyObject *module, mdn_py_state *state);
int mdn_py_add_orchestrator(PyObject *module, mdn_py_state *state);

#endif
