#include "python/python.h"

int
mdn_py_add_dataset(PyObject *module, mdn_py_state *state)
{
    (void)module;
    (void)state;
    return 0;
}
