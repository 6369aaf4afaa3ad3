/* batch.h - batches and their tensors as Python objects. */
#ifndef MDN_PYTHON_BATCH_H
#define MDN_PYTHON_BATCH_H

#include "prefetch/batch.h"
#include "python/python.h"

/* A _core.Batch.  The reference to the batch moves: it is the object's own, or
 * released when there is no object. */
PyObject *mdn_py_batch(mdn_py_state *state, mdn_batch *batch);

/* memory.c: a new _core.Memory, which lends to this pool; the pool is retained.
 */
PyObject *mdn_py_memory(mdn_py_state *state, mdn_pool *pool);

/* Make a type of the module: one reference, or NULL. */
PyTypeObject *mdn_py_add_type(PyObject *module, PyType_Spec *spec);

#endif
