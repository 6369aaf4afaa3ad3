/* view.h - the object behind modyn._core.View, for its methods that lie in
 * other files: fetch.c, resident.c. */
#ifndef MDN_PYTHON_VIEW_H
#define MDN_PYTHON_VIEW_H

#include "python/python.h"

typedef struct {
    PyObject_HEAD
    mdn_view *core; /* one reference */
} mdn_py_view_object;

/* fetch.c; with its docstring. */
PyObject *mdn_py_view_fetch(mdn_py_view_object *self, PyTypeObject *type,
                            PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
extern const char mdn_py_view_fetch_doc[];

/* resident.c; likewise. */
PyObject *mdn_py_view_bring(mdn_py_view_object *self, PyTypeObject *type,
                            PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
extern const char mdn_py_view_bring_doc[];
PyObject *mdn_py_view_copy_size(mdn_py_view_object *self, PyTypeObject *type,
                                PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames);
extern const char mdn_py_view_copy_size_doc[];
PyObject *mdn_py_view_hugepages(mdn_py_view_object *self, PyTypeObject *type,
                                PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames);
extern const char mdn_py_view_hugepages_doc[];

#endif
